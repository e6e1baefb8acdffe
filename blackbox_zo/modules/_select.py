"""Which parameters of a model are searched."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch

from blackbox_zo.modules._adapters import lora_parameters, prefix_parameters
from blackbox_zo.modules._kinds import integers_said, is_made, refuse

__all__ = ["Select", "plain_name", "select_parameters"]

Select: TypeAlias = str | Sequence[str] | Callable[[str, torch.nn.Parameter], bool]

_PRESETS = {
    "bias": r"(^|[._])bias$",
    "top": r"(?i)^(?!.*\.\d+\.)(?!.*embed).*(norm|ln_f)[^.]*\.(weight|bias)$",
}

_TOP_LAYERS = re.compile(r"top:(\d+)")
_IN_A_LAYER = re.compile(r"^(.*?)\.(\d+)\.")

_ADAPTERS = {"lora": lora_parameters, "prefix": prefix_parameters}


def select_parameters(model: torch.nn.Module, select: Select) -> dict[str, torch.nn.Parameter]:
    """The chosen floating-point parameters by name; tied ones once, under their first name.

    Raises:
        TypeError: `select` is of another type, or `model` is not a module.
        ValueError: Nothing matches, an adapter is frozen, a listed name does not exist, or a pattern is not a regular
            expression.
    """
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"`Module(model)` needs a torch.nn.Module, got {model!r:.60}.")
    lazy = next((n for n, p in model.named_parameters() if not is_made(p)), None)
    if lazy is not None:
        raise ValueError(f"Parameter {lazy!r} has no shape yet: run the model once, so that its lazy layers are made.")
    everything = {plain_name(n): p for n, p in model.named_parameters() if p.is_floating_point() and p.numel()}
    if isinstance(select, str) and select in _ADAPTERS:
        found, what = _ADAPTERS[select](model, everything), repr(select)
    elif isinstance(select, str):
        found, what = _by_pattern(everything, select), repr(select)
    elif callable(select):
        found, what = {n: p for n, p in everything.items() if select(n, p)}, "the function"
    elif isinstance(select, Sequence) and all(isinstance(n, str) for n in select):
        found, what = _by_name(model, everything, select), "the list"
    else:
        raise TypeError(
            "`Module(select=...)` must be 'all', 'top', 'top:2', 'lora', 'bias', 'prefix', a pattern, a list of names "
            f"or a function of (name, parameter), got {select!r:.60}."
        )
    if not found:
        raise ValueError(_nothing(everything, select, what) + integers_said(model))
    for name, p in found.items():
        refuse(model, name, p)
    return found


def plain_name(name: str) -> str:
    """The name of a parameter without what `torch.compile` puts into it."""
    return name.replace("_orig_mod.", "")


def _by_pattern(everything: dict[str, torch.nn.Parameter], select: str) -> dict[str, torch.nn.Parameter]:
    if select == "all":
        return {n: p for n, p in everything.items() if p.requires_grad}
    if layers := _TOP_LAYERS.fullmatch(select):
        return _last_layers(everything, int(layers[1]))
    try:
        pattern = re.compile(_PRESETS.get(select, select))
    except re.error as error:
        raise ValueError(f"`Module(select={select!r})` is not a regular expression: {error}.") from None
    return {n: p for n, p in everything.items() if pattern.search(n)}


def _last_layers(everything: dict[str, torch.nn.Parameter], count: int) -> dict[str, torch.nn.Parameter]:
    """The last few layers of the last stack of them, and the norm that follows."""
    stacks: dict[str, dict[str, int]] = {}
    for name in everything:
        if place := _IN_A_LAYER.match(name):
            stacks.setdefault(place[1], {})[name] = int(place[2])
    stack = list(stacks.values())[-1] if stacks else {}
    numbers = sorted(set(stack.values()))
    if not 1 <= count <= len(numbers):
        raise ValueError(f"`Module(select='top:{count}')` wants {count} layers, but the model has {len(numbers)}.")
    top = {name for name, number in stack.items() if number >= numbers[-count]}
    return {n: p for n, p in everything.items() if n in top or re.search(_PRESETS["top"], n)}


def _by_name(
    model: torch.nn.Module, everything: dict[str, torch.nn.Parameter], names: Sequence[str]
) -> dict[str, torch.nn.Parameter]:
    first = {id(p): n for n, p in everything.items()}
    aliases = {plain_name(n): first.get(id(p)) for n, p in model.named_parameters(remove_duplicate=False)}
    wanted = set()
    for name in names:
        known = aliases.get(plain_name(name))
        if known is None:
            if name in aliases:
                raise ValueError(
                    f"`Module(select=...)` names {name!r}, which cannot be searched.{integers_said(model)}"
                )
            close = [n for n in everything if name.split(".")[-1] == n.split(".")[-1]][:3]
            hint = f" Did you mean {', '.join(map(repr, close))}?" if close else ""
            raise ValueError(f"`Module(select=...)` names {name!r}, which is not a parameter of this model.{hint}")
        wanted.add(known)
    return {n: p for n, p in everything.items() if n in wanted}


def _nothing(everything: dict[str, torch.nn.Parameter], select: Select, what: str) -> str:
    if not everything:
        return "`Module(model)`: the model has no floating-point parameters to search."
    if select == "all":
        return "`Module(select='all')`: no parameter requires grad. Call `model.requires_grad_()`, or select by name."
    if select == "top":
        what += " (a norm after the last layer); select 'all', or by name"
    elif isinstance(select, str) and select.startswith("top"):
        what += " (the last two layers are 'top:2')"
    if select == "lora":
        what += " (make an adapter by `peft.get_peft_model`)"
    some = list(everything)
    shown = ", ".join(repr(n) for n in (some if len(some) <= 4 else [*some[:2], *some[-2:]]))
    return f"`Module(select=...)`: no trainable parameter matches {what}. The model's {len(some)} are {shown} …"
