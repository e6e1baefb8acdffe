"""Directions as torch tensors: made chunk by chunk, so that nothing of the size of a large matrix is ever held twice.

A block of a module is flat here, in the order of its elements, and chunks start at multiples of `GRAIN`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from blackbox_zo.directions import Block, Directions

if TYPE_CHECKING:
    from blackbox_zo._typing import Floats, Words

__all__ = [
    *("Buffers", "Small", "add_direction_", "factors_of", "full_precision", "is_coarse", "row_chunks", "rows_of"),
    *("sent", "spread", "uses_tf32", "weights_of"),
]

GRAIN = 64
"""Chunks start at multiples of this many elements: one word of sign bits."""

CHUNK = 1 << 20
"""Elements worked on at a time: 4 MiB in fp32, which stays in the cache while it is made and used."""

GPU_CHUNK = 1 << 22
"""The same on any other device than a CPU, where starting an operation takes as long as a million elements do."""

MANY_TOKENS = 256
"""From here on runs are larger."""

_SIGN = -(2**31)


def row_chunks(shape: tuple[int, ...], tokens: int = 0, device: torch.device | None = None) -> list[tuple[int, int]]:
    """Cut the rows (first axis) of a block into even runs of at most about `CHUNK` elements, from multiples of `GRAIN`.

    Without a device the runs depend on the shape and `tokens` alone.

    A number counts as one row. Where many tokens go through each run, runs are 2.5 times as large: what a product of
    fewer columns loses counts for more than the cache.
    """
    rows = shape[0] if shape else 1
    width = max(1, math.prod(shape[1:]))
    multiple = GRAIN // math.gcd(width, GRAIN)
    most = CHUNK if device is None or device.type == "cpu" else GPU_CHUNK
    most = most if tokens < MANY_TOKENS else most * 5 // 2
    runs = -(-rows * width // most)
    step = max(1, -(-rows // (runs * multiple))) * multiple if runs else max(1, rows)
    return [(a, min(a + step, rows)) for a in range(0, rows, step)]


def sent(array: np.ndarray[Any, Any], device: torch.device) -> torch.Tensor:
    """An array as a tensor on a device. On CUDA without waiting for what runs there: the driver has a copy at once."""
    return torch.from_numpy(array).to(device, non_blocking=device.type == "cuda")


def spread(words: Words, out: torch.Tensor, scale: float) -> torch.Tensor:
    """`scale * sign` for each bit of `words`, written to the front of `out`; that front is returned.

    Args:
        words: 64 signs each, the lowest bit first; a 1 is -1.
        out: Flat fp32, at least 64 elements a word.
        scale: Any number.
    """
    packed = sent(words.astype("<u8", copy=False).view(np.int32), out.device)
    front = out[: 64 * len(words)]
    ints = front.view(torch.int32).view(-1, 32)
    torch.bitwise_left_shift(packed[:, None], _shifts(out.device), out=ints)  # the wanted bit becomes the sign
    ints &= _SIGN
    ints ^= struct.unpack("<i", struct.pack("<f", scale))[0]
    return front


_shift_cache: dict[torch.device, torch.Tensor] = {}


def _shifts(device: torch.device) -> torch.Tensor:
    if device not in _shift_cache:
        _shift_cache[device] = torch.arange(31, -1, -1, dtype=torch.int32, device=device)
    return _shift_cache[device]


def factors_of(directions: Directions, block: Block, device: torch.device) -> tuple[torch.Tensor, torch.Tensor] | None:
    """`Directions.factors` as tensors, A (k, r, m) and B (k, r, n); A is still to be scaled by `factor_scale`."""
    found = directions.factors(block)
    if found is None:
        return None
    a, b = found
    return sent(a, device), sent(b, device)


def rows_of(directions: Directions, block: Block, device: torch.device) -> torch.Tensor:
    """All directions in a small block, shape (k, *block.shape), fp32."""
    rows = np.array([directions.part(block, j, 0, block.size) for j in range(directions.k)], dtype=np.float32)
    return sent(rows, device).reshape(directions.k, *block.shape)


class Small:
    """`weights @ u` in the small blocks that directions keep in a table, for one or several sets of weights.

    Args:
        directions: Any; without a table nothing is found.
        weights: Shape (n, k) or (k,), fp32, where the results are wanted.
    """

    def __init__(self, directions: Directions, weights: torch.Tensor) -> None:
        table = directions.table
        self.starts = {} if table is None else table.starts
        with full_precision():
            self.sums = None if table is None else weights @ sent(table.signs, weights.device)

    def of(self, block: Block) -> torch.Tensor | None:
        """The sums in a block, shape (n, *block.shape) or its shape; None if it is not in the table."""
        start = self.starts.get(block.name)
        if start is None or self.sums is None:
            return None
        return self.sums[..., start : start + block.size].view((*self.sums.shape[:-1], *block.shape))


def uses_tf32() -> bool:
    """Whether products of fp32 matrices on a GPU round their factors to TF32, which has ten bits after the first."""
    matmul = torch.backends.cuda.matmul
    try:
        return bool(matmul.allow_tf32)
    except RuntimeError:  # set through torch's newer name for it
        return str(matmul.fp32_precision) == "tf32"


@contextmanager
def full_precision() -> Iterator[None]:
    """Inside, products of fp32 matrices are not rounded to TF32: moves must not depend on that setting."""
    matmul = torch.backends.cuda.matmul
    if not uses_tf32():
        yield
        return
    try:
        old = bool(matmul.allow_tf32)
    except RuntimeError:
        old = None
    try:
        if old is None:
            matmul.fp32_precision = "ieee"
        else:
            matmul.allow_tf32 = False
        yield
    finally:
        if old is None:
            matmul.fp32_precision = "tf32"
        else:
            matmul.allow_tf32 = True


def is_coarse(p: torch.Tensor) -> bool:
    """Whether a model with such parameters computes about three digits: in 16-bit floats, or in TF32."""
    if p.element_size() == 2 or torch.is_autocast_enabled(p.device.type):
        return True
    return p.device.type == "cuda" and p.dtype is torch.float32 and uses_tf32()


def weights_of(w: Floats, device: torch.device) -> torch.Tensor:
    """Weights in fp32."""
    return sent(np.asarray(w, dtype=np.float32), device)


def add_direction_(
    out: torch.Tensor,
    directions: Directions,
    block: Block,
    j: int,
    scale: float,
    start: int,
    scratch: torch.Tensor,
    base: torch.Tensor | None = None,
) -> None:
    """`out = base + scale * u_j[block][start : start + out.numel()]`.

    Args:
        out: A chunk of the block, flat, fp32.
        directions: Any.
        block: The block.
        j: Which direction.
        scale: Any number.
        start: A multiple of `GRAIN`.
        scratch: Flat fp32, at least as large as `out` rounded up to a multiple of `GRAIN`.
        base: Of the same size, any type; none takes `out` itself.
    """
    base, stop = out if base is None else base, start + out.numel()
    words = directions.bits(block, j, start, stop)
    if words is not None:
        torch.add(base, spread(words, scratch, scale)[: out.numel()], out=out)
    else:
        u = directions.part(block, j, start, stop)
        torch.add(base, sent((u * scale).astype(np.float32), out.device), out=out)


class Buffers:
    """Scratch memory by purpose, grown as needed and used again."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, torch.dtype, torch.device], torch.Tensor] = {}

    def get(self, what: str, size: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """Flat memory for at least `size` elements, rounded up to `GRAIN`, with whatever is in it."""
        size = -(-size // GRAIN) * GRAIN
        have = self.held.get((what, dtype, device))
        if have is None or have.numel() < size:
            have = self.held[what, dtype, device] = torch.empty(size, dtype=dtype, device=device)
        return have
