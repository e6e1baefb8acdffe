"""Kinds of parameters that cannot be searched, and why."""

from __future__ import annotations

import torch

__all__ = ["integers_said", "is_made", "refuse"]

_SEARCHABLE = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def refuse(model: torch.nn.Module, name: str, p: torch.nn.Parameter) -> None:
    """Refuse a parameter that cannot be displaced and moved in place.

    Raises:
        ValueError: It is of another kind, not contiguous or not loaded.
    """
    if p.is_meta:
        hook = _offloaded(model, name)
        if hook:
            raise ValueError(
                f"Parameter {name!r} is offloaded by accelerate: its weights come and go with each forward pass, and a "
                "move would be lost. Load the model without offloading (no `device_map`, or one device), or select "
                "parameters that stay on their device."
            )
        raise ValueError(f"Parameter {name!r} is on the meta device: the model's weights have not been loaded.")
    kind = type(p.data)
    if kind is not torch.Tensor:
        raise ValueError(
            f"Parameter {name!r} is a {kind.__name__}, not a plain tensor, as quantised and distributed weights are: "
            "it cannot be moved in place. Load the model without it, or select others (an adapter, the norms)."
        )
    if p.dtype not in _SEARCHABLE:
        raise ValueError(
            f"Parameter {name!r} is {str(p.dtype).removeprefix('torch.')}, whose numbers are too coarse to search. "
            "Convert it (`model.to(torch.bfloat16)`), or select other parameters (an adapter, the norms)."
        )
    if not p.is_contiguous():
        raise ValueError(f"Parameter {name!r} is not contiguous; assign `p.data = p.data.contiguous()` first.")


def is_made(p: torch.nn.Parameter) -> bool:
    """Whether a parameter has a shape; those of lazy layers get one when the model first runs."""
    return not isinstance(p, torch.nn.parameter.UninitializedParameter)


def integers_said(model: torch.nn.Module) -> str:
    """A sentence on the parameters that hold integers; empty if there are none."""
    found = [name for name, p in model.named_parameters() if not p.is_floating_point()]
    if not found:
        return ""
    return (
        f" {len(found)} parameters, such as {found[0]!r}, hold integers (quantised weights), which cannot be searched: "
        "make an adapter above them, or load the model without quantisation."
    )


def _offloaded(model: torch.nn.Module, name: str) -> bool:
    """Whether accelerate moves the module of a parameter to its device and back."""
    owner = model
    found = getattr(owner, "_hf_hook", None)
    for part in name.split(".")[:-1]:
        owner = getattr(owner, part)
        found = getattr(owner, "_hf_hook", None) or found
    hooks = getattr(found, "hooks", (found,))
    return any(getattr(hook, "offload", False) or getattr(hook, "weights_map", None) is not None for hook in hooks)
