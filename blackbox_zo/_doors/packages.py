"""The packages behind the doors, each imported when its door is opened."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import Any

import numpy as np

__all__ = ["nevergrad", "package"]


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


def nevergrad() -> Any:
    """Nevergrad, where it works.

    Raises:
        ImportError: It is not installed, or its version breaks on this numpy.
    """
    found = package("nevergrad", "nevergrad")
    numpy = tuple(map(int, np.__version__.split(".")[:2]))
    if tuple(map(int, version("nevergrad").split(".")[:3])) <= (1, 0, 12) and numpy >= (2, 3):
        raise ImportError(
            f"nevergrad {version('nevergrad')} breaks on numpy 2.3 and later, and this is numpy {np.__version__}. "
            "Install `pip install 'blackbox-zo[nevergrad]'`, which has an older one.",
            name="nevergrad",
        )
    return found
