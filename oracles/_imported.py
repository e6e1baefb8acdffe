"""Functions that a command line names as MODULE:FUNCTION or FILE.py:FUNCTION."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

from oracles.options import BadInput

__all__ = ["imported"]


def imported(text: str, option: str) -> Any:
    """Import the function that MODULE:FUNCTION or FILE.py:FUNCTION names; the current folder is searched too.

    Raises:
        BadInput: The function does not exist.
    """
    module, colon, name = text.rpartition(":")
    if not colon or not module or not name:
        raise BadInput(f"{option} {text!r} is not of the form module:function or file.py:function.")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found = _of_file(Path(module)) if module.endswith(".py") else importlib.import_module(module)
    except FileNotFoundError:
        raise BadInput(f"{option}: the file {module!r} does not exist; check the path.") from None
    except Exception as error:  # the user's module may raise anything
        raise BadInput(f"{option}: importing {module!r} failed: {type(error).__name__}: {error}.") from error
    function = getattr(found, name, None)
    if not callable(function):
        there = [n for n, f in vars(found).items() if callable(f) and getattr(f, "__module__", "") == found.__name__]
        raise BadInput(f"{option}: {module!r} has no function {name!r}; it has {', '.join(there[:12]) or 'none'}.")
    return function


def _of_file(path: Path) -> Any:
    """The module in a file; by its name if that gives this file, so that processes of workers find it too."""
    path = path.expanduser().resolve(strict=True)
    known = sys.modules.get(path.stem)
    if known is not None and Path(getattr(known, "__file__", None) or ".").resolve() == path:
        return known
    if known is None and path.parent == Path.cwd():
        return importlib.import_module(path.stem)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found
