"""What an optimizer of nevergrad was told, and the optimizer that this makes."""

from __future__ import annotations

import hashlib
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from blackbox_zo._doors.packages import nevergrad
from blackbox_zo._typing import Floats, Ints

__all__ = ["KNOWN", "Live", "NevergradState", "known", "some", "told"]

KNOWN = -1
"""In `NevergradState.told`: a point that the optimizer did not ask about."""

WORST = 1e20
"""What a failure is told as before any value was finite, for nevergrad clips what is larger than 5e20."""


class NevergradState(NamedTuple):
    """What the optimizer was told: from this it can be built again.

    Attributes:
        start: Where it began, in the coordinates of the variable, shape (d,).
        seed: Its seed; -1 before the first answer.
        told: Of each step, how many of its queries were answered; `KNOWN` for a known point.
        values: All answers in order, as they were told.
        points: The known points in order, shape (k, d).
        digest: Of these three, and of the points that it asked about.
    """

    start: Floats
    seed: int
    told: Ints
    values: Floats
    points: Floats
    digest: int


def _next(state: NevergradState, *news: Any) -> int:
    """The digest after some news."""
    h = hashlib.blake2b(str(state.digest).encode(), digest_size=8)
    for new in news:
        h.update(np.ascontiguousarray(new).tobytes())
    return int.from_bytes(h.digest(), "big") >> 1


def worst(state: NevergradState) -> float:
    """The worst value so far; `WORST` if none was finite."""
    return float(np.max(state.values, where=state.values < WORST, initial=-np.inf)) if some(state) else WORST


def some(state: NevergradState) -> bool:
    """Whether any value was finite."""
    return bool((state.values < WORST).any())


def told(state: NevergradState, points: Floats, values: Floats) -> NevergradState:
    """The state after the answers to a step, whose points were these; a failure is told as the worst value so far."""
    values = np.minimum(np.where(np.isnan(values), worst(state), values), WORST)
    return state._replace(
        told=np.append(state.told, len(values)),
        values=np.concatenate((state.values, values)),
        digest=_next(state, points, values),
    )


def known(state: NevergradState, points: Floats, values: Floats) -> NevergradState:
    """The state after the values of points that the optimizer did not ask about."""
    for point, value in zip(points, np.minimum(values, WORST), strict=True):
        state = state._replace(
            told=np.append(state.told, KNOWN),
            values=np.append(state.values, value),
            points=np.concatenate((state.points, point[None, :])),
            digest=_next(state, point, value),
        )
    return state


class Live:
    """An optimizer, driven so that it can be driven the same way again.

    Args:
        name: In nevergrad's registry.
        array: The parametrization, with its random state.
        budget: For how many queries.
        n: Points of a step.
        seed: Of the global generators while it works.
    """

    def __init__(self, name: str, array: Any, budget: int | None, n: int, seed: int) -> None:
        self._seed, self._n, self._events = seed, n, 0
        self._candidates: list[Any] = []
        with self._alone():
            self._optimizer = nevergrad().optimizers.registry[name](array, budget, n)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """With global generators that depend on the history alone, and no warnings: they are about other uses."""
        numpys, pythons = np.random.get_state(), random.getstate()  # noqa: NPY002
        seed = (self._seed + 7919 * self._events) % 2**32
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            np.random.set_state(numpys)  # noqa: NPY002
            random.setstate(pythons)

    def _data(self, candidate: Any) -> Floats:
        return np.array(candidate.value, dtype=np.float64)

    def asked(self) -> Floats:
        """The points of the next step, shape (n, d), from the start."""
        if not self._candidates:
            with self._alone():
                self._candidates = [self._optimizer.ask() for _ in range(self._n)]
        return np.array([self._data(candidate) for candidate in self._candidates])

    def tell(self, values: Floats) -> None:
        """The answers to the first points of a step."""
        self.asked()
        with self._alone():
            for candidate, value in zip(self._candidates, values.tolist(), strict=False):
                self._optimizer.tell(candidate, value)
        self._candidates, self._events = [], self._events + 1

    def know(self, point: Floats, value: float) -> None:
        """The value of a point that it did not ask about."""
        ng = nevergrad()
        with self._alone():
            try:
                candidate = self._optimizer.parametrization.spawn_child(new_value=point)
                self._optimizer.tell(candidate, value)
            except (ng.errors.TellNotAskedNotSupportedError, ValueError):  # of no use to it, or out of its bounds
                pass
        self._events += 1

    def recommended(self) -> Floats:
        """What it recommends, shape (d,), from the start."""
        with self._alone():
            return self._data(self._optimizer.recommend())

    def replay(self, state: NevergradState) -> int:
        """Bring a new optimizer towards a state; the digest of the state that it reached."""
        none = np.zeros((0, len(state.start)))
        there = NevergradState(state.start, state.seed, np.zeros(0, dtype=np.intp), np.zeros(0), none, 0)
        values, points = iter(state.values), iter(state.points)
        for m in state.told.tolist():
            if m == KNOWN:
                point, value = next(points), next(values)
                self.know(point - state.start, value)
                there = known(there, point[None, :], np.array([value]))
            else:
                answers = np.array([next(values) for _ in range(m)])
                there = told(there, self.asked(), answers)
                self.tell(answers)
        return there.digest
