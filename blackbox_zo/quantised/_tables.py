"""Matrices of quantised blocks: rows are computed where they are needed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from blackbox_zo._typing import override
from blackbox_zo.checkpoints import decoded

__all__ = ["CHUNK", "LAYOUTS", "BlockTable", "CodedTable", "FrozenTable", "ScaledTable", "Table", "moved_scales", "rms"]

CHUNK = 1 << 20
"""Weights that are there at once."""

BLOCK = 32
"""Numbers that share a scale in the types whose scales move."""


class Table(torch.nn.Module, ABC):
    """A matrix whose rows are computed where they are needed.

    Args:
        height: Its rows.
        width: Numbers of a row.
    """

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width

    @abstractmethod
    def reader(self) -> Callable[[torch.Tensor | slice], torch.Tensor]:
        """A function from rows to their numbers in fp32, (rows, width), at the parameters' present values."""


class FileTable(Table):
    """A matrix in a file of the GGUF format, or in memory as it would be there.

    Args:
        raw: The bytes of each row of the file, (rows, bytes); may be mapped from it.
        width: Numbers of a row.
        order: The row of the file for each row of the matrix; none if they are the same.
        kind: The type of the file's format, of `gguf.GGMLQuantizationType`.
        at: Where it begins in the file.
    """

    raw: torch.Tensor

    def __init__(self, raw: torch.Tensor, width: int, order: np.ndarray[Any, Any] | None, kind: Any, at: int) -> None:
        super().__init__(raw.shape[0], width)
        self.register_buffer("raw", raw)
        self.kind, self.at = kind, at
        self.order = None if order is None else torch.from_numpy(np.ascontiguousarray(order))

    def bytes_of(self, which: torch.Tensor | slice) -> torch.Tensor:
        """The bytes of rows of the matrix."""
        return self.raw[which] if self.order is None else self.raw[self.order[which]]


class FrozenTable(FileTable):
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


class BlockTable(FileTable):
    """One of a type in `LAYOUTS`: its numbers are codes of 4 or 8 bits times their block's scale."""

    def __init__(self, raw: torch.Tensor, width: int, order: np.ndarray[Any, Any] | None, kind: Any, at: int) -> None:
        super().__init__(raw, width, order, kind, at)
        self.layout = LAYOUTS[kind.name]

    def blocks(self, raw: torch.Tensor) -> torch.Tensor:
        """The bytes of rows block by block, (rows, width / 32, bytes of a block)."""
        return raw.view(len(raw), -1, self.layout.nbytes)

    def halves(self, raw: torch.Tensor, at: int) -> torch.Tensor:
        """An fp16 of each block in fp32, (rows, width / 32)."""
        return self.blocks(raw)[..., at : at + 2].contiguous().view(torch.float16)[..., 0].float()

    def codes(self, raw: torch.Tensor) -> torch.Tensor:
        """The codes in fp32, as they are stored, (rows, width / 32, 32)."""
        stored = self.blocks(raw)[..., self.layout.codes :]
        if self.layout.bits == 8:
            return stored.view(torch.int8).float()
        out = torch.empty(*stored.shape[:2], BLOCK)
        out[..., : BLOCK // 2].copy_(stored & 15)
        out[..., BLOCK // 2 :].copy_(stored >> 4)
        return out

    def stored(self, which: slice) -> torch.Tensor:
        """The bytes of rows as they are to be saved."""
        return self.bytes_of(which)

    def numbers(self, raw: torch.Tensor, codes: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
        """What codes, which are overwritten, stand for, (rows, width)."""
        if self.layout.middle:
            codes -= self.layout.middle
        codes *= scales[..., None]
        if self.layout.low is not None:
            codes += self.halves(raw, self.layout.low)[..., None]
        return codes.view(-1, self.width)


class ScaledTable(BlockTable):
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
        self.size = rms(self.halves(raw, 0))
        self.scale_shift = torch.nn.Parameter(torch.zeros(self.height, width // BLOCK))

    def scales(self, shift: torch.Tensor, which: torch.Tensor | slice) -> torch.Tensor:
        """The scales of rows, (rows, width / 32), where so much has been added to all, in units of `size`."""
        return moved_scales(self.halves(self.bytes_of(which), 0), shift[which], self.size)

    @override
    def stored(self, which: slice) -> torch.Tensor:
        raw = self.bytes_of(which).clone()
        self.blocks(raw)[..., :2] = self.scales(self.scale_shift, which).half()[..., None].view(torch.uint8)
        return raw

    def rows(self, which: torch.Tensor | slice, shift: torch.Tensor) -> torch.Tensor:
        """Rows in fp32, (rows, width), where so much has been added to all scales, in units of `size`."""
        raw = self.bytes_of(which)
        return self.numbers(raw, self.codes(raw), self.scales(shift, which))

    def rows_and_steps(self, which: torch.Tensor | slice, shift: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The same, and what a shift by 1 adds to each number, (rows, width / 32, 32)."""
        raw = self.bytes_of(which)
        codes = self.codes(raw)
        steps = torch.sub(codes, self.layout.middle).mul_(self.size)
        return self.numbers(raw, codes, self.scales(shift, which)), steps

    @override
    def reader(self) -> Callable[[torch.Tensor | slice], torch.Tensor]:
        return lambda which: self.rows(which, self.scale_shift)


def rms(scales: torch.Tensor) -> float:
    """The root of the mean square of scales; 1 if all are 0."""
    return float(scales.double().square().mean().sqrt()) or 1.0


def moved_scales(own: torch.Tensor, shift: torch.Tensor, size: float) -> torch.Tensor:
    """Scales plus `size` times a shift; 0 where that would change their sign."""
    moved = torch.add(own, shift, alpha=size)
    return torch.where(moved * own < 0, 0.0, moved)


class CodedTable(BlockTable):
    """One whose scales are frozen and whose integers move (after QES, Xu et al. 2026, arXiv:2602.03120).

    The model runs on whole codes. What a move leaves over, a part of a code, is kept, and counts with the next: the
    error feedback of QES without decay (its eq. for the residual with gamma = 1). So a code is the rounded sum of the
    file's and of all moves. The sums are 16-bit, and in a file that is mapped: they take memory only as the pages of a
    file do, which the system can write out. A run's journal makes them again.

    At first they are not 0 but uniform between -1/2 and 1/2, which changes no code, so that a move much smaller than a
    code changes some codes at once, and as many as is right on average.

    Attributes:
        code_shift: What has been added to each code, (rows, width), fp16.
    """

    code_shift: torch.nn.Parameter

    @property
    def most(self) -> tuple[int, int]:
        """The least code and the greatest."""
        return (-128, 127) if self.layout.bits == 8 else (0, 15)

    def begin(self, sums: torch.Tensor, seed: int) -> None:
        """Take memory for the sums, flat and fp16, and draw their start."""
        uniform = torch.rand(sums.numel(), generator=torch.Generator().manual_seed(seed))
        sums.copy_(uniform.sub_(0.5).mul_(0.998))  # which fp16 does not round to 1/2
        self.code_shift = torch.nn.Parameter(sums.view(self.height, self.width), requires_grad=False)
        self.code_shift._zo_sparse = True  # type: ignore[attr-defined]  # `coded_linear` knows sparse directions

    @override
    def stored(self, which: slice) -> torch.Tensor:
        raw = self.bytes_of(which).clone()
        codes = self.moved(raw, self.code_shift[which]).to(torch.int8).view(torch.uint8)
        if self.layout.bits == 4:
            codes = codes[..., : BLOCK // 2] | codes[..., BLOCK // 2 :] << 4
        self.blocks(raw)[..., self.layout.codes :] = codes
        return raw

    def moved(self, raw: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        """The codes of rows with so much added, rounded, (rows, width / 32, 32)."""
        codes = self.codes(raw)
        codes += shift.view(codes.shape)
        return codes.round_().clamp_(*self.most)

    def rows(self, which: torch.Tensor | slice, added: torch.Tensor) -> torch.Tensor:
        """Rows in fp32, (rows, width), where so much has been added to their codes."""
        raw = self.bytes_of(which)
        return self.numbers(raw, self.moved(raw, added), self.halves(raw, 0))

    @override
    def reader(self) -> Callable[[torch.Tensor | slice], torch.Tensor]:
        few = self.code_shift.numel() <= CHUNK
        shift = self.code_shift.clone() if few else None  # one operation, in which a query displaces it

        def rows(which: torch.Tensor | slice) -> torch.Tensor:
            if shift is not None:
                return self.rows(which, shift[which])
            # of a large matrix only these rows are displaced
            places = torch.arange(which.start, which.stop) if isinstance(which, slice) else which
            return self.rows(which, torch.nn.functional.embedding(places, self.code_shift))

        return rows
