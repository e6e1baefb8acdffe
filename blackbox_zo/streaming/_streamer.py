"""What brings entries into the model's parameters with all moves, and lets them go."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from blackbox_zo.checkpoints import absent
from blackbox_zo.directions import Block
from blackbox_zo.modules._moves import Moved
from blackbox_zo.steps import Step
from blackbox_zo.streaming._budget import Plan
from blackbox_zo.streaming._link import Link
from blackbox_zo.streaming._lockstep import Lockstep
from blackbox_zo.streaming._pending import Pending
from blackbox_zo.streaming._ring import Ring
from blackbox_zo.streaming._store import StoreError
from blackbox_zo.streaming._units import Entry, Window

__all__ = ["Streamer"]


class Streamer:
    """Keeps the entries of a model where the model's own code finds them.

    Args:
        windows: The modules that need entries.
        link: To where the weights are.
        plan: What stays in memory.
        merge_every: Moves after which an entry is written back. With an encoding it is also rounded then, and only
            then, wherever it is; so the weights after a number of moves do not depend on who has read them when.
        searched: The blocks in each entry that move, by its number.
        pending: The moves.
        moved: From a step and blocks to the parameters that it changes.
        noisy: Whether rounding is random.

    Attributes:
        ring: What fetches and writes.
        kept: What stays, by the number of the entry.
    """

    def __init__(
        self,
        windows: Sequence[Window],
        link: Link,
        plan: Plan,
        merge_every: int,
        searched: Mapping[int, tuple[Block, ...]],
        pending: Pending,
        moved: Callable[[Step, Sequence[Block]], list[Moved]],
        noisy: bool,
    ) -> None:
        self.windows, self.merge_every, self.searched = windows, merge_every, searched
        self.link, self.store = link, link.store
        self.entries = list(dict.fromkeys(window.entry for window in windows))
        self.pending, self.moved, self.noisy = pending, moved, noisy
        self.coming = [block for blocks in searched.values() for block in blocks]
        self.kept = {e.number: torch.empty(0) for e in self.entries if e.number in plan.kept}
        self.in_store = plan.in_store
        self.versions: dict[int, int] = {}
        self.written: dict[int, int] = {}
        self.memory = torch.empty(0)
        order = [e for e in self.entries if e.number not in self.kept]
        self.ring = Ring(link, plan.ring, plan.spare, order, lambda: self.pending.chains)
        self.current: Entry | None = None
        self.tables: dict[int, tuple[mmap.mmap, torch.Tensor]] = {}
        self.handles: list[Any] = []
        for entry in self.entries:
            self._unbind(entry)
        for window in windows:
            arrive = partial(self._arrive, window)
            arrive._zo_streams = True  # type: ignore[attr-defined]  # it leaves what the module computes as it is
            self.handles.append(window.module.register_forward_pre_hook(arrive, prepend=True, with_kwargs=True))
            if window.rows:
                self.handles.append(window.module.register_forward_hook(partial(self._gone, window), always_call=True))

    # ------------------------------------------------------------------------------------------------- passes

    def _arrive(self, window: Window, module: Any, args: Any, kwargs: Any) -> None:
        """Before a module runs: see that what it needs is there."""
        with torch._C.DisableTorchFunction(), torch.no_grad():
            entry = window.entry
            if entry.number in self.kept or (entry is self.current and not self._lacks(entry)):
                self.open(entry)
                return
            ids = kwargs.get("input", args[0] if args else None)
            by_rows = window.rows and not self.link.copies  # a device's memory cannot be had by pages
            if by_rows and not self._lacks(entry) and type(ids) is torch.Tensor:
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

    def run_together(self, tasks: Sequence[Callable[[], Any]]) -> None:
        """Run passes in lockstep: an entry answers all of them while it is there."""
        numbers = {window.entry.number: i for i, window in enumerate(self.windows)}

        def choose(gates: Sequence[Entry]) -> Entry:
            here = -1 if self.current is None else numbers[self.current.number]
            return min(gates, key=lambda e: (numbers[e.number] - here - 1) % len(self.windows))

        def opened(entry: Entry) -> None:
            with torch.no_grad():
                self.open(entry)

        Lockstep(tasks, choose, opened, self.link.same_order()).run()

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

    # ------------------------------------------------------------------------------------------------- entries

    def open(self, entry: Entry) -> torch.Tensor:
        """Bring an entry into memory, with all moves; what came before it may go. Gives its memory."""
        number = entry.number
        if number in self.kept:
            if not self.kept[number].numel() or self._is_old(entry):
                there = self.store.place(entry) if self.in_store else None
                self.kept[number] = self.link.empty(entry.nbytes) if there is None else there
                self.versions[number] = (
                    self.ring.load(entry, self.kept[number]) if there is None else self.store.version(entry)
                )
                self._bind(entry, self.kept[number])
            self._move(entry, self.kept[number])
            return self.kept[number]
        if entry is not self.current or self._is_old(entry):
            self.leave()
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
        self._move(entry, self.memory)
        had = max(self.store.version(entry), self.written.get(number, 0))  # a damaged version is written again
        late = self.searched[number] and self.pending.version - had >= self.merge_every
        if late and self.store.encoding is None:
            self.write(entry, self.memory, self.pending.version)
        return self.memory

    def write(self, entry: Entry, held: torch.Tensor, version: int) -> None:
        """Begin to write a version of an entry, as the store holds it."""
        self.written[entry.number] = version
        self.ring.write(entry, held, version, self.pending.chains[version])

    def leave(self) -> None:
        """Give up what came last."""
        if self.current is not None:
            self._unbind(self.current)
            self.current = None

    def reset(self, pending: Pending) -> None:
        """Forget what is here or on its way; the store now has other weights, with no moves that wait."""
        self.leave()
        self.ring.drop()
        self.pending, self.written = pending, {}

    def has(self, entry: Entry) -> int:
        """How many moves need not be made again for an entry."""
        stored = self.store.version(entry)
        here = entry.number in self.kept and self.kept[entry.number].numel()
        return max(stored, self.versions[entry.number]) if here else stored

    @property
    def settled(self) -> int:
        """The version that the store can have of what moves: the newest, or the newest that was rounded."""
        version = self.pending.version
        return version if self.store.encoding is None else version // self.merge_every * self.merge_every

    def settle(self) -> None:
        """Write what the store lacks."""
        for entry in self.entries:
            if self.searched[entry.number] and self.store.version(entry, sure=False) != self.settled:
                memory = self.open(entry)
                if self.store.encoding is None and self.written.get(entry.number, 0) != self.pending.version:
                    self.write(entry, memory, self.pending.version)
        self.ring.wait()

    def close(self) -> None:
        """Take hooks, memory and threads away."""
        for handle in self.handles:
            handle.remove()
        self.handles = []
        for entry in self.entries:
            self._unbind(entry)
        self.kept, self.current, self.tables = dict.fromkeys(self.kept, torch.empty(0)), None, {}
        self.ring.close()

    def _is_old(self, entry: Entry) -> bool:
        """Whether what is in memory was read before a resume made moves that the store has, or that are forgotten."""
        mine, stored = self.versions[entry.number], self.store.version(entry, sure=False)
        old = mine < self.pending.first or mine < stored <= self.pending.version
        return bool(self.searched[entry.number]) and old

    def _bind(self, entry: Entry, memory: torch.Tensor) -> None:
        for p, tensor in zip(entry.parameters, entry.tensors(memory), strict=True):
            p.data = tensor

    def _unbind(self, entry: Entry) -> None:
        for p in entry.parameters:
            p.data = absent(p, self.link.device)

    def _lacks(self, entry: Entry) -> bool:
        """Whether moves wait for an entry, and it has not them in the store or in memory."""
        if not self.searched[entry.number]:
            return False
        here = entry is self.current or entry.number in self.kept
        version = self.versions.get(entry.number, 0) if here else self.store.version(entry)  # that is sure
        return version != self.pending.version

    def _move(self, entry: Entry, memory: torch.Tensor) -> None:
        """Make the moves that an entry in memory lacks, and round it where that is due."""
        blocks, number = self.searched[entry.number], entry.number
        if blocks and self.versions[number] < self.pending.version:
            self.ring.wait(entry)
            if self.store.encoding is not None:
                every = self.merge_every
                for times in range(self.versions[number] // every + 1, self.settled // every + 1):
                    self._round(entry, memory, times * every)
            self._move_to(entry, self.pending.version)
        self.versions[number] = self.pending.version

    def _move_to(self, entry: Entry, version: int) -> None:
        blocks = self.searched[entry.number]
        self.pending.apply(
            self.versions[entry.number],
            version,
            lambda step: self.moved(step, blocks),
            lambda step: self.moved(step, self.coming),
        )
        self.versions[entry.number] = version

    def _round(self, entry: Entry, memory: torch.Tensor, version: int) -> None:
        """Encode an entry at the version at which that is due, and write it if the store wants it."""
        encoding = self.store.encoding
        assert encoding is not None
        self._move_to(entry, version)
        held = encoding.encode_(entry, memory, version if self.noisy else None)
        had = max(self.store.version(entry), self.written.get(entry.number, 0))
        if version == self.settled and had != version and (entry.number not in self.kept or self.store.lasting):
            self.ring.wait()  # for the memory of what was encoded before
            self.write(entry, held, version)
