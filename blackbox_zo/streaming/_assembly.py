"""From a folder to a model without weights, what of it comes and goes, where its weights are, and what may stay."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch

from blackbox_zo.checkpoints import Checkpoint, Piece, absent, pieces_of, replace_parameters, saved_buffers
from blackbox_zo.streaming._budget import Plan, check_room, in_store, planned
from blackbox_zo.streaming._disk import DiskStore
from blackbox_zo.streaming._encoding import Encoding
from blackbox_zo.streaming._link import free_memory
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
    device: torch.device,
    *,
    adapt: Callable[[Any], Any] | None,
    blocks: Sequence[str] | None,
    budget: int | None,
    encoding: Encoding | None,
    on_host: bool,
    moves: bool,
    folder: Path | None,
) -> Parts:
    """Fill what stays in memory of a model on meta, and open the store of the rest.

    Args:
        model: The model, its parameters on meta.
        base: Its checkpoint.
        device: Where the model runs.
        adapt: Puts adapters on the model.
        blocks: Names of its stacks of layers; none finds them.
        budget: Bytes for weights; none takes what two blocks need.
        encoding: How the weights are held; none holds them as they are in memory.
        on_host: Whether the store is the host's memory.
        moves: Whether what comes and goes is moved.
        folder: For the store on the disk.
    """
    pieces = pieces_of(model, base)
    passing = {name for window in windows_of(model, blocks) for name in window.entry.names}
    largest = max((p.numel() * p.element_size() for n, p in model.named_parameters() if n in passing), default=0)
    place = torch.empty(largest, dtype=torch.uint8, device=device)

    def made(name: str, p: torch.nn.Parameter) -> torch.nn.Parameter:
        value = _in_place(p, place) if name in passing else _read(p, pieces[name], base).to(device)
        return torch.nn.Parameter(value, requires_grad=p.requires_grad)

    replace_parameters(model, made)
    for name, buffer in saved_buffers(model).items():
        base.read(pieces[name], buffer.view(-1))
    entries = [window.entry for window in windows_of(model, blocks)]
    found = {id(p): pieces[name] for name, p in model.named_parameters()}
    coming = {id(p): p for entry in entries for p in entry.parameters}
    if adapt is not None:
        model = _adapted(model, adapt, coming)
    windows = windows_of(model, blocks if adapt is None else _renamed(model, blocks), coming)
    entries = list(dict.fromkeys(window.entry for window in windows))
    names = {n: found[id(p)] for e in entries for n, p in zip(e.names, e.parameters, strict=True)}
    fixed = sum(p.numel() * p.element_size() for p in model.parameters() if id(p) not in coming)
    order = [window.entry for window in windows]
    plan = in_store(fixed, order, budget) if on_host and encoding is None and device.type == "cpu" else None
    if plan is None and device.type != "cpu" and moves:
        with suppress(ValueError):  # there may be no room for a block that goes back while the next comes
            plan = planned(fixed, order, budget, encoding, spare=True)
    plan = plan or planned(fixed, order, budget, encoding)
    check_room(plan, free_memory(device), device)
    _send(model, coming, device)
    if on_host:
        return Parts(model, windows, HostStore(base, names, encoding, entries, device), plan)
    return Parts(model, windows, DiskStore(base, names, encoding, entries, folder), plan)


def _in_place(p: torch.nn.Parameter, place: torch.Tensor) -> torch.Tensor:
    """What stands for a parameter that comes and goes until it does: all in one place, which nobody reads."""
    return place[: p.numel() * p.element_size()].view(p.dtype).view(p.shape)


def _read(p: torch.nn.Parameter, pieces: Sequence[Piece], base: Checkpoint) -> torch.Tensor:
    value = torch.empty(p.shape, dtype=p.dtype)
    base.read(pieces, value.view(-1))
    return value


def _send(model: torch.nn.Module, coming: Mapping[int, torch.nn.Parameter], device: torch.device) -> None:
    """Send what stays of a model to a device."""
    for p in model.parameters():
        if id(p) not in coming and p.device != device:  # an adapter's
            p.data = p.data.to(device)
    for module in model.modules():
        for name, buffer in list(module.named_buffers(recurse=False, remove_duplicate=False)):
            setattr(module, name, buffer.to(device))


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
