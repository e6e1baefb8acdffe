"""Whether queries reach the model: parameters that no operation uses, and losses that no query changes."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

from blackbox_zo.errors import OracleError

__all__ = ["Reached", "unreachable"]


class Reached:
    """Which searched parameters the model's operations have used so far.

    A parameter that none has used while its query was evaluated has no effect: the search would move it at random. That
    ends the run, unless the same parameter of a sibling was used (expert 3 where expert 5 was not), which is said once.

    Args:
        model: The model.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model
        self.used: set[int] = set()
        self.conditional: set[str] = set()

    def check(self, searched: Mapping[int, str], used: set[int]) -> list[str]:
        """Note what a step has used.

        Args:
            searched: Names of the parameters that the step displaces, by the id of the parameter.
            used: The ids of those that an operation has used.

        Returns:
            Names of parameters that are used at times only, as far as they have not been returned before.

        Raises:
            OracleError: No operation has used a parameter, nor the same one of a sibling.
        """
        self.used |= used
        idle = {key: name for key, name in searched.items() if key not in self.used}
        if not idle:
            return []
        here = {id(p) for p in self.model.parameters()}
        kinds = {re.sub(r"\.\d+\.", ".#.", name) for key, name in searched.items() if key in self.used}
        alone = [n for key, n in idle.items() if key not in here or re.sub(r"\.\d+\.", ".#.", n) not in kinds]
        if alone:
            raise OracleError(unreachable(self.model, alone, len(searched)))
        new = [name for name in idle.values() if name not in self.conditional]
        self.conditional.update(new)
        return new


def unreachable(model: torch.nn.Module, names: list[str], searched: int) -> str:
    """Why queries do not reach some parameters of a model, in words."""
    shown = ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    said = f"No operation used {shown} while the queries were evaluated, so they cannot be searched"
    present = dict(model.named_parameters(remove_duplicate=False))
    owner = _module_of(model, names[0])
    if names[0] not in present or owner is None:
        return f"{said}: the model has no such parameter any more. Make the `bz.Module` after the last change to the model."
    if any(isinstance(m, torch.jit.ScriptModule) for m in (model, *_above(model, names[0]))):
        return f"{said}: TorchScript runs its operations out of Python's sight. Give the model before `torch.jit`."
    merged = any(getattr(m, "merged", False) is True for m in _above(model, names[0]))
    if merged:
        return f"{said}: the adapter is merged into the base weights. Call the peft model's `unmerge_adapter()` first."
    if len(names) == searched:
        return (
            f"{said}. Does the loss use this model? Or was the parameter replaced after `bz.Module(...)`, or its value "
            "cached at an earlier forward pass? Make the `bz.Module` after the last change, and clear the cache."
        )
    return (
        f"{said}. If the loss does not need them, leave them out of `bz.Module(select=...)`. Otherwise they were replaced "
        "after `bz.Module(...)`, or their values are cached at the first forward pass."
    )


def _module_of(model: torch.nn.Module, name: str) -> torch.nn.Module | None:
    above = _above(model, name)
    return above[-1] if above else None


def _above(model: torch.nn.Module, name: str) -> list[torch.nn.Module]:
    """The modules on the way to a parameter, from the outside in."""
    out = [model]
    for part in name.split(".")[:-1]:
        inner = getattr(out[-1], part, None)
        if not isinstance(inner, torch.nn.Module):
            return out
        out.append(inner)
    return out
