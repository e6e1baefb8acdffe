"""Whether queries reach the model: parameters that no operation uses, and losses that no query changes."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from blackbox_zo._typing import Floats
from blackbox_zo.errors import OracleError
from blackbox_zo.modules._displaced import Displacements
from blackbox_zo.modules._scratch import leaves
from blackbox_zo.modules._select import plain_name
from oracles.llm._sweeps import Part, Sweep

__all__ = ["Reached", "unreachable"]


class Reached:
    """Checks that queries have an effect.

    A parameter that no operation has used while its query was evaluated has none: the search would move it at random.
    That ends the run, unless the same parameter of a sibling was used (expert 3 where expert 5 was not), which is said
    once. So does a loss that is the same for all queries however far they go, if the model's output is, too. If only
    the loss is, as where no answer is right, that is said, and the tenth such step ends the run.

    Args:
        model: The model.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model
        self._used: set[int] = set()
        self._conditional: set[str] = set()
        self._changes = False
        self._flat = 0

    def check(self, displacements: Displacements) -> None:
        """Note what a step has used, and warn of parameters that are used at times only.

        Raises:
            OracleError: No operation has used a parameter, nor the same one of a sibling.
        """
        self._used |= displacements.touched
        idle = {key: hit.block.name for key, hit in displacements.of.items() if key not in self._used}
        if not idle:
            return
        here = {id(p) for p in self.model.parameters()}
        kinds = {_kind(hit.block.name) for key, hit in displacements.of.items() if key in self._used}
        alone = [name for key, name in idle.items() if key not in here or _kind(name) not in kinds]
        if alone:
            raise OracleError(unreachable(self.model, alone, len(displacements.of)))
        new = [name for name in idle.values() if name not in self._conditional]
        self._conditional.update(new)
        if new:
            warnings.warn(
                f"No operation used {_listed(new)} on this batch, as where an expert is not chosen. The search moves "
                "such parameters at random until one does.",
                stacklevel=4,
            )

    def changes(self, groups: Iterable[Floats]) -> bool:
        """Whether a step or an earlier one had different losses within one of some groups of queries."""
        if not self._changes:
            sized = [group for group in groups if len(group) > 1]
            self._changes = not sized or any(np.ptp(group) > 1e-7 * np.abs(group).max() for group in sized)
        return self._changes

    def look_farther(self, displacements: Displacements, scratch: Sweep, part: Part) -> None:
        """Ask farther away, where all queries of a step had the same loss, and warn if something changes there.

        Raises:
            OracleError: Nothing does, not even the model's output, or this was the tenth step of this kind.
        """
        at_x, output = self._seen(scratch, part)
        self._flat += 1
        for times in (1e2, 1e4, 1e6):
            queries = displacements.queries.farther(times)
            i = int(np.argmax(np.abs(queries.scale)))
            away, moved = self._seen(scratch, part, Displacements(displacements.module, queries), slice(i, i + 1))
            said = f"All {queries.n} queries have the same loss, so this step learns nothing"
            if not np.array_equal(away, at_x):
                self._warn(
                    f"{said}; {times:g} times farther away it changes. Use a larger radius, more examples, or a loss "
                    "that is not constant in between."
                )
                return
        if _differ(output, moved):
            self._warn(
                f"{said}, although the model's output changes. The loss is constant, or the same for all that the "
                "model gives on this batch; use more examples, or a loss that grades them."
            )
            return
        raise OracleError(
            f"All {displacements.n} queries have the same loss, even a million times farther away: nothing that is "
            f"searched has an effect on it ({_listed([hit.block.name for hit in displacements.of.values()])}). Is the "
            "loss constant, does it read cached values, or is another factor zero, as lora_B is at first?"
        )

    def _warn(self, said: str) -> None:
        if self._flat >= PATIENCE:
            raise OracleError(f"In {PATIENCE} steps no query had another loss than the others. {said}")
        if self._flat == 1:
            warnings.warn(said, stacklevel=5)

    def _seen(self, scratch: Sweep, part: Part, *displaced: Any) -> tuple[Floats, list[torch.Tensor]]:
        """The losses, and what the model gave at its last call."""
        found: list[torch.Tensor] = []

        def note(module: Any, args: Any, output: Any) -> None:
            found[:] = leaves(list(output.values()) if isinstance(output, Mapping) else [output])

        handle = self.model.register_forward_hook(note)
        try:
            return scratch(part, *displaced), found
        finally:
            handle.remove()


PATIENCE = 10
"""Steps in which no query has another loss than the others, after which the run ends."""


def _differ(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    """Whether two outputs of a model differ."""
    return len(a) != len(b) or any(x.shape != y.shape or not torch.equal(x, y) for x, y in zip(a, b, strict=True))


def _kind(name: str) -> str:
    return re.sub(r"\.\d+\.", ".#.", name)


def _listed(names: list[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def unreachable(model: torch.nn.Module, names: list[str], searched: int) -> str:
    """Why queries do not reach some parameters of a model, in words."""
    said = f"No operation used {_listed(names)} while the queries were evaluated, so they cannot be searched"
    present = {plain_name(n) for n, _ in model.named_parameters(remove_duplicate=False)}
    owner = _module_of(model, names[0])
    if names[0] not in present or owner is None:
        return f"{said}: the model no longer has them. Make the `bz.Module` after the last change to the model."
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
        f"{said}. If the loss does not need them, leave them out of `bz.Module(select=...)`. Otherwise they were "
        "replaced after `bz.Module(...)`, or their values are cached at the first forward pass."
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
