"""Gaussian directions, and the sphere and the orthonormal frames that are made from them."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from blackbox_zo import randomness
from blackbox_zo._typing import Floats, override
from blackbox_zo.directions._base import Block, Directions, draw_blocks

__all__ = ["Gaussian", "Orthogonal", "Sphere"]


class Gaussian(Directions):
    """`u_j ~ N(0, I)`, regenerated from a key: nothing of the size of x is stored unless `rows` is read.

    Args:
        blocks: The blocks of x.
        k: Number of directions.
        key: Run seed and step.
    """

    def __init__(self, blocks: tuple[Block, ...], k: int, key: randomness.Key) -> None:
        super().__init__(blocks, k)
        self.key = key
        self._tiles = randomness.Tiles()

    @override
    def at(self, key: randomness.Key) -> Gaussian:
        return Gaussian(self.blocks, self.k, key)

    @override
    def add_(self, out: Floats, block: Block, weights: Floats) -> None:
        randomness.add_normals(out, self.key, block.name, weights)

    @override
    def part(self, block: Block, j: int, start: int, stop: int) -> Floats:
        # Only the tiles that hold these elements are drawn
        return randomness.normals_between(self.key, block.name, j, block.size, start, stop, self._tiles)

    @override
    def draw(self) -> Floats:
        return draw_blocks(self.blocks, lambda b: randomness.normals(self.key, b.name, self.k, b.size))


class Sphere(Directions):
    """Uniform on the unit sphere of R^d: Gaussian rows divided by their norms. Holds k numbers beside the key."""

    def __init__(self, blocks: tuple[Block, ...], k: int, key: randomness.Key) -> None:
        super().__init__(blocks, k)
        self.key = key
        self.gaussian = Gaussian(blocks, k, key)

    @cached_property
    def _lengths(self) -> Floats:
        """1 / norm of each Gaussian row, shape (k,)."""
        squares = np.zeros(self.k)
        for j, unit in enumerate(np.eye(self.k)):
            for block in self.blocks:
                u = np.zeros(block.size)
                self.gaussian.add_(u, block, unit)
                squares[j] += np.add.reduce(u * u)
        return 1.0 / np.sqrt(squares)

    @override
    def at(self, key: randomness.Key) -> Sphere:
        return Sphere(self.blocks, self.k, key)

    @override
    def add_(self, out: Floats, block: Block, weights: Floats) -> None:
        randomness.add_normals(out, self.gaussian.key, block.name, weights, self._lengths)

    @override
    def part(self, block: Block, j: int, start: int, stop: int) -> Floats:
        u = self.gaussian.part(block, j, start, stop)
        u *= self._lengths[j]
        return u

    @override
    def draw(self) -> Floats:
        rows = self.gaussian.draw()
        if "_lengths" not in self.__dict__:  # the same sums as above, without a second draw
            squares = np.zeros(self.k)
            for j, row in enumerate(rows):
                for block in self.blocks:
                    u = row[self.place(block)]
                    squares[j] += np.add.reduce(u * u)
            self.__dict__["_lengths"] = 1.0 / np.sqrt(squares)
        rows *= self._lengths[:, None]
        return rows


class Orthogonal(Directions):
    """Orthonormal rows, uniform (Haar) among such frames; with k > d, independent frames of d rows each.

    Each row alone is uniform on the unit sphere. Holds k × d numbers.
    """

    def __init__(self, blocks: tuple[Block, ...], k: int, key: randomness.Key) -> None:
        super().__init__(blocks, k)
        self.key = key
        self.gaussian = Gaussian(blocks, k, key)

    @override
    def at(self, key: randomness.Key) -> Orthogonal:
        return Orthogonal(self.blocks, self.k, key)

    @override
    def add_(self, out: Floats, block: Block, weights: Floats) -> None:
        out += randomness.combine(weights, self.rows[:, self.place(block)])

    @override
    def draw(self) -> Floats:
        rows = self.gaussian.draw()
        for a in range(0, self.k, self.size):
            q, r = np.linalg.qr(rows[a : a + self.size].T)
            rows[a : a + self.size] = (q * np.copysign(1.0, np.diag(r))).T  # positive diagonal of R: Haar measure
        return rows
