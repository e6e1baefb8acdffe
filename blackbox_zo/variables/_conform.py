"""Whether a point has the structure of x0, and lies within its bounds."""

from __future__ import annotations

from typing import Any

import numpy as np

from blackbox_zo._typing import Floats, Tree
from blackbox_zo.variables._labels import Labelled
from blackbox_zo.variables._tree import TreeDef, flatten, names

__all__ = ["conforming", "within"]


def conforming(treedef: TreeDef, point: Tree, name: str) -> Floats:
    """A point as a flat array, shape (d,), its leaves in the order of x0's.

    Args:
        treedef: The structure of x0.
        point: The point. Keys of dicts and names of series may come in another order.
        name: What to call the point in an error.

    Raises:
        ValueError: The point has another structure than x0, or is not finite.
        TypeError: A leaf is not numeric.
    """
    if isinstance(treedef.template, Labelled):
        point = _ordered(treedef.template, point)
    flat, found = flatten(point, name)
    mine, theirs = ({block.name: block.shape for block in t.blocks} for t in (treedef, found))
    if mine.keys() != theirs.keys():
        here, there = (" and ".join(map(_called, shapes)) for shapes in (theirs, mine))
        raise ValueError(f"`{name}` has {here}, but `x0` has {there}; give each point the structure of `x0`.")
    for block, shape in mine.items():
        if theirs[block] != shape:
            where = "" if block == "x" else f" at {block!r}"
            raise ValueError(f"`{name}` has shape {theirs[block]}{where}, but `x0` has {shape} there.")
    parts = dict(zip(theirs, np.split(flat, np.cumsum([b.size for b in found.blocks])[:-1]), strict=True))
    return np.concatenate([parts[block] for block in mine])


def _called(block: str) -> str:
    return "one array" if block == "x" else repr(block)


def _ordered(wanted: Labelled, point: Any) -> Any:
    """A series, or a dict of numbers, in the order of x0's names."""
    if wanted.columns is None and hasattr(point, "reindex") and set(point.index) == set(wanted.index):
        return point.reindex(wanted.index)
    return point


def within(flat: Floats, lower: Floats, upper: Floats, treedef: TreeDef, name: str) -> None:
    """Raise ValueError if a point, shape (d,), lies outside the bounds."""
    for i in np.flatnonzero((flat < lower) | (flat > upper))[:1]:
        label = f"element {i}" if flat.size > 1000 else list(names(treedef))[i]
        fixed = lower[i] == upper[i]
        raise ValueError(
            f"`{name}` is outside `bounds` at {label}: {flat[i]} is not in [{lower[i]}, {upper[i]}]. "
            + ("The bounds fix this element." if fixed else "Leave this point out, or widen the bounds.")
        )
