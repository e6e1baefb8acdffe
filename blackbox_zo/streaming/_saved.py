"""All weights of a streamed model in a folder, written one parameter at a time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from blackbox_zo._arrays import Array, write_arrays
from blackbox_zo.modules._module import KINDS, Module, bits_of

__all__ = ["save_streamed"]


def save_streamed(x: Module, own: Callable[..., Any], folder: str | Path, state_dict: Any = None, **more: Any) -> None:
    """`save_pretrained` of a streamed model: the configuration, and one safetensors file.

    Args:
        x: The variable.
        own: The model's own `save_pretrained`, which is asked where other weights are given.
        folder: Is made.
        state_dict: Other weights. One that was taken from the model counts as none: it lacks what is not there.
        more: For `own`.
    """
    if state_dict is not None and not any(_is_absent(t) for t in state_dict.values()):
        own(folder, state_dict=state_dict, **more)
        return
    to = Path(folder)
    model: Any = x.model
    to.mkdir(parents=True, exist_ok=True)

    def get(name: str) -> Any:
        return bits_of(dict(x.whole((name,)))[name])

    arrays = {n: Array(KINDS[p.dtype], tuple(p.shape), partial(get, n)) for n, p in model.named_parameters()}
    kept = model.state_dict()
    arrays |= {n: Array(KINDS[b.dtype], tuple(b.shape), partial(bits_of, b))
               for n, b in model.named_buffers() if n in kept and b.dtype in KINDS}  # fmt: skip
    write_arrays(to / "model.safetensors", arrays, {})
    model.config.save_pretrained(to)
    if getattr(model, "generation_config", None) is not None:
        model.generation_config.save_pretrained(to)


def _is_absent(t: Any) -> bool:
    return isinstance(t, torch.Tensor) and t.numel() > 1 and t.untyped_storage().nbytes() == t.element_size()
