"""`Sparse`: directions that are zero in most elements."""

from __future__ import annotations

import math

import numpy as np

from blackbox_zo import randomness
from blackbox_zo._typing import Floats, Ints, override
from blackbox_zo.directions._base import Block, Directions, draw_blocks

__all__ = ["Sparse"]


class Sparse(Directions):
    """One element in each run of s, drawn uniformly, is plus or minus `sqrt(s)` by a random sign; the others are 0.

    The elements have mean 0, variance 1 and are uncorrelated, so the estimate is unbiased like that of other
    directions (as with the independent elements of Achlioptas 2003, eq. (2)). One random word makes s elements.

    Args:
        blocks: The blocks of x.
        k: Number of directions.
        key: Run seed and step.
        sparsity: s, at least 1. The last run of a block may be shorter than s; then it may have no such element.
    """

    def __init__(self, blocks: tuple[Block, ...], k: int, key: randomness.Key, sparsity: int) -> None:
        super().__init__(blocks, k)
        self.key, self.sparsity = key, sparsity

    @override
    def at(self, key: randomness.Key) -> Sparse:
        return Sparse(self.blocks, self.k, key, self.sparsity)

    @override
    def part(self, block: Block, j: int, start: int, stop: int) -> Floats:
        out = np.zeros(stop - start)
        places, values = self.nonzeros(block, j, start, stop)
        out[places] = values
        return out

    @override
    def nonzeros(self, block: Block, j: int, start: int, stop: int) -> tuple[Ints, Floats]:
        s = self.sparsity
        first, last = start // s, -(-stop // s)
        halves = randomness.halves_of([self.key.digest(block.name, size=16)])
        words = randomness.words_of(halves, last - first, j * -(-block.size // s) + first)[0]
        places = ((words >> np.uint64(1)) % np.uint64(s)).astype(np.intp)
        places += np.arange(first * s - start, last * s - start, s)
        here = (places >= 0) & (places < stop - start)
        values = np.where(words & np.uint64(1), -math.sqrt(s), math.sqrt(s))
        return places[here], values[here]

    def block_rows(self, block: Block) -> Floats:
        """The directions' parts in one block, shape (k, block.size)."""
        return np.array([self.part(block, j, 0, block.size) for j in range(self.k)]).reshape(self.k, block.size)

    @override
    def add_(self, out: Floats, block: Block, weights: Floats) -> None:
        out += randomness.combine(weights, self.block_rows(block))

    @override
    def draw(self) -> Floats:
        return draw_blocks(self.blocks, self.block_rows)
