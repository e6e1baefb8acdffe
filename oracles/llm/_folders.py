"""Where weights are written: never over a base model, never half a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from oracles._files import appearing_folder
from oracles.options import BadInput

__all__ = ["check_target", "save"]


def check_target(folder: Path, option: str, model: str) -> None:
    """Refuse a folder for weights that is the model's own, or holds something else than a model.

    Raises:
        BadInput: It does.
    """
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{option} {str(folder)!r} is a file; name a folder.")
    if not folder.absolute().parent.is_dir():
        raise BadInput(f"{option} {str(folder)!r} is in a folder that does not exist; make it first.")
    base = Path(model).expanduser()
    if folder.exists() and base.exists() and folder.samefile(base):
        raise BadInput(f"{option} {str(folder)!r} is the model's own folder, which the journal needs; name another.")
    if folder.is_dir() and any(folder.iterdir()) and not _is_model(folder):
        raise BadInput(f"{option} {str(folder)!r} holds something else than a model; name a new folder.")


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write a model and its tokenizer; an older model in the folder is replaced once all is written."""
    from safetensors import SafetensorError
    from transformers.utils import logging as untyped

    logging: Any = untyped
    drawn = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with appearing_folder(folder, last="config.json") as partial:  # what marks a model comes last
            model.save_pretrained(partial)
            tokenizer.save_pretrained(partial)
    except SafetensorError as error:  # a full disk, for example
        raise OSError(f"{str(folder)!r} cannot be written: {error}") from error
    finally:
        if drawn:
            logging.enable_progress_bar()


def _is_model(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("config.json", "adapter_config.json"))
