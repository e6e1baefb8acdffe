"""Memory that a forward pass has freed goes back to the system while the pass runs.

The activations of a layer are freed in between values that live on, and glibc keeps such holes: a pass over long
sequences may hold a third more memory than its tensors. Where the C library is another one, nothing is done.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

import torch

__all__ = ["Heap"]

OFTEN = 256 << 20
"""Bytes of activations after which holes are given back: what is taken anew costs a fault per page."""


class Heap:
    """Counts what a pass makes."""

    def __init__(self) -> None:
        self.made = 0

    def will_make(self, size: int, like: torch.Tensor) -> None:
        """So many elements are about to be made."""
        if like.device.type != "cpu":
            return
        self.made += size * like.element_size()
        if self.made >= OFTEN:
            self.made = 0
            _trim()(0)


@cache
def _trim() -> Callable[[int], object]:
    """`malloc_trim`, where there is one."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):  # musl, macOS, Windows
        return lambda _: None
    trim.argtypes, trim.restype = [ctypes.c_size_t], ctypes.c_int
    return lambda pad: trim(pad)
