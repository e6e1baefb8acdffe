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
from blackbox_zo.modules._stacking import CERTAIN, Family, Unstackable, take_rows
from oracles.llm._features import Features
from oracles.llm._ownership import Owned
from oracles.llm._per_example import per_example

__all__ = ["BatchedSweep", "Part", "ScratchSweep", "Sweep"]


@dataclass(frozen=True)
class Part:
    """The examples of one call of a sweep.

    Attributes:
        batch: The batch.
        owned: Its number of examples, and what all of them share.
        rows: Indices of the examples that each query sees, shape (queries, rows per query).
        features: The output of the lowest layers, if it is reused.
    """

    batch: Any
    owned: Owned
    rows: torch.Tensor
    features: Features | None = None

    @property
    def inputs(self) -> Any:
        """The batch, cut to the tokens that the features cover."""
        return self.batch if self.features is None else self.features.inputs(self.batch)

    def of_query(self, i: int) -> Part:
        """The examples of one query, with no layer reused."""
        return Part(self.batch, self.owned, self.rows[i : i + 1])

    def map(self, see: Callable[[torch.Tensor], Any]) -> None:
        """Show each tensor of the inputs that is cut by rows."""
        take_rows(self.inputs, torch.arange(0), self.owned.size, see, self.owned.shared)

    def taken(self, rows: torch.Tensor) -> Any:
        """Some rows of the inputs; the inputs themselves if that is all of them in order."""
        if len(rows) == self.owned.size and self.owned.mixes:
            return self.inputs
        return take_rows(self.inputs, rows, self.owned.size, lambda t: t, self.owned.shared)

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
            taken = part.taken(rows)
            under: AbstractContextManager[Any] = nullcontext() if displacements is None else Scratch(displacements, i)
            with part.instead(rows), under:
                values = self.loss(self.model, taken)
            out[place] = per_example(values, len(rows), mean_too=True)
        return out


class BatchedSweep(Sweep):
    """One forward pass for all queries."""

    together = True
    guessed = False
    """Whether the latest answer rests on a size that may coincide; see `Batched`."""

    _newest: tuple[Displacements, slice, Displacements] | None = None

    @override
    def __call__(self, part: Part, displacements: Displacements | None = None, which: slice = slice(0, 1)) -> Floats:
        # Raises Unstackable if the model cannot run stacked
        assert displacements is not None
        some = self._some(displacements, which)
        rows = part.rows.reshape(-1)
        mode = Batched(some, part.rows.shape[1])
        stacked = mode.stack(part.inputs, rows, part.owned.size, part.owned.shared)
        with part.instead(rows), mode:
            values = self.loss(self.model, stacked)
        self.guessed = mode.guessed or getattr(values, "_zo_stacked", 0) < CERTAIN
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
