"""`EvolutionStrategy`: weighted recombination of the best, with step-size and covariance adaptation (CMA-ES)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import numpy as np

from blackbox_zo._checks import any_true
from blackbox_zo._typing import Floats, override
from blackbox_zo.directions import Dense, Directions, Gaussian
from blackbox_zo.estimators._base import Estimator, vector_of
from blackbox_zo.estimators._candidates import Candidates
from blackbox_zo.estimators._cma_constants import Constants, all_ranks, constants, recombination
from blackbox_zo.estimators._evolution_options import LARGE, check_options, population, step_size
from blackbox_zo.estimators._evolution_state import EvolutionState, first_state, kind, on_a_path, wider
from blackbox_zo.estimators._evolution_update import adapted, followed, spread
from blackbox_zo.estimators._flat_bounds import Bounds
from blackbox_zo.estimators._learning_rate import first_rates, learnt
from blackbox_zo.estimators._line_search import LineAnswer, along, line_answer, lines_until, on_the_line
from blackbox_zo.estimators._low_rank import shaped, with_shape
from blackbox_zo.estimators._model_frame import frame, minimiser
from blackbox_zo.estimators._smooth_bounds import SmoothBounds, smooth_bounds
from blackbox_zo.estimators._surrogate_ranking import (
    Surrogate,
    first_surrogate,
    ranked,
    refitted,
    remembered,
    started,
    to_ask,
)
from blackbox_zo.estimators._tournament import expected_normals
from blackbox_zo.feedback import Feedback, Ranking, Values
from blackbox_zo.randomness import Key, combine
from blackbox_zo.steps import Queries, Step
from blackbox_zo.variables import Variable, Vector

__all__ = ["EvolutionStrategy"]

NOWHERE: Floats = np.empty(0)
NOWHERE.flags.writeable = False


@final
@dataclass(frozen=True)
class EvolutionStrategy(Estimator):
    """The (mu/mu_w, lambda)-CMA-ES (Hansen 2016, arXiv 1604.00772; equation numbers are that tutorial's).

    Covariance "full" learns all of C, at O(d²) a query; "diagonal" is sep-CMA-ES (Ros & Hansen 2008), at O(d); "low-
    rank" learns one scale for each coordinate and four directions, at O(d) (`_low_rank`); "isotropic" keeps C = I;
    with `adapt_radius=False` it is then a plain evolution strategy, whose estimate stays a combination of seeded
    directions. Only the order of the answers is used. Failures rank last and have no weight.

    With `model` a linear, then diagonal, then full quadratic is fitted to the newest answers, and its minimiser is one
    of the candidates (an injected solution: Hansen 2011, arXiv 1110.4181). Those that it ranks first are asked, few at
    a time, and where it ranks the newest answers as f does, it ranks the rest (lq-CMA-ES: Hansen 2019, GECCO). So a
    bad model costs nothing but time, and on smooth functions a generation takes one or two queries. An answer costs
    O(d^4) and a fit, now and then, O(d^6), so keep d to about 20. While steps are small, workers have little to do.

    With weights "all" the worse half pushes as the better half pulls: each rank has the weight of its expected order
    statistic (Arnold 2006, Weighted multirecombination evolution strategies). If d is well above n_queries this is
    about twice as fast, and it makes the most of answers that name only the best, or the better of two. The opposite
    of a bad step is good only in many dimensions: as d comes down to n_queries the worse half pushes less, and where
    an answer tells more of ranks than d dimensions can use, the better half alone moves x, as with "best".

    The step size "path" is cumulative step-size adaptation (CSA). Its path takes about sqrt(d) steps to tell
    anything. With "line" each step asks about x itself, where the last move began, and a point as far beyond x (two-
    point adaptation, Hansen 2008, with x as a third point): the best of them is where x goes on from, and sigma grows
    or shrinks with the move. After the first move, half of the queries lie on its line, between 1/256 and 8 times as
    far. So a bad first radius costs one step, and x hardly ever gets worse than the start. It is the faster one on
    smooth functions, but greedy: on rugged ones, and those whose covariance takes long to learn, sigma becomes small
    too early. "both" goes by lines for the first queries, 10 for each dimension (5 up to 100 dimensions), and then by
    a path.

    With the learning rate "adapted" (LRA-CMA-ES: Nomura, Akimoto & Ono 2023, arXiv 2304.03473) the moves of the mean
    and of the covariance are shortened as far as noise, or local minima, drown their signal. x then comes closer to
    the optimum of a noisy function. Without noise it takes several times as many queries.

    Within bounds the search is for the minimum of f(T(g)), T a smooth map into the box that is the identity but near
    its faces (`SmoothBounds`). An optimum on a face or in a corner is one like any other, in any dimension. Seeded
    directions (see above) are clipped instead.

    Where compared pairs contradict each other, a candidate counts by its posterior expectation under a choice model
    with lapses (Wichmann & Hill 2001) rather than by its wins; the lapse rate is estimated from the answer.

    The estimate is minus the move of the mean, for `SGD(1.0)`.

    Args:
        radius: The first sigma, positive, in units of the variable: about a third of the distance to the optimum.
        n_queries: lambda ≥ 2; by default `4 + floor(3 ln d)`.
        covariance: "full", "low-rank", "diagonal" or "isotropic"; by default full up to 100 dimensions, diagonal above.
        adapt_radius: Whether sigma changes.
        model: Whether to fit a quadratic; needs covariance "full", and values rather than rankings to be of use.
        weights: Which ranks move the mean: "best", the better half, or "all"; by default all while steps go by lines.
        step_size: How sigma changes, by a "path", a "line", or "both" in turn. By default a line with covariance
            "low-rank", both above 100 dimensions (with "diagonal" or "isotropic" and 12 queries or more), else a path.
        learning_rate: "constant", or "adapted" to noise.

    Raises:
        ValueError: An argument is out of its range.
    """

    radius: float
    n_queries: int | None = None
    covariance: Literal["full", "low-rank", "diagonal", "isotropic"] | None = None
    adapt_radius: bool = True
    model: bool = False
    weights: Literal["best", "all"] | None = None
    step_size: Literal["path", "line", "both"] | None = None
    learning_rate: Literal["constant", "adapted"] = "constant"

    accepts = (Values, Ranking)

    def __post_init__(self) -> None:
        check_options(self)

    @override
    def start(self, variable: Variable) -> EvolutionState:
        d = vector_of(self, variable).size
        covariance = self.covariance or ("full" if d <= LARGE or self.model else "diagonal")
        s = first_state(d, float(self.radius), covariance, path=step_size(self, d) == "path")
        if self.model:
            s = s._replace(surrogate=first_surrogate(d))
        return s._replace(rates=first_rates(s)) if self.learning_rate == "adapted" else s

    def population(self, d: int) -> int:
        """Lambda for dimension d (eq. (48))."""
        return population(self, d)

    @override
    def sample(self, state: EvolutionState, variable: Variable, key: Key) -> Queries:
        variable = vector_of(self, variable)
        n, surrogate = self.population(variable.size), state.surrogate
        if not surrogate:
            return self.drawn(state, variable, key, n, fitted=False)
        if len(surrogate.y):  # of the generation that is being asked
            drawn = Candidates(variable, surrogate.y, state.radius, self._bounds(variable), NOWHERE)
        else:
            drawn = self._candidates(state, variable, Gaussian(variable.blocks, n, key), None, fitted=True)
        which = to_ask(surrogate, drawn)
        tag = (state.generation, len(surrogate.asked))
        return Queries(drawn, which, np.full(len(which), state.radius), variable.value, tag)

    def _bounds(self, variable: Vector) -> SmoothBounds | None:
        return smooth_bounds(variable, self.radius / 3) if variable.bounded else None

    def drawn(
        self, state: EvolutionState, variable: Vector, key: Key, n: int, *, fitted: bool, bounds: Bounds | None = None
    ) -> Queries:
        """`x + sigma y`, y ~ N(0, C) (eqs. (38)-(40)), n points; with `fitted` the first is where a model is least."""
        seeded: Directions = Gaussian(variable.blocks, n, key)
        if kind(state) != "isotropic" or self.adapt_radius:
            seeded = self._candidates(state, variable, seeded, bounds, fitted=fitted)
        return Queries(seeded, np.arange(n), np.full(n, state.radius), variable.value)

    def _candidates(
        self, state: EvolutionState, variable: Vector, seeded: Directions, bounds: Bounds | None, *, fitted: bool
    ) -> Candidates:
        """What `drawn` asks about, from the draws of N(0, I)."""
        n, y, covariance = seeded.k, seeded.draw(), kind(state)
        z, places = y, NOWHERE
        if covariance == "low-rank":
            y = shaped(state, y.copy())
        elif covariance != "isotropic":
            y *= state.lengths
        if covariance == "full":
            y = y.dot(state.axes.T)
        bounds = bounds or self._bounds(variable)
        if state.line.size:
            places = along(n, state.generation)
            line = on_the_line(places, state.line, state.radius)
            y[: len(places)] = line if bounds is None else bounds.short(variable.value, line, state.radius)
        least = minimiser(state, variable, bounds) if fitted else None
        if least is not None:
            y[0] = least
        return Candidates(
            variable, y, state.radius, bounds, places, fitted=least is not None,
            z=z if covariance == "low-rank" else None,
        )  # fmt: skip

    @override
    def inform(self, state: EvolutionState, variable: Variable, points: Floats, values: Floats) -> EvolutionState:
        # They are part of the model
        if not state.surrogate:
            return state
        variable = vector_of(self, variable)
        known = remembered(state.surrogate, points, values, self.population(variable.size))
        return state._replace(surrogate=refitted(known, variable.value, frame(state)))

    @override
    def over(self, state: EvolutionState, variable: Variable) -> str:
        longest = state.radius * (float(state.lengths.max()) if state.lengths.size else 1.0)
        if state.generation and longest < 1e-11 * self.radius:
            return "converged: the points of a step are as good as one"
        return ""

    @override
    def estimate(
        self, state: EvolutionState, variable: Variable, queries: Queries, feedback: Feedback
    ) -> tuple[EvolutionState, Step]:
        variable = vector_of(self, variable)
        drawn = queries.directions
        if state.surrogate and isinstance(feedback, Values) and isinstance(drawn, Candidates):
            surrogate, whole = self._ranked(state, variable, queries, feedback.values)
            state = state._replace(surrogate=surrogate)
            if whole is None:
                return state, Step(drawn, np.zeros(drawn.k))
            feedback = Values.checked(whole, int(np.count_nonzero(np.isnan(whole))))
        ranking = feedback.ranking()
        normals = expected_normals(ranking)
        if normals is not None:  # equal ones differ by rounding
            ranking = Values(-normals.round(9)).ranking()
        if not any_true(ranking.net_losses()):
            plateau = isinstance(feedback, Values) and feedback.n_failed < feedback.n
            if plateau and self.adapt_radius:
                state = wider(state, constants(variable.size, drawn.k, kind(state)))
            return state, Step(drawn, np.zeros(drawn.k))
        part = drawn.drawn if isinstance(drawn, Candidates) else slice(0, drawn.k)
        answer = line_answer(drawn.places, ranking) if isinstance(drawn, Candidates) else None
        if part.start:
            ranking = ranking.about(np.arange(part.start, ranking.n))
            normals = None if normals is None else normals[part]
        w, pull, c = self._weights(variable.size, part, drawn.k, ranking, normals, kind(state))
        if isinstance(feedback, Values) and feedback.n_failed:
            failed = np.flatnonzero(np.isnan(feedback.values))
            w[failed] = np.minimum(w[failed], 0.0)
            pull[failed] = np.minimum(pull[failed], 0.0)
        if not isinstance(drawn, Candidates):
            sigma = float(queries.scale[0])
            return state._replace(generation=state.generation + 1), Step(drawn, -sigma * pull)
        return self._moved(state, variable, queries, drawn, answer, c, w, pull)

    def _ranked(
        self, s: EvolutionState, variable: Vector, queries: Queries, values: Floats
    ) -> tuple[Surrogate, Floats | None]:
        """The model after answers, and the values of the whole generation, once they are known or can be told."""
        known, drawn = s.surrogate, queries.directions
        assert known and isinstance(drawn, Candidates)
        if queries.tag != (s.generation, len(known.asked)):
            if len(values) < drawn.k:  # late
                return remembered(known, queries.points()[: len(values)], values, drawn.k), None
            known = started(known, known.needed)
        return ranked(known, queries, values, variable.value, frame(s))

    def _weights(
        self, d: int, part: slice, k: int, ranking: Ranking, normals: Floats | None, covariance: str
    ) -> tuple[Floats, Floats, Constants]:
        """Weights in C and in the move, of shape (k,) and zero but in `part`, and the constants that go with them."""
        c = constants(d, part.stop - part.start, covariance)
        w, pull = np.zeros(k), np.zeros(k)
        used = slice(part.start, part.start + ranking.n)
        if ranking.n_edges:
            w[used] = recombination(c.weights, ranking)
            found = (
                all_ranks(d, ranking, c, normals)
                if self.weights == "all" or (self.weights is None and part.start)
                else None
            )
            if found is None:
                return w, np.maximum(w, 0.0), c
            pull[used], c = found
        return w, pull, c

    def _moved(
        self, s: EvolutionState, variable: Vector, queries: Queries, drawn: Candidates, answer: LineAnswer | None,
        c: Constants, w: Floats, pull: Floats,
    ) -> tuple[EvolutionState, Step]:  # fmt: skip
        """The next state and the move."""
        sigma, bounds = float(queries.scale[0]), drawn.bounds
        y, y_w = drawn.y, combine(pull, drawn.y)  # eq. (41)
        start, change = variable.value if bounds is None else bounds.back(variable.value), 1.0
        if answer is not None:
            change = answer.change
            if s.line.size and np.array_equal(queries.origin, variable.value):  # it is not late
                start = start + (answer.best - 1.0) * s.line
            y_w = y_w * answer.sideways
        end = start + (sigma * change) * y_w  # eq. (42), c_m = 1
        if bounds is not None:
            end = bounds.clipped(end)
            y_w = (end - start) / (sigma * change)
        if sigma != s.radius:  # a late answer: the same displacements in today's sigma
            y, y_w = y * (sigma / s.radius), y_w * (sigma / s.radius)
        limits = (1e-16 * self.radius, 1e16 * self.radius)
        if bounds is not None:  # where all of the box is within reach, further out there are but mirror images
            limits = (limits[0], min(limits[1], float((bounds.width / (2 * spread(s))).max())))
        then, growing = followed(s, c, y_w, limits, change if self.adapt_radius else None)
        if drawn.z is None:
            then = adapted(then, c, w, y, y_w, growing=growing, decompose=not s.rates)
        elif answer is None or answer.sideways:
            then = with_shape(then, c, w[drawn.drawn], pull[drawn.drawn], drawn.z[drawn.drawn])
        if s.rates:
            then, rate = learnt(s, then, y_w)
            end = start + rate * (end - start)
        if s.line.size:
            if answer is not None and not answer.sideways:
                then = then._replace(line=answer.best * s.line)
            elif len(drawn.places):
                then = then._replace(line=end - start)
            if step_size(self, variable.size) == "both" and then.generation * drawn.k >= lines_until(variable.size):
                then = on_a_path(then)
        move = (end if bounds is None else bounds.into(end)) - variable.value
        return then, Step(Dense(variable.blocks, (move / sigma)[None, :]), np.array([-sigma]))
