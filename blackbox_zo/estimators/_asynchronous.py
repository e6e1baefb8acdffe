"""`Asynchronous`: an evolution strategy, one query a step, without generations that wait for their last answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, final

import numpy as np

from blackbox_zo._typing import Floats, override
from blackbox_zo.estimators._base import Estimator, vector_of
from blackbox_zo.estimators._candidates import Candidates
from blackbox_zo.estimators._evolution_state import EvolutionState, kind, on_a_path
from blackbox_zo.estimators._evolution_strategy import EvolutionStrategy
from blackbox_zo.estimators._low_rank import unshaped
from blackbox_zo.estimators._smooth_bounds import smooth_bounds
from blackbox_zo.estimators._stages import still
from blackbox_zo.feedback import Feedback, Values
from blackbox_zo.randomness import Key
from blackbox_zo.steps import Queries, Step
from blackbox_zo.variables import Variable, Vector

__all__ = ["Asynchronous", "AsynchronousState"]

HALFWAY = 0.5
"""Where, between the present x and the x that a point was drawn around, its displacement counts from.

From the present x alone (0), points that are late pull x back to where it was: with 16 workers a pure CMA-ES stalls on
10-d Rosenbrock and ellipsoid. From their own x alone (1), x moves too far: 1.6 times as many queries on the sphere.
"""


MOST = 70
"""The default generation has fewer queries in any number of dimensions that fits into memory."""


class AsynchronousState(NamedTuple):
    """The state of the strategy inside, and the answers that it has not used yet.

    Attributes:
        inner: The state of the strategy.
        points: The points answered since its last update, in the coordinates of the variable, shape (m, d).
        origins: The x that each was drawn around, shape (m, d); infinite for the minimiser of a model, drawn around
            none.
        values: Their values, infinite for failures, shape (m,).
    """

    inner: EvolutionState
    points: Floats
    origins: Floats
    values: Floats


@final
@dataclass(frozen=True)
class Asynchronous(Estimator):
    """An evolution strategy for workers that never wait: each step is one query, any answers make up a generation.

    A step asks one point of the present search distribution. As soon as as many answers have come as a generation has
    queries, whichever they are, the distribution is updated with them. So there is nothing to wait for where one
    query takes much longer than the others, and an answer that comes late still counts (Glasmachers 2013, A natural
    evolution strategy with asynchronous strategy updates, GECCO; here with the answers of a whole generation).

    The displacement of a late point counts from halfway between the present x and the x that it was drawn around. With
    a model, one query of each generation's number is its minimiser. With w workers an answer is about w - 1 answers
    late, so use about as many `n_queries` as workers, or more.

    Any number of steps may be open at once, however old; `Run(asynchronous=True)` and `minimize(asynchronous=True)`
    keep as many open as there are workers.

    Args:
        estimator: The evolution strategy; its step size follows a path, not a line.

    Raises:
        TypeError: `estimator` is no `EvolutionStrategy`.
        ValueError: Its step size is to follow a line, whose points depend on each other, or its weights are "all": with
            8 workers the sphere in 20 and 60 dimensions then stalls.

    Example:
        >>> import blackbox_zo as bz
        >>> search = bz.Search([1.0, 2.0], bz.Asynchronous(bz.EvolutionStrategy(0.3, model=True)), budget=100)
        >>> for report in search.run(bz.FunctionOracle(lambda x: x @ x)):
        ...     pass
        >>> report.step, report.best < 1e-6
        (99, True)
    """

    estimator: EvolutionStrategy

    any_age = True

    def __post_init__(self) -> None:
        if not isinstance(self.estimator, EvolutionStrategy):
            raise TypeError(
                f"`Asynchronous(estimator)` must be an `EvolutionStrategy`, got {self.estimator!r:.80}. Only its "
                "generations may be made up of any points."
            )
        if self.estimator.step_size in ("line", "both"):
            raise ValueError(
                f'`Asynchronous(EvolutionStrategy(step_size="{self.estimator.step_size}"))` would ask the points of a '
                'line one by one, but only all of them say where to go. Give step_size="path".'
            )

        if self.estimator.weights == "all":
            raise ValueError(
                '`Asynchronous(EvolutionStrategy(weights="all"))` would stall: the opposite of a bad step is good only '
                'where x still stands. Give weights="best".'
            )

        object.__setattr__(self, "warmup", (self.estimator.n_queries or MOST) - 1)

    def population(self, d: int) -> int:
        """How many answers make up a generation in dimension d."""
        return self.estimator.population(d)

    @override
    def start(self, variable: Variable) -> AsynchronousState:
        d = vector_of(self, variable).size
        inner = self.estimator.start(variable)
        if inner.line.size:  # the default in many dimensions
            inner = on_a_path(inner)
        return AsynchronousState(inner, np.empty((0, d)), np.empty((0, d)), np.empty(0))

    @override
    def sample(self, state: AsynchronousState, variable: Variable, key: Key) -> Queries:
        # Where a worker gets a new query with each answer, as many are asked between two updates as a generation has:
        # so the model of each is asked about once (or, where answers come in bursts, now and then twice)
        fitted = self.estimator.model and key.step % self.population(variable.size) == 0
        return self.estimator.drawn(state.inner, vector_of(self, variable), key, 1, fitted=fitted)

    @override
    def over(self, state: AsynchronousState, variable: Variable) -> str:
        return self.estimator.over(state.inner, variable)

    @override
    def estimate(
        self, state: AsynchronousState, variable: Variable, queries: Queries, feedback: Feedback
    ) -> tuple[AsynchronousState, Step]:
        variable = vector_of(self, variable)
        assert isinstance(feedback, Values)
        drawn, origin = queries.directions, queries.origin
        if isinstance(drawn, Candidates) and drawn.fitted:
            origin = np.full(variable.size, np.inf)
        state = AsynchronousState(
            state.inner,
            np.concatenate((state.points, queries.points())),
            np.concatenate((state.origins, np.broadcast_to(origin, (queries.n, variable.size)))),
            np.concatenate((state.values, np.where(np.isnan(feedback.values), np.inf, feedback.values))),
        )
        # A failure cannot move x, so it waits for the next answer that can
        if len(state.values) < self.population(variable.size) or feedback.n_failed == feedback.n:
            return state, still(variable)
        inner, step = self.estimator.estimate(
            state.inner, variable, self._generation(state, variable), Values(state.values)
        )
        return AsynchronousState(inner, state.points[:0], state.origins[:0], state.values[:0]), step

    def _generation(self, state: AsynchronousState, variable: Vector) -> Queries:
        """The answered points as if they had been drawn together from the present distribution."""
        s, x, radius = state.inner, variable.value, state.inner.radius
        bounds = smooth_bounds(variable, self.estimator.radius / 3) if variable.bounded else None
        origins = np.where(np.isinf(state.origins), x, state.origins)
        points, mean = state.points, x
        if bounds is not None:
            points, origins, mean = bounds.back(points), bounds.back(origins), bounds.back(x)
        y = (points - mean - HALFWAY * (origins - mean)) / radius
        z = unshaped(s, y) if kind(s) == "low-rank" else None
        drawn: Any = Candidates(variable, y, radius, bounds, np.empty(0), z=z, asked=state.points)
        return Queries(drawn, np.arange(len(y)), np.full(len(y), radius), x)
