"""Memory for what was added to codes: a file without a name, mapped."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from itertools import accumulate, pairwise
from pathlib import Path

import torch

from blackbox_zo.quantised._tables import CodedTable

__all__ = ["begin"]

ALIGNED = 64
"""Each table's sums begin at a multiple of so many."""


def begin(tables: Sequence[CodedTable], folder: str | Path | None) -> None:
    """Give tables memory for their sums.

    Raises:
        OSError: There is no room for it in the folder, or it cannot be written.
    """
    if not tables:
        return
    sizes = [table.height * table.width for table in tables]
    ends = list(accumulate((-(-size // ALIGNED) * ALIGNED for size in sizes), initial=0))
    handle, name = tempfile.mkstemp(dir=folder, suffix=".codes")
    try:
        _reserve(handle, 2 * ends[-1], Path(name).parent)
        sums = torch.from_file(name, shared=True, size=ends[-1], dtype=torch.float16)
    finally:
        os.close(handle)
        Path(name).unlink()  # the mapping keeps the file
    for number, (table, size, (a, _)) in enumerate(zip(tables, sizes, pairwise(ends), strict=True)):
        table.begin(sums[a : a + size], number)


def _reserve(handle: int, size: int, folder: Path) -> None:
    """Take room on the disk now: a mapped page for which there is none would end the process."""
    try:
        os.posix_fallocate(handle, 0, size)
    except OSError as error:
        raise OSError(
            error.errno, f"{os.strerror(error.errno or 0)}: the codes take {size / 1e6:,.0f} MB there", str(folder)
        ) from error
