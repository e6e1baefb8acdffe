"""Pickling functions by value, so that tracebacks still name their files."""

from __future__ import annotations

import contextlib
import io
import sys
import types
from collections.abc import Iterator
from typing import Any, ClassVar

import cloudpickle

__all__ = ["by_value"]


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Keeps the file name of a function's code, which later versions of cloudpickle replace by "<dynamic-code>"."""

    dispatch_table: ClassVar[Any] = cloudpickle.Pickler.dispatch_table.new_child()


def _code(code: types.CodeType) -> Any:
    make, arguments = cloudpickle.Pickler.dispatch_table[types.CodeType](code)
    named = [code.co_filename if isinstance(a, str) and a == "<dynamic-code>" else a for a in arguments]
    return make, tuple(named)


_Pickler.dispatch_table[types.CodeType] = _code


def by_value(content: Any) -> bytes:
    """Pickle an object, by value where its functions and classes cannot be imported elsewhere.

    Raises:
        Exception: A part of the object cannot be pickled.
    """
    with io.BytesIO() as file, contextlib.ExitStack() as stack:
        for module in _made_here():
            with contextlib.suppress(ValueError):  # it has another name
                cloudpickle.register_pickle_by_value(module)
                stack.callback(cloudpickle.unregister_pickle_by_value, module)
        _Pickler(file).dump(content)
        return file.getvalue()


def _made_here() -> Iterator[types.ModuleType]:
    """Modules that no other process can import, because a program created them, such as a notebook runner."""
    registered = cloudpickle.list_registry_pickle_by_value()
    for name, module in list(sys.modules.items()):
        if isinstance(module, types.ModuleType) and name != "__main__" and name not in registered:
            has = vars(module)
            if has.get("__name__") != name:  # an alias of another module, such as `xml.parsers.expat.errors`
                continue
            if has.get("__spec__") is None and "__file__" not in has and "__path__" not in has:
                yield module
