"""Memory for the weights that come and go, fetched before they are needed and written while they are used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch

from blackbox_zo.streaming._link import Link
from blackbox_zo.streaming._units import Entry

__all__ = ["Ring"]


@dataclass(eq=False)
class _Slot:
    """A part of the memory.

    Attributes:
        first: Its first byte.
        end: The byte after its last.
        backwards: Whether what is in it ends where it ends, and does not begin where it begins.
        entry: What is there, or will be; none if nothing is wanted of it.
        span: The bytes of what is, or was, there.
        fetched: Gives the version that was read, and a mark: the memory may be used after it.
        written: Is done when what is there has been written, or a copy of it taken.
        left: A mark of its last use.
        turn: When it was last taken.
    """

    first: int
    end: int
    backwards: bool = False
    entry: Entry | None = None
    span: tuple[int, int] = (0, 0)
    fetched: Future[tuple[int, Any]] | None = None
    written: Future[Any] | None = None
    left: Any = None
    turn: int = 0

    def room(self, entry: Entry) -> tuple[int, int] | None:
        """Where an entry would be; none if there is no room."""
        if entry.nbytes > self.end - self.first:
            return None
        first = self.end - entry.nbytes if self.backwards else self.first
        return first, first + entry.nbytes


class Ring:
    """Holds the entry in use at one end of its memory and the next at the other; a third goes back beside them.

    Args:
        link: Brings entries.
        size: Bytes; enough for any two entries that follow each other.
        spare: Further bytes, for an entry on its way back while the next comes; 0 lets the next wait.
        order: The entries that come and go, in the order in which they are expected until another one is seen.
        chains: The digests of all moves so far, as `Store.find` takes them.

    Attributes:
        fetches: Entries read so far, by number.
    """

    def __init__(
        self, link: Link, size: int, spare: int, order: Sequence[Entry], chains: Callable[[], Sequence[bytes]]
    ) -> None:
        self.link, self.chains = link, chains
        self.memory = link.empty(size + spare)
        self.slots = [_Slot(0, size), _Slot(0, size, backwards=True)]
        if spare:
            self.slots.append(_Slot(size, size + spare))
        for slot in self.slots:
            slot.left, slot.span = link.mark(), (slot.first, slot.end)
        self.reader, self.writer = ThreadPoolExecutor(1, "fetch"), ThreadPoolExecutor(1, "write")
        self.order = dict(zip(order, [*order[1:], *order[:1]], strict=True))
        self.after: dict[tuple[Entry | None, Entry], Entry] = {}
        self.writes: dict[int, Future[None]] = {}
        self.using: _Slot | None = None
        self.last: Entry | None = None
        self.before: Entry | None = None
        self.fetches: dict[int, int] = {}
        self.turn = 0

    def take(self, entry: Entry) -> tuple[torch.Tensor, int]:
        """The memory of an entry and the version in it, once it is there; the one before is given up."""
        for number, future in list(self.writes.items()):
            if future.done():
                del self.writes[number]
                future.result()  # a full disk is said at once
        self.leave()
        if self.last is not None:
            self.after[self.before, self.last] = entry  # by two, as backpropagation goes through layers the other way
        self.before, self.last = self.last, entry
        slot = next((slot for slot in self.slots if slot.entry is entry), None) or self._begin(entry)
        assert slot is not None and slot.fetched is not None
        self.using = slot
        try:
            version, arrived = slot.fetched.result()
        except BaseException:
            slot.entry = self.using = None
            raise
        self.link.wait(arrived)
        self._go_ahead()
        return self.memory[slice(*slot.span)], version

    def leave(self) -> None:
        """Give up the entry in use."""
        if self.using is not None:
            self.using.entry, self.using.left = None, self.link.mark()
            self.using = None

    def load(self, entry: Entry, memory: torch.Tensor) -> int:
        """Read an entry into other memory; gives its version."""
        fetched = self.reader.submit(self.link.bring, entry, memory, self.chains(), [self.link.mark()])
        version, arrived = fetched.result()
        self.link.wait(arrived)
        return version

    def drop(self) -> None:
        """Give up everything that is here, or on its way."""
        self.leave()
        self.reader.submit(int).result()
        for slot in self.slots:
            slot.entry = None
        self.before = self.last = None

    def write(self, entry: Entry, held: torch.Tensor, version: int, chain: bytes) -> None:
        """Begin to keep a version; its memory must stay as it is until `wait`, or until the ring uses it again."""
        self.wait(entry)
        sent = self.writer.submit(self.link.send, entry, held, self.link.mark())
        future = self.writer.submit(self._keep, entry, sent, version, chain)
        self.writes[entry.number] = future
        for slot in self.slots:
            if slot.entry is entry:
                slot.written = sent if self.link.copies else future

    def _keep(self, entry: Entry, sent: Future[torch.Tensor], version: int, chain: bytes) -> None:
        self.link.store.write(entry, sent.result(), version, chain)

    def wait(self, entry: Entry | None = None) -> None:
        """Wait until an entry has been written, or all have.

        Raises:
            OSError: One could not be.
        """
        for number in [entry.number] if entry is not None else list(self.writes):
            if (future := self.writes.pop(number, None)) is not None:
                future.result()

    def close(self) -> None:
        """Wait for all, and give the memory back."""
        self.reader.shutdown(cancel_futures=True)
        self.writer.shutdown()
        self.leave()
        self.link.close()
        self.slots, self.memory = [], torch.empty(0, dtype=torch.uint8)

    def _begin(self, entry: Entry) -> _Slot | None:
        """Begin to fetch an entry to where nothing is in use, and what is longest gone; none if there is no room."""
        able = [(slot, span) for slot in self.slots if (span := self._room(slot, entry)) is not None]
        if not able:
            return None
        slot, span = min(able, key=lambda found: (found[0].entry is not None, found[0].turn))
        before, after = list[Future[Any]](), list[Any]()
        for other in self.slots:
            if other is slot or _meet(other.span, span):
                other.entry = None  # what was expected does not come
                before += [f for f in (other.fetched, other.written) if f is not None]
                after += [other.left] if other.left is not None else []
        self.turn += 1
        slot.entry, slot.span, slot.written, slot.turn = entry, span, None, self.turn
        slot.fetched = self.reader.submit(self._fetch, entry, self.memory[slice(*span)], before, after)
        return slot

    def _room(self, slot: _Slot, entry: Entry) -> tuple[int, int] | None:
        """Where in a slot an entry can be; none if it would meet what is in use."""
        span = None if slot is self.using else slot.room(entry)
        return None if span is None or (self.using is not None and _meet(self.using.span, span)) else span

    def _fetch(
        self, entry: Entry, memory: torch.Tensor, before: Sequence[Future[Any]], after: Sequence[Any]
    ) -> tuple[int, Any]:
        mine = self.writes.get(entry.number)
        for future in (*before, *([mine] if mine is not None else [])):
            if not future.cancelled():
                future.exception()  # who asked for it will see it
        self.fetches[entry.number] = self.fetches.get(entry.number, 0) + 1
        return self.link.bring(entry, memory, self.chains(), after)

    def _go_ahead(self) -> None:
        """Begin to fetch what is expected next."""
        assert self.last is not None
        following = self.after.get((self.before, self.last), self.order.get(self.last))
        if following is not None and all(slot.entry is not following for slot in self.slots):
            self._begin(following)


def _meet(a: tuple[int, int], b: tuple[int, int]) -> bool:
    """Whether two spans have bytes in common."""
    return a[0] < b[1] and b[0] < a[1]
