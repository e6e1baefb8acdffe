"""Links of a chain: they change the gradient and leave the step length to the rule after them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from blackbox_zo._checks import check_positive, check_share
from blackbox_zo._typing import override
from blackbox_zo.rules._base import Rule
from blackbox_zo.rules._normalised import length
from blackbox_zo.steps import Step
from blackbox_zo.variables import Variable

__all__ = ["ClipNorm", "ClipScalar", "StdNorm", "WeightDecay"]


@final
@dataclass(frozen=True)
class ClipNorm(Rule):
    """Shorten the gradient to at most `max_norm` (Pascanu et al. 2013, algorithm 1).

    Args:
        max_norm: Positive.

    Raises:
        ValueError: `max_norm` is not positive.
    """

    max_norm: float

    def __post_init__(self) -> None:
        check_positive("ClipNorm", max_norm=self.max_norm)

    @override
    def start(self, variable: Variable) -> tuple[()]:
        return ()

    @override
    def update(self, state: tuple[()], gradient: Step) -> tuple[tuple[()], Step]:
        norm = length(gradient.dense())
        factor = min(1.0, self.max_norm / norm) if norm > 0 else 1.0
        return state, Step(gradient.directions, gradient.w * factor, gradient.shrink)


@final
@dataclass(frozen=True)
class ClipScalar(Rule):
    """Clip the weight of each direction, such as the projected gradient of a two-point estimate, to ±`limit`.

    Args:
        limit: Positive.

    Raises:
        ValueError: `limit` is not positive.
    """

    limit: float

    def __post_init__(self) -> None:
        check_positive("ClipScalar", limit=self.limit)

    @override
    def start(self, variable: Variable) -> tuple[()]:
        return ()

    @override
    def update(self, state: tuple[()], gradient: Step) -> tuple[tuple[()], Step]:
        w = np.clip(gradient.w, -self.limit, self.limit)
        return state, Step(gradient.directions, w, gradient.shrink)


@final
@dataclass(frozen=True)
class StdNorm(Rule):
    """Divide the k weights of a step by k times their standard deviation (FZOO, Dang et al. 2026).

    After forward differences the move is `rate sum_j (f_j - f_0) / (k std(f)) u_j`, independent of the scale of f and
    of the radius. A step with one direction, or with equal weights, is left as it is.
    """

    @override
    def start(self, variable: Variable) -> tuple[()]:
        return ()

    @override
    def update(self, state: tuple[()], gradient: Step) -> tuple[tuple[()], Step]:
        spread = float(np.std(gradient.w))
        if spread == 0.0:
            return state, gradient
        return state, Step(gradient.directions, gradient.w / (len(gradient.w) * spread), gradient.shrink)


@final
@dataclass(frozen=True)
class WeightDecay(Rule):
    """Decoupled weight decay (Loshchilov & Hutter 2019): x shrinks by `decay` times the learning rate that follows.

    Args:
        decay: In [0, 1).

    Raises:
        ValueError: `decay` is outside [0, 1).
    """

    decay: float

    def __post_init__(self) -> None:
        check_share("WeightDecay", decay=self.decay)

    @override
    def start(self, variable: Variable) -> tuple[()]:
        return ()

    @override
    def update(self, state: tuple[()], gradient: Step) -> tuple[tuple[()], Step]:
        return state, Step(gradient.directions, gradient.w, gradient.shrink + self.decay)
