"""Which parameters of a model belong to its adapters: through peft's own classes, which this library need not have."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from operator import attrgetter
from typing import Any

import torch

__all__ = ["lora_parameters", "prefix_parameters"]

_LORA = re.compile(r"(^|\.)lora_")
_PREFIX = re.compile(r"prompt_encoder|prompt_embeddings|prefix")


def lora_parameters(model: torch.nn.Module, everything: dict[str, torch.nn.Parameter]) -> dict[str, torch.nn.Parameter]:
    """What trains with the active LoRA adapters: their matrices, and `modules_to_save`, biases and tokens beside them.

    Without peft's layers, the parameters whose names begin with `lora_`. Frozen ones are left out.

    Args:
        model: The model.
        everything: Its floating-point parameters by name.

    Raises:
        ValueError: There are LoRA parameters, but those of the active adapters are frozen, or no adapter is active.
    """
    parts = list(_parts(model))
    of_lora = {id(p) for part in parts for p in _of(part, active=False)}
    if of_lora:
        chosen = {id(p) for part in parts for p in _of(part, active=True)} | set(_biases(model, parts))
        named = {n: p for n, p in everything.items() if id(p) in chosen}
    else:
        named = {n: p for n, p in everything.items() if _LORA.search(n)}
    return _trainable(model, named, "lora", bool(of_lora))


def prefix_parameters(
    model: torch.nn.Module, everything: dict[str, torch.nn.Parameter]
) -> dict[str, torch.nn.Parameter]:
    """The virtual tokens of the active adapter, by name; frozen ones are left out.

    Args:
        model: The model.
        everything: Its floating-point parameters by name.

    Raises:
        ValueError: There are such parameters, but those of the active adapter are frozen.
    """
    named = {n: p for n, p in everything.items() if _PREFIX.search(n)}
    encoders = getattr(model, "prompt_encoder", None)
    if isinstance(encoders, torch.nn.ModuleDict):
        active = {id(p) for name in _active(model) if name in encoders for p in encoders[name].parameters()}
        named = {n: p for n, p in named.items() if id(p) in active}
    return _trainable(model, named, "prefix", bool(named))


def _trainable(
    model: torch.nn.Module, named: dict[str, torch.nn.Parameter], what: str, adapted: bool
) -> dict[str, torch.nn.Parameter]:
    found = {n: p for n, p in named.items() if p.requires_grad}
    if (named or adapted) and not found:
        active = ", ".join(map(repr, _active(model))) or "none"
        raise ValueError(
            f"`Module(select={what!r})`: the parameters of the active adapters ({active}) are frozen. Activate the one "
            "to train by `model.set_adapter(name)`, or load it with `is_trainable=True`."
        )
    return found


def _parts(model: torch.nn.Module) -> Iterator[Any]:
    """The layers of peft: with LoRA matrices, or with a trained copy of a module, or of some tokens, beside them."""
    tuners, beside = sys.modules.get("peft.tuners.tuners_utils"), sys.modules.get("peft.utils.other")
    if tuners is None or beside is None:  # nobody has imported peft, so the model has no layer of it
        return
    for part in model.modules():
        if isinstance(part, beside.AuxiliaryTrainingWrapper) or (
            isinstance(part, tuners.BaseTunerLayer) and any(n.startswith("lora_") for n in part.adapter_layer_names)
        ):
            yield part


def _of(part: Any, active: bool) -> Iterator[torch.nn.Parameter]:
    """The parameters of a layer's active adapters, or of all."""
    for layer in part.adapter_layer_names:
        held = attrgetter(layer)(part)
        for name in part.active_adapters if active else list(held.keys()):
            if name in held:
                one = held[name]
                yield from [one] if isinstance(one, torch.nn.Parameter) else one.parameters()


def _biases(model: Any, parts: list[Any]) -> Iterator[int]:
    """The ids of the biases that the active adapters train and save, `LoraConfig(bias=...)`."""
    configs = getattr(model, "peft_config", None) or {}
    kinds = {getattr(configs.get(name), "bias", "none") for name in _active(model)}
    over = model.modules() if "all" in kinds else parts if "lora_only" in kinds else ()
    for part in over:
        bias = getattr(part, "bias", None)
        if isinstance(bias, torch.nn.Parameter):
            yield id(bias)


def _active(model: Any) -> list[str]:
    """The names of the active adapters of a model of peft, or of transformers with adapters."""
    found = getattr(model, "active_adapters", None)
    if callable(found):  # transformers raises where there is no adapter
        found = found() if getattr(model, "_hf_peft_config_loaded", False) else None
    if found is None:
        found = getattr(model, "active_adapter", None)
    return [found] if isinstance(found, str) else list(found or ())
