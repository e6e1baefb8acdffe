"""Directions of random signs, which are integer bits: the same in numpy, in torch and on any device."""

from __future__ import annotations

import numpy as np

from blackbox_zo import randomness
from blackbox_zo._typing import Floats, Words
from blackbox_zo.directions._base import Block, Directions, draw_blocks

__all__ = ["LowRank", "Rademacher"]


class Rademacher(Directions):
    """Every element -1 or +1 with equal chance, regenerated from a key.

    Args:
        blocks: The blocks of x.
        k: Number of directions.
        key: Run seed and step.
    """

    def __init__(self, blocks: tuple[Block, ...], k: int, key: randomness.Key) -> None:
        super().__init__(blocks, k)
        self.key = key

    def block_rows(self, block: Block) -> Floats:
        """The directions' parts in one block, shape (k, block.size)."""
        return randomness.signs(self.key, block.name, self.k, block.size)

    def add_(self, out: Floats, block: Block, weights: Floats) -> None:
        """See `Directions.add_`."""
        out += randomness.combine(weights, self.block_rows(block))

    def part(self, block: Block, j: int, start: int, stop: int) -> Floats:
        """See `Directions.part`."""
        first = start - start % 64
        words = self.bits(block, j, first, stop)
        return randomness.unpacked(words[None, :], stop - first)[0, start - first :]

    def bits(self, block: Block, j: int, start: int, stop: int) -> Words:
        """See `Directions.bits`."""
        return randomness.words_between(self.key, block.name, j, -(-block.size // 64), start // 64, -(-stop // 64))

    def draw(self) -> Floats:
        """See `Directions.draw`."""
        return draw_blocks(self.blocks, self.block_rows)


class LowRank(Directions):
    """Rank-r signs: a matrix block viewed as (m, n) has `u = A B' / sqrt(r)`, with A (m, r) and B (n, r) of signs.

    The elements of u have mean 0, variance 1 and are uncorrelated, so the estimate is unbiased up to O(radius²) like
    any other. Vectors and numbers have full signs.

    Args:
        blocks: The blocks of x.
        k: Number of directions.
        key: Run seed and step.
        rank: r ≥ 1.
    """

    def __init__(self, blocks: tuple[Block, ...], k: int, key: randomness.Key, rank: int = 1) -> None:
        super().__init__(blocks, k)
        self.key = key
        self.rank = rank

    def _signs(self, block: Block) -> tuple[Floats, Floats]:
        """A, shape (k, m, r), and B, shape (k, n, r), of a block with at least two axes: signs alone."""
        m, r = block.shape[0], self.rank
        n = block.size // max(m, 1)
        a = randomness.signs(self.key, block.name + "|A", self.k, m * r).reshape(self.k, m, r)
        b = randomness.signs(self.key, block.name + "|B", self.k, n * r).reshape(self.k, n, r)
        return a, b

    def factors(self, block: Block) -> tuple[Floats, Floats] | None:
        """See `Directions.factors`; A is divided by sqrt(r). A vector has none."""
        if len(block.shape) < 2:
            return None
        a, b = self._signs(block)
        return a / np.sqrt(self.rank), b

    def part(self, block: Block, j: int, start: int, stop: int) -> Floats:
        """See `Directions.part`; multiplies the factors' rows that hold these elements."""
        if len(block.shape) < 2:
            return self.block_rows(block)[j, start:stop]
        a, b = self._signs(block)
        width = b.shape[1]
        first, last = start // width, -(-stop // width)
        rows: Floats = (a[j, first:last] @ b[j].T).reshape(-1) / np.sqrt(self.rank)
        return rows[start - first * width : stop - first * width]

    def block_rows(self, block: Block) -> Floats:
        """The directions' parts in one block, shape (k, block.size)."""
        if len(block.shape) < 2:
            return randomness.signs(self.key, block.name, self.k, block.size)
        a, b = self._signs(block)
        out: Floats = (a @ b.transpose(0, 2, 1)).reshape(self.k, block.size) / np.sqrt(self.rank)
        return out

    def add_(self, out: Floats, block: Block, weights: Floats) -> None:
        """See `Directions.add_`."""
        if len(block.shape) < 2:
            out += randomness.combine(weights, self.block_rows(block))
            return
        (a, b), columns = self._signs(block), self.k * self.rank
        left = (a * (weights / np.sqrt(self.rank))[:, None, None]).transpose(1, 0, 2).reshape(a.shape[1], columns)
        right = b.transpose(1, 0, 2).reshape(b.shape[1], columns)
        out += (left @ right.T).reshape(-1)  # one GEMM over all k directions: (m, k r) (k r, n)

    def draw(self) -> Floats:
        """See `Directions.draw`."""
        return draw_blocks(self.blocks, self.block_rows)

    def combine(self, weights: Floats) -> Floats:
        """See `Directions.combine`; from the factors even when the rows are there, so that the bits never differ."""
        return self.combine_blocks(weights)
