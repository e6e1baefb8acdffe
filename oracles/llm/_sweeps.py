"""The two sweeps, which evaluate a loss at the queries of a step: one pass per query, or one pass for all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from blackbox_zo._typing import Floats, override
from blackbox_zo.modules._batched import Batched
from blackbox_zo.modules._displaced import Displacements
from blackbox_zo.modules._scratch import Scratch
from blackbox_zo.modules._stacking import Family, Unstackable, take_rows
from oracles.llm._features import Features

__all__ = ["BatchedSweep", "Part", "ScratchSweep", "Sweep", "per_example"]


@dataclass(frozen=True)
class Part:
    """The examples of one call of a sweep.

    Attributes:
        batch: The batch.
        size: Its number of examples.
        rows: Indices of the examples that each query sees, shape (queries, rows per query).
        features: The output of the lowest layers, if it is reused.
    """

    batch: Any
    size: int
    rows: torch.Tensor
    features: Features | None = None

    @property
    def inputs(self) -> Any:
        """The batch, cut to the tokens that the features cover."""
        return self.batch if self.features is None else self.features.inputs(self.batch)

    def instead(self, rows: torch.Tensor) -> AbstractContextManager[None]:
        """Within the context, the lowest layers return the features of these rows."""
        return nullcontext() if self.features is None else self.features.instead(rows)


class Sweep(ABC):
    """Computes the losses of some queries on some rows of a batch.

    Args:
        model: The model.
        loss: A function of (model, batch) that returns one value per example.

    Attributes:
        together: Whether one forward pass evaluates several queries.
    """

    together: ClassVar[bool]

    def __init__(self, model: torch.nn.Module, loss: Callable[[torch.nn.Module, Any], torch.Tensor]) -> None:
        self.model, self.loss = model, loss

    @abstractmethod
    def __call__(self, part: Part, displacements: Displacements | None = None, which: slice = slice(0, 1)) -> Floats:
        """The loss of each row, shape (queries, rows per query).

        Args:
            part: The rows.
            displacements: The displacements of the step; None runs the model at the current weights.
            which: The queries to evaluate.
        """


class ScratchSweep(Sweep):
    """One forward pass per query. The loss may also return a scalar, the mean over the rows."""

    together = False

    @override
    def __call__(self, part: Part, displacements: Displacements | None = None, which: slice = slice(0, 1)) -> Floats:
        out = np.empty(part.rows.shape)
        for place, i in enumerate(range(which.start, which.stop)):
            rows = part.rows[place]
            taken = take_rows(part.inputs, rows, part.size, lambda t: t)
            under: AbstractContextManager[Any] = nullcontext() if displacements is None else Scratch(displacements, i)
            with part.instead(rows), under:
                values = self.loss(self.model, taken)
            out[place] = per_example(values, len(rows), mean_too=True)
        return out


class BatchedSweep(Sweep):
    """One forward pass for all queries."""

    together = True
    _newest: tuple[Displacements, slice, Displacements] | None = None

    @override
    def __call__(self, part: Part, displacements: Displacements | None = None, which: slice = slice(0, 1)) -> Floats:
        # Raises Unstackable if the model cannot run stacked
        assert displacements is not None
        some = self._some(displacements, which)
        rows = part.rows.reshape(-1)
        mode = Batched(some, part.rows.shape[1])
        stacked = mode.stack(part.inputs, rows, part.size)
        with part.instead(rows), mode:
            values = self.loss(self.model, stacked)
        if type(values) is Family:
            raise Unstackable("`loss(model, batch)` depends on the searched parameters but not on the batch's rows.")
        return per_example(values, len(rows), mean_too=False).reshape(part.rows.shape)

    def _some(self, displacements: Displacements, which: slice) -> Displacements:
        """The displacements of some queries; the latest are cached for further rows."""
        if which == slice(0, displacements.n):
            return displacements
        newest = self._newest
        if newest is None or newest[0] is not displacements or newest[1] != which:
            newest = self._newest = displacements, which, displacements.take(which)
        return newest[2]


def per_example(values: Any, count: int, mean_too: bool) -> Floats:
    """The values of a loss in fp64, shape (count,).

    Raises:
        TypeError: The loss returned another shape.
    """
    if not isinstance(values, torch.Tensor):
        raise TypeError(f"`loss(model, batch)` must return a tensor with one value per example, got {values!r:.60}.")
    flat = values.detach().double().cpu().numpy()
    if flat.shape == (count,):
        return np.asarray(flat)
    if mean_too and flat.ndim == 0:
        return np.full(count, float(flat))
    if flat.ndim == 0:
        raise Unstackable(
            "`loss(model, batch)` returned one number for the whole batch. Return one value per example, shape (B,), "
            "or use sweep='scratch'."
        )
    raise TypeError(
        f"`loss(model, batch)` returned shape {flat.shape} for {count} examples; it must be one value per example."
    )
