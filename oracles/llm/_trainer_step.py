"""The state of a step in `ZOTrainer`, and the optimiser that the Trainer sees."""

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

__all__ = ["StepUnderWay", "TrainerRate", "ZOOptimizer", "evaluating", "flags_of"]


@final
class ZOOptimizer(torch.optim.Optimizer):
    """The optimiser given to the Trainer: it holds the learning rate for the scheduler, and `step` calls `move`.

    Args:
        parameters: The trained parameters.
        lr: Initial learning rate.
        move: Moves the weights.
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
    """The learning rate as set by the Trainer's scheduler.

    Args:
        optimizer: The optimiser that holds the rate.
    """

    def __init__(self, optimizer: ZOOptimizer) -> None:
        self.optimizer = optimizer

    def __call__(self, step: int) -> float:
        """The current rate; `step` is ignored."""
        return float(self.optimizer.param_groups[0]["lr"])


@final
@dataclass
class StepUnderWay:
    """An unfinished step.

    Attributes:
        proposal: The proposal of the search.
        displacements: The displacements of the weights, one per query.
        sums: The sum of the losses so far at each query, shape (n,).
        weight: The total weight so far, by which the sums are divided.
    """

    proposal: bz.Proposal
    displacements: Displacements
    sums: Floats
    weight: float = 0.0

    def values(self) -> Floats:
        """The loss at each query, rounded to nine digits, shape (n,); NaN if no label is scored."""
        if not self.weight:
            return np.full(len(self.sums), np.nan)
        return nine_digits(self.sums / self.weight)


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Within the context, the model is in evaluation mode; on exit each module returns to its previous mode."""
    training = [part for part in model.modules() if part.training]
    model.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


def flags_of(model: torch.nn.Module) -> dict[str, tuple[int, bool]]:
    """Which tensor each parameter is, and whether it trains."""
    return {name: (id(p), p.requires_grad) for name, p in model.named_parameters()}
