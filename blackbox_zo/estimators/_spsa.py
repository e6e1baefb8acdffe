"""`SPSA`: simultaneous perturbation, with gains that it sets itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from blackbox_zo._checks import check_at_least, check_positive
from blackbox_zo._typing import Floats, override
from blackbox_zo.directions import Rademacher
from blackbox_zo.estimators._base import Estimator
from blackbox_zo.estimators._random_vector import differences, mean_weights, plan
from blackbox_zo.feedback import Feedback, Values
from blackbox_zo.randomness import Key
from blackbox_zo.steps import Queries, Step
from blackbox_zo.variables import Variable

__all__ = ["SPSA"]

ALPHA, GAMMA = 0.602, 0.101
"""How fast a_k and c_k fall (Spall 1998)."""

REPEATS, PAIRS = 4, 4
"""What the opening asks: x, so many times, and pairs of points."""

WINDOW = 30
"""Steps over which the size of gradients is averaged."""

ROUNDING = 1e-12
"""A relative difference that the order of a sum explains, and no noise."""


class SPSAState(NamedTuple):
    """How the gains stand.

    Attributes:
        step: k, the number of moves made; -1 before the opening was answered.
        c: Half the length of the first differences, of each element.
        square: Mean square of an element of the newest gradients.
    """

    step: int
    c: float
    square: float


@final
@dataclass(frozen=True)
class SPSA(Estimator):
    """Simultaneous perturbation (Spall 1992), with gains by the guidelines of Spall (1998), measured and not given.

    Two queries a step and direction, `x ± c_k u` with random signs u, give the gradient g, and x moves by `a_k g`:

        a_k = a / (A + k + 1)^0.602,   c_k = c / (k + 1)^0.101,   A = steps / 10

    The opening asks x four times, and four pairs: 12 queries. From them it knows the noise's standard deviation σ, and
    the size of gradients. Without noise c is `radius`; with noise, 3 to 10 times that, so that a first difference of
    values is about 4 σ. a is such that the first moves change each element by about `radius`. As gradients shrink, a
    grows: it follows their root mean square over the last 30 steps. (With a from the first ones alone, one steep
    direction that is soon left behind makes all later moves useless.) No element moves by more than `radius` in a step.

    The estimate is minus the move, for `SGD(1.0)`. It holds three numbers, whatever d.

    Args:
        radius: The first move of each element, and the least c, positive, in units of the variable.
        n_directions: Pairs a step, averaged, k ≥ 1.
        steps: How many steps are expected. The budget is not known to an estimator; 1000 are the default budget of
            `minimize`. Moves keep their size for about a tenth of that, then shrink; more steps than expected do no
            harm.

    Raises:
        ValueError: An argument is out of its range.

    Example:
        >>> import blackbox_zo as bz, numpy as np
        >>> rng = np.random.default_rng(0)
        >>> noisy = lambda x: ((x - 1) ** 2).sum() + rng.standard_normal()
        >>> r = bz.minimize(noisy, np.full(10, 3.0), bz.SPSA(), budget=2000)     # from 40
        >>> bool(((r.center - 1) ** 2).sum() < 1.0)
        True
    """

    radius: float = 0.1
    n_directions: int = 1
    steps: int = 1000

    warmup = 1

    def __post_init__(self) -> None:
        check_positive("SPSA", radius=self.radius)
        check_at_least("SPSA", 1, n_directions=self.n_directions, steps=self.steps)

    @override
    def start(self, variable: Variable) -> SPSAState:
        return SPSAState(-1, float(self.radius), 0.0)

    @override
    def sample(self, state: SPSAState, variable: Variable, key: Key) -> Queries:
        if state.step < 0:
            index, scale = plan(PAIRS, self.radius, "central")
            index = np.concatenate((np.zeros(REPEATS, dtype=np.intp), index))
            scale = np.concatenate((np.zeros(REPEATS), scale))
            return Queries(Rademacher(variable.blocks, PAIRS, key), index, scale, variable.origin)
        index, scale = plan(self.n_directions, state.c / (state.step + 1) ** GAMMA, "central")  # c_k
        return Queries(Rademacher(variable.blocks, self.n_directions, key), index, scale, variable.origin)

    @override
    def estimate(
        self, state: SPSAState, variable: Variable, queries: Queries, feedback: Feedback
    ) -> tuple[SPSAState, Step]:
        assert isinstance(feedback, Values)
        f, k = feedback.values, self.n_directions
        assert isinstance(queries.directions, Rademacher)
        still = Step(Rademacher(variable.blocks, k, queries.directions.key), np.zeros(k))
        if queries.scale[0] == 0.0:
            return (self._opened(state, f) if state.step < 0 else state), still
        w = mean_weights(differences(f, float(queries.scale[0]), "central"), k)
        square = float(w @ w)  # of an element of g, on average
        if square == 0.0 or state.step < 0:
            return state, still
        square = state.square + (square - state.square) / WINDOW if state.square else square
        fall = ((0.1 * self.steps + 1) / (0.1 * self.steps + state.step + 1)) ** ALPHA
        w = w * (self.radius * fall / math.sqrt(square))  # a_k g
        w *= min(1.0, self.radius / float(np.abs(w).sum()))
        return state._replace(step=state.step + 1, square=square), Step(queries.directions, w)

    def _opened(self, s: SPSAState, f: Floats) -> SPSAState:
        """The gains, from x and pairs of points."""
        x, slopes = f[:REPEATS], differences(f[REPEATS:], self.radius, "central")
        x, slopes = x[np.isfinite(x)], slopes[np.isfinite(slopes)]
        if not slopes.size:
            return s
        square = float(np.mean(slopes * slopes))
        sigma = float(x.std(ddof=1)) if x.size > 1 else 0.0
        if not x.size or sigma <= ROUNDING * abs(float(x.mean())):
            return s._replace(step=0, square=square)
        signal = 2 * self.radius * math.sqrt(max(square - sigma**2 / (2 * self.radius**2), 0.0))
        longer = min(max(4 * sigma / signal, 3.0), 10.0) if signal > 0 else 10.0
        return s._replace(step=0, square=square, c=self.radius * longer)
