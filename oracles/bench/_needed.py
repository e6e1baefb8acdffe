"""Packages that only the benchmark needs."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable
from typing import Any

__all__ = ["check", "needed"]

_PROJECTS = {"cocoex": "coco-experiment"}


def needed(module: str) -> Any:
    """Import a module.

    Raises:
        ModuleNotFoundError: It is not installed; the message says how to install it.
    """
    check([module])
    return importlib.import_module(module)


def check(modules: Iterable[str]) -> None:
    """Refuse modules that cannot be found, without importing the others.

    Raises:
        ModuleNotFoundError: One is not installed; the message says how to install it.
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise ModuleNotFoundError(
                f"This needs {_PROJECTS.get(module, module)}, which is not installed: pip install 'blackbox-zo[bbob]'",
                name=module,
            )
