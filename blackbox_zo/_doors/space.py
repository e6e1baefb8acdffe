"""`Space`: named parameters of other tools, each as a coordinate in [0, 1]."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, final

import numpy as np

from blackbox_zo._typing import Floats
from blackbox_zo.parameters import Float
from blackbox_zo.variables._cells import Between, Cells

__all__ = ["Dimension", "Options", "Space", "Stepped"]


class Dimension(Protocol):
    """One parameter: `Float`, `Integer` and `Choice` are dimensions, too."""

    def decode(self, u: float) -> Any:
        """The value at `u`."""

    def encode(self, value: Any) -> float:
        """The coordinate of a value.

        Raises:
            ValueError: It is none of this parameter.
        """


@final
@dataclass(frozen=True)
class Stepped:
    """The numbers `low + k step`, up to `high`; whole ones if `low` and `step` are.

    Args:
        low: The smallest.
        high: An upper bound.
        step: The distance of neighbours, positive.
    """

    low: float
    high: float
    step: float

    @property
    def cells(self) -> Cells:
        """The numbers k."""
        return Cells(0, int((self.high - self.low) / self.step + 1e-8))

    def decode(self, u: float) -> float:
        """The number at `u`."""
        return min(self.low + self.cells.at(u) * self.step, self.high)

    def encode(self, value: Any) -> float:
        """The middle of the share of a number."""
        k = round((float(value) - self.low) / self.step)
        if not 0 <= k < self.cells.n:
            raise ValueError(f"{value!r} is not between {self.low!r} and {self.high!r}.")
        return self.cells.middle(k)


@final
@dataclass(frozen=True, eq=False)
class Options:
    """One of several objects, in the order given, each with an equal share of [0, 1].

    Args:
        options: The objects.
    """

    options: tuple[Any, ...]

    @property
    def cells(self) -> Cells:
        """The positions of the objects."""
        return Cells(0, len(self.options) - 1)

    def decode(self, u: float) -> Any:
        """The object at `u`."""
        return self.options[self.cells.at(u)]

    def encode(self, value: Any) -> float:
        """The middle of the share of an object."""
        for i, option in enumerate(self.options):
            if option is value or np.all(option == value):
                return self.cells.middle(i)
        raise ValueError(f"{value!r:.60} is not one of {self.options!r:.120}.")


class Space:
    """The box [0, 1]^d of some parameters.

    Args:
        dimensions: The parameters by name.
    """

    def __init__(self, dimensions: Mapping[str, Dimension]) -> None:
        self.dimensions = dict(dimensions)

    @property
    def names(self) -> list[str]:
        """The names, in the order of the coordinates."""
        return list(self.dimensions)

    @property
    def bounds(self) -> list[tuple[float, float]]:
        """The bounds of each coordinate: equal ones for a parameter with one value."""
        return [_bounds(dimension) for dimension in self.dimensions.values()]

    def decode(self, point: Floats) -> dict[str, Any]:
        """The parameters at a point, shape (d,)."""
        pairs = zip(self.dimensions.items(), point.tolist(), strict=True)
        return {name: dimension.decode(u) for (name, dimension), u in pairs}

    def encode(self, values: Mapping[str, Any]) -> Floats:
        """The point of some values, shape (d,); the middle of those that are missing.

        Raises:
            ValueError: A value does not belong to its parameter.
        """
        out = np.full(len(self.dimensions), 0.5)
        for i, (name, dimension) in enumerate(self.dimensions.items()):
            if name in values:
                try:
                    out[i] = dimension.encode(values[name])
                except ValueError as error:
                    raise ValueError(f"Parameter {name!r}: {error}") from None
        return np.clip(out, *np.array(self.bounds).T)


def _bounds(dimension: Dimension) -> tuple[float, float]:
    cells: Cells | None = getattr(dimension, "cells", None)
    if cells is not None:
        return (0.5, 0.5) if cells.n == 1 else Between(cells)
    return (0.5, 0.5) if isinstance(dimension, Float) and dimension.low == dimension.high else (0.0, 1.0)
