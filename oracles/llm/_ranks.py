"""What a rank of a fine-tuning run on the command line does otherwise than a process alone."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blackbox_zo.ranks import Ranks, versions

__all__ = ["check_alike", "device_of", "folder_of"]

_HERE = ("model", "data", "off_task", "local")
"""Settings that each machine may have its own of."""


def check_alike(
    ranks: Ranks, names: Mapping[str, str], problem: Mapping[str, Any], settings: Mapping[str, Any]
) -> None:
    """Refuse ranks with other versions, options or data than rank 0, before anything is evaluated.

    Raises:
        RankError: A rank differs.
    """
    kept = {name: value for name, value in settings.items() if name not in _HERE}
    flags = {name: f"--{name.replace('_', '-')}" for name in kept}
    ranks.agree({**versions(), **kept, **problem}, {**flags, **names})


def device_of(given: argparse.Namespace) -> str:
    """The device of this rank: each of a machine has an accelerator of its own, where there are enough."""
    asked, ranks = given.device or "auto", getattr(given, "ranks", None)
    if ranks is not None and asked in ("auto", "cuda"):
        import torch

        if torch.cuda.device_count() > ranks.local_rank:
            return f"cuda:{ranks.local_rank}"
    return str(asked)


def folder_of(given: argparse.Namespace) -> Path | None:
    """The folder for the moved weights of this rank; one of its own, as those of a machine cannot share one."""
    folder: Path | None = given.stream_to
    if folder is None or getattr(given, "ranks", None) is None or given.ranks.first:
        return folder
    return folder.with_name(f"{folder.name}-rank{given.ranks.rank}")
