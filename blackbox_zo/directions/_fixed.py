"""Directions that are given rather than drawn: coordinate axes, and any rows."""

from __future__ import annotations

import numpy as np

from blackbox_zo import randomness
from blackbox_zo._typing import Floats, Ints, override
from blackbox_zo.directions._base import Block, Directions

__all__ = ["Coordinates", "Dense"]


class Coordinates(Directions):
    """The coordinate axes `e_i` for the flat indices i in `coordinates`; holds k numbers, not k × d.

    Args:
        blocks: The blocks of x.
        coordinates: Flat indices into x, shape (k,), each at most once.
    """

    def __init__(self, blocks: tuple[Block, ...], coordinates: Ints) -> None:
        super().__init__(blocks, len(coordinates))
        self.coordinates = coordinates

    @override
    def add_(self, out: Floats, block: Block, weights: Floats) -> None:
        where = self.place(block)
        inside = (self.coordinates >= where.start) & (self.coordinates < where.stop)
        out[self.coordinates[inside] - where.start] += weights[inside]

    @override
    def draw(self) -> Floats:
        out = np.zeros((self.k, self.size))
        out[np.arange(self.k), self.coordinates] = 1.0
        return out

    @override
    def combine(self, weights: Floats) -> Floats:
        out = np.zeros(self.size)
        out[self.coordinates] += weights
        return out

    @override
    def points(self, origin: Floats, index: Ints, scale: Floats) -> Floats:
        # Only one element of each point differs from the origin
        out = np.empty((len(index), origin.size))
        out[:] = origin
        out[np.arange(len(index)), self.coordinates[index]] += scale
        return out


class Dense(Directions):
    """Any `k` rows.

    Args:
        blocks: The blocks of x.
        rows: Shape (k, d); taken over, not copied.
    """

    def __init__(self, blocks: tuple[Block, ...], rows: Floats) -> None:
        super().__init__(blocks, len(rows))
        mine = rows.view()
        mine.flags.writeable = False
        self.__dict__["rows"] = mine

    @property
    @override
    def size(self) -> int:
        return self.rows.shape[1]

    @override
    def add_(self, out: Floats, block: Block, weights: Floats) -> None:
        out += randomness.combine(weights, self.rows[:, self.place(block)])

    @override
    def part(self, block: Block, j: int, start: int, stop: int) -> Floats:
        return self.rows[j, self.place(block)][start:stop]
