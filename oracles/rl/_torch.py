"""Torch networks as policies: in numpy where possible, else in torch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from blackbox_zo._typing import Floats
from oracles.rl._layers import Layer
from oracles.rl._statistics import Statistics

__all__ = ["acting", "layers_in"]


def layers_in(module: Any) -> tuple[Layer, ...]:
    """The dense layers of a module, in order; empty if it contains anything else."""
    from torch import nn

    parts = list(_parts(module))
    linear = [part for part in parts if type(part) is nn.Linear]
    known = (nn.Linear, nn.Tanh, nn.ReLU, nn.Identity, nn.Flatten)
    if not linear or any(type(part) not in known for part in parts):
        return ()
    own = [id(parameter) for part in linear for parameter in part.parameters()]
    if len(set(own)) < len(own):  # tied parameters appear only once in x
        return ()
    if any(
        part._forward_hooks
        or part._forward_pre_hooks
        or {name for name, _ in part.named_parameters(recurse=False)} - {"weight", "bias"}
        for part in parts
    ):
        return ()
    out: list[Layer] = []
    for part in parts:
        if type(part) is nn.Linear:
            out.append(Layer(part.out_features, part.in_features, part.bias is not None, None))
        elif type(part) in (nn.Tanh, nn.ReLU):
            if not out or out[-1].activation is not None:
                return ()
            out[-1] = out[-1]._replace(activation="tanh" if type(part) is nn.Tanh else "relu")
    return tuple(out)


def _parts(module: Any) -> Any:
    from torch import nn

    if type(module) is nn.Sequential and not module._forward_hooks and not module._forward_pre_hooks:
        for child in module:
            yield from _parts(child)
    else:
        yield module


def acting(module: Any, x: Floats, seen: Statistics | None) -> Callable[[Floats], Floats]:
    """The module with parameters x, shape (size,), as a function of one flat observation."""
    import torch

    module = copy.deepcopy(module).eval().requires_grad_(False)
    at = 0
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.tensor(x[at : at + parameter.numel()]).reshape(parameter.shape))
            at += parameter.numel()
    first = next(module.parameters())
    mean, scale = (0.0, 1.0) if seen is None or not seen.n else (seen.mean, seen.scale())

    def act(o: Floats) -> Floats:
        with torch.inference_mode():
            given = torch.from_numpy((o - mean) * scale).to(first.device, first.dtype)
            out: Floats = module(given[None])[0].double().cpu().numpy()
        return out

    return act
