"""Which displacements span the space, and which axes complete them."""

from __future__ import annotations

import math

import numpy as np

from blackbox_zo._typing import Floats, Ints

__all__ = ["spanned"]

SINE = 0.1
"""Least sine of the angle between a displacement and the span of those before it."""


def spanned(displacements: Floats) -> tuple[Ints, Ints]:
    """The displacements that each add a direction, in order, and the coordinates whose axes add the rest.

    Args:
        displacements: Shape (k, d).
    """
    k, d = displacements.shape
    rest = np.eye(d)  # projects onto what is not spanned
    kept: list[int] = []
    axes: list[int] = []
    for i in range(k):
        row = displacements[i]
        new = rest @ row
        length = math.sqrt(float(new @ new))
        if len(kept) < d and length > SINE * math.sqrt(float(row @ row)):
            kept.append(i)
            rest -= np.outer(new / length, new / length)
    for _ in range(d - len(kept)):
        j = int(np.argmax(rest.diagonal()))
        axes.append(j)
        rest -= np.outer(rest[j], rest[j]) / rest[j, j]
        rest[j] = rest[:, j] = 0.0
    return np.array(kept, dtype=np.intp), np.sort(np.array(axes, dtype=np.intp))
