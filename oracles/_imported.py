"""Functions that a command line names as MODULE:FUNCTION."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from oracles.options import BadInput

__all__ = ["imported"]


def imported(text: str, option: str) -> Any:
    """The function that MODULE:FUNCTION names; the current folder is searched too.

    Raises:
        BadInput: It does not exist.
    """
    module, colon, name = text.partition(":")
    if not colon or not module or not name:
        raise BadInput(f"{option} {text!r} is not of the form module:function.")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found = importlib.import_module(module.removesuffix(".py"))
    except Exception as error:  # the user's module may raise anything
        raise BadInput(f"{option}: importing {module!r} failed: {type(error).__name__}: {error}.") from error
    function = getattr(found, name, None)
    if not callable(function):
        there = [n for n, f in vars(found).items() if callable(f) and getattr(f, "__module__", "") == found.__name__]
        raise BadInput(f"{option}: {module!r} has no function {name!r}; it has {', '.join(there[:12]) or 'none'}.")
    return function
