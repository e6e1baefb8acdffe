"""Rules that do not depend on the scale of the gradient: `SignSGD` and `ClipUp`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from blackbox_zo._checks import check_positive, check_rate, check_share
from blackbox_zo._typing import Floats, override
from blackbox_zo.rules._base import Rule, Schedule, rate_at
from blackbox_zo.rules._sgd import SGDState, rescaled
from blackbox_zo.steps import Step
from blackbox_zo.variables import Variable

__all__ = ["ClipUp", "SignSGD"]


@final
@dataclass(frozen=True)
class SignSGD(Rule):
    """`x <- x - learning_rate * sign(g)` (Liu et al. 2019, ZO-signSGD, algorithm 1).

    Args:
        learning_rate: A positive number or a schedule: the length of a move in each coordinate.

    Raises:
        ValueError: `learning_rate` is not positive.
    """

    learning_rate: float | Schedule

    def __post_init__(self) -> None:
        check_rate("SignSGD", self.learning_rate)

    @override
    def start(self, variable: Variable) -> SGDState:
        return SGDState(0)

    @override
    def update(self, state: SGDState, gradient: Step) -> tuple[SGDState, Step]:
        rate = rate_at(self.learning_rate, state.step)
        return SGDState(state.step + 1), rescaled(gradient, np.sign(gradient.dense()), rate)


class ClipUpState(NamedTuple):
    """Number of moves made, and the velocity, shape (d,)."""

    step: int
    velocity: Floats


@final
@dataclass(frozen=True)
class ClipUp(Rule):
    """ClipUp (Toklu, Liskowski & Srivastava 2020, algorithm 1): normalised gradients, momentum, a speed limit.

    Args:
        learning_rate: Length of each normalised gradient, in the units of x: a positive number or a schedule.
        max_speed: Longest move; by default twice the learning rate, as the paper advises.
        momentum: Decay of the velocity, in [0, 1).

    Raises:
        ValueError: An argument is out of its range.
    """

    learning_rate: float | Schedule
    max_speed: float | None = None
    momentum: float = 0.9

    def __post_init__(self) -> None:
        check_rate("ClipUp", self.learning_rate)
        if self.max_speed is not None:
            check_positive("ClipUp", max_speed=self.max_speed)
        check_share("ClipUp", momentum=self.momentum)

    @override
    def start(self, variable: Variable) -> ClipUpState:
        return ClipUpState(0, np.zeros(variable.size))

    @override
    def update(self, state: ClipUpState, gradient: Step) -> tuple[ClipUpState, Step]:
        rate = rate_at(self.learning_rate, state.step)
        limit = 2.0 * rate if self.max_speed is None else self.max_speed
        g = gradient.dense()
        norm = length(g)
        velocity = self.momentum * state.velocity + (g * (rate / norm) if norm > 0 else 0.0)
        speed = length(velocity)
        if speed > limit:
            velocity *= limit / speed
        step = rescaled(gradient, velocity, 1.0)
        return ClipUpState(state.step + 1, velocity), Step(step.directions, step.w, gradient.shrink * rate)


def length(vector: Floats) -> float:
    """Euclidean norm, summed the same way on every machine and without overflow."""
    largest = float(np.abs(vector).max(initial=0.0))
    if largest == 0.0 or not np.isfinite(largest):
        return largest
    scaled = vector / largest
    return largest * float(np.sqrt(np.add.reduce(scaled * scaled)))
