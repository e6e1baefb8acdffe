"""Where weights are written: never over a base model, never half a folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from oracles.kind import BadInput

__all__ = ["check_target", "save"]


def check_target(folder: Path, option: str, model: str) -> None:
    """Refuse a folder for weights that is the model's own, or holds something else than a model.

    Raises:
        BadInput: It does.
    """
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{option} {str(folder)!r} is a file; name a folder.")
    if not folder.absolute().parent.is_dir():
        raise BadInput(f"{option} {str(folder)!r} is in a folder that is not there; make it first.")
    base = Path(model).expanduser()
    if folder.exists() and base.exists() and folder.samefile(base):
        raise BadInput(f"{option} {str(folder)!r} is the model's own folder, which the journal needs; name another.")
    if folder.is_dir() and any(folder.iterdir()) and not _is_model(folder):
        raise BadInput(f"{option} {str(folder)!r} holds something else than a model; name a new folder.")


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write a model and its tokenizer; an older model in the folder is replaced once all is written."""
    whole = folder.absolute()
    partial = Path(tempfile.mkdtemp(prefix=f".{whole.name}-", dir=whole.parent))
    from transformers.utils import logging as untyped

    logging: Any = untyped
    drawn = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        partial.chmod(0o755)  # mkdtemp's folders are for their owner alone
        if not whole.exists():
            partial.rename(whole)
            return
        for file in sorted(partial.iterdir(), key=lambda f: f.name == "config.json"):  # what marks a model comes last
            os.replace(file, whole / file.name)  # noqa: PTH105 - over a file that may be there
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if drawn:
            logging.enable_progress_bar()


def _is_model(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("config.json", "adapter_config.json"))
