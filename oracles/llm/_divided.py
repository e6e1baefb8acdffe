"""How ranks share a step of a `LossOracle`: each takes some queries on some rows of the batch, and sends their sums."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from blackbox_zo._typing import Floats, Ints

__all__ = ["Portion", "added", "digest", "divide", "units_of"]


class Portion(NamedTuple):
    """What one rank takes of a step.

    Attributes:
        queries: Positions of its queries.
        columns: Which of the rows that each query sees.
    """

    queries: Ints
    columns: slice


def units_of(rows: torch.Tensor, by_share: bool) -> list[Ints]:
    """The positions of queries that stay together: alone, or with those on the same rows if each sees a share.

    Args:
        rows: The rows that each query sees, shape (n, m).
        by_share: Whether each sees a share of the batch.
    """
    n = len(rows)
    if not by_share:
        return list(np.arange(n)[:, None])
    first = rows[:, 0].numpy()
    return [np.flatnonzero(first == row) for row in np.unique(first)]


def divide(units: Sequence[Ints], m: int, size: int, *, rows_first: bool, whole: bool) -> list[Portion]:
    """The portion of each rank, from a grid over units of queries and rows.

    Of all grids with as many cells as ranks, the one whose largest cell is smallest; of several, the one with the most
    parts of rows (each query's noise is then made on all ranks) or of queries (a rank then may need all rows).

    Args:
        units: The units of queries.
        m: Rows that each query sees.
        size: Number of ranks.
        rows_first: Which of several grids.
        whole: Whether rows must stay together.
    """

    def cost(a: int) -> tuple[int, int]:
        return -(-len(units) // a) * -(-m // (size // a)), a if rows_first else -a

    along = size if whole else min((a for a in range(1, size + 1) if size % a == 0), key=cost)
    across = size // along
    groups = np.array_split(np.arange(len(units)), along)
    out = []
    for rank in range(size):
        i, j = divmod(rank, across)
        queries = [units[u] for u in groups[i]]
        columns = slice(j * m // across, (j + 1) * m // across)
        empty = not queries or columns.start == columns.stop
        out.append(Portion(np.sort(np.concatenate(queries)) if not empty else np.empty(0, dtype=np.intp), columns))
    return out


def added(found: Floats, parts: Sequence[Portion], n: int) -> Floats:
    """The sum of each query over the ranks, shape (n,), in the order of the ranks on each of them.

    Args:
        found: What each rank sent: the sums of its queries first, shape (ranks, most queries or more).
        parts: The portions.
        n: Number of queries.
    """
    total = np.zeros(n)
    for sums, part in zip(found, parts, strict=True):
        total[part.queries] += sums[: len(part.queries)]
    return total


def digest(batch: Any) -> int:
    """A checksum of the tensors and lists of a batch."""
    if isinstance(batch, torch.Tensor):
        t = batch.detach().cpu().contiguous().view(-1)
        return zlib.crc32(t.view(torch.uint8).numpy().data if t.numel() else b"")
    if isinstance(batch, Mapping):
        batch = [x for name in batch for x in (name, batch[name])]
    if isinstance(batch, list | tuple):
        return zlib.crc32(repr([digest(part) for part in batch]).encode())
    inner = getattr(batch, "data", None)
    if isinstance(inner, dict):  # transformers' BatchEncoding
        return digest(inner)
    return zlib.crc32(repr(batch).encode())
