"""States as flat dictionaries of arrays and numbers, ready for `numpy.savez` or safetensors; never pickle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["pack", "unpack"]


def pack(name: str, state: Any) -> dict[str, Any]:
    """Flatten nested (named) tuples of arrays and numbers to `{"name/field/0": value}`."""
    if isinstance(state, tuple):
        out: dict[str, Any] = {}
        for field, value in _items(state):
            out.update(pack(f"{name}/{field}", value))
        return out
    return {name: np.array(state) if isinstance(state, np.ndarray) else state}


def unpack(name: str, template: Any, flat: Mapping[str, Any]) -> Any:
    """Rebuild a state with the structure of `template` from what `pack` gave.

    Raises:
        ValueError: An entry is missing.
    """
    if isinstance(template, tuple):
        values = [unpack(f"{name}/{field}", value, flat) for field, value in _items(template)]
        return type(template)(*values) if hasattr(template, "_fields") else tuple(values)
    if name not in flat:
        raise ValueError(
            f"The state has no entry {name!r}: it was saved by another estimator or rule. "
            "Load it into a search made with the same arguments."
        )
    if isinstance(template, np.ndarray):
        return np.array(flat[name], dtype=template.dtype)
    return type(template)(flat[name])


def _items(state: tuple[Any, ...]) -> list[tuple[str, Any]]:
    fields = getattr(state, "_fields", None) or [str(i) for i in range(len(state))]
    return list(zip(fields, state, strict=True))
