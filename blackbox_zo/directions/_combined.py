"""Directions made of other directions: several sets side by side, sums of them, or one set on some of the blocks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blackbox_zo import randomness
from blackbox_zo._typing import Floats, Signs, Words, override
from blackbox_zo.directions._base import Block, Directions

__all__ = ["Joined", "Mixed", "OnBlocks", "groups_of"]


class Joined(Directions):
    """Several sets of directions in the same space as one set.

    Args:
        parts: At least one, all over the same blocks.
    """

    def __init__(self, parts: Sequence[Directions]) -> None:
        super().__init__(parts[0].blocks, sum(part.k for part in parts))
        self.parts = tuple(parts)
        self.ends = np.cumsum([part.k for part in parts]).tolist()

    def _split(self, weights: Floats) -> list[Floats]:
        return np.split(weights, self.ends[:-1])

    def _find(self, j: int) -> tuple[Directions, int]:
        which = int(np.searchsorted(self.ends, j, side="right"))
        return self.parts[which], j - (self.ends[which] - self.parts[which].k)

    @override
    def add_(self, out: Floats, block: Block, weights: Floats) -> None:
        for part, w in zip(self.parts, self._split(weights), strict=True):
            if part.touches(block):
                part.add_(out, block, w)

    @override
    def combine(self, weights: Floats) -> Floats:
        return self.combine_blocks(weights)

    @override
    def touches(self, block: Block) -> bool:
        return any(part.touches(block) for part in self.parts)

    @override
    def part(self, block: Block, j: int, start: int, stop: int) -> Floats:
        found, i = self._find(j)
        return found.part(block, i, start, stop)

    @override
    def bits(self, block: Block, j: int, start: int, stop: int) -> Words | None:
        found, i = self._find(j)
        return found.bits(block, i, start, stop)

    @override
    def factors(self, block: Block) -> tuple[Signs, Signs] | None:
        # Only where every part that touches the block has factors, all of one rank
        found = [part.factors(block) if part.touches(block) else None for part in self.parts]
        here = [(pair, part) for pair, part in zip(found, self.parts, strict=True) if part.touches(block)]
        if any(pair is None for pair, _ in here):
            return None
        ranks = {(pair[0].shape[1], part.factor_scale) for pair, part in here if pair is not None}
        if len(ranks) != 1 or ranks.pop()[1] != self.factor_scale:
            return None
        some = next(pair for pair, _ in here if pair is not None)

        def of(pair: tuple[Signs, Signs] | None, part: Directions, which: int) -> Signs:
            return pair[which] if pair is not None else np.zeros((part.k, *some[which].shape[1:]), np.float32)

        both = [
            np.concatenate([of(pair, part, i) for pair, part in zip(found, self.parts, strict=True)]) for i in (0, 1)
        ]
        return both[0], both[1]

    @property
    @override
    def factor_scale(self) -> float:
        return self.parts[0].factor_scale


class Mixed(Directions):
    """Sums of other directions: `u_i = sum_j matrix[i, j] v_j`. Holds the matrix; the v_j may be drawn from a key.

    Args:
        inner: The k' directions v_j.
        matrix: Shape (k, k').
    """

    def __init__(self, inner: Directions, matrix: Floats) -> None:
        super().__init__(inner.blocks, len(matrix))
        self.inner, self.matrix = inner, matrix

    @override
    def add_(self, out: Floats, block: Block, weights: Floats) -> None:
        self.inner.add_(out, block, weights @ self.matrix)

    @override
    def combine(self, weights: Floats) -> Floats:
        return self.combine_blocks(weights)

    @override
    def touches(self, block: Block) -> bool:
        return self.inner.touches(block)

    @override
    def part(self, block: Block, j: int, start: int, stop: int) -> Floats:
        out = np.zeros(stop - start)
        for i in np.flatnonzero(self.matrix[j]).tolist():
            out += self.matrix[j, i] * self.inner.part(block, i, start, stop)
        return out


@dataclass(frozen=True)
class Group:
    """Blocks that belong together, such as those of one layer."""

    name: str
    blocks: tuple[str, ...]


def groups_of(blocks: Sequence[Block]) -> list[Group]:
    """Blocks by layer: those whose names agree up to the first number between dots. Others are groups of their own."""
    found: dict[str, list[str]] = {}
    for block in blocks:
        layer = re.match(r"(?:.*?\.)?\d+(?=\.)", block.name)
        found.setdefault(layer[0] if layer else block.name, []).append(block.name)
    return [Group(name, tuple(names)) for name, names in found.items()]


class OnBlocks(Directions):
    """Directions in a few groups of blocks drawn at random each step, and 0 in all others.

    They are longer by `sqrt(groups / n)` there, so that their elements keep variance 1 on average over the draws.

    Args:
        inner: Directions that depend on a key alone, over all blocks.
        n: How many groups; see `groups_of`.
        key: The key of the step.
    """

    def __init__(self, inner: Directions, n: int, key: randomness.Key) -> None:
        super().__init__(inner.blocks, inner.k)
        self.inner, self.n, self.key = inner, n, key
        groups = groups_of(inner.blocks)
        n = min(n, len(groups))
        chosen = key.generator("blocks").permutation(len(groups))[:n]
        self.names = frozenset(name for i in chosen for name in groups[i].blocks)
        self.stretch = float(np.sqrt(len(groups) / n))

    @override
    def at(self, key: randomness.Key) -> OnBlocks:
        return OnBlocks(self.inner.at(key), self.n, key)

    @override
    def touches(self, block: Block) -> bool:
        return block.name in self.names

    @override
    def add_(self, out: Floats, block: Block, weights: Floats) -> None:
        if self.touches(block):
            self.inner.add_(out, block, weights * self.stretch)

    @override
    def combine(self, weights: Floats) -> Floats:
        return self.combine_blocks(weights)

    @override
    def part(self, block: Block, j: int, start: int, stop: int) -> Floats:
        if not self.touches(block):
            return np.zeros(stop - start)
        return self.inner.part(block, j, start, stop) * self.stretch

    @override
    def factors(self, block: Block) -> tuple[Signs, Signs] | None:
        return self.inner.factors(block) if self.touches(block) else None

    @override
    def factor_table(self, block: Block) -> tuple[randomness.SignTable, slice, slice, int] | None:
        return self.inner.factor_table(block) if self.touches(block) else None

    @property
    @override
    def factor_scale(self) -> float:
        return self.inner.factor_scale * self.stretch
