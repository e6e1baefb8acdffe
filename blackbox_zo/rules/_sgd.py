"""`SGD` and `Momentum`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from blackbox_zo._checks import check_rate, check_share
from blackbox_zo._typing import Floats
from blackbox_zo.directions import Dense
from blackbox_zo.rules._base import Rule, Schedule, rate_at
from blackbox_zo.steps import Step
from blackbox_zo.variables import Variable

__all__ = ["SGD", "Momentum"]


class SGDState(NamedTuple):
    """Number of moves made."""

    step: int


@final
@dataclass(frozen=True)
class SGD(Rule):
    """`x <- x - learning_rate * g`. Keeps the estimate as weights over directions: nothing of the size of x is stored.

    `SGD(1.0)` makes exactly the move that a population method asks for.

    Args:
        learning_rate: A positive number, or a schedule from the number of moves to one.

    Raises:
        ValueError: `learning_rate` is not positive.
    """

    learning_rate: float | Schedule

    def __post_init__(self) -> None:
        check_rate("SGD", self.learning_rate)

    def start(self, variable: Variable) -> SGDState:
        """See `Rule.start`."""
        return SGDState(0)

    def update(self, state: SGDState, gradient: Step) -> tuple[SGDState, Step]:
        """See `Rule.update`."""
        return SGDState(state.step + 1), gradient.scaled(rate_at(self.learning_rate, state.step))


class MomentumState(NamedTuple):
    """Number of moves made, and the velocity, shape (d,)."""

    step: int
    m: Floats


@final
@dataclass(frozen=True)
class Momentum(Rule):
    """Heavy ball, or Nesterov's: `m <- beta m + g`, `x <- x - learning_rate * m` (Sutskever et al. 2013, eqs. (1)-(4)).

    Args:
        learning_rate: A positive number or a schedule.
        beta: Share of the velocity that is kept, in [0, 1).
        nesterov: Step along `beta m + g` instead.

    Raises:
        ValueError: `learning_rate` is not positive, or `beta` outside [0, 1).
    """

    learning_rate: float | Schedule
    beta: float = 0.9
    nesterov: bool = False

    def __post_init__(self) -> None:
        check_rate("Momentum", self.learning_rate)
        check_share("Momentum", beta=self.beta)

    def start(self, variable: Variable) -> MomentumState:
        """See `Rule.start`."""
        return MomentumState(0, np.zeros(variable.size))

    def update(self, state: MomentumState, gradient: Step) -> tuple[MomentumState, Step]:
        """See `Rule.update`."""
        g = gradient.dense()
        m = self.beta * state.m + g
        step = self.beta * m + g if self.nesterov else m
        return MomentumState(state.step + 1, m), rescaled(gradient, step, rate_at(self.learning_rate, state.step))


def rescaled(gradient: Step, vector: Floats, rate: float) -> Step:
    """`rate * vector` as a step, with the pull of `gradient` scaled by the same rate."""
    directions = Dense(gradient.directions.blocks, vector[None, :])
    return Step(directions, np.array([rate]), gradient.shrink * rate)
