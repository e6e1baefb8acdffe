"""Large arrays whose memory is used again.

A step of a large search needs the same few arrays as the step before. Fresh from the operating system, each page of
them costs a fault, which together take as long as the arithmetic. Arrays from `empty` give their memory back to a
small pool when the last view of them is gone.
"""

from __future__ import annotations

import math
import threading

import numpy as np

from blackbox_zo._typing import Floats

__all__ = ["empty"]

_LARGE = 1 << 13
"""Elements from which a fresh array is dearer than a used one."""

_MOST = 1 << 25
"""Elements that the pool keeps at most (256 MiB)."""

_pool: list[Floats] = []
_lock = threading.RLock()  # a lease may be given back while its own thread holds it


class _Lease:
    """Holds memory while any array over it lives; numpy keeps it as the array's base."""

    __slots__ = ("__array_interface__", "memory")

    def __init__(self, memory: Floats) -> None:
        self.memory = memory
        self.__array_interface__ = memory.__array_interface__

    def __del__(self) -> None:
        with _lock:
            _pool.append(self.memory)
            kept = 0
            for i in range(len(_pool) - 1, -1, -1):  # newest first: what nobody uses ages and goes
                kept += _pool[i].size
                if kept > _MOST or len(_pool) - i > 8:
                    del _pool[: i + 1]
                    return


def empty(shape: tuple[int, ...]) -> Floats:
    """Like `numpy.empty` for float64."""
    size = math.prod(shape)
    if size < _LARGE:
        return np.empty(shape)
    memory = None
    with _lock:
        for i in range(len(_pool) - 1, -1, -1):
            if _pool[i].size == size:
                memory = _pool.pop(i)
                break
    out: Floats = np.asarray(_Lease(_aligned(size) if memory is None else memory)).reshape(shape)
    return out


def _aligned(size: int) -> Floats:
    """Memory that starts with a cache line: matrix products are slower elsewhere."""
    memory = np.empty(size + 8)
    start = -memory.ctypes.data % 64 // 8
    return memory[start : start + size]
