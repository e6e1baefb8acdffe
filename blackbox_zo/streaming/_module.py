"""`StreamedModule`: x is the parameters of a model that need not fit into memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from blackbox_zo._arrays import Array, StoredArrays
from blackbox_zo._typing import override
from blackbox_zo.checkpoints import opened
from blackbox_zo.modules._digest import digest_of
from blackbox_zo.modules._masks import Mask, make_mask
from blackbox_zo.modules._module import KINDS, Module, bits_of
from blackbox_zo.modules._select import Select, plain_name
from blackbox_zo.steps import Step
from blackbox_zo.streaming._assembly import assembled
from blackbox_zo.streaming._budget import Plan, in_bytes
from blackbox_zo.streaming._encoding import ENCODINGS
from blackbox_zo.streaming._link import Link, checked_device, link_of
from blackbox_zo.streaming._pending import Pending
from blackbox_zo.streaming._saved import save_streamed
from blackbox_zo.streaming._streamer import Streamer
from blackbox_zo.streaming._units import Window

__all__ = ["StreamedModule"]

MERGE_EVERY = 16
"""Moves that wait before a log-structured store takes them up."""


class StreamedModule(Module):
    """The parameters of a model on disk, as a variable: blocks come into memory when the model runs them, and go again.

    A drop-in for `Module`, with the same numbers. `from_pretrained` makes one. The model's own code runs; what it sees
    of a block that is not there is NaN. Moves wait until a block is next in memory. All queries of a step go through a
    block while it is there (`LossOracle` sees to it), so a step reads each weight once.

    Use it as a context manager, or call `close`: it removes the hooks and files, after which the model has no weights.

    Attributes:
        model: The model of transformers; its `save_pretrained` writes all weights.
        plan: What stays in memory, and how much the others take.
        store: Where the weights are.
        streamer: What brings them.
        merge_every: Moves after which a block is written back.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        windows: Sequence[Window],
        link: Link,
        plan: Plan,
        merge_every: int,
        **arguments: Any,
    ) -> None:
        self.store, self.plan, self.merge_every = link.store, plan, merge_every
        self.durable = link.store.lasting
        self.entries = list(dict.fromkeys(window.entry for window in windows))
        self.entry_of = {name: entry for entry in self.entries for name in entry.names}
        mask = arguments.pop("mask", None)
        super().__init__(model, **arguments)  # memory is there for what comes and goes, but none of it is touched
        self.passing = frozenset(self.entry_of)
        self.staying = tuple(b for b in self.blocks if b.name not in self.passing)
        self.pending = Pending(self.blocks)
        searched = {e.number: tuple(b for b in self.blocks if b.name in e.names) for e in self.entries}
        noisy = self.rounding == "stochastic"
        self.streamer = Streamer(windows, link, plan, merge_every, searched, self.pending, self._moved, noisy)
        self._arguments["mask"] = mask
        self.masks = self._masks(mask)
        for entry in self.entries:
            for p in entry.parameters:
                p._zo_streamed = True  # type: ignore[attr-defined]
        whole: Any = model
        whole._zo_streamed = self
        if not hasattr(whole, "peft_config"):  # which saves adapters alone
            whole.save_pretrained = partial(save_streamed, self, whole.save_pretrained)

    def _masks(self, mask: Any) -> dict[str, Mask]:
        if not isinstance(mask, float):
            return make_mask(self.parameters, mask)
        found = make_mask({}, mask)
        for name, p in self.whole(self.parameters):  # its threshold follows from the weights
            found |= make_mask({name: torch.nn.Parameter(p, requires_grad=False)}, mask)
        return found

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        device: str = "cpu",
        store: Literal["disk", "host"] = "disk",
        budget: int | str | None = None,
        *,
        dtype: torch.dtype | None = None,
        transfer_dtype: Literal["bf16", "fp8", "int8"] | None = None,
        log_structured: bool = False,
        weights: str | Path | None = None,
        adapt: Callable[[Any], Any] | None = None,
        blocks: Sequence[str] | None = None,
        select: Select = "all",
        mask: Any = None,
        unit: float | Mapping[str, float] = 1.0,
        no_decay: str | None = None,
        rounding: str = "stochastic",
    ) -> StreamedModule:
        """Stream a model from a folder that `save_pretrained` wrote. The folder is only read.

        Args:
            folder: With config.json and safetensors files. Or a GGUF file, which stays quantised on the disk: the
                numbers of a block are computed when it comes in.
            device: Where the model runs: "cpu", or a device with memory of its own, such as "cuda" or "cuda:1". There,
                weights come to it while it computes, by page-locked memory of the host. `budget` is then of its memory.
            store: Where weights are while no pass needs them: on "disk", or in the memory of the "host"; from there, a
                CPU uses them as they are, unless they have a `transfer_dtype`.
            budget: Memory for weights where the model runs, such as "2GiB" or a number of bytes. As many blocks as fit
                stay in it. None takes what two blocks need.
            dtype: Of the parameters; none takes the checkpoint's.
            transfer_dtype: How weights are held and read: as they are in memory; rounded to "bf16"; or to a byte each,
                "fp8" or "int8", with a scale in fp32 for every 64. `error` says what that loses. Moves are exact until
                a block is written back; then it is rounded, at random as 16-bit parameters are, so that small moves
                are right on average. The run's numbers are then its own, not `Module`'s, and it has no snapshots.
            log_structured: Whether blocks are written back only after every 16 moves, which until then are made again
                each time a block comes in. Else they are written back after each. The numbers are the same.
            adapt: Puts adapters on the model, such as `lambda model: peft.get_peft_model(model, config)`. They stay in
                memory; with `select="lora"` they are searched, and the base is only read.
            weights: A folder for moved weights. A later run of the same journal finds them there. None makes one that
                is removed at the end.
            blocks: Names of the stacks of layers, where they are not found.
            select: As in `Module`, like the following arguments.
            mask: As in `Module`; a share reads all weights once.
            unit: The unit of movement.
            no_decay: A pattern of parameters without weight decay.
            rounding: How moves of 16-bit parameters are rounded.

        Raises:
            FileNotFoundError: The folder is none, or has no safetensors files.
            ValueError: The budget is too small, the device is not here or has no room, the checkpoint does not match
                its configuration, blocks are not found,
                or an argument is out of range.
            OSError: The folder for moved weights cannot be written.
            StoreError: It is in use, or of another model.
        """
        if store not in ("disk", "host"):
            raise ValueError(f"`StreamedModule(store=...)` must be 'disk' or 'host', got {store!r}.")
        place = checked_device(device)
        if transfer_dtype is not None and transfer_dtype not in ENCODINGS:
            known = ", ".join(map(repr, ENCODINGS))
            raise ValueError(f"`StreamedModule(transfer_dtype=...)` must be one of {known}, got {transfer_dtype!r}.")
        if weights is not None and store == "host":
            raise ValueError(
                "`StreamedModule(weights=...)` is a folder for store='disk'; the host's memory needs none."
            )
        size, path = in_bytes(budget), Path(folder).expanduser()
        model, base = opened(path, dtype)
        try:
            parts = assembled(
                model,
                base,
                place,
                adapt=adapt,
                blocks=blocks,
                budget=size,
                encoding=ENCODINGS.get(transfer_dtype or ""),
                on_host=store == "host",
                moves=select != "lora",
                folder=None if weights is None else Path(weights).expanduser(),
            )
        except BaseException:
            base.close()
            raise
        chosen = {"select": select, "mask": mask, "unit": unit, "no_decay": no_decay, "rounding": rounding}
        try:
            entries = list(dict.fromkeys(window.entry for window in parts.windows))
            link = link_of(parts.store, entries, place)
            return cls(parts.model, parts.windows, link, parts.plan, MERGE_EVERY if log_structured else 1, **chosen)
        except BaseException:
            parts.store.close()
            raise

    @property
    def error(self) -> float:
        """The relative error of the weights by `transfer_dtype` before any move: a root of mean squares."""
        return self.store.error

    @override
    def describe(self) -> dict[str, Any]:
        held = self.store.encoding
        rounded = {} if held is None else {"transfer_dtype": held.name, "merge_every": self.merge_every}
        return {**super().describe(), **rounded}

    @override
    def run_together(self, tasks: Sequence[Callable[[], Any]], most: int | None = None) -> None:
        # One pass after the other would fetch all weights for each
        if len(tasks) < 2 or len(self.plan.kept) == len(self.entries):
            super().run_together(tasks)
            return
        if most is not None and len(tasks) > most:
            for a in range(0, len(tasks), most):
                self.run_together(tasks[a : a + most])
            return
        self.streamer.run_together(tasks)

    # ------------------------------------------------------------------------------------------------- x

    @torch.no_grad()
    @override
    def add_(self, step: Step) -> None:
        # What stays in memory moves at once, the rest when it is next there
        self.pending.add(step, self.version if self.rounding == "stochastic" else None)
        self.pending.apply_last(self._moved(step, self.staying))
        self.version += 1
        moving = (e for e in self.entries if self.streamer.searched[e.number])
        self.pending.forget(min(map(self.streamer.has, moving), default=self.version))

    @torch.no_grad()
    @override
    def settle(self) -> None:
        """Make and keep all moves that wait: with a folder for them, a later run need not make them again."""
        self.streamer.settle()

    @override
    def whole(self, names: Collection[str] | None = None) -> Iterator[tuple[str, torch.Tensor]]:
        for name, p in self.model.named_parameters():
            name = plain_name(name)
            if names is None or name in names:
                if name in self.passing:
                    with torch.no_grad():
                        self.streamer.open(self.entry_of[name])
                yield name, p.detach()

    @override
    def fingerprint(self) -> str:
        h = hashlib.blake2b(digest_size=8)
        h.update(self._about())
        for name, p in self.whole():
            h.update(digest_of(name, p))
        return h.hexdigest() + self._of_buffers()

    @override
    def _chosen(self) -> Iterator[tuple[str, torch.Tensor]]:
        return self.whole(self.parameters)

    @override
    def state(self) -> dict[str, Any]:
        """The chosen parameters as arrays of their bits, by name, all of them in memory."""
        return {name: bits_of(p).copy() for name, p in self.whole(self.parameters)}

    @override
    def arrays(self) -> dict[str, Array]:
        if self.store.encoding is not None:
            raise TypeError(f"its weights are held as {self.store.encoding.name}, which a snapshot cannot give back")

        def get(name: str) -> Any:
            return bits_of(dict(self.whole((name,)))[name])

        return {name: Array(KINDS[p.dtype], tuple(p.shape), partial(get, name)) for name, p in self.parameters.items()}

    @torch.no_grad()
    @override
    def load(self, state: Mapping[str, Any], version: int) -> None:
        for name, p in self.parameters.items():
            theirs = state.get(name)
            kind = bits_of(torch.empty(0, dtype=p.dtype)).dtype
            if theirs is None or np.shape(theirs) != tuple(p.shape) or theirs.dtype != kind:
                raise ValueError(f"The state has no parameter {name!r} of this model's shape and type.")
        self._set(state.__getitem__, version)

    @torch.no_grad()
    @override
    def read(self, stored: StoredArrays, version: int) -> None:
        self._check_stored(stored)
        self._set(stored.__getitem__, version)

    def _set(self, value: Callable[[str], Any], version: int) -> None:
        if self.store.encoding is not None:
            raise ValueError(f"Weights that are held as {self.store.encoding.name} cannot be set to others exactly.")
        streamer = self.streamer
        for entry in self.entries:
            if streamer.searched[entry.number]:
                memory = streamer.open(entry)
                for block in streamer.searched[entry.number]:
                    _fill(self.parameters[block.name], value(block.name))
                streamer.ring.wait(entry)
                streamer.ring.write(entry, memory, version, b"\0" * 16)
                streamer.ring.wait(entry)
                streamer.versions[entry.number] = version
        for block in self.staying:
            _fill(self.parameters[block.name], value(block.name))
        self.pending, self.version = Pending(self.blocks, version), version
        streamer.reset(self.pending)

    # ------------------------------------------------------------------------------------------------- end

    def close(self) -> None:
        """Keep all moves, if there is a folder for them, and take hooks, memory and files away."""
        if not self.streamer.handles:
            return
        try:
            if self.store.lasting:
                self.settle()
        finally:
            for name in ("save_pretrained", "_zo_streamed"):
                self.model.__dict__.pop(name, None)
            self.streamer.close()
            self.store.close()

    def __enter__(self) -> StreamedModule:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __str__(self) -> str:
        kept, held = len(self.plan.kept), self.store.encoding
        lost = "" if held is None else f"; weights are held as {held.name}, relative error {self.error:.2g}"
        if self.plan.in_store:
            return f"all {kept} blocks and tables are in memory, where the model runs: nothing is streamed"
        if kept == len(self.entries):
            return f"all {kept} blocks and tables fit into the budget and stay in memory: nothing is streamed{lost}"
        size = f"{self.plan.total / 2**20:,.0f} MiB in all"
        return f"{kept} of {len(self.entries)} blocks and tables stay in memory, {size}{lost}"


def _fill(p: torch.nn.Parameter, array: Any) -> None:
    p.copy_(torch.from_numpy(np.ascontiguousarray(array).copy()).view(p.dtype).view(p.shape))
