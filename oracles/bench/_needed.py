"""Packages that only the benchmark needs."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["needed"]

_PROJECTS = {"cocoex": "coco-experiment", "cma": "cma", "cmaes": "cmaes", "ioh": "ioh", "nevergrad": "nevergrad"}


def needed(module: str) -> Any:
    """Import a module.

    Raises:
        ModuleNotFoundError: It is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        project = _PROJECTS.get(error.name or "", error.name)
        raise ModuleNotFoundError(
            f"This needs {project}, which is not installed: pip install 'blackbox-zo[bbob]'", name=error.name
        ) from None
