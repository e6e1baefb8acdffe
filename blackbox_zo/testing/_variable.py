"""`check_variable`."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from blackbox_zo._arrays import StoredArrays, write_arrays
from blackbox_zo._typing import Floats
from blackbox_zo.directions import Dense, Gaussian
from blackbox_zo.randomness import Key
from blackbox_zo.steps import Step
from blackbox_zo.testing._laws import close, require, same
from blackbox_zo.variables import Variable, Vector

__all__ = ["check_variable"]


def check_variable(
    variable: Variable | Callable[[], Variable],
    *,
    read: Callable[[Variable], Floats] | None = None,
    tolerance: float = 1e-10,
) -> None:
    """Check the laws of `Variable`.

    - the blocks have unique names, and their sizes sum to `size`;
    - `add_` sets `x <- (1 - shrink) x + w U`, clipped to the bounds, and does not modify the directions;
    - `version` counts the moves, including pending ones;
    - `settle` applies pending moves; without pending moves it changes nothing;
    - two variables that make the same moves agree to the bit, however often they were settled.

    For a `Vector`, also that `value` is read-only and a snapshot, and that x is inside the bounds to the last bit.

    Args:
        variable: The variable (copies of it are moved), or a function that makes a fresh one.
        read: Returns the elements of a settled variable, block by block, shape (d,); None for `value` of a `Vector`.
        tolerance: Error allowed in moves, relative to the largest element plus 1; for fp32 about 1e-6.

    Raises:
        AssertionError: A law does not hold.
        TypeError: `read` is missing for a variable that is not a `Vector`.

    Example:
        >>> import blackbox_zo as bz, numpy as np
        >>> from blackbox_zo.testing import check_variable
        >>> check_variable(bz.Vector({"w": np.ones((2, 3)), "b": 0.5}, bounds=(-2, 2)))
    """
    if isinstance(variable, Variable):
        original = variable

        def make() -> Variable:
            return copy.deepcopy(original)
    else:
        make = variable
    if read is None:
        if not isinstance(make(), Vector):
            raise TypeError("`check_variable(read=...)` must say how to read a variable that is not a `Vector`.")
        read = _value
    v = make()
    name = type(v).__name__
    names = [block.name for block in v.blocks]
    require(
        len(set(names)) == len(names),
        f"`{name}.blocks` repeats a name in {names}; equal names get equal directions.",
    )
    sizes = [block.size for block in v.blocks]
    require(v.size == sum(sizes), f"`{name}.size` is {v.size}, but its blocks have {sizes} elements.")
    _check_moves(make, read, name, tolerance)
    _check_kept(make, read, name)
    if isinstance(v, Vector):
        for far in (1.0, 1e3, -1e3):
            _check_vector(make, far)


def _value(variable: Variable) -> Floats:
    assert isinstance(variable, Vector)
    return variable.value


def _step(v: Variable, number: int, far: float = 0.1, shrink: float = 0.0) -> Step:
    return Step(Gaussian(v.blocks, 2, Key(7, number)), far * np.array([1.0, -0.5]), shrink)


def _check_moves(make: Callable[[], Variable], read: Callable[[Variable], Floats], name: str, tolerance: float) -> None:
    lazy, eager = make(), make()
    lazy.settle()
    start = np.array(read(lazy))
    require(start.shape == (lazy.size,), f"`read` gives shape {start.shape} for a `{name}` of {lazy.size} elements.")
    lazy.settle()
    require(same(np.array(read(lazy)), start), f"`settle` changes a `{name}` without pending moves.")
    x, version = start, lazy.version
    for number, shrink in enumerate((0.0, 0.1, 0.0, 0.5)):
        step = _step(lazy, number, shrink=shrink)
        rows, w = np.array(step.directions.rows), step.w.copy()
        x = _inside(lazy, (1.0 - shrink) * x + w @ rows)
        lazy.add_(step)
        require(same(step.w, w) and same(step.directions.rows, rows), f"`{name}.add_` writes to the step.")
        require(
            lazy.version == version + number + 1,
            f"`{name}.version` is {lazy.version} after {number + 1} moves from {version}; `add_` counts each as one.",
        )
        eager.add_(_step(eager, number, shrink=shrink))
        eager.settle()
        there = np.array(read(eager))
        require(
            close(there, x, float(np.abs(x).max()) + 1.0, tolerance),
            f"`{name}` is at {there} after `add_` with shrink={shrink}; (1 - shrink) x + w U is {x}.",
        )
    lazy.settle()
    lazy.settle()
    require(
        same(np.array(read(lazy)), there),
        f"A `{name}` settled once after four moves differs from one settled after each, or a second `settle` changes "
        "it. Apply pending moves in order, and forget them when they are done.",
    )
    require(lazy.version == eager.version, f"`{name}.settle` changes `version`; only `add_` does.")


def _check_kept(make: Callable[[], Variable], read: Callable[[Variable], Floats], name: str) -> None:
    v, other = make(), make()
    for number in range(2):
        v.add_(_step(v, number))
    v.settle()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x")
        write_arrays(path, v.arrays(), {})
        with StoredArrays(path) as stored:
            other.read(stored, v.version)
    require(
        same(np.array(read(other)), np.array(read(v))) and other.version == v.version,
        f"A `{name}` that was saved by `arrays` and loaded by `read` differs.",
    )


def _inside(v: Variable, z: Floats) -> Floats:
    if not isinstance(v, Vector) or not v.bounded:
        return z
    unit = np.ones(v.fixed.shape) if v.unit is None else v.unit
    low, high = ((bound / unit)[~v.fixed] for bound in (v.lower, v.upper))
    return np.asarray(np.clip(z, low, high))


def _check_vector(make: Callable[[], Variable], far: float) -> None:
    v = make()
    assert isinstance(v, Vector)
    before, kept = v.value, v.value.copy()
    v.add_(_step(v, 0, far))
    require(same(before, kept), "`Vector.add_` writes to `value`; a move must replace it, since proposals hold it.")
    require(not v.value.flags.writeable, "`Vector.value` can be written to; it must be read-only.")
    x = v.flat
    require(
        bool(((v.lower <= x) & (x <= v.upper)).all()),
        f"x = {x} is outside the bounds {v.lower} to {v.upper} after a move.",
    )
    leaf = np.concatenate([np.ravel(np.asarray(part)) for part in _leaves(v.x)])
    require(same(leaf, x), f"`Vector.x` holds {leaf}, but `flat` is {x}.")
    nowhere = Step(Dense(v.blocks, np.ones((1, v.size))), np.zeros(1))
    stood = v.value
    v.add_(nowhere)
    require(bool(np.array_equal(v.value, stood)), f"A move by 0 takes `Vector` from {stood} to {v.value}.")


def _leaves(tree: object) -> list[object]:
    if isinstance(tree, dict):
        return [leaf for part in tree.values() for leaf in _leaves(part)]
    if isinstance(tree, list | tuple):
        return [leaf for part in tree for leaf in _leaves(part)]
    return [tree]
