"""What a search has been told: the newest answers with their points, and values that were known without asking."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from blackbox_zo._typing import Floats
from blackbox_zo.steps import Queries
from blackbox_zo.variables import Vector

__all__ = ["Doubt", "Past", "Written"]

MEMORY = 1 << 23
"""Numbers that the kept points may take, written out: 64 MiB. Of a larger step nothing is kept."""

OBJECTS = 256
"""What the objects of a step take besides, in numbers."""

ROUNDED = 0.01
"""By how much people round the values that they write down, as a share of them, or of their range."""

ENOUGH = 5
"""Answers at one point that tell how noisy they are."""


class Written(NamedTuple):
    """The points of a step, written out, shape (n, d)."""

    rows: Floats

    @property
    def n(self) -> int:
        """Number of points."""
        return len(self.rows)

    def points(self) -> Floats:
        """See `Queries.points`."""
        return self.rows


class Past:
    """The points of a search and their values.

    Args:
        variable: The variable of the search; None where points are never written out.

    Attributes:
        known: The known points, in the units of x, shape (n, d).
        known_values: Their values, NaN where a point is known to fail, shape (n,).
        seen: Number of steps that were kept, those dropped since included.
    """

    def __init__(self, variable: Vector | None) -> None:
        self.variable = variable
        self.seen = 0
        self._steps: deque[tuple[Queries | Written, Floats]] = deque()
        self._size = 0
        d = 0 if variable is None else variable.lower.size
        self.known: Floats = np.empty((0, d))
        self.known_values: Floats = np.empty(0)
        self._told: set[bytes] = set()
        self._at: dict[bytes, float] = {}

    def keep(self, queries: Queries | Written, values: Floats) -> None:
        """Keep a step that was answered in full; its points are computed when they are needed."""
        if self.variable is None:
            return
        self.seen += 1
        self._steps.append((queries, values))
        self._size += self._cost(queries)
        while self._size > MEMORY:
            self._size -= self._cost(self._steps.popleft()[0])

    def forget(self, seen: int) -> None:
        """Drop the newest steps, so that `seen` are left."""
        while self.seen > seen:
            self.seen -= 1
            if self._steps:
                self._size -= self._cost(self._steps.pop()[0])

    def all(self) -> tuple[Floats, Floats]:
        """Points in the coordinates of the variable, shape (n, d), and their values, shape (n,): known ones first."""
        assert self.variable is not None
        points = [self.inside(self.known)]
        points += [self.variable.project(queries.points()) for queries, _ in self._steps]
        return np.concatenate(points), np.concatenate([self.known_values, *(values for _, values in self._steps)])

    def news(self, points: Floats, values: Floats) -> tuple[Floats, Floats]:
        """Those of some known points and values that have not been told before, each once."""
        fresh = []
        told = set(self._told)
        for i, mark in enumerate(map(_mark, points, values)):
            if mark not in told:
                told.add(mark)
                fresh.append(i)
        return points[fresh], values[fresh]

    def add(self, points: Floats, values: Floats) -> None:
        """Remember known points, shape (n, d), and their values, shape (n,)."""
        self._told.update(map(_mark, points, values))
        self._at.update(zip(map(_place, self.inside(points)), values.tolist(), strict=True))
        self.known = np.concatenate((self.known, points))
        self.known_values = np.concatenate((self.known_values, values))

    def cut(self, n: int) -> tuple[Floats, Floats]:
        """Forget all known points but the first n; return the others."""
        rest = self.known[n:], self.known_values[n:]
        points, values = self.known[:n], self.known_values[:n]
        self.known, self.known_values, self._told, self._at = points[:0], values[:0], set(), {}
        self.add(points, values)
        return rest

    def inside(self, points: Floats) -> Floats:
        """Points in the units of x in the coordinates of the variable."""
        assert self.variable is not None
        return self.variable.coordinates(self.variable.inside(points))

    def save(self) -> dict[str, Any]:
        """The steps that are kept, as arrays, for a snapshot."""
        if self.variable is None:
            return {}
        points = [np.empty((0, self.variable.size)), *(queries.points() for queries, _ in self._steps)]
        return {
            "past/points": np.concatenate(points),
            "past/values": np.concatenate([np.empty(0), *(values for _, values in self._steps)]),
            "past/sizes": np.array([queries.n for queries, _ in self._steps], dtype=np.int64),
            "past/seen": self.seen,
        }

    def load(self, saved: Mapping[str, Any]) -> None:
        """Take the steps that were saved; what is known is told apart."""
        if self.variable is None:
            return
        a = 0
        for n in saved["past/sizes"].tolist():
            self.keep(Written(saved["past/points"][a : a + n]), saved["past/values"][a : a + n])
            a += n
        self.seen = int(saved["past/seen"])

    def _cost(self, queries: Queries | Written) -> int:
        assert self.variable is not None
        return (queries.n + 1) * self.variable.size + OBJECTS

    def value_at(self, point: Floats) -> float:
        """The newest known value at a point in the coordinates of the variable; NaN if there is none."""
        return self._at.get(_place(point), np.nan)


def _place(point: Floats) -> bytes:
    return (point + 0.0).tobytes()  # so that -0.0 is 0.0


def _mark(point: Floats, value: float) -> bytes:
    return _place(point) + np.float64(value if value == value else np.nan).tobytes()


class Doubt:
    """Compares answers with what was known of the same points.

    Where the answers at a point differ from each other, several tell how noisy they are.

    Attributes:
        found: The first known point whose value the answers contradict, in the coordinates of the variable, with the
            value known and the one answered; None until then.
    """

    def __init__(self) -> None:
        self.found: tuple[Floats, float, float] | None = None
        self._answers: dict[bytes, list[float]] = {}

    def save(self) -> Any:
        """All of it, as JSON."""
        found = None if self.found is None else [self.found[0].tolist(), *self.found[1:]]
        return [found, {place.hex(): answers for place, answers in self._answers.items()}]

    def load(self, saved: Any) -> None:
        """Take what was saved."""
        found, answers = saved
        self.found = None if found is None else (np.array(found[0]), *found[1:])
        self._answers = {bytes.fromhex(place): list(values) for place, values in answers.items()}

    def compare(self, past: Past, points: Floats, values: Floats, stderr: Floats | None) -> None:
        """Compare answers, shape (n,), at points in the coordinates of the variable, with what is known."""
        if self.found is not None:
            return
        for j, (point, value) in enumerate(zip(points, values.tolist(), strict=True)):
            known = past.value_at(point)
            if known != known or value != value:  # failures may come and go
                continue
            answers = self._answers.setdefault(_place(point), [])
            answers.append(value)
            span = float(np.nanmax(past.known_values) - np.nanmin(past.known_values))
            error = 0.0 if stderr is None else float(np.nan_to_num(stderr[j]))
            if _apart(known, np.array(answers), error, 0.1 * ROUNDED * span):
                self.found = point.copy(), known, value
                return


def _apart(known: float, answers: Floats, error: float, least: float) -> bool:
    """Whether a known value and the answers at the same point differ by more than noise or rounding explains."""
    gap, rounding = abs(known - float(answers.mean())), ROUNDED * max(abs(known), abs(float(answers[-1]))) + least
    if error > 0:
        return gap > max(8.0 * error, rounding)
    if len(answers) < 2:
        return False
    spread = float(answers.std(ddof=1))
    if spread <= rounding:
        return gap > rounding
    return len(answers) >= ENOUGH and gap > 8.0 * spread
