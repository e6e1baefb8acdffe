"""A file or folder of weights, opened beside the model that it is of."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from blackbox_zo.checkpoints._base import Checkpoint, Safetensors
from blackbox_zo.checkpoints._gguf import GGUF, hollow_gguf
from blackbox_zo.checkpoints._hollow import hollow_model
from blackbox_zo.checkpoints._names import Pieces

__all__ = ["opened", "pieces_of", "saved_buffers"]


def opened(path: Path, dtype: torch.dtype | None) -> tuple[Any, Checkpoint]:
    """The model of a GGUF file, or of a folder that `save_pretrained` wrote, on meta; and its weights.

    Raises:
        FileNotFoundError: There is no such file or folder, or it has no safetensors files.
        ValueError: It cannot be read, or transformers does not know the model.
    """
    if path.suffix == ".gguf":
        model, reader = hollow_gguf(path, dtype)
        return model, GGUF(path, model, reader)
    return hollow_model(path, dtype), Safetensors(path)


def pieces_of(model: Any, base: Checkpoint) -> Pieces:
    """What each parameter and saved buffer of a model is made of in its checkpoint.

    Raises:
        ValueError: One is missing or of another shape, or there are others.
    """
    wanted = {name: tuple(p.shape) for name, p in model.named_parameters()}
    every = {n for n, _ in model.named_parameters(remove_duplicate=False)}
    shapes = wanted | {n: tuple(b.shape) for n, b in saved_buffers(model).items()}
    return base.pieces(model, shapes, (every - set(wanted)) | _ignored(model, base))


def saved_buffers(model: Any) -> dict[str, torch.Tensor]:
    """The buffers that are saved with a model."""
    saved = model.state_dict()
    return {n: b for n, b in model.named_buffers() if n in saved}


def _ignored(model: Any, base: Checkpoint) -> set[str]:
    """Names that older checkpoints have and the model's class knows not to need."""
    patterns = getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ()
    return {name for name in base.stored if any(re.search(pattern, name) for pattern in patterns)}
