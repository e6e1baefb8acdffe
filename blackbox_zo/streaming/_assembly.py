"""From a folder to a model without weights, what of it comes and goes, where its weights are, and what may stay."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from blackbox_zo.checkpoints import Checkpoint, Piece, absent, pieces_of, replace_parameters, saved_buffers
from blackbox_zo.streaming._budget import Plan, planned
from blackbox_zo.streaming._disk import DiskStore
from blackbox_zo.streaming._encoding import Encoding
from blackbox_zo.streaming._store import HostStore, Store
from blackbox_zo.streaming._units import Window, windows_of

__all__ = ["Parts", "assembled"]


class Parts(NamedTuple):
    """What a `StreamedModule` is made of."""

    model: torch.nn.Module
    windows: list[Window]
    store: Store
    plan: Plan


def assembled(
    model: Any,
    base: Checkpoint,
    *,
    adapt: Callable[[Any], Any] | None,
    blocks: Sequence[str] | None,
    budget: int | None,
    encoding: Encoding | None,
    on_host: bool,
    folder: Path | None,
) -> Parts:
    """Fill what stays in memory of a model on meta, and open the store of the rest.

    Args:
        model: The model, its parameters on meta.
        base: Its checkpoint.
        adapt: Puts adapters on the model.
        blocks: Names of its stacks of layers; none finds them.
        budget: Bytes for weights; none takes what two blocks need.
        encoding: How the weights are held; none holds them as they are in memory.
        on_host: Whether the store is the host's memory.
        folder: For the store on the disk.
    """
    pieces = pieces_of(model, base)
    passing = {name for window in windows_of(model, blocks) for name in window.entry.names}
    replace_parameters(model, lambda name, p: _made(p, None if name in passing else pieces[name], base))
    for name, buffer in saved_buffers(model).items():
        base.read(pieces[name], buffer.view(-1))
    entries = [window.entry for window in windows_of(model, blocks)]
    made = {id(p): pieces[name] for name, p in model.named_parameters()}
    coming = {id(p): p for entry in entries for p in entry.parameters}
    if adapt is not None:
        model = _adapted(model, adapt, coming)
    windows = windows_of(model, blocks if adapt is None else _renamed(model, blocks), coming)
    entries = list(dict.fromkeys(window.entry for window in windows))
    names = {n: made[id(p)] for e in entries for n, p in zip(e.names, e.parameters, strict=True)}
    fixed = sum(p.numel() * p.element_size() for p in model.parameters() if id(p) not in coming)
    plan = planned(fixed, [window.entry for window in windows], budget, encoding)
    if on_host:
        return Parts(model, windows, HostStore(base, names, encoding, entries), plan)
    return Parts(model, windows, DiskStore(base, names, encoding, entries, folder), plan)


def _made(p: torch.nn.Parameter, pieces: Sequence[Piece] | None, base: Checkpoint) -> torch.nn.Parameter:
    """A parameter from the checkpoint; without pieces, addresses alone, no page of which is ever touched."""
    if pieces is None:
        value = torch.from_numpy(np.zeros(p.numel() * p.element_size(), np.uint8)).view(p.dtype).view(p.shape)
    else:
        value = torch.empty(p.shape, dtype=p.dtype)
        base.read(pieces, value.view(-1))
    return torch.nn.Parameter(value, requires_grad=p.requires_grad)


def _adapted(model: Any, adapt: Callable[[Any], Any], coming: Mapping[int, torch.nn.Parameter]) -> Any:
    """The model with adapters, which cannot have seen any weight that comes and goes.

    Raises:
        ValueError: What `adapt` has made follows from such weights, or it replaced one.
    """
    memory = {key: p.data for key, p in coming.items()}
    adapted, wrong = model, ""
    mine = {id(p) for p in model.parameters()}
    for p in coming.values():
        p.data = absent(p)
    try:
        adapted = adapt(model)
        new = {n: p for n, p in adapted.named_parameters() if id(p) not in mine}
        wrong = next((n for n, p in new.items() if p.is_meta or not bool(p.isfinite().all())), "")
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]  # of what is NaN
        wrong = "an adapter"
    finally:
        for key, p in coming.items():
            p.data = memory[key]
    if wrong or not set(coming) <= _ids(adapted):
        raise ValueError(
            f"`StreamedModule(adapt=...)` made {wrong or 'other weights'} from weights that are not in "
            "memory (as DoRA, PiSSA and `modules_to_save` do). Use adapters that start from random numbers, as LoRA's."
        )
    return adapted


def _ids(model: torch.nn.Module) -> set[int]:
    return {id(p) for p in model.parameters()}


def _renamed(model: torch.nn.Module, blocks: Sequence[str] | None) -> list[str] | None:
    """The names that stacks have in a model with adapters around it."""
    if blocks is None:
        return None
    lists = [n for n, m in model.named_modules() if isinstance(m, torch.nn.ModuleList)]
    return [next((n for n in lists if n == name or n.endswith(f".{name}")), name) for name in blocks]
