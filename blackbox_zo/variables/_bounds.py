"""Bounds, in any of the forms a user may give them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from blackbox_zo._typing import Floats
from blackbox_zo.directions import Block
from blackbox_zo.variables._cells import Between, Cells
from blackbox_zo.variables._labels import Labelled
from blackbox_zo.variables._tree import TreeDef, leaf_numbers, names

__all__ = ["read_bounds"]


def read_bounds(bounds: Any, flat: Floats, treedef: TreeDef) -> tuple[Floats, Floats, list[Cells | None]]:
    """Low and high for every element of `flat`, each of shape (d,), infinite where there is no bound; and its values.

    Equal bounds fix an element. The values are None unless the pair is a `Between`.

    Args:
        bounds: See `Vector`; also a `scipy.optimize.Bounds`, and tables with two columns.
        flat: The start, shape (d,).
        treedef: Its structure.

    Raises:
        ValueError: The bounds cross, miss the start, or do not fit its structure.
    """
    d = flat.size
    lower, upper = np.full(d, -np.inf), np.full(d, np.inf)
    cells: list[Cells | None] = []
    if bounds is None:
        return lower, upper, cells
    labels = list(names(treedef)) if d <= 1000 else None
    if isinstance(bounds, Mapping):
        bounds = _of_tree(treedef.template, bounds, treedef.blocks, "bounds")
    elif hasattr(bounds, "to_numpy"):  # of pandas
        bounds = bounds.to_numpy()
    if hasattr(bounds, "lb") and hasattr(bounds, "ub"):  # scipy.optimize.Bounds
        try:
            lower[:], upper[:] = bounds.lb, bounds.ub
        except ValueError:
            raise _misfit(bounds, d) from None
    else:
        pairs = _pairs(bounds, d, _several(treedef))
        lower[:] = [-np.inf if low is None else low for low, _ in pairs]
        upper[:] = [np.inf if high is None else high for _, high in pairs]
        cells = [getattr(pair, "cells", None) for pair in pairs]
    for i in np.flatnonzero(~(lower <= upper))[:1]:
        raise ValueError(
            f"`bounds` cross at {_label(labels, i)}: low {lower[i]} is not below high {upper[i]}. Swap or widen them."
        )
    for i in np.flatnonzero((flat < lower) | (flat > upper))[:1]:
        raise ValueError(
            f"`x0` is outside `bounds` at {_label(labels, i)}: {flat[i]} is not in [{lower[i]}, {upper[i]}]. "
            "Move the start inside, or widen the bounds."
        )
    return lower, upper, cells


def _of_tree(template: Any, bounds: Any, blocks: tuple[Block, ...], path: str) -> list[tuple[Any, Any]]:
    """One pair per element, from bounds that follow the structure of x0 down to some depth."""
    if not isinstance(bounds, Mapping):
        leaves = list(leaf_numbers(template))
        d = sum(blocks[i].size for i in leaves)
        return [(None, None)] * d if bounds is None else list(_pairs(bounds, d))
    if isinstance(template, Labelled) and template.columns is None and set(bounds) <= set(template.index):
        return [pair for key in template.index for pair in _pairs(bounds.get(key, (None, None)), 1)]
    if not isinstance(template, dict) or not bounds.keys() <= template.keys():
        keys = list(template if isinstance(template, dict) else getattr(template, "index", ()))
        strange = [k for k in bounds if k not in keys]
        offered = keys or "no keys"
        raise ValueError(f"`{path}` names {strange[0]!r}, which `x0` does not have there: it has {offered}.")
    return [
        pair for key, below in template.items() for pair in _of_tree(below, bounds.get(key), blocks, f"{path}[{key!r}]")
    ]


def _several(treedef: TreeDef) -> str:
    """A hint, if x0 is a list of equal arrays, which may have been meant as several starts."""
    alike = len({block.shape for block in treedef.blocks}) == 1 < len(treedef.blocks)
    meant = isinstance(treedef.template, list | tuple) and alike
    return " A list of arrays is one start; for several write `Starts([...])`." if meant else ""


def _pairs(bounds: Any, d: int, hint: str = "") -> Sequence[tuple[Any, Any]]:
    def is_pair(pair: Any) -> bool:
        return len(pair) == 2 and all(v is None or isinstance(v, int | float | np.number) for v in pair)

    try:
        items = list(bounds)
        if len(items) == 2 and is_pair(items):
            return [bounds if isinstance(bounds, Between) else tuple(items)] * d
        if len(items) == d and all(is_pair(list(pair)) for pair in items):
            return [pair if isinstance(pair, Between) else tuple(pair) for pair in items]
    except TypeError:
        pass
    raise _misfit(bounds, d, hint)


def _misfit(bounds: Any, d: int, hint: str = "") -> ValueError:
    return ValueError(
        f"`bounds` must be one (low, high) pair or {d} of them, one per element of `x0`; got {bounds!r:.80}.{hint}"
    )


def _label(labels: list[str] | None, i: int) -> str:
    return f"element {i}" if labels is None else labels[i]
