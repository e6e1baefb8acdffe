"""The abstract `Directions`, and `Block`, one named tensor of x."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from blackbox_zo import randomness
from blackbox_zo._buffers import empty
from blackbox_zo._typing import Floats, Ints, Signs, Words

__all__ = ["Block", "Directions"]


@dataclass(frozen=True)
class Block:
    """One named tensor of x.

    Attributes:
        name: Unique within the variable; random directions depend on it, so renaming a block changes the draws.
        shape: The tensor's shape; () for a number.
    """

    name: str
    shape: tuple[int, ...]

    @cached_property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


class Directions(ABC):
    """`k` directions `u_1 … u_k` in the space of x, addressed block by block.

    A subclass implements `add_`; it overrides other methods only for speed. `rows` holds k × d numbers once it is read,
    so code for large variables uses `add_` alone.

    Attributes:
        blocks: The blocks of x, in order.
        k: Number of directions.
    """

    def __init__(self, blocks: tuple[Block, ...], k: int) -> None:
        self.blocks = blocks
        self.k = k

    @property
    def size(self) -> int:
        """The dimension d, elements over all blocks."""
        return sum(block.size for block in self.blocks)

    @abstractmethod
    def add_(self, out: Floats, block: Block, weights: Floats) -> None:
        """`out += sum_j weights[j] u_j[block]`, in place.

        Args:
            out: Flat array of the block, shape (block.size,).
            block: One of `blocks`.
            weights: Shape (k,).
        """

    def at(self, key: randomness.Key) -> Directions:
        """Directions of the same kind drawn from another key.

        Raises:
            TypeError: They are not a function of a key.
        """
        raise TypeError(f"`{type(self).__name__}` directions are given, not drawn, so they cannot be drawn again.")

    def touches(self, block: Block) -> bool:
        """Whether any direction may be nonzero in a block."""
        return True

    def part(self, block: Block, j: int, start: int, stop: int) -> Floats:
        """Elements `start` to `stop` of direction j in a block, flat; where possible, only those are drawn.

        Several threads may call it at once.
        """
        out, unit = np.zeros(block.size), np.zeros(self.k)
        unit[j] = 1.0
        self.add_(out, block, unit)
        return out[start:stop]

    def nonzeros(self, block: Block, j: int, start: int, stop: int) -> tuple[Ints, Floats] | None:
        """Where elements `start` to `stop` of direction j are not zero, counted from `start`, and what they are there.

        None for directions that are zero hardly anywhere.
        """
        return None

    @property
    def table(self) -> randomness.SignTable | None:
        """For directions of signs: the signs of the small blocks, drawn together; else None."""
        return None

    def factors(self, block: Block) -> tuple[Signs, Signs] | None:
        """A (k, r, m) and B (k, r, n) with `u_j = factor_scale A_j' B_j`, if a block is such a product; else None."""
        return None

    def factor_table(self, block: Block) -> tuple[randomness.SignTable, slice, slice, int] | None:
        """Where `factors` lie if in one table: the table, its columns of A and of B, and r; else None."""
        return None

    @property
    def factor_scale(self) -> float:
        """What the products of `factors` are multiplied by."""
        return 1.0

    def bits(self, block: Block, j: int, start: int, stop: int) -> Words | None:
        """For signs: elements `start` (a multiple of 64) to `stop` of direction j as bits, 64 a word, 1 for -1."""
        return None

    def bits_place(self, block: Block, j: int, start: int, stop: int) -> tuple[Words, int, int] | None:
        """What `bits` are, if they are words: the arguments of `words_of`, one pair of halves."""
        return None

    def draw(self) -> Floats:
        """Compute all directions as rows, shape (k, d). `rows` keeps the result."""
        out = np.zeros((self.k, self.size))
        unit = np.eye(self.k)
        for j in range(self.k):
            start = 0
            for block in self.blocks:
                self.add_(out[j, start : start + block.size], block, unit[j])
                start += block.size
        return out

    @cached_property
    def rows(self) -> Floats:
        """All directions, shape (k, d), read-only. Drawn at the first read and kept."""
        out = self.draw()
        out.flags.writeable = False
        return out

    def place(self, block: Block) -> slice:
        """Where a block lies in a flat array over all blocks.

        Raises:
            KeyError: The block is unknown.
        """
        if block.name not in self._places:
            raise KeyError(f"There is no block {block.name!r}; the blocks are {[b.name for b in self.blocks]}.")
        return self._places[block.name]

    @cached_property
    def _places(self) -> dict[str, slice]:
        out, start = {}, 0
        for block in self.blocks:
            out[block.name] = slice(start, start + block.size)
            start += block.size
        return out

    def combine(self, weights: Floats) -> Floats:
        """The sum `weights @ U`, shape (d,): the same bits whether or not `rows` has been read."""
        if "rows" in self.__dict__:
            return randomness.combine(weights, self.rows)
        return self.combine_blocks(weights)

    def combine_blocks(self, weights: Floats) -> Floats:
        """The sum `weights @ U` by `add_` alone, shape (d,)."""
        out, start = np.zeros(self.size), 0
        for block in self.blocks:
            self.add_(out[start : start + block.size], block, weights)
            start += block.size
        return out

    def points(self, origin: Floats, index: Ints, scale: Floats) -> Floats:
        """The displaced points `origin + scale[i] u_index[i]`, shape (n, d).

        Args:
            origin: Shape (d,).
            index: Which direction each point follows, shape (n,).
            scale: How far, shape (n,).
        """
        rows, n, d = self.rows, len(index), origin.size
        if n * d <= randomness.TILE:
            out = rows[index]
            out *= scale[:, None]
            out += origin
            return out
        out = empty((n, d))
        product = np.empty(min(d, randomness.TILE))
        for a in range(0, d, randomness.TILE):  # a column tile stays in the cache while all rows pass
            here = origin[a : a + randomness.TILE]
            moved = product[: here.size]
            last = (-1, 0.0)
            for i, (j, far) in enumerate(zip(index.tolist(), scale.tolist(), strict=True)):
                part = out[i, a : a + randomness.TILE]
                if last == (j, -far):  # the other end of a pair
                    np.subtract(here, moved, out=part)
                    continue
                np.multiply(rows[j, a : a + randomness.TILE], far, out=moved)
                np.add(here, moved, out=part)
                last = (j, far)
        return out


def draw_blocks(blocks: tuple[Block, ...], draw: Callable[[Block], Floats]) -> Floats:
    """Join the (k, size) rows that `draw` gives for each block into (k, d)."""
    parts = [draw(block) for block in blocks]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
