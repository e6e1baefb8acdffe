"""Directions of random signs, which are integer bits: the same in numpy, in torch and on any device."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np

from blackbox_zo import randomness
from blackbox_zo._typing import Floats, Signs, Words, override
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
    @override
    def table(self) -> randomness.SignTable:
        return randomness.SignTable(self.key, self.k, {b.name: b.size for b in self.blocks if b.size < _FEW})

    @override
    def at(self, key: randomness.Key) -> Rademacher:
        return Rademacher(self.blocks, self.k, key)

    def block_rows(self, block: Block) -> Floats:
        """The directions' parts in one block, shape (k, block.size)."""
        return randomness.signs(self.key, block.name, self.k, block.size)

    @override
    def add_(self, out: Floats, block: Block, weights: Floats) -> None:
        out += randomness.combine(weights, self.block_rows(block))

    @override
    def part(self, block: Block, j: int, start: int, stop: int) -> Floats:
        first = start - start % 64
        words = self.bits(block, j, first, stop)
        return randomness.unpacked(words[None, :], stop - first)[0, start - first :]

    @override
    def bits(self, block: Block, j: int, start: int, stop: int) -> Words:
        # Those of the newest direction are kept: its two queries and the move need them in turn
        place = block.name, start, stop
        newest = self._newest.get(place)
        if newest is not None and newest[0] == j:
            return newest[1]
        found: Words = randomness.words_of(*self.bits_place(block, j, start, stop))[0]
        self._newest[place] = j, found
        return found

    @override
    def bits_place(self, block: Block, j: int, start: int, stop: int) -> tuple[Words, int, int]:
        first, last = start // 64, -(-stop // 64)
        halves = randomness.halves_of([self.key.digest(block.name, size=16)])
        return halves, last - first, j * -(-block.size // 64) + first

    @override
    def draw(self) -> Floats:
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
    @override
    def table(self) -> randomness.SignTable:
        # Of vectors and numbers; matrices have factors
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

    @override
    def at(self, key: randomness.Key) -> LowRank:
        return LowRank(self.blocks, self.k, key, self.rank)

    @override
    def factors(self, block: Block) -> tuple[Signs, Signs] | None:
        found = self.factor_table(block)
        if found is None:
            return None
        table, a, b, rank = found
        return table.signs[:, a].reshape(self.k, rank, -1), table.signs[:, b].reshape(self.k, rank, -1)

    @override
    def factor_table(self, block: Block) -> tuple[randomness.SignTable, slice, slice, int] | None:
        if len(block.shape) < 2:
            return None
        m, table = block.shape[0], self._factors
        a, b = table.starts[f"{block.name}|A"], table.starts[f"{block.name}|B"]
        n = block.size // max(m, 1)
        return table, slice(a, a + m * self.rank), slice(b, b + n * self.rank), self.rank

    @property
    @override
    def factor_scale(self) -> float:
        return 1.0 / math.sqrt(self.rank)

    @override
    def part(self, block: Block, j: int, start: int, stop: int) -> Floats:
        # Only the rows of the factors that hold these elements are multiplied
        found = self.factors(block)
        if found is None:
            return self.table.of(block.name, block.size)[j, start:stop].astype(np.float64)
        a, b = found
        width = max(1, b.shape[2])
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

    @override
    def add_(self, out: Floats, block: Block, weights: Floats) -> None:
        found = self.factors(block)
        if found is None:
            out += randomness.combine(weights, self.block_rows(block))
            return
        (a, b), columns = found, self.k * self.rank
        left = (a * (weights * self.factor_scale)[:, None, None]).reshape(columns, -1)
        out += (left.T @ b.reshape(columns, -1).astype(np.float64)).reshape(-1)  # one GEMM over all k directions

    @override
    def draw(self) -> Floats:
        return draw_blocks(self.blocks, self.block_rows)

    @override
    def combine(self, weights: Floats) -> Floats:
        # Always from the factors, so that the bits do not depend on whether `rows` was read
        return self.combine_blocks(weights)
