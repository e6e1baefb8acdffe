"""The contents of a journal as columns, with one row per answered query."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from blackbox_zo._typing import Floats, Ints
from blackbox_zo.journal import Answers, Changed, JournalReader, Known, Line, Measured

__all__ = ["Recorded"]


class Recorded:
    """A run, with one row per answered query, in the order of their ids, which is also that of their steps.

    Args:
        reader: Reader of its journal, which may still be written to.
        lines: Lines of the journal; None for those of `reader`.

    Attributes:
        path: Path of the journal.
        header: Header of the journal.
        problem: The problem, from the header; empty if the header has none.
        settings: How the run was started, from the header.
        ids: Ids of the queries, shape (n,).
        step: Step of each query, shape (n,).
        values: Value of each query, with its sign before any negation to maximise, shape (n,); NaN for a failure or a
            ranking.
        place: For rankings, place of each query within its step, from 0 for the best to 1 for the worst, shape (n,);
            else empty.
        infos: Info recorded with each value.
        by_id: Permutation from the order of the lines to that of the rows, shape (n,).
        measured: The measures between steps, including failed ones.
        known: Points whose values were known, in the units of x, and their values with their sign before any negation.
        changes: The changes of method.

    Raises:
        JournalError: The journal is damaged.
        OSError: The journal cannot be read.
    """

    def __init__(self, reader: JournalReader, lines: Iterable[Line] | None = None) -> None:
        told, self.measured, self.changes = list[Answers](), list[Measured](), list[Changed]()
        known: list[tuple[list[float], float]] = []
        for line in reader if lines is None else lines:
            if isinstance(line, Measured):
                self.measured.append(line)
            elif isinstance(line, Known):
                known += zip(line.points, line.values, strict=True)
            elif isinstance(line, Changed):
                self.changes.append(line)
            else:
                told.append(line)
        self.path: Path = reader.path
        self.header: dict[str, Any] = reader.header
        problem = self.header.get("problem")
        self.problem: Mapping[str, Any] = problem if isinstance(problem, dict) else {}
        self.settings: Mapping[str, Any] = self.header.get("settings") or {}
        self.known = [(np.array(point), -value if self.maximize else value) for point, value in known]
        ids: Ints = np.array([i for line in told for i in line.ids], dtype=np.intp)
        values = np.array([v for line in told for v in line.values or [math.nan] * len(line.ids)], dtype=np.float64)
        place = np.array([v for line in told if line.values is None for v in _places(line)], dtype=np.float64)
        infos: list[Mapping[str, Any]] = [i or {} for line in told for i in line.info or [None] * len(line.ids)]
        self.by_id: Ints = np.argsort(ids, kind="stable")
        self.ids = ids[self.by_id]
        self.step: Ints = np.array([line.step for line in told for _ in line.ids], dtype=np.intp)[self.by_id]
        self.values: Floats = (-values if self.maximize else values)[self.by_id]
        self.place: Floats = place[self.by_id] if len(place) == len(ids) else np.empty(0)
        self.infos: Sequence[Mapping[str, Any]] = [infos[i] for i in self.by_id]

    @property
    def n(self) -> int:
        """Number of answered queries."""
        return len(self.ids)

    @property
    def steps(self) -> int:
        """Number of steps with an answer."""
        return int(np.count_nonzero(np.diff(self.step, prepend=-1)))

    @property
    def ranked(self) -> bool:
        """Whether the answers are rankings."""
        return len(self.place) > 0

    @property
    def maximize(self) -> bool:
        """Whether a higher value is better."""
        return self.problem.get("maximize") is True

    @property
    def failed(self) -> Ints:
        """Rows of the failed queries."""
        return np.flatnonzero(np.isnan(self.values)) if not self.ranked else np.empty(0, dtype=np.intp)

    def reason(self, row: int) -> str:
        """Why a query failed."""
        return str(self.infos[row].get("error", "NaN or infinite"))

    def reasons(self) -> list[tuple[str, int, int]]:
        """Why queries failed: the reason, the count, and the id of the latest; the most frequent reason first."""
        told = [(self.reason(row), int(self.ids[row])) for row in self.failed]
        latest = dict(told)
        return [(reason, count, latest[reason]) for reason, count in Counter(r for r, _ in told).most_common()]

    def by_step(self, rows: Floats, combine: np.ufunc) -> Floats:
        """Combine one number per query into one number per step.

        Args:
            rows: Numbers to combine, shape (n,).
            combine: Ufunc, such as `np.add` or `np.fmax`.

        Returns:
            The combined numbers, shape (steps,).
        """
        starts = np.flatnonzero(np.diff(self.step, prepend=-1))
        return np.asarray(combine.reduceat(rows, starts), dtype=np.float64) if starts.size else np.empty(0)

    def mean_by_step(self, rows: Floats) -> Floats:
        """The mean over each step's finite numbers, shape (steps,); NaN for a step without any."""
        known = np.isfinite(rows)
        count = self.by_step(known.astype(np.float64), np.add)
        total = self.by_step(np.where(known, rows, 0.0), np.add)
        return np.asarray(np.where(count > 0, total / np.maximum(count, 1.0), np.nan))


def _places(line: Answers) -> Floats:
    """The place of each query of a ranking, from 0 for the best to 1 for the worst."""
    losses = line.feedback.ranking().net_losses().astype(np.float64)
    width = np.ptp(losses)
    return (losses - losses.min()) / width if width else np.zeros(len(losses))
