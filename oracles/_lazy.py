"""Lazy imports: a package imports a module when one of its names is first used, so `--help` needs no torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["lazy"]


def lazy(package: str, modules: Mapping[str, str], extra: str = "all") -> Callable[[str], Any]:
    """The `__getattr__` of a package.

    Args:
        package: Name of the package.
        modules: The module of each name, relative to the package.
        extra: The extra to install if a module needs a library that is missing.
    """

    def find(name: str) -> Any:
        if name == "__all__":  # `from package import *`
            return list(modules)
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            return getattr(importlib.import_module(f"{package}.{modules[name]}"), name)
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"`{name}` needs {error.name}, which is not installed: pip install 'blackbox-zo[{extra}]'",
                name=error.name,
            ) from error

    return find
