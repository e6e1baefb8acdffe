"""The history of a run over numbers, read from its journal, one row per query."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from blackbox_zo._replay import points_of, restore
from blackbox_zo._typing import Floats, Ints
from blackbox_zo.errors import JournalError
from blackbox_zo.journal import Answers, JournalReader, Measured
from blackbox_zo.variables._tree import names
from oracles.command.parameters import Choice, Parameter, Value, parameters_of_problem

__all__ = ["Axis", "History", "history_of"]

_MOST_AXES = 12
_MOST_NUMBERS = 50_000_000
"""Maximum coordinates times queries for rebuilding the points; more would not fit in memory."""


@dataclass(frozen=True)
class Axis:
    """One parameter over the run.

    Attributes:
        name: Name of the parameter.
        values: Its value in each query, shape (n,); for a choice the index of the option; NaN where unknown.
        log: Whether the scale is logarithmic.
        options: Names of the options of a choice.
    """

    name: str
    values: Floats
    log: bool = False
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class History:
    """A run, one row per answered query, in the order of query numbers.

    Attributes:
        path: Path of the journal.
        header: Header of the journal.
        ids: Query numbers, shape (n,).
        values: Values with the sign that the program printed, shape (n,); NaN for a failure or a ranking.
        place: In a run of rankings, each query's place within its step, from 0 (best) to 1; else empty.
        infos: The info recorded with each value.
        measured: The results of measures between steps.
        axes: All parameters.
        drawn: The parameters to draw: at most twelve, those that vary most.
        no_axes: Why `axes` is empty; empty otherwise.
    """

    path: Path
    header: dict[str, Any]
    ids: Ints
    values: Floats
    place: Floats
    infos: Sequence[Mapping[str, Any]]
    measured: Sequence[Measured] = ()
    axes: list[Axis] = field(default_factory=list)
    drawn: list[Axis] = field(default_factory=list)
    no_axes: str = ""

    @property
    def n(self) -> int:
        """Number of answered queries."""
        return len(self.ids)

    @property
    def ranked(self) -> bool:
        """Whether the answers are rankings."""
        return len(self.place) > 0

    @property
    def maximize(self) -> bool:
        """Whether a higher value is better."""
        problem = self.header.get("problem")
        return isinstance(problem, dict) and problem.get("maximize") is True

    @property
    def failed(self) -> Ints:
        """Rows of failed queries."""
        return np.flatnonzero(np.isnan(self.values)) if not self.ranked else np.empty(0, dtype=np.intp)

    @property
    def order(self) -> Ints:
        """Rows of queries with a value, best first."""
        rows = np.flatnonzero(~np.isnan(self.values))
        return rows[np.argsort(-self.values[rows] if self.maximize else self.values[rows], kind="stable")]

    @property
    def seconds(self) -> Floats:
        """Duration of each query in seconds, where known, shape (≤ n,)."""
        return np.array([info["seconds"] for info in self.infos if "seconds" in info], dtype=np.float64)

    @property
    def best_so_far(self) -> Floats:
        """The best value up to each query, shape (n,); NaN before the first."""
        better = np.fmax if self.maximize else np.fmin
        return np.asarray(better.accumulate(self.values), dtype=np.float64) if self.n else self.values


def history_of(reader: JournalReader) -> History:
    """Read a journal, which may still be written to.

    Raises:
        JournalError: The journal is damaged.
        OSError: The journal cannot be read.
    """
    told, measured = list[Answers](), list[Measured]()
    for line in reader:
        if isinstance(line, Answers):
            told.append(line)
        else:
            measured.append(line)
    header = reader.header
    ids: Ints = np.array([i for line in told for i in line.ids], dtype=np.intp)
    values = np.array([v for line in told for v in line.values or [math.nan] * len(line.ids)], dtype=np.float64)
    place = np.array([v for line in told if line.values is None for v in _places(line)], dtype=np.float64)
    infos = [info or {} for line in told for info in line.info or [None] * len(line.ids)]
    order = np.argsort(ids, kind="stable")
    problem = header.get("problem")
    if isinstance(problem, dict) and problem.get("maximize") is True:
        values = -values
    axes, spread, why = _axes(reader, len(ids), infos)
    axes = [Axis(a.name, a.values[order], a.log, a.options) for a in axes]
    most = sorted(np.argsort(-spread, kind="stable")[:_MOST_AXES].tolist())
    return History(
        path=reader.path,
        header=header,
        ids=ids[order],
        values=values[order],
        place=place[order] if len(place) == len(ids) else np.empty(0),
        infos=[infos[i] for i in order],
        measured=measured,
        axes=axes,
        drawn=[axes[i] for i in most],
        no_axes=why,
    )


def _places(line: Answers) -> Floats:
    """The place of each query in a ranking, from 0 (best) to 1 (worst)."""
    losses = line.feedback.ranking().net_losses().astype(np.float64)
    width = np.ptp(losses)
    return (losses - losses.min()) / width if width else np.zeros(len(losses))


def _axes(reader: JournalReader, n: int, infos: list[Mapping[str, Any]]) -> tuple[list[Axis], Floats, str]:
    """The parameters in the order of the lines, how much each varies, and the reason if there are none."""
    if not n:
        return [], np.empty(0), ""
    problem = reader.header.get("problem") or {}
    try:
        if isinstance(problem, dict) and "parameters" in problem and all("params" in info for info in infos):
            return *_from_infos(problem, infos), ""
        return *_from_replay(reader, n), ""
    except (ValueError, TypeError, KeyError, JournalError) as error:
        return [], np.empty(0), str(error)


def _from_infos(problem: Mapping[str, Any], infos: list[Mapping[str, Any]]) -> tuple[list[Axis], Floats]:
    parameters = parameters_of_problem(problem)
    axes = [_axis(name, p, [info["params"][name] for info in infos]) for name, p in parameters.items()]
    coordinates = [[p.encode(info["params"][name]) for info in infos] for name, p in parameters.items()]
    return axes, np.std(coordinates, axis=1)


def _from_replay(reader: JournalReader, n: int) -> tuple[list[Axis], Floats]:
    header = reader.header
    if header["dimension"] * n > _MOST_NUMBERS:
        raise ValueError(f"{n:,} points of dimension {header['dimension']:,} are too many to rebuild.")
    variable, _, _ = restore(header)
    points = np.concatenate([points for _, points in points_of(reader)])
    spread = points.std(axis=0) / (1.0 if variable.unit is None else variable.unit)
    problem = header.get("problem") or {}
    if isinstance(problem, dict) and "parameters" in problem:
        pairs = zip(parameters_of_problem(problem).items(), points.T.tolist(), strict=True)
        return [_axis(name, p, [p.decode(u) for u in column]) for (name, p), column in pairs], spread
    return [Axis(name, column) for name, column in zip(names(variable.treedef), points.T, strict=True)], spread


def _axis(name: str, parameter: Parameter, values: Sequence[Value]) -> Axis:
    if isinstance(parameter, Choice):
        options = tuple(str(option) for option in parameter.options)
        return Axis(name, np.array([options.index(str(v)) for v in values], dtype=np.float64), False, options)
    return Axis(name, np.array(values, dtype=np.float64), parameter.log)
