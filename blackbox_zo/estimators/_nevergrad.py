"""`Nevergrad`: any optimizer of nevergrad as a method."""

from __future__ import annotations

import gc
import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, final

import numpy as np

from blackbox_zo._checks import check_at_least, check_positive
from blackbox_zo._doors.packages import nevergrad
from blackbox_zo._typing import Floats, override
from blackbox_zo.directions import Dense
from blackbox_zo.estimators._base import Estimator, vector_of
from blackbox_zo.estimators._nevergrad_state import KNOWN, Live, NevergradState, known, some, told
from blackbox_zo.estimators._stages import move_by
from blackbox_zo.feedback import Feedback, Values
from blackbox_zo.randomness import Key
from blackbox_zo.steps import Queries, Step
from blackbox_zo.variables import Variable, Vector

__all__ = ["Nevergrad"]

_LIVE: OrderedDict[tuple[Any, ...], Live] = OrderedDict()
_LOCK = threading.RLock()
KEPT = 8
"""Optimizers that are kept. One that is not is built again from its state: slowly, and to the same bits."""


def _stop() -> None:
    """Some optimizers are functions in threads of their own, which wait: Python would wait for them at its end."""
    _LIVE.clear()
    gc.collect()


threading._register_atexit(_stop)  # type: ignore[attr-defined]  # before threads are joined, unlike `atexit`


@final
@dataclass(frozen=True)
class Nevergrad(Estimator):
    """Any optimizer of nevergrad, by its name in `nevergrad.optimizers.registry`.

    It searches an `ng.p.Array` of the coordinates of x, with bounds if every element has both; otherwise points are
    clipped. x moves to its recommendation. A failed query is told as the worst value so far.

    A run replays exactly: the state is what the optimizer was told, from which it is built again, with its own seed
    and, while it works, numpy's and Python's global ones. A few, such as "CmaFmin2", draw from elsewhere: a run of
    theirs that is to be continued says so.

    The estimate is minus the move, for `SGD(1.0)`.

    Args:
        name: Such as "NgIohTuned", "CMA", "TBPSA" or "OnePlusOne".
        budget: Queries that the optimizer is made for; many choose by it, and some need it. None for unknown.
        n_queries: Points of a step: nevergrad's `num_workers`.
        sigma: Standard deviation of its first moves, in units of the variable; None for nevergrad's: 1, or a sixth of
            the distance of two bounds.

    Raises:
        ImportError: nevergrad is not installed, or breaks on this numpy.
        ValueError: There is no such optimizer, it cannot be made with these arguments, or one is out of its range.

    Example:
        >>> import blackbox_zo as bz
        >>> r = bz.minimize(lambda x: (x**2).sum(), [1.0, -2.0], bz.Nevergrad("OnePlusOne"), budget=300)
        >>> bool(r.fun < 1e-4)
        True
    """

    name: str
    budget: int | None = None
    n_queries: int = 1
    sigma: float | None = None

    warmup = 10  # the most of those tried

    def __post_init__(self) -> None:
        check_at_least("Nevergrad", 1, n_queries=self.n_queries)
        if self.budget is not None:
            check_at_least("Nevergrad", 1, budget=self.budget)
        if self.sigma is not None:
            check_positive("Nevergrad", sigma=self.sigma)
        registry = nevergrad().optimizers.registry
        if self.name not in registry:
            near = get_close_matches(str(self.name), list(registry), 3, 0.4) or ["NgIohTuned", "CMA"]
            raise ValueError(
                f"`Nevergrad(name=...)` must be in `nevergrad.optimizers.registry`, got {self.name!r}; did you mean "
                f"{' or '.join(map(repr, near))}?"
            )

    @override
    def start(self, variable: Variable) -> NevergradState:
        variable = vector_of(self, variable)
        none = np.zeros(0)
        state = NevergradState(variable.value, -1, np.zeros(0, dtype=np.intp), none, np.zeros((0, variable.size)), 0)
        self._build(state, variable)  # what cannot be made says so at once
        return state

    @override
    def sample(self, state: NevergradState, variable: Variable, key: Key) -> Queries:
        variable = vector_of(self, variable)
        if state.seed < 0:
            state = state._replace(seed=int(key.generator("nevergrad").integers(2**31)))
        with _LOCK:
            points = self._live(state, variable).asked()
        rows = variable.project(points + state.start) - variable.value
        n, tag = len(rows), (state.seed, len(state.told))
        return Queries(Dense(variable.blocks, rows), np.arange(n), np.ones(n), variable.origin, tag)

    @override
    def estimate(
        self, state: NevergradState, variable: Variable, queries: Queries, feedback: Feedback
    ) -> tuple[NevergradState, Step]:
        variable = vector_of(self, variable)
        assert isinstance(feedback, Values)
        seed, events = queries.tag
        if events != len(state.told) or state.seed not in (-1, seed):  # late
            state = self.inform(state, variable, queries.points(), feedback.values)
            return state, move_by(variable, np.zeros(variable.size))
        state = state._replace(seed=seed)
        with _LOCK:
            live = self._live(state, variable)
            _LIVE.pop(self._key(state, variable))
            state = told(state, live.asked(), feedback.values)
            live.tell(state.values[-feedback.n :])
            _LIVE[self._key(state, variable)] = live
            there = live.recommended() + state.start if some(state) else variable.value
        return state, move_by(variable, variable.project(there) - variable.value)

    @override
    def inform(self, state: NevergradState, variable: Variable, points: Floats, values: Floats) -> NevergradState:
        return known(state, points[np.isfinite(values)], values[np.isfinite(values)])

    @override
    def over(self, state: NevergradState, variable: Variable) -> str:
        asked = int(np.count_nonzero(state.told != KNOWN)) * self.n_queries
        return f"its budget of {self.budget} is spent" if self.budget is not None and asked >= self.budget else ""

    # ------------------------------------------------------------------------------------------------- the optimizer

    def _key(self, state: NevergradState, variable: Vector) -> tuple[Any, ...]:
        where = hashlib.blake2b(state.start.tobytes() + b"".join(b.tobytes() for b in variable.box), digest_size=16)
        return self, where.digest(), state.seed, state.digest

    def _live(self, state: NevergradState, variable: Vector) -> Live:
        """The optimizer in some state, as it was left or built again."""
        key = self._key(state, variable)
        if key not in _LIVE:
            _LIVE[key] = self._build(state, variable)
        _LIVE.move_to_end(key)
        while len(_LIVE) > KEPT:
            _LIVE.popitem(last=False)
        return _LIVE[key]

    def _build(self, state: NevergradState, variable: Vector) -> Live:
        ng, (low, high) = nevergrad(), variable.box
        low, high = low - state.start, high - state.start
        boxed = bool(np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all())
        array = ng.p.Array(init=np.zeros(variable.size), **({"lower": low, "upper": high} if boxed else {}))
        if self.sigma is not None:
            array.set_mutation(sigma=self.sigma)
        array.random_state = np.random.RandomState(max(state.seed, 0))
        try:
            live = Live(self.name, array, self.budget, self.n_queries, max(state.seed, 0))
        except Exception as error:
            raise ValueError(
                f"`{self!r}` cannot be made in {variable.size} dimensions: {type(error).__name__}: {error}. "
                "Give another `budget` or `n_queries`, or another optimizer."
            ) from error
        if live.replay(state) != state.digest:
            raise ValueError(
                f"`Nevergrad({self.name!r})` asks about other points the second time, so its run cannot be continued: "
                "it draws random numbers that no seed reaches. Use another optimizer."
            )
        return live
