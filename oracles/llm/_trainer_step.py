"""What `ZOTrainer` keeps of a step, and the optimiser that the Trainer sees."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch

import blackbox_zo as bz
from blackbox_zo._typing import Floats, override
from blackbox_zo.modules._displaced import Displacements
from oracles.llm._oracle import nine_digits

__all__ = ["StepUnderWay", "TrainerRate", "ZOOptimizer", "evaluating"]


@final
class ZOOptimizer(torch.optim.Optimizer):
    """What the Trainer takes for its optimiser: a learning rate for the schedulers to change, and a move for `step`.

    Args:
        parameters: What is trained.
        lr: The first learning rate.
        move: Makes the move.
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter], lr: float, move: Callable[[], None]) -> None:
        super().__init__(list(parameters), {"lr": lr})
        self.move = move

    @override
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move the weights."""
        self.move()


@final
class TrainerRate:
    """The learning rate that the Trainer's scheduler has set.

    Args:
        optimizer: Where it is set.
    """

    def __init__(self, optimizer: ZOOptimizer) -> None:
        self.optimizer = optimizer

    def __call__(self, step: int) -> float:
        """The rate now, whatever the number of moves."""
        return float(self.optimizer.param_groups[0]["lr"])


@final
@dataclass
class StepUnderWay:
    """A step under way.

    Attributes:
        proposal: What is asked.
        displacements: The queries' weights.
        sums: Under each query the sum of the examples' losses so far, shape (n,).
        weight: What the sums are to be divided by.
    """

    proposal: bz.Proposal
    displacements: Displacements
    sums: Floats
    weight: float = 0.0

    def values(self) -> Floats:
        """The loss under each query, to nine digits, shape (n,); NaN where no label counts."""
        if not self.weight:
            return np.full(len(self.sums), np.nan)
        return nine_digits(self.sums / self.weight)


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Inside, the model is in evaluation mode; afterwards each part is in the mode that it was in."""
    training = [part for part in model.modules() if part.training]
    model.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True
