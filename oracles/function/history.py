"""The coordinates of a run over numbers, read from its journal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from blackbox_zo._replay import replayed, restore, trace_of
from blackbox_zo._typing import Floats, Ints
from blackbox_zo.errors import JournalError
from blackbox_zo.estimators import Spent
from blackbox_zo.journal import JournalReader
from blackbox_zo.variables._tree import names
from oracles.command.parameters import Choice, Parameter, Value, parameters_of_problem
from oracles.recorded import Recorded

__all__ = ["Axis", "History"]

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


class History(Recorded):
    """A run over numbers.

    Args:
        reader: Of its journal, which may still be written to.

    Attributes:
        axes: All parameters.
        drawn: At most twelve of them, those that vary most if there are more.
        no_axes: Why there are none, if there are none.
        trace: What each method of a portfolio has spent and gained; empty if it is none, or cannot be rebuilt.

    Raises:
        JournalError: The journal is damaged.
        OSError: It cannot be read.
    """

    def __init__(self, reader: JournalReader) -> None:
        super().__init__(reader)
        self.axes, self.no_axes, self.trace = list[Axis](), "", list[Spent]()
        spread: Floats = np.empty(0)
        try:
            if self.n and "parameters" in self.problem and all("params" in info for info in self.infos):
                self.axes, spread = _from_infos(self.problem, self.infos)
                with suppress(ValueError, TypeError, KeyError, JournalError):  # the page does without
                    self.trace = trace_of(reader)
            elif self.n:
                self.axes, spread, self.trace = _from_replay(reader, self.by_id)
        except (ValueError, TypeError, KeyError, JournalError) as error:
            self.no_axes = str(error)
        self.drawn = [self.axes[i] for i in sorted(np.argsort(-spread, kind="stable")[:_MOST_AXES].tolist())]

    @property
    def best_first(self) -> Ints:
        """Rows of the queries that have a value, best first."""
        rows = np.flatnonzero(~np.isnan(self.values))
        return rows[np.argsort(-self.values[rows] if self.maximize else self.values[rows], kind="stable")]

    @property
    def known_first(self) -> list[tuple[dict[str, Any], float]]:
        """The known points, each as values by name, and their values; best first, those that fail last."""
        sign = -1.0 if self.maximize else 1.0
        order = sorted(self.known, key=lambda pair: sign * pair[1] if pair[1] == pair[1] else np.inf)
        return [(self._named(point), value) for point, value in order]

    @property
    def known_best(self) -> bool:
        """Whether a known point is better than all that were asked."""
        known = [value for _, value in self.known if value == value]
        asked = self.values[self.best_first[:1]].tolist()
        better = max if self.maximize else min
        return bool(known) and better([*asked, *known]) not in asked

    def _named(self, point: Floats) -> dict[str, Any]:
        if "parameters" in self.problem:
            parameters = parameters_of_problem(self.problem).items()
            return {name: p.decode(u) for (name, p), u in zip(parameters, point.tolist(), strict=True)}
        with suppress(ValueError, TypeError, KeyError):
            return dict(zip(names(restore(self.header)[0].treedef), point.tolist(), strict=True))
        return {f"x[{i}]": value for i, value in enumerate(point.tolist())}

    @property
    def seconds(self) -> Floats:
        """Duration of each query in seconds, where known, shape (≤ n,)."""
        return np.array([info["seconds"] for info in self.infos if "seconds" in info], dtype=np.float64)

    @property
    def best_so_far(self) -> Floats:
        """The best value up to each query, shape (n,); NaN before the first."""
        better = np.fmax if self.maximize else np.fmin
        return np.asarray(better.accumulate(self.values), dtype=np.float64) if self.n else self.values


def _from_infos(problem: Mapping[str, Any], infos: Sequence[Mapping[str, Any]]) -> tuple[list[Axis], Floats]:
    parameters = parameters_of_problem(problem)
    axes = [_axis(name, p, [info["params"][name] for info in infos]) for name, p in parameters.items()]
    coordinates = [[p.encode(info["params"][name]) for info in infos] for name, p in parameters.items()]
    return axes, np.std(coordinates, axis=1)


def _from_replay(reader: JournalReader, order: Ints) -> tuple[list[Axis], Floats, list[Spent]]:
    header = reader.header
    if header["dimension"] * len(order) > _MOST_NUMBERS:
        raise ValueError(f"{len(order):,} points of dimension {header['dimension']:,} are too many to rebuild.")
    variable, _, _ = restore(header)
    told, trace = replayed(reader)
    points = np.concatenate([points for _, points in told])[order]
    spread = points.std(axis=0) / (1.0 if variable.unit is None else variable.unit)
    problem = header.get("problem") or {}
    if isinstance(problem, dict) and "parameters" in problem:
        pairs = zip(parameters_of_problem(problem).items(), points.T.tolist(), strict=True)
        return [_axis(name, p, [p.decode(u) for u in column]) for (name, p), column in pairs], spread, trace
    return [Axis(name, column) for name, column in zip(names(variable.treedef), points.T, strict=True)], spread, trace


def _axis(name: str, parameter: Parameter, values: Sequence[Value]) -> Axis:
    if isinstance(parameter, Choice):
        options = tuple(str(option) for option in parameter.options)
        return Axis(name, np.array([options.index(str(v)) for v in values], dtype=np.float64), False, options)
    return Axis(name, np.array(values, dtype=np.float64), parameter.log)
