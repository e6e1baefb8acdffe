"""Configuration as plain JSON, for the header of a journal, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

__all__ = ["describe", "rebuild", "spell"]


def describe(thing: Any) -> Any:
    """A frozen configuration object as JSON: `{"name": "SGD", "learning_rate": 0.1}`.

    A field whose metadata has "since" is left out at its default: journals of versions before that do not have it.
    """
    if is_dataclass(thing) and not isinstance(thing, type):
        values = {f.name: getattr(thing, f.name) for f in fields(thing)}
        late = {f.name for f in fields(thing) if "since" in f.metadata and values[f.name] == f.default}
        return {"name": type(thing).__name__, **{k: describe(v) for k, v in values.items() if k not in late}}
    if isinstance(thing, Mapping):
        return {str(k): describe(v) for k, v in thing.items()}
    if isinstance(thing, list | tuple):
        return [describe(v) for v in thing]
    if isinstance(thing, np.ndarray | np.generic):
        return thing.tolist()
    if thing is None or isinstance(thing, str | int | float):
        return thing
    name = getattr(thing, "__qualname__", type(thing).__qualname__)
    return {"python": f"{getattr(thing, '__module__', '?')}.{name}"}  # can be compared, not rebuilt


def rebuild(description: Any, find: Callable[[str], Any]) -> Any:
    """The object that `describe` described.

    Args:
        description: From a header.
        find: From a class name to the class.

    Raises:
        ValueError: It holds something of the user's own, which only their program can make.
    """
    if isinstance(description, list):
        return tuple(rebuild(v, find) for v in description)
    if isinstance(description, dict):
        if "python" in description:
            raise ValueError(
                f"`{description['python']}` is not part of blackbox_zo, so it cannot be rebuilt from a file."
            )
        arguments = {k: rebuild(v, find) for k, v in description.items() if k != "name"}
        return find(description["name"])(**arguments)
    return description


def spell(description: Any) -> str:
    """A description as it would be typed: `SGD(learning_rate=0.1)`."""
    if isinstance(description, dict) and "name" in description:
        inner = ", ".join(f"{k}={spell(v)}" for k, v in description.items() if k != "name")
        return f"{description['name']}({inner})"
    if isinstance(description, list):  # `rebuild` makes tuples
        return f"({', '.join(map(spell, description))}{',' if len(description) == 1 else ''})"
    return repr(description)
