"""Where weights are while no pass needs them: as they were, in a checkpoint; and moved, in memory or in a folder.

A moved entry carries its version, the number of moves in it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from blackbox_zo._typing import override
from blackbox_zo.checkpoints import Checkpoint, Pieces
from blackbox_zo.streaming._encoding import Encoding
from blackbox_zo.streaming._pinned import HostMemory
from blackbox_zo.streaming._units import Entry

__all__ = ["Found", "HostStore", "Store", "StoreError"]


class StoreError(RuntimeError):
    """The folder of moved weights is damaged, of another run or model, or in use."""


class Found(NamedTuple):
    """A version of an entry, and its bytes as the store holds it."""

    version: int
    held: torch.Tensor


class Store(ABC):
    """Holds the entries of a model.

    Args:
        base: The checkpoint.
        names: What each parameter is made of in it.
        encoding: How weights are held; none holds them as they are in memory.

    Attributes:
        lasting: Whether what is written is there after the run.
        on_host: Whether it is memory, from which `find` copies nothing.
        error: Relative error of all weights by encoding them, by the squares.
    """

    lasting = False
    on_host = False

    def __init__(self, base: Checkpoint, names: Pieces, encoding: Encoding | None) -> None:
        self.base, self.names, self.encoding = base, names, encoding
        self.error = 0.0

    def size(self, entry: Entry) -> int:
        """Bytes of an entry as it is held."""
        return entry.nbytes if self.encoding is None else self.encoding.nbytes(entry)

    def is_direct(self, entry: Entry) -> bool:
        """Whether the checkpoint holds an entry in no more bits than this store, so that encoding loses nothing."""
        if self.encoding is None or self.encoding.name != "bf16":
            return self.encoding is None
        pieces = [piece for name in entry.names for piece in self.names[name]]
        return all(self.base.stored[piece.name].dtype is torch.bfloat16 for piece in pieces)

    def start(self, entry: Entry, out: torch.Tensor) -> tuple[torch.Tensor, float, float]:
        """Read an entry as the checkpoint has it.

        Args:
            entry: The entry.
            out: Memory of its size in the store, or of more.

        Returns:
            It as the store holds it, the sum of the squares of what encoding it lost, and that of the weights.
        """
        encoding = self.encoding
        if encoding is None:
            for name, tensor in zip(entry.names, entry.tensors(out), strict=True):
                self.base.read(self.names[name], tensor.view(-1))
            return out, 0.0, 0.0
        if self.is_direct(entry):
            for name, codes in zip(entry.names, encoding.parts(entry, out), strict=True):
                self.base.read(self.names[name], codes.view(torch.bfloat16))
            return out, 0.0, 0.0
        exact = torch.empty(entry.nbytes, dtype=torch.uint8)
        for name, tensor in zip(entry.names, entry.tensors(exact), strict=True):
            self.base.read(self.names[name], tensor.view(-1))
        lost = [0.0, 0.0]
        codes = encoding.encode_(entry, exact, None, lost)
        return codes, lost[0], lost[1]

    def _start_rows(self, entry: Entry, out: torch.Tensor, first: int) -> None:
        """Elements of an entry of one parameter, as `start` would have them."""
        names, encoding = self.names[entry.names[0]], self.encoding
        if encoding is None or self.is_direct(entry):
            self.base.read(names, out, first)
            return
        end = min(entry.parameters[0].numel(), -(-(first + out.numel()) // encoding.group) * encoding.group)
        begin = first // encoding.group * encoding.group
        exact = torch.empty(end - begin)
        self.base.read(names, exact, begin)
        codes = torch.empty(encoding.bytes_for(len(exact)), dtype=torch.uint8)
        encoding.encode(exact.to(out.dtype).float(), codes, None)
        encoding.decode(codes, exact)
        out.copy_(exact[first - begin :][: out.numel()])

    def _rows(self, out: torch.Tensor, first: int, fill: Callable[[torch.Tensor, int], None]) -> None:
        """Elements of a parameter, from one on; `fill` gives bytes of it as it is held, from one on."""
        encoding = self.encoding
        if encoding is None:
            fill(out.view(torch.uint8), first * out.element_size())
            return
        a, b = first // encoding.group, -(-(first + out.numel()) // encoding.group)
        codes, found = torch.empty((b - a) * encoding.size, dtype=torch.uint8), torch.empty((b - a) * encoding.group)
        fill(codes, a * encoding.size)
        encoding.decode(codes, found)
        out.copy_(found[first - a * encoding.group :][: out.numel()])

    @abstractmethod
    def find(self, entry: Entry, scratch: torch.Tensor, chains: Sequence[bytes]) -> Found:
        """The newest version of an entry that has at most `len(chains) - 1` moves.

        Args:
            entry: The entry.
            scratch: Memory of its size in the store, which a store that is not memory itself reads into.
            chains: A digest of the last move before each version, from 0.
        """

    def place(self, entry: Entry) -> torch.Tensor | None:
        """The memory in which an entry is held, so that it can be written there; none if it is not in memory."""
        return None

    @abstractmethod
    def rows(self, entry: Entry, out: torch.Tensor, first: int, chains: Sequence[bytes]) -> None:
        """Read elements of an entry of one parameter, from one on, of the version of all moves."""

    @abstractmethod
    def write(self, entry: Entry, held: torch.Tensor, version: int, chain: bytes) -> None:
        """Keep a version of an entry, which is encoded already; it may be in `place` already."""

    @abstractmethod
    def version(self, entry: Entry, sure: bool = True) -> int:
        """The newest version that is there; 0 is the checkpoint's.

        Args:
            entry: The entry.
            sure: Whether its checksum must have been compared, or it was written by this process.
        """

    def close(self) -> None:
        """Close and remove what nobody needs."""
        self.base.close()


class HostStore(Store):
    """Keeps everything in the memory of the host, from which a device takes it.

    Args:
        base: The checkpoint.
        names: What each parameter is made of in it.
        encoding: How weights are held; none holds them as they are in memory.
        entries: All entries.
        device: The device.

    Raises:
        OSError: The device cannot be given the memory.
    """

    on_host = True

    def __init__(
        self,
        base: Checkpoint,
        names: Pieces,
        encoding: Encoding | None,
        entries: Sequence[Entry],
        device: torch.device,
    ) -> None:
        super().__init__(base, names, encoding)
        self.memory = HostMemory(sum(map(self.size, entries)), device)
        self.held: dict[int, torch.Tensor] = {}
        self.versions = {entry.number: 0 for entry in entries}
        errors = squares = 0.0
        end = 0
        for entry in entries:
            begin, end = end, end + self.size(entry)
            mine = self.held[entry.number] = self.memory.memory[begin:end]
            held, error, square = self.start(entry, mine)
            if held is not mine:
                mine.copy_(held)
            errors, squares = errors + error, squares + square
        self.error = (errors / squares) ** 0.5 if squares else 0.0

    @override
    def find(self, entry: Entry, scratch: torch.Tensor, chains: Sequence[bytes]) -> Found:
        return Found(self.versions[entry.number], self.held[entry.number])

    @override
    def place(self, entry: Entry) -> torch.Tensor:
        return self.held[entry.number]

    @override
    def rows(self, entry: Entry, out: torch.Tensor, first: int, chains: Sequence[bytes]) -> None:
        held = self.held[entry.number]

        def fill(found: torch.Tensor, at: int) -> None:
            found.copy_(held[at : at + len(found)])

        self._rows(out, first, fill)

    @override
    def write(self, entry: Entry, held: torch.Tensor, version: int, chain: bytes) -> None:
        if held is not self.held[entry.number]:
            self.held[entry.number].copy_(held)
        self.versions[entry.number] = version

    @override
    def version(self, entry: Entry, sure: bool = True) -> int:
        return self.versions[entry.number]

    @override
    def close(self) -> None:
        super().close()
        self.held = {}
        self.memory.close()
