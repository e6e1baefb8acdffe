"""What is asked of any operation: whether it needs values, and what stands in for its arguments."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch

__all__ = ["reads_only_metadata", "replaced"]

_READ = frozenset({
    "size", "dim", "numel", "nelement", "element_size", "is_floating_point", "is_contiguous", "stride", "__len__",
    "ndimension", "is_complex", "storage_offset", "data_ptr", "get_device",
})  # fmt: skip
_KEEP_VALUE = frozenset({"T", "mT", "H", "mH", "data", "real", "imag", "grad"})


def replaced(tree: Any, one: Callable[[Any], Any]) -> Any:
    """Arguments with each tensor put through `one`; looks into tuples, lists and dicts."""
    if isinstance(tree, torch.Tensor):
        return one(tree)
    if isinstance(tree, tuple | list):
        return (
            type(tree)(*[replaced(t, one) for t in tree])
            if hasattr(tree, "_fields")
            else type(tree)(replaced(t, one) for t in tree)
        )
    if isinstance(tree, dict):
        return {k: replaced(v, one) for k, v in tree.items()}
    return tree


@cache
def reads_only_metadata(func: Any) -> bool:
    """Whether an operation looks at shape, type and the like alone, so that no displaced value need be made."""
    name = getattr(func, "__name__", "")
    if name == "__get__":
        return getattr(getattr(func, "__self__", None), "__name__", "") not in _KEEP_VALUE
    return name in _READ
