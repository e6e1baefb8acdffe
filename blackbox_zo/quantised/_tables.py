"""Matrices of quantised blocks: rows are computed where they are needed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from blackbox_zo._typing import override
from blackbox_zo.streaming._gguf import decoded

__all__ = ["FrozenTable", "ScaledTable", "Table"]

BLOCK = 32
"""Numbers that share a scale in the types whose scales move."""


class Table(torch.nn.Module, ABC):
    """A matrix in a file of the GGUF format.

    Args:
        raw: The bytes of each row of the file, (rows, bytes); may be mapped from it.
        width: Numbers of a row.
        order: The row of the file for each row of the matrix; none if they are the same.
        kind: The type of the file's format, of `gguf.GGMLQuantizationType`.
        at: Where it begins in the file.
    """

    raw: torch.Tensor

    def __init__(self, raw: torch.Tensor, width: int, order: np.ndarray[Any, Any] | None, kind: Any, at: int) -> None:
        super().__init__()
        self.register_buffer("raw", raw)
        self.height, self.width, self.kind, self.at = raw.shape[0], width, kind, at
        self.order = None if order is None else torch.from_numpy(np.ascontiguousarray(order))

    def bytes_of(self, which: torch.Tensor | slice) -> torch.Tensor:
        """The bytes of rows of the matrix."""
        return self.raw[which] if self.order is None else self.raw[self.order[which]]

    @abstractmethod
    def reader(self) -> Callable[[torch.Tensor | slice], torch.Tensor]:
        """A function from rows to their numbers in fp32, (rows, width), at the parameters' present values."""


class FrozenTable(Table):
    """One of a type whose scales do not move."""

    @override
    def reader(self) -> Callable[[torch.Tensor | slice], torch.Tensor]:
        return lambda which: torch.from_numpy(decoded(self.bytes_of(which).numpy(), self.kind)).view(-1, self.width)


class _Layout(NamedTuple):
    """Where the parts of a block are.

    Attributes:
        nbytes: Bytes of a block; the scale is the fp16 at its beginning.
        low: Where the fp16 of the least number is; none if there is none.
        codes: Where the codes begin.
        bits: Of a code.
        middle: The code that stands for 0.
    """

    nbytes: int
    low: int | None
    codes: int
    bits: int
    middle: int


LAYOUTS = {
    "Q4_0": _Layout(18, None, 2, 4, 8),
    "Q4_1": _Layout(20, 2, 4, 4, 0),
    "Q8_0": _Layout(34, None, 2, 8, 0),
}
"""Types whose scales move (ggml's block_q4_0, block_q4_1 and block_q8_0)."""


class ScaledTable(Table):
    """One whose integers are frozen and whose scales move (QZO, Zhang et al. 2025, arXiv:2505.13430).

    The scales of the file are fp16, which swallow small moves. So the file's are kept, and what was added to them is a
    parameter in fp32, at first 0. Moves far smaller than a step of fp16 add up in it. It is in units of the matrix's
    own scales, so that one radius suits 4 bits and 8; the paper's steps are `Module(..., unit=1 / size)`. A scale that
    would change its sign is 0, as in QZO.

    Attributes:
        size: The root mean square of the file's scales.
        scale_shift: What has been added to each scale, over `size`; (rows, width / 32).
    """

    def __init__(self, raw: torch.Tensor, width: int, order: np.ndarray[Any, Any] | None, kind: Any, at: int) -> None:
        super().__init__(raw, width, order, kind, at)
        self.layout = LAYOUTS[kind.name]
        self.size = float(self._half(raw, 0).double().square().mean().sqrt()) or 1.0
        self.scale_shift = torch.nn.Parameter(torch.zeros(self.height, width // BLOCK))

    def scales(self, shift: torch.Tensor, which: torch.Tensor | slice) -> torch.Tensor:
        """The scales of rows, (rows, width / 32), where so much has been added to all, in units of `size`."""
        own = self._half(self.bytes_of(which), 0)
        moved = torch.add(own, shift[which], alpha=self.size)
        return torch.where(moved * own < 0, 0.0, moved)

    def _blocks(self, raw: torch.Tensor) -> torch.Tensor:
        return raw.view(len(raw), -1, self.layout.nbytes)

    def _half(self, raw: torch.Tensor, at: int) -> torch.Tensor:
        return self._blocks(raw)[..., at : at + 2].contiguous().view(torch.float16)[..., 0].float()

    @override
    def reader(self) -> Callable[[torch.Tensor | slice], torch.Tensor]:
        shift = self.scale_shift.clone()  # one operation, in which a query displaces it
        layout = self.layout

        def rows(which: torch.Tensor | slice) -> torch.Tensor:
            raw = self.bytes_of(which)
            codes = self._blocks(raw)[..., layout.codes :]
            out = torch.empty(*codes.shape[:2], BLOCK)
            if layout.bits == 8:
                out.copy_(codes.view(torch.int8))
            else:
                out[..., : BLOCK // 2].copy_(codes & 15)
                out[..., BLOCK // 2 :].copy_(codes >> 4)
            if layout.middle:
                out -= layout.middle
            out *= self.scales(shift, which)[..., None]
            if layout.low is not None:
                out += self._half(raw, layout.low)[..., None]
            return out.view(-1, self.width)

        return rows
