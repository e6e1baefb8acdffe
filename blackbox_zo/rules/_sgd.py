"""`SGD` and `Momentum`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from blackbox_zo._checks import check_at_least, check_rate, check_share
from blackbox_zo._typing import Floats, Ints, override
from blackbox_zo.directions import Dense, Joined
from blackbox_zo.randomness import Key
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
    """`x <- x - learning_rate * g`. The step stays a combination of directions: nothing of the size of x is stored.

    With a population method, `SGD(1.0)` makes exactly the move that the method has computed.

    Args:
        learning_rate: A positive number, or a schedule from the number of moves to one.

    Raises:
        ValueError: `learning_rate` is not positive.
    """

    learning_rate: float | Schedule

    def __post_init__(self) -> None:
        check_rate("SGD", self.learning_rate)

    @override
    def start(self, variable: Variable) -> SGDState:
        return SGDState(0)

    @override
    def update(self, state: SGDState, gradient: Step) -> tuple[SGDState, Step]:
        rate = rate_at(self.learning_rate, state.step)
        return SGDState(state.step + 1), gradient if rate == 1.0 else gradient.scaled(rate)


class MomentumState(NamedTuple):
    """Number of moves made, and the velocity: a vector (d,), or what the last few estimates were made of.

    Attributes:
        step: Number of moves made.
        m: Shape (d,); empty where `memory` is used.
        seed: Of the run.
        steps: The step numbers of the kept estimates, newest last, shape (K,).
        weights: Their weights, shape (K, k).
    """

    step: int
    m: Floats
    seed: int
    steps: Ints
    weights: Floats


@final
@dataclass(frozen=True)
class Momentum(Rule):
    """Heavy ball, or Nesterov's: `m <- beta m + g`, `x <- x - learning_rate * m` (Sutskever et al. 2013, eqs. (1)-(4)).

    With `memory` no velocity is stored: the last K estimates are kept as seeds and weights, and
    `m = sum_{i < K} beta^i g_{t-i}` is recomputed from them at each move, cut off at `beta^K`.

    Args:
        learning_rate: A positive number or a schedule.
        beta: Decay of the velocity, in [0, 1).
        nesterov: Step along `beta m + g` instead.
        memory: K, at least 1; None to keep the velocity as a vector of the size of x. Needs directions drawn from a
            key.

    Raises:
        ValueError: `learning_rate` is not positive, `beta` outside [0, 1), or `memory` below 1; or, in a run with
            `memory`, the number of directions has changed.
        TypeError: In a run with `memory`, the directions are not drawn from a key.
    """

    learning_rate: float | Schedule
    beta: float = 0.9
    nesterov: bool = False
    memory: int | None = None

    def __post_init__(self) -> None:
        check_rate("Momentum", self.learning_rate)
        check_share("Momentum", beta=self.beta)
        if self.memory is not None:
            check_at_least("Momentum", 1, memory=self.memory)

    @override
    def start(self, variable: Variable) -> MomentumState:
        d = variable.size if self.memory is None else 0
        return MomentumState(0, np.zeros(d), 0, np.zeros(0, dtype=np.intp), np.zeros((0, 0)))

    @override
    def update(self, state: MomentumState, gradient: Step) -> tuple[MomentumState, Step]:
        rate = rate_at(self.learning_rate, state.step)
        if self.memory is not None:
            return self._from_memory(state, gradient, self.memory, rate)
        g = gradient.dense()
        m = self.beta * state.m + g
        step = self.beta * m + g if self.nesterov else m
        return state._replace(step=state.step + 1, m=m), rescaled(gradient, step, rate)

    def _from_memory(self, s: MomentumState, gradient: Step, memory: int, rate: float) -> tuple[MomentumState, Step]:
        key = getattr(gradient.directions, "key", None)
        if not isinstance(key, Key):
            kind = type(gradient.directions).__name__
            raise TypeError(f"`Momentum(memory=...)` needs directions drawn from a seed, not `{kind}`.")
        k = gradient.directions.k
        if len(s.steps) and s.weights.shape[1] != k:
            raise ValueError(f"`Momentum(memory=...)` cannot mix steps of {s.weights.shape[1]} and of {k} directions.")
        steps = np.append(s.steps, key.step)[-memory:]
        weights = np.vstack([s.weights.reshape(-1, k), gradient.w])[-memory:]
        shares = self.beta ** np.arange(len(steps) - 1, -1, -1.0)
        if self.nesterov:
            shares *= self.beta
            shares[-1] += 1.0
        past = [gradient.directions.at(Key(key.seed, int(t))) for t in steps[:-1]]
        parts = [*past, gradient.directions]
        w = (weights * (shares * rate)[:, None]).reshape(-1)
        state = MomentumState(s.step + 1, s.m, key.seed, steps, weights)
        return state, Step(Joined(parts), w, gradient.shrink * rate)


def rescaled(gradient: Step, vector: Floats, rate: float) -> Step:
    """`rate * vector` as a step, with the pull of `gradient` scaled by the same rate."""
    directions = Dense(gradient.directions.blocks, vector[None, :])
    return Step(directions, np.array([rate]), gradient.shrink * rate)
