"""The packages behind the doors, each imported when its door is opened."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["package"]


def package(name: str, extra: str) -> Any:
    """The package of this name.

    Raises:
        ImportError: It is not installed, or cannot be imported.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(
            f"`blackbox_zo.{extra}` needs the package `{name}` ({error}). "
            f"Install it with `pip install 'blackbox-zo[{extra}]'`.",
            name=name,
        ) from error
