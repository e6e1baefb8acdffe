"""Directions of random signs, which are integer bits: the same in numpy, in torch and on any device."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np

from blackbox_zo import randomness
from blackbox_zo._typing import Floats, Signs, Words
from blackbox_zo.directions._base import Block, Directions, draw_blocks

__all__ = ["LowRank", "Rademacher"]

_FEW = 1 << 16
"""Elements up to which a block is drawn together with others."""


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
        self._newest: dict[tuple[str, int, int], tuple[int, Words]] = {}

    @cached_property
    def table(self) -> randomness.SignTable:
        """See `Directions.table`."""
        return randomness.SignTable(self.key, self.k, {b.name: b.size for b in self.blocks if b.size < _FEW})

    def at(self, key: randomness.Key) -> Rademacher:
        """See `Directions.at`."""
        return Rademacher(self.blocks, self.k, key)

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
        """See `Directions.bits`. Those of the newest direction are kept: two queries and the move ask in turn."""
        place = block.name, start, stop
        newest = self._newest.get(place)
        if newest is not None and newest[0] == j:
            return newest[1]
        found = randomness.words_between(self.key, block.name, j, -(-block.size // 64), start // 64, -(-stop // 64))
        self._newest[place] = j, found
        return found

    def draw(self) -> Floats:
        """See `Directions.draw`."""
        return draw_blocks(self.blocks, self.block_rows)


class LowRank(Directions):
    """Rank-r signs: a matrix block viewed as (m, n) has `u = A' B / sqrt(r)`, with A (r, m) and B (r, n) of signs.

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

    @cached_property
    def table(self) -> randomness.SignTable:
        """See `Directions.table`: the vectors and numbers."""
        return randomness.SignTable(self.key, self.k, {b.name: b.size for b in self.blocks if len(b.shape) < 2})

    @cached_property
    def _factors(self) -> randomness.SignTable:
        """The factors of all matrices."""
        sizes = {}
        for block in self.blocks:
            if len(block.shape) >= 2:
                m = block.shape[0]
                sizes[f"{block.name}|A"] = m * self.rank
                sizes[f"{block.name}|B"] = block.size // max(m, 1) * self.rank
        return randomness.SignTable(self.key, self.k, sizes)

    def at(self, key: randomness.Key) -> LowRank:
        """See `Directions.at`."""
        return LowRank(self.blocks, self.k, key, self.rank)

    def factors(self, block: Block) -> tuple[Signs, Signs] | None:
        """See `Directions.factors`. A vector has none."""
        if len(block.shape) < 2:
            return None
        m = block.shape[0]
        a = self._factors.of(f"{block.name}|A", m * self.rank)
        b = self._factors.of(f"{block.name}|B", block.size // max(m, 1) * self.rank)
        return a.reshape(self.k, self.rank, -1), b.reshape(self.k, self.rank, -1)

    @property
    def factor_scale(self) -> float:
        """See `Directions.factor_scale`."""
        return 1.0 / math.sqrt(self.rank)

    def part(self, block: Block, j: int, start: int, stop: int) -> Floats:
        """See `Directions.part`; multiplies the factors' rows that hold these elements."""
        found = self.factors(block)
        if found is None:
            return self.table.of(block.name, block.size)[j, start:stop].astype(np.float64)
        a, b = found
        width = b.shape[2]
        first, last = start // width, -(-stop // width)
        rows = (a[j, :, first:last].T @ b[j]).reshape(-1)  # small whole numbers, which fp32 holds exactly
        out: Floats = rows[start - first * width : stop - first * width].astype(np.float64)
        out *= self.factor_scale
        return out

    def block_rows(self, block: Block) -> Floats:
        """The directions' parts in one block, shape (k, block.size)."""
        found = self.factors(block)
        if found is None:
            return self.table.of(block.name, block.size).astype(np.float64)
        a, b = found
        rows: Floats = (a.transpose(0, 2, 1) @ b).reshape(self.k, block.size).astype(np.float64)
        rows *= self.factor_scale
        return rows

    def add_(self, out: Floats, block: Block, weights: Floats) -> None:
        """See `Directions.add_`."""
        found = self.factors(block)
        if found is None:
            out += randomness.combine(weights, self.block_rows(block))
            return
        (a, b), columns = found, self.k * self.rank
        left = (a * (weights * self.factor_scale)[:, None, None]).reshape(columns, -1)
        out += (left.T @ b.reshape(columns, -1).astype(np.float64)).reshape(-1)  # one GEMM over all k directions

    def draw(self) -> Floats:
        """See `Directions.draw`."""
        return draw_blocks(self.blocks, self.block_rows)

    def combine(self, weights: Floats) -> Floats:
        """See `Directions.combine`; from the factors even when the rows are there, so that the bits never differ."""
        return self.combine_blocks(weights)
