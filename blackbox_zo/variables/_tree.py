"""Between the structure a user gave (a number, an array, nested dicts and lists of them) and one flat array."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from numbers import Real
from typing import Any

import numpy as np

from blackbox_zo._number import floats
from blackbox_zo._typing import Floats, Tree
from blackbox_zo.directions import Block
from blackbox_zo.variables._labels import Labelled, labelled

__all__ = ["TreeDef", "flatten", "leaf_numbers", "like", "names"]


@dataclass(frozen=True)
class TreeDef:
    """The structure of a tree; `unflatten` is its inverse.

    Attributes:
        template: The user's tree, each leaf replaced by its number in `blocks`.
        blocks: The leaves, in order.
    """

    template: Any
    blocks: tuple[Block, ...]

    @cached_property
    def is_flat(self) -> bool:
        """Whether the tree is one array with one axis, so that flat rows need no rebuilding."""
        return self.template == 0 and len(self.blocks[0].shape) == 1

    def unflatten(self, flat: Floats) -> Tree:
        """The tree for `flat`, shape (d,); for (n, d) every leaf has n as its first axis. Numbers become floats."""
        if self.is_flat:
            return flat
        lead = flat.shape[:-1]
        leaves, start = [], 0
        for block in self.blocks:
            part = flat[..., start : start + block.size].reshape(lead + block.shape)
            leaves.append(float(part) if part.ndim == 0 else part)
            start += block.size
        return _fill(self.template, leaves)

    def bare(self, flat: Floats) -> Tree:
        """The same with arrays in place of series and tables."""
        template = _fill(self.template, list(range(len(self.blocks))), bare=True)
        return TreeDef(template, self.blocks).unflatten(flat)


def flatten(tree: Tree, name: str = "x0") -> tuple[Floats, TreeDef]:
    """Flatten a tree of finite numbers into a fresh float64 array.

    Args:
        tree: A number, an array, or nested dicts, lists and tuples of them.
        name: What to call it in an error.

    Raises:
        ValueError: It is empty, holds NaN or infinity, or two of its entries have one name.
        TypeError: A leaf is not numeric.
    """
    blocks: list[Block] = []
    arrays: list[Floats] = []
    template = _walk(tree, name, "", blocks, arrays)
    seen: set[str] = set()
    for block in blocks:
        if block.name in seen:
            raise ValueError(f"`{name}` has two entries called {block.name!r}; rename one of them.")
        seen.add(block.name)
    flat = np.concatenate([a.reshape(-1) for a in arrays]) if arrays else np.empty(0)
    if flat.size == 0:
        raise ValueError(f"`{name}` is empty; give at least one number to search over.")
    if not np.isfinite(flat).all():
        where = int(np.flatnonzero(~np.isfinite(flat))[0])
        raise ValueError(f"`{name}` holds {flat[where]} at flat index {where}; every start value must be finite.")
    return flat, TreeDef(template, tuple(blocks))


def _walk(tree: Any, name: str, path: str, blocks: list[Block], arrays: list[Floats]) -> Any:
    names = labelled(tree, len(blocks))
    if names is not None:
        tree = tree.to_numpy()
    elif hasattr(tree, "detach"):
        tree = tree.detach()
    if isinstance(tree, Mapping):
        return {k: _walk(v, name, f"{path}/{k}", blocks, arrays) for k, v in tree.items()}
    if isinstance(tree, list | tuple) and not _is_numeric(tree):
        return like(tree, [_walk(v, name, f"{path}/{i}", blocks, arrays) for i, v in enumerate(tree)])
    where = f"`{name}`" + (f" at {path[1:]!r}" if path else "")
    try:
        raw = np.asarray(tree)
        if raw.dtype.kind == "O" and raw.size:  # such as `Decimal`
            raw = floats(raw) if all(isinstance(v, Real | Decimal) for v in raw.flat) else raw
        if raw.dtype.kind not in "fiub":
            raise TypeError
        array = raw.astype(np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{where} is {tree!r:.60}, which is not a number or an array of numbers.") from None
    blocks.append(Block(path[1:] or "x", array.shape))
    arrays.append(array)
    return len(blocks) - 1 if names is None else names


def _is_numeric(items: Sequence[Any]) -> bool:
    """Whether a list is one array written out, rather than a list of leaves: numbers, or nested equally long lists."""
    if not items:
        return True
    if all(isinstance(v, int | float | np.number | Real | Decimal) for v in items):
        return True
    if not all(isinstance(v, list | tuple) for v in items):
        return False
    return len({len(v) for v in items}) == 1 and all(_is_numeric(v) for v in items)


def _fill(template: Any, leaves: list[Any], bare: bool = False) -> Any:
    if isinstance(template, dict):
        return {k: _fill(v, leaves, bare) for k, v in template.items()}
    if isinstance(template, list | tuple):
        return like(template, [_fill(v, leaves, bare) for v in template])
    if isinstance(template, Labelled):
        return leaves[template.leaf] if bare else template.fill(leaves[template.leaf])
    return leaves[template]


def like(sequence: list[Any] | tuple[Any, ...], items: list[Any]) -> Any:
    """`items` as the type of `sequence`: a list, a tuple, or a named tuple."""
    return type(sequence)(*items) if hasattr(sequence, "_fields") else type(sequence)(items)


def leaf_numbers(template: Any) -> Iterator[int]:
    """The leaves below some node of a template, in order."""
    if isinstance(template, dict):
        for below in template.values():
            yield from leaf_numbers(below)
    elif isinstance(template, list | tuple):
        for below in template:
            yield from leaf_numbers(below)
    else:
        yield template.leaf if isinstance(template, Labelled) else template


def names(treedef: TreeDef) -> Iterator[str]:
    """A label for every flat element: `lr`, `layer/weight[3]` and so on."""
    labels = {leaf.leaf: leaf for leaf in _labels(treedef.template)}
    for number, block in enumerate(treedef.blocks):
        if number in labels:
            head = "" if treedef.template is labels[number] else f"{block.name}/"
            yield from (f"{head}{label}" for label in labels[number].names())
        elif block.shape == ():
            yield block.name
        else:
            yield from (f"{block.name}[{','.join(map(str, i))}]" for i in np.ndindex(block.shape))


def _labels(template: Any) -> Iterator[Labelled]:
    """The series and tables in a template."""
    if isinstance(template, Labelled):
        yield template
    elif isinstance(template, dict | list | tuple):
        for below in template.values() if isinstance(template, dict) else template:
            yield from _labels(below)
