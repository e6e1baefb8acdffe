"""Nevergrad's standardized space, in which all of its parameters are real numbers, of about unit size."""

from __future__ import annotations

from typing import Any

import numpy as np

from blackbox_zo._doors.packages import nevergrad
from blackbox_zo._typing import Floats

__all__ = ["box", "unit_of"]

FREE = 3.0
"""The unit where there are no bounds: with both, nevergrad's standard deviation is a third of half their distance."""


def box(parametrization: Any) -> list[tuple[float, float]]:
    """The bounds of each standardized coordinate, infinite where there are none.

    Bounds by clipping or bouncing are a box there. Those that are reached at infinity ("arctan", "tanh") are none.
    """
    ng = nevergrad()
    out: list[tuple[float, float]] = []
    for data in ng.p.helpers.list_data(parametrization):
        lower, upper = np.full(data.dimension, -np.inf), np.full(data.dimension, np.inf)
        for end, bound in zip((lower, upper), _raw_bounds(data), strict=True):
            if bound is not None:
                whole = np.broadcast_to(bound, np.shape(data.value) or (1,))
                end[:] = data._to_reduced_space(whole) - data._to_reduced_space()
        out += zip(lower.tolist(), upper.tolist(), strict=True)
    # Rounding must not leave the start outside
    return [(min(low, 0.0), max(high, 0.0)) for low, high in out]


def _raw_bounds(data: Any) -> Any:
    """The bounds of an array before any other operation on it."""
    from nevergrad.parametrization import _datalayers as layers

    for operation in layers.Operation.filter_from(data):
        how = getattr(operation, "_method", "constraint")  # a plain `BoundLayer` adds a constraint
        if type(operation) in (layers.Bound, layers.BoundLayer) and how in ("clipping", "bouncing", "constraint"):
            return operation.bounds
        break
    return (None, None)


def unit_of(bounds: list[tuple[float, float]]) -> Floats:
    """Half the distance of two bounds, and `FREE` elsewhere, shape (d,)."""
    width = np.array([high - low for low, high in bounds]) / 2
    return np.where(np.isfinite(width) & (width > 0), width, FREE)
