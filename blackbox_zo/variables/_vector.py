"""`Vector`: x as one array in memory, with bounds and units."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from copy import copy
from functools import cached_property
from typing import Any

import numpy as np

from blackbox_zo._checks import any_true
from blackbox_zo._describe import describe
from blackbox_zo._typing import Bools, Floats, Ints, Tree, override
from blackbox_zo.directions import Block
from blackbox_zo.steps import Queries, Step
from blackbox_zo.variables._base import Variable
from blackbox_zo.variables._bounds import read_bounds
from blackbox_zo.variables._conform import conforming, within
from blackbox_zo.variables._starts import Starts
from blackbox_zo.variables._tree import flatten

__all__ = ["SMALL", "Vector"]

SMALL = 4096
"""Up to this dimension the start itself is in a journal's header, so that a report can replay the run."""


class Vector(Variable):
    """x as a float64 array, in the structure the user gave.

    Internally x is `unit * z`; directions, radii and moves are in z. Under bounds the function that is searched is
    f(P(x)), P the projection onto the box: points are clipped before they are asked, and x after every move. An element
    with equal bounds is fixed: it is in x and in every point, but neither in z nor in `blocks` and `size`. If all are
    fixed, the first counts as free, and stays where it is all the same.

    Args:
        x0: The start: a number, an array, or nested dicts, lists and tuples of them. Or several, as `Starts`.
        bounds: None; one (low, high) pair for every element; a sequence of d pairs; or, where x0 is a dict, a dict
            with any of these for some of its keys. None or ±inf in a pair means no bound on that side; equal bounds fix
            an element.
        unit: The unit of movement: a positive number, or one per element, shape (d,). By default 1.

    Attributes:
        start: z at the start, shape (d,), read-only; with several starts, that of the first.
        starts: z at each of several starts, shape (m, d); (0, d) where there is one.
        value: z, shape (d,), d free elements, read-only. A move replaces it, so a reference to it is a snapshot.
        lower: The lower bounds of all elements, -inf where there is none.
        upper: The upper bounds.
        unit: The units of all elements; None if all are 1.
        fixed: Which elements are fixed.
        grid: The values of each free element, if all of them have finitely many, as those of a program may; else ().
        version: Number of moves so far.

    Raises:
        ValueError: `x0` is empty or not finite, bounds cross or miss `x0`, or `unit` is not positive.
        TypeError: `x0` or `bounds` is not numeric.
    """

    def __init__(self, x0: Tree | Starts, bounds: Any = None, unit: Any = None) -> None:
        several = x0.points if isinstance(x0, Starts) else (x0,)
        flat, self.treedef = flatten(several[0], "x0[0]" if len(several) > 1 else "x0")
        self.blocks = self.treedef.blocks
        self.version = 0
        self.lower, self.upper, cells = read_bounds(bounds, flat, self.treedef)
        self.bounded = bool(np.isfinite(self.lower).any() or np.isfinite(self.upper).any())
        self.fixed: Bools = self.lower == self.upper
        self.unit = _unit(unit, flat.size, self.fixed)
        self._low, self._high, self._scale = self.lower, self.upper, self.unit
        self._start: Floats | None = None
        z = flat if self.unit is None else flat / self.unit
        if self.fixed.any():
            self._free = np.flatnonzero(~self.fixed) if not self.fixed.all() else np.zeros(1, dtype=np.intp)
            self._start, z = flat, z[self._free]
            self.blocks = _some(self.blocks, self._free)
            self._low, self._high = self.lower[self._free], self.upper[self._free]
            self._scale = None if self.unit is None else self.unit[self._free]
            cells = [cells[i] for i in self._free] if cells else []
        self.grid = tuple(c for c in cells if c is not None)
        if not cells or len(self.grid) < len(cells):
            self.grid = ()
        self._set(z)
        self.start = self.value
        rows = [self.flat_of(point, f"x0[{i}]") for i, point in enumerate(several)] if len(several) > 1 else []
        self.starts: Floats = self.coordinates(self.inside(np.array(rows))) if rows else np.empty((0, z.size))

    def flat_of(self, point: Tree, name: str) -> Floats:
        """A point in the structure of x0 as a flat array, shape (d,).

        Raises:
            ValueError: It has another structure, lies outside the bounds, or is not finite.
            TypeError: A leaf is not numeric.
        """
        flat = conforming(self.treedef, point, name)
        within(flat, self.lower, self.upper, self.treedef, name)
        return flat

    def _set(self, z: Floats) -> None:
        z.flags.writeable = False
        self.value = z

    dense = True

    @property
    @override
    def size(self) -> int:
        return self.value.size

    @property
    @override
    def origin(self) -> Floats:
        return self.value

    @override
    def add_(self, step: Step) -> None:
        # Moves at once: an array in memory is small enough
        self.version += 1
        if not step.shrink and not any_true(step.w):
            return
        z = step.dense()
        if step.shrink:
            z += (1.0 - step.shrink) * self.value
        else:
            z += self.value
        self._set(self.project(z))

    @cached_property
    def box(self) -> tuple[Floats, Floats]:
        """The bounds of z, each of shape (d,), infinite where there is none."""
        return self._inside(self._low), self._inside(self._high)

    def at(self, z: Floats) -> Vector:
        """The same variable with another value z, shape (d,)."""
        out = copy(self)
        out._set(self.project(np.array(z)))
        return out

    def project(self, z: Floats) -> Floats:
        """z, shape (…, d), moved to the nearest point inside the bounds."""
        return _clipped(z, *self.box) if self.bounded else z

    def _inside(self, x: Floats) -> Floats:
        return x if self._scale is None else x / self._scale

    @override
    def settle(self) -> None:
        """Does nothing: `add_` moves at once."""

    def outside(self, z: Floats) -> Floats:
        """X for z, shape (…, d): scaled, clipped into the bounds, with the fixed elements. `z` may be written to."""
        if self._scale is not None:
            z = z * self._scale
        if self.bounded:
            z = _clipped(z, self._low, self._high)
        if self._start is not None:
            x = np.empty((*z.shape[:-1], self._start.size))
            x[...] = self._start
            x[..., self._free] = z
            return x
        return z

    def inside(self, x: Floats) -> Floats:
        """The free elements of X, shape (…, d)."""
        return x if self._start is None else x[..., self._free]

    def coordinates(self, free: Floats) -> Floats:
        """Z for the free elements of X, shape (…, d)."""
        return self._inside(free)

    def points(self, queries: Queries) -> Floats:
        """The points to ask about, shape (n, d), read-only."""
        points = self.outside(queries.points())
        points.flags.writeable = False
        return points

    @property
    def flat(self) -> Floats:
        """X as a flat array, shape (d,)."""
        return self.outside(self.value)

    @property
    @override
    def x(self) -> Tree:
        """The present x in the structure of x0, a copy."""
        return self.treedef.unflatten(self.flat.copy())

    @override
    def describe(self) -> dict[str, Any] | None:
        # x0, bounds and units, up to dimension 4096
        if self.size > SMALL:
            return None
        return {
            "x0": describe(self.treedef.bare(self.flat)),
            "lower": [None if not np.isfinite(b) else b for b in self.lower.tolist()] if self.bounded else None,
            "upper": [None if not np.isfinite(b) else b for b in self.upper.tolist()] if self.bounded else None,
            "unit": None if self.unit is None else self.unit.tolist(),
            **({"starts": self.outside(self.starts).tolist()} if len(self.starts) else {}),
        }

    @override
    def state(self) -> dict[str, Any]:
        return {"z": self.value.copy()}

    @override
    def load(self, state: Mapping[str, Any], version: int) -> None:
        z = np.array(state.get("z", ()), dtype=np.float64)
        if z.shape != (self.size,):
            raise ValueError(f"The state has x of shape {z.shape}, this search ({self.size},).")
        self._set(z)
        self.version = version

    @override
    def fingerprint(self) -> str:
        """A short digest of start, bounds, units and structure, by which a journal tells two problems apart."""
        h = hashlib.blake2b(digest_size=8)
        h.update(repr([(b.name, b.shape) for b in self.blocks]).encode())
        for part in (self.value, self.lower, self.upper, self.unit, *self.starts):
            h.update(b"-" if part is None else np.ascontiguousarray(part, dtype="<f8").tobytes())
        return h.hexdigest()


def _clipped(z: Floats, low: Floats, high: Floats) -> Floats:
    out: Floats = np.minimum(np.maximum(z, low), high)  # np.clip takes twice as long
    return out


def _some(blocks: tuple[Block, ...], free: Ints) -> tuple[Block, ...]:
    """The blocks of some elements, by their flat indices; a block with all of its elements keeps its shape."""
    out, start = [], 0
    for block in blocks:
        n = int(np.count_nonzero((free >= start) & (free < start + block.size)))
        if n:
            out.append(block if n == block.size else Block(block.name, (n,)))
        start += block.size
    return tuple(out)


def _unit(unit: Any, d: int, fixed: Bools) -> Floats | None:
    if unit is None:
        return None
    array = np.asarray(unit, dtype=np.float64)
    if array.shape not in ((), (d,)):
        raise ValueError(f"`unit` has shape {array.shape}; give one number, or one per element, shape ({d},).")
    out = np.where(fixed, 1.0, array)  # that of a fixed element has no meaning
    if not (np.isfinite(out).all() and (out > 0).all()):
        raise ValueError(f"`unit` must be positive and finite, got {unit!r:.80}.")
    return None if (out == 1.0).all() else out.copy()
