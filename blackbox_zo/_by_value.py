"""Pickling functions by value, so that tracebacks still name their files."""

from __future__ import annotations

import io
import types
from typing import Any, ClassVar

import cloudpickle

__all__ = ["by_value"]


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """As cloudpickle's, whose later versions replace the file of a function's code by "<dynamic-code>"."""

    dispatch_table: ClassVar[Any] = cloudpickle.Pickler.dispatch_table.new_child()


def _code(code: types.CodeType) -> Any:
    make, arguments = cloudpickle.Pickler.dispatch_table[types.CodeType](code)
    named = [code.co_filename if isinstance(a, str) and a == "<dynamic-code>" else a for a in arguments]
    return make, tuple(named)


_Pickler.dispatch_table[types.CodeType] = _code


def by_value(content: Any) -> bytes:
    """Pickled, with functions and classes that cannot be imported elsewhere written out.

    Raises:
        Exception: Something in it cannot be pickled.
    """
    with io.BytesIO() as file:
        _Pickler(file).dump(content)
        return file.getvalue()
