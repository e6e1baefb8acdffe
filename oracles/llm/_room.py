"""Which device a model runs on: whether it is there and has room, asked before any weights are read."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from blackbox_zo._typing import override

__all__ = ["Need", "chosen_device", "need_of", "there"]

TOKENS = 512
"""Tokens of the text for which the need of a step is reckoned; more examples in a pass need more, and are halved."""


@final
@dataclass(frozen=True)
class Need:
    """The memory that a model needs, in bytes.

    Attributes:
        model: Its weights and buffers.
        step: What a step needs beside them at least: a displaced copy of the largest parameter in fp32, and the
            activations and scores of one text of `tokens`.
        tokens: Length of that text.
    """

    model: int
    step: int
    tokens: int

    @override
    def __str__(self) -> str:
        return f"{_gb(self.model)} for the model and {_gb(self.step)} for a step on a text of {self.tokens} tokens"


def need_of(name: str, dtype: str) -> Need | None:
    """The need of a model, from its configuration alone; None if that does not say.

    Args:
        name: A folder or a hub id.
        dtype: Type of the weights.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    base, adapter = name, Path(name, "adapter_config.json")
    try:
        if adapter.is_file() and not Path(name, "config.json").is_file():
            base = json.loads(adapter.read_text(encoding="utf-8"))["base_model_name_or_path"]
        auto: Any = AutoModelForCausalLM
        config: Any = AutoConfig.from_pretrained(base)
        with torch.device("meta"):
            model = auto.from_config(config, dtype=getattr(torch, dtype))
    except Exception:  # whoever loads it says what is wrong with it
        return None
    text = config.get_text_config()
    size = model.dtype.itemsize
    hidden = int(getattr(text, "hidden_size", 0) or 0)
    inner = int(getattr(text, "intermediate_size", 0) or 4 * hidden)
    tokens = min(TOKENS, int(getattr(text, "max_position_embeddings", 0) or TOKENS))
    largest = max((p.numel() for p in model.parameters()), default=0)
    scores = int(getattr(text, "vocab_size", 0) or 0) * (size + 4)  # as they come, and in fp32
    weights = sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))
    return Need(weights, 4 * largest + tokens * ((6 * hidden + 3 * inner) * size + scores), tokens)


def there() -> list[str]:
    """The devices that torch finds: "cuda:0" and so on, "mps" and others, and "cpu" last."""
    import torch

    found = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    other = torch.accelerator.current_accelerator() if hasattr(torch, "accelerator") else None
    if torch.backends.mps.is_available():
        found.append("mps")
    elif other is not None and other.type != "cuda":
        found += [f"{other.type}:{i}" for i in range(torch.accelerator.device_count())]
    return [*found, "cpu"]


def chosen_device(asked: str, need: Need | None) -> str:
    """The device to load a model on.

    Args:
        asked: A device of torch, such as "cuda:1", or "auto": the accelerator with the most memory free, if that is
            enough, else the CPU; a warning says why it is the CPU where there is an accelerator.
        need: What the model needs; None if that is not known.

    Raises:
        ValueError: There is no such device, or it has too little memory.
    """
    import torch

    found = there()
    if asked == "auto":
        rooms = {name: room for name in found[:-1] if (room := _room(name)) is not None}
        best = max(rooms, key=lambda name: rooms[name], default=None)
        if best is not None and (need is None or need.model + need.step <= rooms[best]):
            return best
        if best is not None:
            warnings.warn(
                f"The model runs on the CPU: {best} has {_gb(rooms[best])} free, and needed are {need}.", stacklevel=3
            )
        asked = "cpu"
    try:
        device = torch.device(asked)
    except RuntimeError:
        raise ValueError(
            f"Device {asked!r} is no device of torch; here are {', '.join(found)}, or give 'auto'."
        ) from None
    if device.type == "meta":  # holds no weights
        return asked
    one = device.type in ("cpu", "mps")
    name = device.type if one else f"{device.type}:{asked.partition(':')[2] or 0}"
    if name not in found and device.type != "cpu":
        raise ValueError(f"Device {asked!r} is not here: torch finds {', '.join(found)}. Give one of these, or 'auto'.")
    room = _room(name)
    if need is not None and room is not None and need.model + need.step > room:
        has = "in all" if device.type == "cpu" else "free"
        raise ValueError(
            f"Device {asked!r} is too small: it has {_gb(room)} {has}, and needed are {need}. Take a smaller dtype, "
            "such as bfloat16, a smaller model, or another device."
        )
    return asked


def _room(name: str) -> int | None:
    """The memory of a device that is free, or of the CPU all that there is; None if that cannot be told."""
    import torch

    from blackbox_zo.streaming._link import free_memory

    kind, _, index = name.partition(":")
    try:
        if kind == "cpu":
            return _memory()
        if kind == "mps":
            return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
        return free_memory(torch.device(kind, int(index or 0)))
    except (RuntimeError, AttributeError, ValueError, OSError):
        return None


def _memory() -> int | None:
    """The memory of the machine, or of the container in which this runs."""
    import psutil

    most = int(psutil.virtual_memory().total)
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            most = min(most, int(Path(limit).read_text()))
        except (OSError, ValueError):  # there is no such file, or it says "max"
            continue
    return most


def _gb(size: int) -> str:
    return f"{size / 1e9:.3g} GB"
