"""What a function returned, checked to be a number."""

from __future__ import annotations

from typing import Any

import numpy as np

from blackbox_zo._typing import Floats

__all__ = ["number", "numbers"]


def number(result: Any) -> float:
    """What a function returned, as a float.

    Raises:
        TypeError: It is not one real number.
    """
    if isinstance(result, float | int | np.floating | np.integer | np.bool_):
        return float(result)
    if getattr(result, "shape", None) == () and not isinstance(result, np.complexfloating):  # 0-d array or tensor
        return float(result)
    if hasattr(result, "shape"):
        raise TypeError(
            f"`fun` returned an array of shape {tuple(result.shape)}; it must return one number. "
            "Sum or average it, or set `vectorized=True` if `fun` takes all points at once."
        )
    if result is None:
        raise TypeError("`fun` returned None; it must return one number. Is a `return` missing?")
    raise TypeError(f"`fun` returned {result!r:.60} ({type(result).__name__}); it must return one number.")


def numbers(result: Any, n: int) -> Floats:
    """What a vectorised function returned for n points, shape (n,).

    Raises:
        TypeError: It is not one real number per point.
    """
    if result is None:
        number(result)
    try:
        array = np.asarray(result, dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"`fun` returned {result!r:.60}; with `vectorized=True` it must return {n} numbers.") from None
    if array.shape != (n,):
        raise TypeError(
            f"`fun` returned shape {array.shape}; with `vectorized=True` one number a point is needed, shape ({n},)."
        )
    return array
