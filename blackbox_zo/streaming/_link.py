"""What carries weights between a store, which is on the host, and the memory of the device where the model runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from blackbox_zo._typing import override
from blackbox_zo.streaming._pinned import HostMemory
from blackbox_zo.streaming._store import Store
from blackbox_zo.streaming._streams import Streams
from blackbox_zo.streaming._units import Entry

__all__ = ["Link", "checked_device", "free_memory", "link_of"]


class Link:
    """The link of a CPU, whose memory is the host's.

    Args:
        store: Where the weights are.
        entries: All that may come and go.

    Attributes:
        device: Where the model runs.
        copies: Whether `send` leaves what it sends free to change.
    """

    device = torch.device("cpu")
    copies = False

    def __init__(self, store: Store, entries: Sequence[Entry]) -> None:
        self.store = store
        decodes = store.encoding is not None and (self.copies or not store.on_host)
        self.codes = self.empty(max(map(store.size, entries), default=0) if decodes else 0)

    def empty(self, size: int) -> torch.Tensor:
        """Memory of the device."""
        return torch.empty(size, dtype=torch.uint8, device=self.device)

    def bring(self, entry: Entry, out: torch.Tensor, chains: Sequence[bytes], after: Sequence[Any]) -> tuple[int, Any]:
        """Read the newest version of an entry into memory of the device. Only one thread may do so.

        Args:
            entry: The entry.
            out: Memory of its size.
            chains: As `Store.find` takes them.
            after: Marks of what must be done with that memory before.

        Returns:
            The version, and a mark: who uses the memory must `wait` for it.
        """
        encoding = self.store.encoding
        scratch = out if encoding is None else self.codes[: self.store.size(entry)]
        version, held = self.store.find(entry, scratch, chains)
        if encoding is not None:
            encoding.restore(entry, held, out)
        elif held is not out:
            out.copy_(held)
        return version, None

    def send(self, entry: Entry, held: torch.Tensor, after: Any) -> torch.Tensor:
        """An entry, as the store holds it, in memory of the host. Only one thread may do so.

        Args:
            entry: The entry.
            held: Its bytes on the device.
            after: A mark of what must be done with them before.
        """
        return held

    def mark(self) -> Any:
        """A mark of all that this thread has asked of the device so far; none on a CPU, which has done it."""
        return None

    def wait(self, mark: Any) -> None:
        """Let what this thread asks of the device from now on begin after a mark."""

    def same_order(self) -> Callable[[], None]:
        """A function for other threads: what they ask of the device is then done in one order with this thread's."""
        return lambda: None

    def close(self) -> None:
        """Wait for what is under way, and give memory back."""
        self.codes = torch.empty(0, dtype=torch.uint8)


class _Stage:
    """Page-locked memory for weights on their way."""

    def __init__(self, size: int, device: torch.device) -> None:
        self.host = HostMemory(size, device)
        self.free: Any = None


class DeviceLink(Link):
    """The link of a device with memory and queues of its own, such as CUDA.

    Weights come by one queue and go by another, while the model runs in the caller's. Queues wait for marks of each
    other; the thread that runs the model never waits for the device. The thread that reads a disk waits until the
    device has taken what it read two entries before, the thread that writes until the device has given it the entry.

    Args:
        store: Where the weights are.
        entries: All that may come and go.
        streams: The queues of the device.
    """

    copies = True

    def __init__(self, store: Store, entries: Sequence[Entry], streams: Streams) -> None:
        self.device, self.streams = streams.device, streams
        super().__init__(store, entries)
        self.inward, self.outward = streams.new(), streams.new()
        size = 0 if store.on_host else max(map(store.size, entries), default=0)
        self.stages = [_Stage(size, self.device) for _ in range(2)]
        self.sending = _Stage(size, self.device)

    @override
    def bring(self, entry: Entry, out: torch.Tensor, chains: Sequence[bytes], after: Sequence[Any]) -> tuple[int, Any]:
        stage = self.stages[0]
        self.stages.reverse()
        if stage.free is not None:
            self.streams.finish(stage.free)
        size, encoding = self.store.size(entry), self.store.encoding
        version, held = self.store.find(entry, stage.host.memory[:size], chains)
        with self.streams.on(self.inward):
            for mark in after:
                self.streams.wait(mark)
            there = out if encoding is None else self.codes[:size]
            self.streams.run(partial(there.copy_, held, non_blocking=True))
            stage.free = arrived = self.streams.record()
            if encoding is not None:
                self.streams.run(partial(encoding.restore, entry, there, out))
                arrived = self.streams.record()
        return version, arrived

    @override
    def send(self, entry: Entry, held: torch.Tensor, after: Any) -> torch.Tensor:
        there = self.store.place(entry)
        if there is None:
            there = self.sending.host.memory[: len(held)]
        with self.streams.on(self.outward):
            self.streams.wait(after)
            self.streams.run(partial(there.copy_, held, non_blocking=True))
            gone = self.streams.record()
        self.streams.finish(gone)
        return there

    @override
    def mark(self) -> Any:
        return self.streams.record()

    @override
    def wait(self, mark: Any) -> None:
        self.streams.wait(mark)

    @override
    def same_order(self) -> Callable[[], None]:
        return self.streams.same_order()

    @override
    def close(self) -> None:
        self.streams.finish(self.streams.record())  # the model may use what was brought
        for stream in (self.inward, self.outward):
            with self.streams.on(stream):
                self.streams.finish(self.streams.record())
        for stage in (*self.stages, self.sending):
            stage.host.close()
        super().close()


def link_of(store: Store, entries: Sequence[Entry], device: torch.device) -> Link:
    """The link to a device."""
    return Link(store, entries) if device.type == "cpu" else DeviceLink(store, entries, Streams(device))


def checked_device(asked: str) -> torch.device:
    """The device of a name, with its index.

    Raises:
        ValueError: There is none of that name here, or weights cannot be streamed to it.
    """
    try:
        device = torch.device(asked)
    except RuntimeError:
        raise ValueError(f"`StreamedModule(device=...)`: torch knows no device {asked!r}.") from None
    if device.type == "cpu":
        return torch.device("cpu")
    here = torch.accelerator.current_accelerator()
    found = [] if here is None else [f"{here.type}:{i}" for i in range(torch.accelerator.device_count())]
    known: int | None = device.index
    if known is None and found:
        known = torch.accelerator.current_device_index()
    name = f"{device.type}:{known}"
    if name not in found:
        raise ValueError(
            f"`StreamedModule(device=...)`: {asked!r} is not here; torch finds {', '.join([*found, 'cpu'])}."
        )
    if device.type == "mps":  # one memory with the CPU's, and no streams
        raise ValueError("`StreamedModule(device=...)`: weights cannot be streamed to 'mps'; use 'cpu'.")
    return torch.device(name)


def free_memory(device: torch.device) -> int | None:
    """Bytes of a device that are free; none if that cannot be told, or is not asked for: of the CPU."""
    if device.type == "cpu":
        return None
    try:
        if device.type == "cuda":
            return int(torch.cuda.mem_get_info(device.index)[0])
        return int(torch.accelerator.get_memory_info(device)[0])
    except (RuntimeError, AttributeError, ValueError):
        return None
