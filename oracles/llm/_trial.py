"""A batched sweep that is compared with scratch wherever its answer is not certain."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch

from blackbox_zo._typing import Floats, override
from blackbox_zo.modules._devices import is_coarse
from blackbox_zo.modules._displaced import Displacements
from oracles.llm._passes import Passes
from oracles.llm._sweeps import BatchedSweep, Part, ScratchSweep, Sweep

__all__ = ["Disagreement", "Trial"]


class Disagreement(RuntimeError):
    """Two sweeps give different losses."""


class Oracle(Protocol):
    """What a `Trial` needs of a `LossOracle`."""

    model: torch.nn.Module
    loss: Any
    passes: Passes
    _tried: set[str]
    _proven: set[Any]


class Trial(Sweep):
    """A `BatchedSweep` whose answers are compared with those of a `ScratchSweep`, as often as that is needed.

    The first and last query of a pass are evaluated again, on all its rows, when a parameter is searched for the first
    time; and, if a size decided which rows belong to which query (`Batched.guessed`), whenever a pass has shapes or the
    model a type or mode for the first time.

    Args:
        oracle: The oracle, which notes what has been tried.
    """

    together = True

    def __init__(self, oracle: Oracle) -> None:
        super().__init__(oracle.model, oracle.loss)
        self.oracle = oracle
        self.batched, self.scratch = BatchedSweep(self.model, self.loss), ScratchSweep(self.model, self.loss)

    @override
    def __call__(self, part: Part, displacements: Displacements | None = None, which: slice = slice(0, 1)) -> Floats:
        assert displacements is not None
        got = self.batched(part, displacements, which)
        oracle = self.oracle
        hits = displacements.of.values()
        searched = {hit.block.name + (" by factors" if hit.factored else "") for hit in hits}
        new = not searched <= oracle._tried
        if not new and not self.batched.guessed:
            return got
        signature = self._signature(part, which)
        if new or signature not in oracle._proven:
            if not self._agree(got, part, displacements, which):
                return got  # not finite, which proves nothing
            oracle._tried |= searched
            oracle._proven.add(signature)
        return got

    def _signature(self, part: Part, which: slice) -> tuple[Any, ...]:
        """What decides the shapes of all values in a pass, and their types."""
        p = next(self.model.parameters())
        training = tuple(i for i, m in enumerate(self.model.modules()) if m.training)
        inputs: list[Any] = []
        part.map(lambda t: inputs.append((tuple(t.shape), t.dtype)))
        return which.stop - which.start, part.rows.shape[1], p.dtype, training, tuple(inputs)

    def _agree(self, got: Floats, part: Part, displacements: Displacements, which: slice) -> bool:
        """Whether the losses could be compared with those of scratch.

        Raises:
            Disagreement: They differ by more than rounding.
        """
        ends = sorted({0, len(got) - 1})
        want = np.concatenate([
            self.scratch(part.of_query(i), displacements, slice(which.start + i, which.start + i + 1)) for i in ends
        ])  # fmt: skip
        if not np.isfinite(want).all():
            return False
        exact = not is_coarse(next(self.model.parameters()))
        spread, largest = float(np.ptp(want, axis=0).max()), float(np.abs(want).max())
        allowed = 0.02 * spread + 1e-5 * largest if exact else 0.5 * spread + 0.02 * largest
        away = float(np.abs(got[ends] - want).max())
        if not away <= allowed:
            raise Disagreement(
                f"One forward pass for all queries gives losses that differ by {away:.1e} from those of one pass per "
                "query. Does the model mix the rows of its batch, or take their number for something else?"
            )
        return True
