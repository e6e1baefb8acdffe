"""`Adam`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from blackbox_zo._checks import check_positive, check_rate, check_share
from blackbox_zo._typing import Floats, override
from blackbox_zo.rules._base import Rule, Schedule, rate_at
from blackbox_zo.rules._sgd import rescaled
from blackbox_zo.steps import Step
from blackbox_zo.variables import Variable

__all__ = ["Adam"]


class AdamState(NamedTuple):
    """Number of moves made, first and second moments, each of shape (d,)."""

    step: int
    m: Floats
    v: Floats


@final
@dataclass(frozen=True)
class Adam(Rule):
    """Adam (Kingma & Ba 2015, algorithm 1). After `WeightDecay` in a chain it is AdamW: the pull skips the moments.

    Args:
        learning_rate: A positive number or a schedule; about the length of a move in each coordinate.
        beta1: Decay of the first moment, in [0, 1).
        beta2: Decay of the second moment, in [0, 1).
        epsilon: Added to the root of the second moment.

    Raises:
        ValueError: An argument is out of its range.
    """

    learning_rate: float | Schedule
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        check_rate("Adam", self.learning_rate)
        check_share("Adam", beta1=self.beta1, beta2=self.beta2)
        check_positive("Adam", epsilon=self.epsilon)

    @override
    def start(self, variable: Variable) -> AdamState:
        return AdamState(0, np.zeros(variable.size), np.zeros(variable.size))

    @override
    def update(self, state: AdamState, gradient: Step) -> tuple[AdamState, Step]:
        g, t = gradient.dense(), state.step + 1
        m = self.beta1 * state.m + (1.0 - self.beta1) * g
        v = self.beta2 * state.v + (1.0 - self.beta2) * (g * g)
        root = np.sqrt(v / (1.0 - self.beta2**t))
        root += self.epsilon
        step = (m / (1.0 - self.beta1**t)) / root
        return AdamState(t, m, v), rescaled(gradient, step, rate_at(self.learning_rate, state.step))
