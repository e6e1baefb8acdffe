"""`EvolutionStrategy`: weighted recombination of the best, with step-size and covariance adaptation (CMA-ES)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, final

import numpy as np

from blackbox_zo._checks import check_at_least, check_choice, check_positive
from blackbox_zo._typing import Floats, override
from blackbox_zo.directions import Dense, Directions, Gaussian
from blackbox_zo.estimators._base import Estimator, vector_of
from blackbox_zo.estimators._cma_constants import Constants, all_ranks, constants, recombination
from blackbox_zo.estimators._quadratic_model import coefficients, least_point
from blackbox_zo.estimators._tournament import expected_normals
from blackbox_zo.feedback import Feedback, Ranking, Values
from blackbox_zo.randomness import Key, combine
from blackbox_zo.steps import Queries, Step
from blackbox_zo.variables import Variable, Vector

__all__ = ["EvolutionStrategy"]


class EvolutionState(NamedTuple):
    """The search distribution N(x, radius² C) and its evolution paths.

    Attributes:
        radius: sigma.
        generation: Number of generations used.
        path_radius: p_sigma, shape (d,).
        path_shape: p_c, shape (d,).
        shape: C: shape (d, d) full, (d,) diagonal, (0,) isotropic.
        axes: B, eigenvectors of C in columns, shape (d, d); (0, 0) unless full.
        lengths: D, roots of the eigenvalues, shape (d,); (0,) for isotropic.
        refreshed: The generation in which `axes` and `lengths` were computed.
        points: The newest points asked about, shape (n, d), for the model; (0, d) without one.
        values: Their finite values, shape (n,).
    """

    radius: float
    generation: int
    path_radius: Floats
    path_shape: Floats
    shape: Floats
    axes: Floats
    lengths: Floats
    refreshed: int
    points: Floats
    values: Floats


@final
@dataclass(frozen=True)
class EvolutionStrategy(Estimator):
    """The (mu/mu_w, lambda)-CMA-ES (Hansen 2016, arXiv 1604.00772; equation numbers are that tutorial's).

    Covariance "full" learns all of C, at O(d²) a query; "diagonal" is sep-CMA-ES (Ros & Hansen 2008), at O(d);
    "isotropic" keeps C = I; with `adapt_radius=False` it is then a plain evolution strategy, whose estimate stays a
    combination of seeded directions. Only the order of the answers is used. Failures rank last and have no weight.

    With `model`, one query of each step is the minimiser of a quadratic fitted to the newest answers (an injected
    solution: Hansen 2011, arXiv 1110.4181). It is ranked by its own value, so a bad model costs one query a step. On
    smooth functions this converges like a Newton method. A fit costs O(d^6), so keep d to about 20.

    With weights "all" the worse half pushes as the better half pulls: each rank has the weight of its expected order
    statistic (Arnold 2006, Weighted multirecombination evolution strategies). If d is well above n_queries this is
    about twice as fast, and it makes the most of answers that name only the best, or the better of two. The opposite of
    a bad step is good only in many dimensions: as d comes down to n_queries the worse half pushes less, and where an
    answer tells more of ranks than d dimensions can use, the better half alone moves x, as with "best".

    Where compared pairs contradict each other, a candidate counts by its posterior expectation under a choice model
    with lapses (Wichmann & Hill 2001) rather than by its wins; the lapse rate is estimated from the answer.

    The estimate is minus the move of the mean, for `SGD(1.0)`.

    Args:
        radius: The first sigma, positive, in units of the variable: about a third of the distance to the optimum.
        n_queries: lambda ≥ 2; by default `4 + floor(3 ln d)`.
        covariance: "full", "diagonal" or "isotropic"; by default full up to 100 dimensions, diagonal above.
        adapt_radius: Whether sigma follows the length of its path (CSA).
        weights: Which ranks move the mean: "best", the better half, or "all".
        model: Whether to fit a quadratic; needs covariance "full", and values rather than rankings to be of use.

    Raises:
        ValueError: An argument is out of its range.
    """

    radius: float
    n_queries: int | None = None
    covariance: Literal["full", "diagonal", "isotropic"] | None = None
    adapt_radius: bool = True
    model: bool = False
    weights: Literal["best", "all"] = "best"

    accepts = (Values, Ranking)

    def __post_init__(self) -> None:
        check_positive("EvolutionStrategy", radius=self.radius)
        if self.n_queries is not None:
            check_at_least("EvolutionStrategy", 2, n_queries=self.n_queries)
        if self.covariance is not None:
            check_choice("EvolutionStrategy", ("full", "diagonal", "isotropic"), covariance=self.covariance)
        check_choice("EvolutionStrategy", ("best", "all"), weights=self.weights)
        if self.model and self.covariance not in (None, "full"):
            raise ValueError(f'`EvolutionStrategy(model=True)` needs covariance="full", got {self.covariance!r}.')

    @override
    def start(self, variable: Variable) -> EvolutionState:
        variable = vector_of(self, variable)
        d = variable.size
        covariance = self.covariance or ("full" if d <= 100 or self.model else "diagonal")
        full, diagonal = covariance == "full", covariance == "diagonal"
        return EvolutionState(
            radius=float(self.radius),
            generation=0,
            path_radius=np.zeros(d),
            path_shape=np.zeros(d),
            shape=np.eye(d) if full else np.ones(d if diagonal else 0),
            axes=np.eye(d if full else 0),
            lengths=np.ones(d if full or diagonal else 0),
            refreshed=0,
            points=np.empty((0, d)),
            values=np.empty(0),
        )

    def population(self, d: int) -> int:
        """Lambda for dimension d (eq. (48))."""
        return self.n_queries or 4 + math.floor(3 * math.log(d))

    @override
    def sample(self, state: EvolutionState, variable: Variable, key: Key) -> Queries:
        # `x + sigma y`, y ~ N(0, C) (eqs. (38)-(40)).
        variable = vector_of(self, variable)
        n = self.population(variable.size)
        directions: Directions = Gaussian(variable.blocks, n, key)
        kind = _kind(state)
        if kind == "full":
            rows = (directions.draw() * state.lengths) @ state.axes.T
            best = self._model_step(state, variable)
            if best is not None:
                rows[0] = best
            directions = Dense(variable.blocks, rows)
        elif kind == "diagonal":
            rows = directions.draw()
            rows *= state.lengths
            directions = Dense(variable.blocks, rows)
        return Queries(directions, np.arange(n), np.full(n, state.radius), variable.value)

    @override
    def over(self, state: EvolutionState, variable: Variable) -> str:
        longest = state.radius * (float(state.lengths.max()) if state.lengths.size else 1.0)
        if state.generation and longest < 1e-11 * self.radius:
            return "converged: the points of a step are as good as one"
        return ""

    def _model_step(self, s: EvolutionState, variable: Vector) -> Floats | None:
        """Where the model is least, as a displacement from x in units of sigma, shape (d,)."""
        d, x = variable.size, variable.value
        if not self.model or len(s.values) <= coefficients(d):
            return None
        z = ((s.points - x) @ s.axes) / (s.lengths * s.radius)
        nearest = np.argsort(np.einsum("ij,ij->i", z, z), kind="stable")[: 2 * coefficients(d) + 1]
        limit = math.sqrt(d) + 2 * d / (d + 2)  # Hansen 2011, table 1: c_y
        q = least_point(z[nearest], s.values[nearest], limit)
        if q is None:
            return None
        y: Floats = s.axes @ (s.lengths * q)
        return (variable.project(x + s.radius * y) - x) / s.radius if variable.bounded else y

    @override
    def estimate(
        self, state: EvolutionState, variable: Variable, queries: Queries, feedback: Feedback
    ) -> tuple[EvolutionState, Step]:
        variable = vector_of(self, variable)
        if self.model and isinstance(feedback, Values):
            state = self._remember(state, variable, queries, feedback.values)
        c = constants(variable.size, queries.directions.k, _kind(state))
        ranking = feedback.ranking()
        normals = expected_normals(ranking)
        if normals is not None:  # equal ones differ by rounding
            ranking = Values(-normals.round(9)).ranking()
        w = np.zeros(queries.directions.k)
        if not ranking.net_losses().any():  # nothing is known; on a plateau of equal values, look further
            flat = isinstance(feedback, Values) and bool(np.isfinite(feedback.values).any())
            grown = state.radius * math.exp(0.2 + c.c_sigma / c.d_sigma)
            state = state._replace(radius=grown) if flat and self.adapt_radius else state
            return state, Step(queries.directions, w)
        if variable.bounded:
            ranking, normals = self._penalised(state, variable, queries, ranking, normals)
        w[: ranking.n] = recombination(c.weights, ranking)
        if isinstance(feedback, Values) and feedback.n_failed:
            failed = np.flatnonzero(np.isnan(feedback.values))
            w[failed] = np.minimum(w[failed], 0.0)
        pull, c = self._pull(variable.size, ranking, normals, w, c)
        sigma = float(queries.scale[0])
        if _kind(state) == "isotropic" and not self.adapt_radius:
            return state._replace(generation=state.generation + 1), Step(queries.directions, -sigma * pull)
        y = queries.directions.rows
        y_w = combine(pull, y)  # eq. (41)
        move = Step(Dense(variable.blocks, y_w[None, :]), np.array([-sigma]))  # eq. (42), c_m = 1
        if sigma != state.radius:  # a late answer: the same displacements in today's sigma
            y, y_w = y * (sigma / state.radius), y_w * (sigma / state.radius)
        return self._adapted(state, c, w, y, y_w), move

    def _pull(
        self, d: int, ranking: Ranking, normals: Floats | None, w: Floats, c: Constants
    ) -> tuple[Floats, Constants]:
        """The weights of the move, shape (k,), and the constants of the step size that go with them."""
        found = all_ranks(d, ranking, c, normals) if self.weights == "all" else None
        if found is not None:
            pull, c = found
            return np.concatenate((pull, np.zeros(len(w) - len(pull)))), c
        return np.maximum(w, 0.0), c

    def _penalised(
        self, s: EvolutionState, variable: Vector, queries: Queries, ranking: Ranking, normals: Floats | None
    ) -> tuple[Ranking, Floats | None]:
        """Rank a point lower the further outside the bounds it was drawn; by order alone if one is outside.

        Queries are clipped, so f is flat beyond a bound, and without this sigma would diverge there.
        A standard deviation outside in one coordinate counts as much as the middle half of the places.
        """
        z = queries.points()
        z -= variable.project(z)
        z /= queries.scale[:, None]
        if _kind(s) != "isotropic":
            z /= np.sqrt(np.diagonal(s.shape) if _kind(s) == "full" else s.shape)
        outside = np.einsum("ij,ij->i", z, z)
        if not outside.any():
            return ranking, normals
        return Values(ranking.merged().net_losses() + ranking.n * outside).ranking(), None

    def _remember(self, s: EvolutionState, variable: Vector, queries: Queries, values: Floats) -> EvolutionState:
        """Add answers to the model's archive, dropping the oldest."""
        usable, most = np.isfinite(values), 4 * coefficients(queries.origin.size)
        points = np.concatenate((s.points, variable.project(queries.points())[usable]))[-most:]
        return s._replace(points=points, values=np.concatenate((s.values, values[usable]))[-most:])

    def _adapted(self, s: EvolutionState, c: Constants, w: Floats, y: Floats, y_w: Floats) -> EvolutionState:
        """The next search distribution, from displacements y, shape (n, d), in units of sigma, and their mean y_w."""
        d, g = y_w.size, s.generation + 1
        whitened = self._whiten(s, y_w)
        p_sigma = (1 - c.c_sigma) * s.path_radius  # eq. (43)
        p_sigma += math.sqrt(c.c_sigma * (2 - c.c_sigma) * c.mu_eff) * whitened
        length = math.sqrt(float(p_sigma @ p_sigma))
        expected = math.sqrt(d) * (1 - 1 / (4 * d) + 1 / (21 * d * d))  # E||N(0, I)||
        radius = s.radius
        if self.adapt_radius:  # eq. (44)
            radius *= math.exp(min(1.0, (c.c_sigma / c.d_sigma) * (length / expected - 1)))
            radius = min(max(radius, 1e-16 * self.radius), 1e16 * self.radius)
        if _kind(s) == "isotropic":
            return s._replace(radius=radius, generation=g, path_radius=p_sigma)
        damped = length / math.sqrt(1 - (1 - c.c_sigma) ** (2 * g))
        h_sigma = float(damped < (1.4 + 2 / (d + 1)) * expected)
        p_c = (1 - c.c_c) * s.path_shape  # eq. (45)
        p_c += (h_sigma * math.sqrt(c.c_c * (2 - c.c_c) * c.mu_eff)) * y_w
        decay = 1 + c.c_1 * (1 - h_sigma) * c.c_c * (2 - c.c_c) - c.c_1  # eq. (47), but for the weights
        s = s._replace(radius=radius, generation=g, path_radius=p_sigma, path_shape=p_c)
        if _kind(s) == "diagonal":
            positive = np.maximum(w, 0.0)
            return self._diagonal(s, c, decay - c.c_mu * float(positive.sum()), positive, y)
        return self._full(s, c, decay - c.c_mu * float(w.sum()), w, y)

    def _diagonal(self, s: EvolutionState, c: Constants, keep: float, w: Floats, y: Floats) -> EvolutionState:
        """Eq. (47) for the diagonal alone, without negative weights (Ros & Hansen 2008)."""
        shape = combine(w, y, squared=True)
        shape *= c.c_mu
        shape += keep * s.shape
        shape += c.c_1 * (s.path_shape * s.path_shape)
        return s._replace(shape=shape, lengths=np.sqrt(shape), refreshed=s.generation)

    def _full(self, s: EvolutionState, c: Constants, keep: float, w: Floats, y: Floats) -> EvolutionState:
        """Eqs. (46) and (47), and now and then the eigenvectors."""
        d = s.path_shape.size
        if w.min() < 0:  # eq. (46): long bad steps count by their direction only
            z = self._whiten(s, y)
            norms = np.einsum("ij,ij->i", z, z) + 1e-300
            w = np.where(w < 0, w * (d / norms), w)
        shape = keep * s.shape + c.c_1 * np.outer(s.path_shape, s.path_shape) + c.c_mu * ((y.T * w) @ y)  # eq. (47)
        if s.generation - s.refreshed < 1 / (10 * d * (c.c_1 + c.c_mu)):
            return s._replace(shape=shape)
        values, axes = np.linalg.eigh((shape + shape.T) / 2)
        lengths = np.sqrt(np.maximum(values, 1e-20 * values[-1]))
        return s._replace(shape=shape, axes=axes, lengths=lengths, refreshed=s.generation)

    def _whiten(self, s: EvolutionState, y: Floats) -> Floats:
        """`C^(-1/2) y` for one vector or for rows."""
        if _kind(s) == "isotropic":
            return y
        if _kind(s) == "diagonal":
            return y / s.lengths
        return ((y @ s.axes) / s.lengths) @ s.axes.T


def _kind(state: EvolutionState) -> str:
    """Which covariance a state keeps: its arrays say so."""
    if state.shape.ndim == 2:
        return "full"
    return "diagonal" if state.shape.size else "isotropic"
