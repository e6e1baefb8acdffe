"""The two ways to run a model under the queries of a step, behind one signature."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch

from blackbox_zo._typing import Floats
from blackbox_zo.modules import Batched, Displacements, Family, Scratch, Unstackable, take_rows
from oracles.llm._reuse import Features

__all__ = ["BatchedSweep", "ScratchSweep", "Sweep"]


class Sweep(ABC):
    """Losses of some queries on some rows of a batch.

    Args:
        model: The model.
        loss: From (model, batch) to one value per example.
    """

    def __init__(self, model: torch.nn.Module, loss: Callable[[torch.nn.Module, Any], torch.Tensor]) -> None:
        self.model, self.loss = model, loss

    together = True
    """Whether several queries are answered in one run of the model."""

    @abstractmethod
    def __call__(
        self,
        displacements: Displacements | None,
        which: slice,
        batch: Any,
        size: int,
        rows: torch.Tensor,
        features: Features | None = None,
    ) -> Floats:
        """The loss of each row, shape (queries, rows each).

        Args:
            displacements: The step's; none runs the model as it is.
            which: Some queries.
            batch: The batch.
            size: Its number of examples.
            rows: Row numbers that each of the queries sees, shape (queries, rows each).
            features: What stands in for the lowest layers, if anything.
        """


class ScratchSweep(Sweep):
    """One run a query. The loss may also be the mean over the rows."""

    together = False

    def __call__(
        self,
        displacements: Displacements | None,
        which: slice,
        batch: Any,
        size: int,
        rows: torch.Tensor,
        features: Features | None = None,
    ) -> Floats:
        """See `Sweep`."""
        out = np.empty(rows.shape)
        for place, i in enumerate(range(which.start, which.stop)):
            mine = rows[place]
            part = take_rows(batch, mine, size, lambda t: t)
            under: AbstractContextManager[Any] = nullcontext() if displacements is None else Scratch(displacements, i)
            with _instead(features, mine), under:
                values = self.loss(self.model, part)
            out[place] = _checked(values, len(mine), mean_too=True)
        return out


class BatchedSweep(Sweep):
    """One run for all queries."""

    def __call__(
        self,
        displacements: Displacements | None,
        which: slice,
        batch: Any,
        size: int,
        rows: torch.Tensor,
        features: Features | None = None,
    ) -> Floats:
        """See `Sweep`.

        Raises:
            Unstackable: The model cannot run stacked.
        """
        assert displacements is not None
        some = displacements if which == slice(0, displacements.n) else displacements.take(which)
        flat = rows.reshape(-1)
        mode = Batched(some, rows.shape[1])
        part = mode.stack(batch, flat, size)
        with _instead(features, flat), mode:
            values = self.loss(self.model, part)
        if type(values) is Family:
            raise Unstackable("`loss(model, batch)` depends on the searched parameters but not on the batch's rows.")
        return _checked(values, len(flat), mean_too=False).reshape(rows.shape)


def _instead(features: Features | None, rows: torch.Tensor) -> AbstractContextManager[None]:
    return nullcontext() if features is None else features.instead(rows)


def _checked(values: Any, count: int, mean_too: bool) -> Floats:
    """The values of a loss in fp64, shape (count,).

    Raises:
        TypeError: It is of another shape.
    """
    if not isinstance(values, torch.Tensor):
        raise TypeError(f"`loss(model, batch)` must return a tensor of one value per example, got {values!r:.60}.")
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
