"""Work on pieces of a tensor in as many threads as torch has: numpy draws with one alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import torch

__all__ = ["in_threads"]

_pools: dict[int, ThreadPoolExecutor] = {}
"""By process: a fork has no threads."""


def in_threads(work: Callable[[int, int], None], count: int, least: int) -> None:
    """Call `work(a, b)` for runs of the numbers 0 … count - 1, each at least so long, at the same time.

    Args:
        work: Must not depend on how the numbers are cut, nor on torch's gradient mode.
        count: How many numbers there are.
        least: From how many on a thread is worth its start.

    Raises:
        Exception: What a call raised, once all have ended.
    """
    runs = min(torch.get_num_threads(), count // max(1, least))
    if runs < 2:
        work(0, count)
        return
    pool = _pools.get(os.getpid())
    if pool is None:
        pool = _pools[os.getpid()] = ThreadPoolExecutor(os.cpu_count(), "directions")
    cuts = [count * i // runs for i in range(runs + 1)]
    others = [pool.submit(work, a, b) for a, b in pairwise(cuts[1:])]
    try:
        work(cuts[0], cuts[1])
    finally:
        failed = [error for other in others if (error := other.exception()) is not None]
    if failed:
        raise failed[0]
