"""Where weights are written: never over a base model, never half a folder; and saving is tried before training."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from oracles._files import appearing_folder, trial_folder
from oracles.llm._adapters import BASE_FILE, CONFIG_FILE, is_adapted, saving, unsaved
from oracles.options import BadInput

__all__ = ["check_kept", "check_output", "is_file", "save", "try_saving"]


def check_output(path: Path, option: str, model: str, *, quantised: bool, adapter: bool) -> None:
    """Refuse a place for weights: a GGUF file for a quantised model, that or a folder for an adapter, else a folder.

    Args:
        path: The place.
        option: What names it.
        model: The base model.
        quantised: Whether the model runs from a GGUF file.
        adapter: Whether the weights are those of a LoRA adapter.

    Raises:
        BadInput: The place is refused.
    """
    if quantised:
        _check_file(path, option, model)
    elif path.suffix != ".gguf":
        _check_target(path, option, model)
    elif not adapter or not is_file(model):
        raise BadInput(
            f"{option} {str(path)!r}: in a .gguf file a quantised model is saved (--quantised), or a LoRA adapter "
            "(--select lora) of a .gguf model; name a folder."
        )
    else:
        _check_place(path, option, model, "file")


def is_file(model: str) -> bool:
    """Whether a model is named as a GGUF file, by its path or its package."""
    return model.endswith(".gguf") or model.startswith("package:")


def _check_target(folder: Path, option: str, model: str) -> None:
    """Refuse a folder for weights that is the base model's own, or holds something other than a model.

    Raises:
        BadInput: The folder is refused, is a file, or is in a folder that does not exist.
    """
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{option} {str(folder)!r} is a file; name a folder.")
    _check_place(folder, option, model, "folder")
    if folder.is_dir() and any(folder.iterdir()) and not _is_model(folder):
        raise BadInput(f"{option} {str(folder)!r} holds something other than a model; name a new folder.")


def _check_file(path: Path, option: str, model: str) -> None:
    """Refuse a path for a GGUF file that is the base model's own, no such file, or in a folder that does not exist.

    Raises:
        BadInput: It is refused.
    """
    if path.suffix != ".gguf" or path.is_dir():
        raise BadInput(f"{option} {str(path)!r} must end in .gguf: a quantised model is saved as it was.")
    _check_place(path, option, model, "file")


def _check_place(path: Path, option: str, model: str, kind: str) -> None:
    if not path.absolute().parent.is_dir():
        raise BadInput(f"{option} {str(path)!r} is in a folder that does not exist; create it first.")
    base = Path(model).expanduser()
    if path.exists() and base.exists() and path.samefile(base):
        raise BadInput(f"{option} {str(path)!r} is the model's own {kind}, which the journal needs; name another.")


def check_kept(model: Any, parameters: Mapping[str, Any], select: str) -> None:
    """Refuse to search weights that are not saved with a model's adapter.

    Raises:
        BadInput: They are not.
    """
    name = unsaved(model, parameters)
    if name:
        raise BadInput(
            f"--select {select} searches {name!r}, which is no part of the model's adapter, and the adapter alone is "
            "saved. Use --select all, or merge the adapter into its base first (peft's `merge_and_unload`)."
        )


def try_saving(model: Any, tokenizer: Any, folder: Path, option: str, base: str) -> None:
    """Try to save a model and its tokenizer beside a folder, which stays as it is.

    A whole model is tried without its numbers, but there must be room for them.

    Raises:
        BadInput: They cannot be saved there.
    """
    other = CONFIG_FILE if not is_adapted(model) else "config.json"
    if (folder / other).is_file():
        here, there = ("an adapter", "a whole model") if is_adapted(model) else ("a whole model", "an adapter")
        raise BadInput(f"{option} {str(folder)!r} holds {there}, and {here} is to be saved; name another folder.")
    try:
        with trial_folder(folder) as partial:
            if is_quantised(model):
                _check_room(model._zo_gguf.path.stat().st_size, folder)
            elif folder.suffix == ".gguf":
                _save_lora(model, base, partial / folder.name)
            else:
                _try_weights(model, partial, folder)
                tokenizer.save_pretrained(partial)
    except Exception as error:  # whatever transformers, peft and safetensors raise
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        if isinstance(error, OSError) or "os error" in reason:  # safetensors words it, with the system's number
            raise BadInput(f"{option} {str(folder)!r} cannot be written: {reason}") from error
        raise BadInput(f"{option} {str(folder)!r}: the model cannot be saved: {reason}") from error


def _try_weights(model: Any, partial: Path, folder: Path) -> None:
    if is_adapted(model):
        _save_weights(model, partial)
        return
    size = sum(t.numel() * t.element_size() for t in model.state_dict().values() if hasattr(t, "element_size"))
    _check_room(size, folder)
    hollow = {n: t[:0] if getattr(t, "dim", int)() else t for n, t in model.state_dict().items()}
    with _quiet():
        try:
            model.save_pretrained(partial / "hollow", state_dict=hollow)
        except Exception:  # models whose weights are converted as they are saved need the numbers
            model.save_pretrained(partial / "whole")


def is_quantised(model: Any) -> bool:
    """Whether a model runs from a GGUF file."""
    return hasattr(model, "_zo_gguf")


def _check_room(size: int, path: Path) -> None:
    there = path.absolute().parent
    if size > (free := shutil.disk_usage(there).free):
        raise OSError(
            f"{os.strerror(errno.ENOSPC)}: it takes {size / 1e9:.2g} GB, but {free / 1e9:.2g} GB are free in '{there}'"
        )


def save(model: Any, tokenizer: Any, folder: Path, base: str) -> str:
    """Write a model and its tokenizer; an older model in the folder is replaced once everything is written.

    Of a model with an adapter, the adapter alone is written, to a GGUF file if such a one is named; of a model that
    runs from a GGUF file, another such file.

    Returns:
        What is to be said of it, or nothing.
    """
    if is_quantised(model):
        from blackbox_zo.quantised import save_gguf

        error = save_gguf(model, folder)
        return f" (rounding its scales to fp16 loses {error:.2g} of what was added to them)" if error else ""
    if folder.suffix == ".gguf":
        _save_lora(model, base, folder)
        return f" (llama.cpp takes it beside the model: --lora {folder.name})"
    from safetensors import SafetensorError

    last = CONFIG_FILE if is_adapted(model) else "config.json"  # it marks a complete model
    try:
        with appearing_folder(folder, last=last) as partial:
            _save_weights(model, partial)
            tokenizer.save_pretrained(partial)
    except SafetensorError as error:  # a full disk, for example
        raise OSError(f"{str(folder)!r} cannot be written: {error}") from error
    return ""


def _save_lora(model: Any, base: str, path: Path) -> None:
    from oracles.llm._lora_gguf import save_lora_gguf
    from oracles.llm.models import local_file

    save_lora_gguf(model, local_file(base), path)


def _save_weights(model: Any, folder: Path) -> None:
    with _quiet():
        model.save_pretrained(folder, **(saving(model) if is_adapted(model) else {}))
    if (base := getattr(model, "base_sketch", None)) is not None and is_adapted(model):
        (folder / BASE_FILE).write_text(json.dumps(base))


@contextmanager
def _quiet() -> Iterator[None]:
    """Within the context, transformers shows no progress bars."""
    from transformers.utils import logging as untyped

    logging: Any = untyped
    drawn = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if drawn:
            logging.enable_progress_bar()


def _is_model(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("config.json", CONFIG_FILE))
