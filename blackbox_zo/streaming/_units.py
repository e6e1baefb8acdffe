"""What of a model comes and goes: its blocks, its embedding and its head."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

__all__ = ["Entry", "Window", "windows_of"]

LARGE = 1 << 10
"""Elements from which a matrix comes and goes; smaller ones, and vectors, stay."""


@dataclass(eq=False)
class Entry:
    """Parameters that are stored, read and moved together.

    Attributes:
        name: Of the block, or of the table.
        names: Of its parameters in the model, in the order in which they are stored.
        parameters: The parameters themselves.
        number: Its place in the model.
        table: Whether it is a large matrix outside of the blocks.
    """

    name: str
    names: tuple[str, ...]
    parameters: tuple[torch.nn.Parameter, ...]
    number: int = 0
    table: bool = False
    starts: tuple[int, ...] = field(init=False)
    nbytes: int = field(init=False)

    def __post_init__(self) -> None:
        starts, end = [], 0
        for p in self.parameters:
            starts.append(end)
            end += -(-p.numel() * p.element_size() // ALIGN) * ALIGN
        self.starts, self.nbytes = tuple(starts), end

    def tensors(self, memory: torch.Tensor) -> list[torch.Tensor]:
        """The parameters in memory of `nbytes` bytes."""
        return [
            memory[a : a + p.numel() * p.element_size()].view(p.dtype).view(p.shape)
            for a, p in zip(self.starts, self.parameters, strict=True)
        ]


ALIGN = 64
"""Bytes at whose multiples parameters begin."""


@dataclass(eq=False)
class Window:
    """A module whose forward needs an entry.

    Attributes:
        module: The module.
        entry: The entry.
        rows: Whether only the rows that are looked up are needed.
    """

    module: torch.nn.Module
    entry: Entry
    rows: bool = False


def windows_of(
    model: torch.nn.Module, blocks: Sequence[str] | None = None, among: Collection[int] | None = None
) -> list[Window]:
    """The windows of a model, about in the order in which it uses them.

    Blocks are the members of its stacks of layers: of every outermost `ModuleList` of at least two that holds a
    hundredth of the parameters. Matrices outside of them are the table of a module each.

    Args:
        model: The model, whose parameters may be on meta.
        blocks: Names of the stacks; none finds them.
        among: The ids of the parameters that may come and go; none is all.

    Raises:
        ValueError: There is no stack, or none of a given name.
    """
    stacks = _stacks(model, blocks)
    names = {id(p): name for name, p in model.named_parameters()}
    layers = [(f"{name}.{i}", layer) for name, stack in stacks.items() for i, layer in enumerate(stack)]
    owners = dict[int, int]()
    for _, layer in layers:
        for key in {id(p) for p in layer.parameters()}:
            owners[key] = owners.get(key, 0) + 1
    inside: list[Window] = []
    for name, layer in layers:
        mine = {id(p): p for p in layer.parameters() if _may_go(p, among) and owners[id(p)] == 1}
        if mine:
            inside.append(Window(layer, Entry(name, tuple(names[key] for key in mine), tuple(mine.values()))))
    before, after = _tables(model, names, owners, among)
    found = [*before, *inside, *after]
    for number, entry in enumerate(dict.fromkeys(window.entry for window in found)):
        entry.number = number
    return found


def _stacks(model: torch.nn.Module, given: Sequence[str] | None) -> dict[str, Any]:
    lists = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.ModuleList) and len(m) > 1}
    if given is not None:
        unknown = [name for name in given if name not in lists]
        if unknown:
            raise ValueError(f"`blocks` names {unknown[0]!r}; the model has the stacks {_listed(lists)}.")
        return {name: lists[name] for name in given}
    every = sum(p.numel() for p in model.parameters())
    found = dict[str, Any]()
    for name, stack in lists.items():  # from the outside in
        inner = any(name.startswith(f"{outer}.") for outer in found)
        if not inner and sum(p.numel() for p in stack.parameters()) >= every / 100:
            found[name] = stack
    if not found:
        raise ValueError(
            f"The blocks of {type(model).__name__} were not found: it has no list of layers (torch.nn.ModuleList) with "
            f"a hundredth of its parameters. Its lists: {_listed(lists)}. Name them, `blocks=[...]`."
        )
    return found


def _tables(
    model: torch.nn.Module, names: dict[int, str], owners: dict[int, int], among: Collection[int] | None
) -> tuple[list[Window], list[Window]]:
    """Windows of modules outside the blocks with large matrices of their own: embeddings, then others."""
    entries, before, after = dict[int, Entry](), list[Window](), list[Window]()
    for _, module in model.named_modules():
        large = [p for _, p in module.named_parameters(recurse=False) if _may_go(p, among) and id(p) not in owners]
        for p in large[:1] if len(large) == 1 else []:
            name = re.sub(r"\.weight$", "", names[id(p)])
            entry = entries.setdefault(id(p), Entry(name, (names[id(p)],), (p,), table=True))
            is_table = type(module) is torch.nn.Embedding and module.max_norm is None
            (before if isinstance(module, torch.nn.Embedding) else after).append(Window(module, entry, is_table))
    return before, after


def _may_go(p: torch.nn.Parameter, among: Collection[int] | None) -> bool:
    return (among is None or id(p) in among) and p.dim() >= 2 and p.numel() >= LARGE and p.is_floating_point()


def _listed(names: Any) -> str:
    shown: Iterator[str] = iter(list(names)[:4])
    return ", ".join(map(repr, shown)) or "none"
