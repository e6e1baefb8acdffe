"""Paths as the user means them."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["expanded"]


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path, with the home folder for a `~` in front, which a shell leaves alone in `--journal=~/run.jsonl`."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # nobody of that name: a file's own name may begin so
        return Path(path)
