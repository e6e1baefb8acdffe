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


@dataclass
class _End:
    """One of the two ends of the memory.

    Attributes:
        entry: What is there, or will be; none if nothing is wanted of it.
        memory: Its memory.
        fetched: Gives the version that was read, and a mark: the memory may be used after it.
        written: Is done when what is there has been written, or a copy of it taken.
        left: A mark of its last use.
    """

    entry: Entry | None = None
    memory: torch.Tensor | None = None
    fetched: Future[tuple[int, Any]] | None = None
    written: Future[Any] | None = None
    left: Any = None


class Ring:
    """Holds the entry in use at one end of its memory and the next at the other.

    Args:
        link: Brings entries.
        size: Bytes; enough for any two entries that follow each other.
        order: The entries that come and go, in the order in which they are expected until another one is seen.
        chains: The digests of all moves so far, as `Store.find` takes them.

    Attributes:
        fetches: Entries read so far, by number.
    """

    def __init__(self, link: Link, size: int, order: Sequence[Entry], chains: Callable[[], Sequence[bytes]]) -> None:
        self.link, self.chains = link, chains
        self.memory = link.empty(size)
        self.ends = (_End(left=link.mark()), _End())
        self.reader, self.writer = ThreadPoolExecutor(1, "fetch"), ThreadPoolExecutor(1, "write")
        self.order = dict(zip(order, [*order[1:], *order[:1]], strict=True))
        self.after: dict[tuple[Entry | None, Entry], Entry] = {}
        self.writes: dict[int, Future[None]] = {}
        self.using: _End | None = None
        self.last: Entry | None = None
        self.before: Entry | None = None
        self.fetches: dict[int, int] = {}

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
        end = next((end for end in self.ends if end.entry is entry), None)
        if end is None:
            end = self._begin(entry)
        assert end.fetched is not None and end.memory is not None
        self.using = end
        try:
            version, arrived = end.fetched.result()
        except BaseException:
            end.entry = self.using = None
            raise
        self.link.wait(arrived)
        self._go_ahead()
        return end.memory, version

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
        for end in self.ends:
            end.entry = None
        self.before = self.last = None

    def write(self, entry: Entry, held: torch.Tensor, version: int, chain: bytes) -> None:
        """Begin to keep a version; its memory must stay as it is until `wait`, or until the ring uses it again."""
        self.wait(entry)
        sent = self.writer.submit(self.link.send, entry, held, self.link.mark())
        future = self.writer.submit(self._keep, entry, sent, version, chain)
        self.writes[entry.number] = future
        for end in self.ends:
            if end.entry is entry:
                end.written = sent if self.link.copies else future

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
        self.ends, self.memory = (_End(), _End()), torch.empty(0, dtype=torch.uint8)

    def _begin(self, entry: Entry) -> _End:
        """Begin to fetch an entry into an end that is not in use."""
        end = next((e for e in self.ends if e.entry is None), None)
        if end is None:  # what was expected does not come
            end = next(e for e in self.ends if e is not self.using)
        other = self.ends[1 - self.ends.index(end)]
        if other.entry is not None and other is not self.using and entry.nbytes + other.entry.nbytes > len(self.memory):
            other.entry = None
        first = 0 if end is self.ends[0] else len(self.memory) - entry.nbytes
        here = (end,) if other is self.using else self.ends
        before = [f for e in here for f in (e.fetched, e.written)]
        after = [e.left for e in here if e.left is not None]
        end.entry, end.memory = entry, self.memory[first : first + entry.nbytes]
        end.fetched, end.written = self.reader.submit(self._fetch, entry, end.memory, before, after), None
        return end

    def _fetch(
        self, entry: Entry, memory: torch.Tensor, before: Sequence[Future[Any] | None], after: Sequence[Any]
    ) -> tuple[int, Any]:
        for future in (*before, self.writes.get(entry.number)):
            if future is not None and not future.cancelled():
                future.exception()  # who asked for it will see it
        self.fetches[entry.number] = self.fetches.get(entry.number, 0) + 1
        return self.link.bring(entry, memory, self.chains(), after)

    def _go_ahead(self) -> None:
        """Begin to fetch what is expected next."""
        assert self.last is not None
        following = self.after.get((self.before, self.last), self.order.get(self.last))
        if following is None or any(end.entry is following for end in self.ends):
            return
        if following.nbytes + self.last.nbytes <= len(self.memory):
            self._begin(following)
