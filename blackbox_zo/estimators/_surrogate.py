"""`Surrogate`: the gradient of a Gaussian-process posterior over the points asked so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from blackbox_zo._checks import check_at_least, check_positive
from blackbox_zo._typing import Floats, override
from blackbox_zo.directions import Dense
from blackbox_zo.estimators._base import Estimator, vector_of
from blackbox_zo.estimators._gaussian_process import fit, uncertain
from blackbox_zo.estimators._random_vector import plan
from blackbox_zo.feedback import Feedback, Values
from blackbox_zo.randomness import Key, normals
from blackbox_zo.rules import Adam, Rule
from blackbox_zo.steps import Queries, Step
from blackbox_zo.variables import Variable

__all__ = ["Surrogate"]


class SurrogateState(NamedTuple):
    """The newest points and their values, oldest first, and the last fit.

    Attributes:
        points: Shape (n, d), n ≤ history.
        values: Shape (n,), finite.
        length: The last length scale; NaN before the first fit.
        noise: The last noise share; NaN before the first fit.
    """

    points: Floats
    values: Floats
    length: float
    noise: float


@final
@dataclass(frozen=True)
class Surrogate(Estimator):
    """Trajectory-informed gradients (Shu et al. 2023, ZoRD, ICLR): estimates use all recent answers, not one step's.

    A Gaussian process (Matérn 5/2) is fitted to the last `history` answers, its length scale by marginal likelihood.
    The estimate is the exact gradient of its posterior mean at x,

    `grad mean(x) = sum_i alpha_i k'(|x_i - x|) / |x_i - x| (x - x_i)`,

    a combination of the directions from x to the points (Rasmussen & Williams 2006, eqs. (2.25), (2.30), (9.1)).
    A step asks x and `n_queries - 1` points along orthonormal directions from it, random but turned towards those in
    which the gradient is least certain. Beyond d directions, the next d mirror them; beyond 2 d, new ones are drawn.

    Args:
        radius: How far from x the queries lie, positive, in units of the variable.
        n_queries: Queries a step, at least 2; the first of them is x itself.
        history: How many of the newest answers are kept, at least 2. A step costs O(history³ + history² d).
        noise: Noise variance as a fraction of the signal variance; None to fit it with the length scale.

    Raises:
        ValueError: An argument is out of its range.
    """

    radius: float
    n_queries: int
    history: int
    noise: float | None = None

    def __post_init__(self) -> None:
        check_positive("Surrogate", radius=self.radius)
        check_at_least("Surrogate", 2, n_queries=self.n_queries)
        check_at_least("Surrogate", 2, history=self.history)
        if self.noise is not None:
            check_positive("Surrogate", noise=self.noise)

    @override
    def rule(self) -> Rule:
        """Adam with moves as long as the radius."""
        return Adam(self.radius)

    @override
    def start(self, variable: Variable) -> SurrogateState:
        variable = vector_of(self, variable)
        return SurrogateState(np.empty((0, variable.size)), np.empty(0), np.nan, np.nan)

    @override
    def sample(self, state: SurrogateState, variable: Variable, key: Key) -> Queries:
        variable = vector_of(self, variable)
        k = self.n_queries - 1
        xi = normals(key, "surrogate", k, variable.size)
        if not np.isnan(state.length):
            xi = uncertain(state.points, variable.value, state.length, state.noise, xi)
        d = variable.size
        for a in range(0, k, 2 * d):
            xi[a : a + d] = np.linalg.qr(xi[a : a + d].T)[0].T
            mirrored = xi[a + d : a + 2 * d]
            mirrored[...] = -xi[a : a + len(mirrored)]
        index, scale = plan(k, self.radius, "forward")
        return Queries(Dense(variable.blocks, xi), index, scale, variable.value)

    @override
    def inform(self, state: SurrogateState, variable: Variable, points: Floats, values: Floats) -> SurrogateState:
        usable = np.isfinite(values)
        points = np.concatenate((state.points, points[usable]))[-self.history :]
        return state._replace(points=points, values=np.append(state.values, values[usable])[-self.history :])

    @override
    def estimate(
        self, state: SurrogateState, variable: Variable, queries: Queries, feedback: Feedback
    ) -> tuple[SurrogateState, Step]:
        # Failed queries are left out; fewer than two answers give no estimate
        variable = vector_of(self, variable)
        assert isinstance(feedback, Values)
        usable = np.isfinite(feedback.values)
        points = np.concatenate((state.points, queries.points()[usable]))[-self.history :]
        values = np.concatenate((state.values, feedback.values[usable]))[-self.history :]
        if len(values) < 2 or np.ptp(values) == 0.0:
            return SurrogateState(points, values, state.length, state.noise), Step(queries.directions, _zeros(queries))
        guess = None if np.isnan(state.length) else (state.length, state.noise)
        gp = fit(points, values, guess, self.noise)
        x = variable.value
        step = Step(Dense(variable.blocks, points - x), gp.gradient_weights(x))
        return SurrogateState(points, values, gp.length, gp.noise), step


def _zeros(queries: Queries) -> Floats:
    return np.zeros(queries.directions.k)
