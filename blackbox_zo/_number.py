"""What a function returned, as the number it is."""

from __future__ import annotations

import math
from decimal import Decimal
from numbers import Complex, Real
from typing import Any

import numpy as np

from blackbox_zo._typing import Floats
from blackbox_zo.workers._worker import plain

__all__ = ["floats", "number", "numbers"]


def number(result: Any, who: str = "`fun`") -> float:
    """What a function returned, as a float.

    Python's and numpy's numbers, `Decimal`, `Fraction`, and arrays and tensors of one element, on any device and with
    any gradient. A complex number without an imaginary part is its real part; one that is too large for a float is
    infinite.

    Args:
        result: What was returned.
        who: What returned it, for the message.

    Raises:
        TypeError: It is not one real number.
    """
    if type(result) is float:
        return result
    if isinstance(result, np.timedelta64):  # a whole number to numpy, in a unit that is not said
        raise TypeError(f"{who} returned {result!r:.60}; it must return one number. Divide it by a unit of time.")
    if isinstance(result, float | int | np.bool_ | Real | Decimal):
        return _float(result)
    if isinstance(result, Complex):
        return _real(complex(result), result, who)
    if result is None:
        raise TypeError(f"{who} returned None; it must return one number. Is a `return` missing?")
    shape = getattr(result, "shape", None)
    if shape is not None and not isinstance(result, np.generic):
        if math.prod(shape) != 1:
            raise TypeError(
                f"{who} returned an array of shape {tuple(shape)}; it must return one number. "
                "Sum or average it, or set `vectorized=True` if `fun` takes all points at once."
            )
        item = _item(result)
        if not hasattr(item, "shape") or isinstance(item, np.generic):
            return number(item, who)
    elif hasattr(type(result), "__float__") and not isinstance(result, str | np.generic):  # of sympy, mpmath, gmpy2
        try:
            return float(result)
        except (TypeError, ValueError):
            pass
    raise TypeError(f"{who} returned {result!r:.60} ({type(result).__name__}); it must return one number.")


def numbers(result: Any, n: int) -> Floats:
    """What a vectorised function returned for n points, shape (n,). A column of n numbers is n numbers.

    Raises:
        TypeError: It is not one real number per point.
    """
    if result is None:
        number(result)
    try:
        array = floats(result)
    except (TypeError, ValueError):
        raise TypeError(
            f"`fun` returned {result!r:.60}; with `vectorized=True` it must return {n} real numbers."
        ) from None
    if array.size != n or max(array.shape, default=1) != n:
        raise TypeError(
            f"`fun` returned shape {array.shape}; with `vectorized=True` one number a point is needed, shape ({n},)."
        )
    return array.reshape(n)


def floats(values: Any) -> Floats:
    """A fresh array of floats from an array, a tensor or a sequence of what `number` takes. None in it is NaN.

    Raises:
        TypeError: Something in it is not a real number.
        ValueError: It has no shape, such as lists of different lengths.
    """
    if hasattr(values, "detach"):
        values = plain(values)
    try:
        array = np.array(values)
    except (TypeError, ValueError, RuntimeError):  # such as a list of tensors with gradients
        return np.array([_or_nan(value) for value in values], dtype=np.float64)
    if array.dtype.kind in "fiub":
        return array if array.dtype == np.float64 else array.astype(np.float64)
    if array.dtype.kind == "c" and (array.imag == 0).all():
        return array.real.astype(np.float64)
    return np.array([_or_nan(value) for value in array.flat], dtype=np.float64).reshape(array.shape)


def _or_nan(value: Any) -> float:
    return math.nan if value is None else number(value)


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:  # of a whole number or a fraction
        return math.inf if value > 0 else -math.inf
    except ValueError:  # a signalling NaN of `decimal`
        return math.nan


def _real(value: complex, result: Any, who: str) -> float:
    if value.imag == 0:
        return value.real
    if value != value:
        return math.nan
    raise TypeError(
        f"{who} returned {result!r:.60} ({type(result).__name__}); it must return one real number. "
        "Return its real part or its absolute value."
    )


def _item(result: Any) -> Any:
    """The only element of an array, a tensor or a table."""
    if isinstance(result, np.ma.MaskedArray):
        return math.nan if np.any(result.mask) else result.item()
    if hasattr(result, "detach"):
        return plain(result) if result.shape == () else plain(result.reshape(()))
    if isinstance(result, np.ndarray):
        return np.asarray(result).item() if result.dtype.kind not in "mM" else result.reshape(-1)[0]
    try:
        return result.item()
    except (AttributeError, TypeError, ValueError):
        return np.asarray(result).item()
