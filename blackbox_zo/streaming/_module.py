"""`StreamedModule`: x is the parameters of a model that need not fit into memory."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from blackbox_zo._arrays import Array, StoredArrays
from blackbox_zo._typing import override
from blackbox_zo.modules._digest import digest_of
from blackbox_zo.modules._module import KINDS, Module, bits_of
from blackbox_zo.modules._select import Select, plain_name
from blackbox_zo.steps import Step
from blackbox_zo.streaming._budget import Plan, in_bytes, planned
from blackbox_zo.streaming._checkpoint import Checkpoint
from blackbox_zo.streaming._hollow import absent, hollow_model, replace_parameters
from blackbox_zo.streaming._lockstep import Lockstep
from blackbox_zo.streaming._names import matched
from blackbox_zo.streaming._pending import Pending
from blackbox_zo.streaming._ring import Ring
from blackbox_zo.streaming._saved import save_streamed
from blackbox_zo.streaming._store import DiskStore, HostStore, Store, StoreError
from blackbox_zo.streaming._units import Entry, Window, windows_of

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
        merge_every: Moves after which a block is written back.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        windows: Sequence[Window],
        store: Store,
        plan: Plan,
        merge_every: int,
        **arguments: Any,
    ) -> None:
        self.windows, self.store, self.plan, self.merge_every = windows, store, plan, merge_every
        self.entries = list(dict.fromkeys(window.entry for window in windows))
        self.entry_of = {name: entry for entry in self.entries for name in entry.names}
        super().__init__(model, **arguments)  # memory is there for what comes and goes, but none of it is touched
        self.passing = frozenset(self.entry_of)
        self.staying = tuple(b for b in self.blocks if b.name not in self.passing)
        self.searched = {e.number: tuple(b for b in self.blocks if b.name in e.names) for e in self.entries}
        self.pending = Pending(self.blocks)
        self.kept = {e.number: torch.empty(0) for e in self.entries if e.number in plan.kept}
        self.versions: dict[int, int] = {}
        self.written: dict[int, int] = {}
        self.memory = torch.empty(0)
        order = [e for e in self.entries if e.number not in self.kept]
        self.ring = Ring(store, plan.ring, order, lambda: self.pending.chains)
        self.current: Entry | None = None
        self.tables: dict[int, tuple[mmap.mmap, torch.Tensor]] = {}
        self.handles: list[Any] = []
        for entry in self.entries:
            self._unbind(entry)
        for window in windows:
            arrive = partial(self._arrive, window)
            self.handles.append(window.module.register_forward_pre_hook(arrive, prepend=True, with_kwargs=True))
            if window.rows:
                self.handles.append(window.module.register_forward_hook(partial(self._gone, window), always_call=True))
        for entry in self.entries:
            for p in entry.parameters:
                p._zo_streamed = True  # type: ignore[attr-defined]
        whole: Any = model
        whole._zo_streamed = self
        whole.save_pretrained = partial(save_streamed, self, whole.save_pretrained)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        device: str = "cpu",
        store: Literal["disk", "host"] = "disk",
        budget: int | str | None = None,
        *,
        dtype: torch.dtype | None = None,
        log_structured: bool = False,
        weights: str | Path | None = None,
        blocks: Sequence[str] | None = None,
        select: Select = "all",
        mask: Any = None,
        unit: float | Mapping[str, float] = 1.0,
        no_decay: str | None = None,
        rounding: str = "stochastic",
    ) -> StreamedModule:
        """Stream a model from a folder that `save_pretrained` wrote. The folder is only read.

        Args:
            folder: With config.json and safetensors files.
            device: Where the model runs; only "cpu" for now.
            store: Where weights are while no pass needs them: on "disk", or in the memory of the "host".
            budget: Memory for weights, such as "2GiB" or a number of bytes. As many blocks as fit stay in it. None
                takes what two blocks need.
            dtype: Of the parameters; none takes the checkpoint's.
            log_structured: Whether blocks are written back only after every 16 moves, which until then are made again
                each time a block comes in. Else they are written back after each. The numbers are the same.
            weights: A folder for moved weights. A later run of the same journal finds them there. None makes one that
                is removed at the end.
            blocks: Names of the stacks of layers, where they are not found.
            select: As in `Module`, like the following arguments.
            mask: A function or tensors by name; a share, whose threshold needs all weights at once, is refused.
            unit: The unit of movement.
            no_decay: A pattern of parameters without weight decay.
            rounding: How moves of 16-bit parameters are rounded.

        Raises:
            FileNotFoundError: The folder is none, or has no safetensors files.
            ValueError: The budget is too small, the checkpoint does not match its configuration, blocks are not found,
                or an argument is out of range.
            OSError: The folder for moved weights cannot be written.
            StoreError: It is in use, or of another model.
        """
        if store not in ("disk", "host"):
            raise ValueError(f"`StreamedModule(store=...)` must be 'disk' or 'host', got {store!r}.")
        if torch.device(device).type != "cpu":
            raise ValueError(f"`StreamedModule(device=...)` must be 'cpu' for now, got {device!r}.")
        if isinstance(mask, float):
            raise ValueError("`StreamedModule(mask=...)` cannot be a share: its threshold needs all weights at once.")
        if weights is not None and store == "host":
            raise ValueError(
                "`StreamedModule(weights=...)` is a folder for store='disk'; the host's memory needs none."
            )
        size, path = in_bytes(budget), Path(folder).expanduser()
        model, base = hollow_model(path, dtype), Checkpoint(path)
        try:
            return cls._of(model, base, store, size, log_structured, weights, blocks, {
                "select": select, "mask": mask, "unit": unit, "no_decay": no_decay, "rounding": rounding,
            })  # fmt: skip
        except BaseException:
            base.close()
            raise

    @classmethod
    def _of(
        cls, model: Any, base: Checkpoint, kind: str, budget: int | None, log_structured: bool,
        folder: str | Path | None, blocks: Sequence[str] | None, arguments: dict[str, Any],
    ) -> StreamedModule:  # fmt: skip
        wanted = {name: tuple(p.shape) for name, p in model.named_parameters()}
        buffers = {n: b for n, b in model.named_buffers() if n in model.state_dict()}
        every = {n for n, _ in model.named_parameters(remove_duplicate=False)}
        shapes = wanted | {n: tuple(b.shape) for n, b in buffers.items()}
        stored = {name: found.shape for name, found in base.stored.items()}
        names = matched(model, shapes, (every - set(wanted)) | _ignored(model, base), stored)
        passing = {name for window in windows_of(model, blocks) for name in window.entry.names}

        def made(name: str, p: torch.nn.Parameter) -> torch.nn.Parameter:
            if name in passing:  # addresses alone: no page of it is ever touched
                value = torch.from_numpy(np.zeros(p.numel() * p.element_size(), np.uint8)).view(p.dtype).view(p.shape)
            else:
                value = torch.empty(p.shape, dtype=p.dtype)
                base.read(names[name], value.view(-1))
            return torch.nn.Parameter(value, requires_grad=p.requires_grad)

        replace_parameters(model, made)
        for name, buffer in buffers.items():
            base.read(names[name], buffer.view(-1))
        windows = windows_of(model, blocks)
        entries = list(dict.fromkeys(window.entry for window in windows))
        fixed = sum(p.numel() * p.element_size() for n, p in model.named_parameters() if n not in passing)
        plan = planned(fixed, [window.entry for window in windows], budget)
        store: Store = (
            HostStore(base, names, entries)
            if kind == "host"
            else DiskStore(base, names, entries, None if folder is None else Path(folder).expanduser())
        )
        try:
            return cls(model, windows, store, plan, MERGE_EVERY if log_structured else 1, **arguments)
        except BaseException:
            store.close()
            raise

    # ------------------------------------------------------------------------------------------------- passes

    def _arrive(self, window: Window, module: Any, args: Any, kwargs: Any) -> None:
        """Before a module runs: see that what it needs is there."""
        with torch._C.DisableTorchFunction(), torch.no_grad():
            entry = window.entry
            if entry.number in self.kept or (entry is self.current and not self._lacks(entry)):
                self.open(entry)
                return
            ids = kwargs.get("input", args[0] if args else None)
            if window.rows and not self._lacks(entry) and type(ids) is torch.Tensor:
                self._gather(entry, ids)
            elif not Lockstep.wait_at(entry):
                self.open(entry)

    def _gone(self, window: Window, *_: Any) -> None:
        """After rows were looked up: give their memory back."""
        table = self.tables.get(window.entry.number)
        if table is not None and window.entry is not self.current:
            with torch._C.DisableTorchFunction():
                self._unbind(window.entry)
            table[0].madvise(mmap.MADV_DONTNEED)

    def open(self, entry: Entry) -> None:
        """Bring an entry into memory, with all moves; what came before it may go."""
        number, chains = entry.number, self.pending.chains
        if number in self.kept:
            if not self.kept[number].numel() or self._is_old(entry):
                self.kept[number] = torch.empty(entry.nbytes, dtype=torch.uint8)
                self.versions[number] = self.store.read(entry, self.kept[number], chains)
                self._bind(entry, self.kept[number])
            self._move(entry)
            return
        if entry is not self.current or self._is_old(entry):
            self._leave()
            memory, self.versions[number] = self.ring.take(entry)
            if self._is_old(entry):
                self.ring.drop()
                memory, self.versions[number] = self.ring.take(entry)
            if self.searched[number] and self.versions[number] < self.pending.first:
                raise StoreError(
                    f"Only {self.versions[number]} moves are in the weights of {entry.name!r}, and the next ones "
                    "are not known any more. Resume from the journal."
                )
            self.current, self.memory = entry, memory
            self._bind(entry, memory)
        self._move(entry)
        had = max(self.store.version(entry), self.written.get(number, 0))  # a damaged version is written again
        if self.searched[number] and self.pending.version - had >= self.merge_every:
            self._write(entry, self.memory)

    def _is_old(self, entry: Entry) -> bool:
        """Whether what is in memory was read before a resume made moves that the store has, or that are forgotten."""
        mine, stored = self.versions[entry.number], self.store.version(entry, sure=False)
        old = mine < self.pending.first or mine < stored <= self.pending.version
        return bool(self.searched[entry.number]) and old

    def _write(self, entry: Entry, memory: torch.Tensor) -> None:
        self.written[entry.number] = self.pending.version
        self.ring.write(entry, memory, self.pending.version, self.pending.chains[-1])

    def _leave(self) -> None:
        if self.current is not None:
            self._unbind(self.current)
            self.current = None

    def _bind(self, entry: Entry, memory: torch.Tensor) -> None:
        for p, tensor in zip(entry.parameters, entry.tensors(memory), strict=True):
            p.data = tensor

    def _unbind(self, entry: Entry) -> None:
        for p in entry.parameters:
            p.data = absent(p)

    def _lacks(self, entry: Entry) -> bool:
        """Whether moves wait for an entry, and it has not them in the store or in memory."""
        if not self.searched[entry.number]:
            return False
        here = entry is self.current or entry.number in self.kept
        version = self.versions.get(entry.number, 0) if here else self.store.version(entry)  # that is sure
        return version != self.pending.version

    def _move(self, entry: Entry) -> None:
        """Make the moves that an entry in memory lacks."""
        blocks = self.searched[entry.number]
        if blocks and self.versions[entry.number] < self.pending.version:
            self.ring.wait(entry)
            coming = [b for b in self.blocks if b.name in self.passing]
            self.pending.apply(
                self.versions[entry.number],
                lambda step: self._moved(step, blocks),
                lambda step: self._moved(step, coming),
            )
        self.versions[entry.number] = self.pending.version

    def _gather(self, entry: Entry, ids: torch.Tensor) -> None:
        """Read the rows of a table that are looked up, to where they are in it; the others have no memory."""
        (p,) = entry.parameters
        if entry.number not in self.tables:
            place = mmap.mmap(-1, max(1, p.numel() * p.element_size()))
            self.tables[entry.number] = place, torch.frombuffer(place, dtype=p.dtype, count=p.numel())
        flat, width = self.tables[entry.number][1], p.shape[1]
        rows = np.unique(ids.numpy())
        rows = rows[(rows >= 0) & (rows < p.shape[0])]
        for run in np.split(rows, 1 + np.flatnonzero(np.diff(rows) > 1)):
            if len(run):
                a, b = int(run[0]) * width, (int(run[-1]) + 1) * width
                self.store.rows(entry, flat[a:b], a, self.pending.chains if self.searched[entry.number] else [b""])
        p.data = flat.view(p.shape)

    @override
    def run_together(self, tasks: Sequence[Callable[[], Any]], most: int | None = None) -> None:
        # One pass after the other would fetch all weights for each
        if len(tasks) < 2 or len(self.kept) == len(self.entries):
            super().run_together(tasks)
            return
        if most is not None and len(tasks) > most:
            for a in range(0, len(tasks), most):
                self.run_together(tasks[a : a + most])
            return
        numbers = {window.entry.number: i for i, window in enumerate(self.windows)}

        def choose(gates: Sequence[Entry]) -> Entry:
            here = -1 if self.current is None else numbers[self.current.number]
            return min(gates, key=lambda e: (numbers[e.number] - here - 1) % len(self.windows))

        def opened(entry: Entry) -> None:
            with torch.no_grad():
                self.open(entry)

        Lockstep(tasks, choose, opened).run()

    # ------------------------------------------------------------------------------------------------- x

    @torch.no_grad()
    @override
    def add_(self, step: Step) -> None:
        # What stays in memory moves at once, the rest when it is next there
        self.pending.add(step, self.version if self.rounding == "stochastic" else None)
        self.pending.apply_last(self._moved(step, self.staying))
        self.version += 1
        self.pending.forget(min((self._has(e) for e in self.entries if self.searched[e.number]), default=self.version))

    def _has(self, entry: Entry) -> int:
        """How many moves need not be made again for an entry."""
        stored = self.store.version(entry)
        here = entry.number in self.kept and self.kept[entry.number].numel()
        return max(stored, self.versions[entry.number]) if here else stored

    @torch.no_grad()
    @override
    def settle(self) -> None:
        """Make and keep all moves that wait: with a folder for them, a later run need not make them again."""
        for entry in self.entries:
            if self.searched[entry.number] and self.store.version(entry, sure=False) != self.pending.version:
                self.open(entry)
                if self.written.get(entry.number, 0) != self.pending.version:
                    self._write(entry, self.kept.get(entry.number, self.memory))
        self.ring.wait()

    @override
    def whole(self, names: Collection[str] | None = None) -> Iterator[tuple[str, torch.Tensor]]:
        for name, p in self.model.named_parameters():
            name = plain_name(name)
            if names is None or name in names:
                if name in self.passing:
                    with torch.no_grad():
                        self.open(self.entry_of[name])
                yield name, p.detach()

    @override
    def fingerprint(self) -> str:
        h = hashlib.blake2b(digest_size=8)
        h.update(self._about())
        for name, p in self.whole():
            h.update(digest_of(name, p))
        return h.hexdigest() + self._of_buffers()

    @override
    def state(self) -> dict[str, Any]:
        """The chosen parameters as arrays of their bits, by name, all of them in memory."""
        return {name: bits_of(p).copy() for name, p in self.whole(self.parameters)}

    @override
    def arrays(self) -> dict[str, Array]:
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
        for entry in self.entries:
            if self.searched[entry.number]:
                self.open(entry)
                for block in self.searched[entry.number]:
                    _fill(self.parameters[block.name], value(block.name))
                memory = self.kept.get(entry.number)
                self.ring.wait(entry)
                self.ring.write(entry, self.memory if memory is None else memory, version, b"\0" * 16)
                self.ring.wait(entry)
                self.versions[entry.number] = version
        for block in self.staying:
            _fill(self.parameters[block.name], value(block.name))
        self._leave()
        self.ring.drop()  # what is on its way may be what was before
        self.pending, self.version, self.written = Pending(self.blocks, version), version, {}

    # ------------------------------------------------------------------------------------------------- end

    def close(self) -> None:
        """Keep all moves, if there is a folder for them, and take hooks, memory and files away."""
        if not self.handles:
            return
        try:
            if isinstance(self.store, DiskStore) and not self.store.temporary:
                self.settle()
        finally:
            for handle in self.handles:
                handle.remove()
            self.handles = []
            for name in ("save_pretrained", "_zo_streamed"):
                self.model.__dict__.pop(name, None)
            for entry in self.entries:
                self._unbind(entry)
            self.kept, self.current, self.tables = dict.fromkeys(self.kept, torch.empty(0)), None, {}
            self.ring.close()
            self.store.close()

    def __enter__(self) -> StreamedModule:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __str__(self) -> str:
        kept = len(self.plan.kept)
        if kept == len(self.entries):
            return f"all {kept} blocks and tables fit into the budget and stay in memory: nothing is streamed"
        return (
            f"{kept} of {len(self.entries)} blocks and tables stay in memory, {self.plan.total / 2**20:,.0f} MiB in all"
        )


def _fill(p: torch.nn.Parameter, array: Any) -> None:
    p.copy_(torch.from_numpy(np.ascontiguousarray(array).copy()).view(p.dtype).view(p.shape))


def _ignored(model: Any, base: Checkpoint) -> set[str]:
    """Names that older checkpoints have and the model's class knows not to need."""
    import re

    patterns = getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ()
    return {name for name in base.stored if any(re.search(pattern, name) for pattern in patterns)}
