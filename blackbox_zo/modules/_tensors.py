"""Directions as torch tensors: made chunk by chunk, so that nothing of the size of a large matrix is ever held twice.

A block of a module is flat here, in the order of its elements, and chunks start at multiples of `GRAIN`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from blackbox_zo.directions import Block, Directions
from blackbox_zo.modules._devices import sent
from blackbox_zo.modules._signs import spread, words_on_device
from blackbox_zo.modules._threads import in_threads
from blackbox_zo.randomness import TILE

if TYPE_CHECKING:
    from blackbox_zo._typing import Words

__all__ = ["Buffers", "add_direction_", "grains", "rectangles", "row_chunks"]

GRAIN = 64
"""Chunks start at multiples of this many elements: one word of sign bits."""

CHUNK = 1 << 20
"""Elements worked on at a time: 4 MiB in fp32, which stays in the cache while it is made and used."""

GPU_CHUNK = 1 << 23
"""The same on any other device than a CPU, where starting an operation takes as long as millions of elements do."""

FEW = 4
"""Tiles from which they are drawn in two threads."""

MANY_TOKENS = 256
"""From here on runs are larger."""


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


def rectangles(start: int, stop: int, width: int) -> list[tuple[int, int, int, int]]:
    """Elements `start` … `stop` of a matrix so many columns wide, as at most three (row, row, column, column)."""
    a, b = -(-start // width), stop // width
    if a > b:  # inside one row
        return [(b, b + 1, start - b * width, stop - b * width)]
    out = [(a - 1, a, start - (a - 1) * width, width)] if start < a * width else []
    out += [(a, b, 0, width)] if a < b else []
    return [*out, (b, b + 1, 0, stop - b * width)] if stop > b * width else out


def grains(sizes: list[int]) -> tuple[list[tuple[int, int]], int]:
    """Where flat blocks lie one after another, each from a multiple of `GRAIN` to the next; and how long all are."""
    spans, end = [], 0
    for size in sizes:
        spans.append((end, end + -(-size // GRAIN) * GRAIN))
        end = spans[-1][1]
    return spans, end


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
        base: Of the same size, any type; None takes `out` itself.
    """
    base, stop = out if base is None else base, start + out.numel()
    words = _words(directions, block, j, start, stop, out.device)
    if words is not None:
        torch.add(base, spread(words, scratch, scale)[: out.numel()], out=out)
        return
    found = directions.nonzeros(block, j, start, stop)
    if found is not None:
        places = sent(found[0], out.device)
        low = np.multiply(found[1], scale, out=np.empty(len(found[1]), np.float32), casting="same_kind")
        if base is not out:
            out.copy_(base)
        out[places] += sent(low, out.device)
        return
    size = out.numel()
    step = TILE if out.device.type == "cpu" else max(1, size)  # a tile stays in the cache

    def add(first: int, last: int) -> None:
        with torch.no_grad():  # each thread has a mode of its own
            for a in range(first * step, min(last * step, size), step):
                b = min(a + step, size)
                u = directions.part(block, j, start + a, start + b)
                low = np.multiply(u, scale, out=np.empty(len(u), np.float32), casting="same_kind")
                torch.add(base[a:b], sent(low, out.device), out=out[a:b])

    in_threads(add, -(-size // step), FEW)


def _words(
    directions: Directions, block: Block, j: int, start: int, stop: int, device: torch.device
) -> Words | torch.Tensor | None:
    """`Directions.bits`, made on the device if they can be: numpy takes longer for them than a GPU for a whole step."""
    place = None if device.type == "cpu" else directions.bits_place(block, j, start, stop)
    if place is None:
        return directions.bits(block, j, start, stop)
    halves, count, first = place
    return words_on_device(sent(halves.view(np.int64), device), count, first)[0]


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
