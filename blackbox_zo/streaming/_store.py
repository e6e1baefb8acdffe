"""Where weights are while no pass needs them: as they were, in a checkpoint; and moved, in memory or in a folder.

A moved entry carries its version, the number of moves in it. Each file has room for two: what is written never touches
what is valid. First the older record is blanked, then the weights are written, then the new record, with a checksum of
the weights. Whenever a process is killed, one of the two is whole.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import struct
import tempfile
import warnings
import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from blackbox_zo._typing import override
from blackbox_zo.streaming._checkpoint import Checkpoint, read_into
from blackbox_zo.streaming._names import Piece
from blackbox_zo.streaming._units import Entry

__all__ = ["DiskStore", "HostStore", "Store", "StoreError"]

RECORD = struct.Struct("<8sQ16sII")
MAGIC = b"bzWEIGHT"
PLACE = 4096
"""Bytes between two records, and before the weights: a page, which is written whole."""


class StoreError(RuntimeError):
    """The folder of moved weights is damaged, of another run or model, or in use."""


class Store(ABC):
    """Holds the entries of a model.

    Args:
        base: The checkpoint.
        names: What each parameter is made of in it.
    """

    def __init__(self, base: Checkpoint, names: Mapping[str, Sequence[Piece]]) -> None:
        self.base, self.names = base, names

    def start(self, entry: Entry, out: torch.Tensor) -> None:
        """Read an entry as the checkpoint has it."""
        for name, tensor in zip(entry.names, entry.tensors(out), strict=True):
            self.base.read(self.names[name], tensor.view(-1))

    @abstractmethod
    def read(self, entry: Entry, out: torch.Tensor, chains: Sequence[bytes]) -> int:
        """Read the newest version of an entry that has at most `len(chains) - 1` moves.

        Args:
            entry: The entry.
            out: Memory of its size.
            chains: A digest of the last move before each version, from 0.

        Returns:
            Its version.
        """

    @abstractmethod
    def rows(self, entry: Entry, out: torch.Tensor, first: int, chains: Sequence[bytes]) -> None:
        """Read elements of an entry of one parameter, from one on, of the version of all moves."""

    @abstractmethod
    def write(self, entry: Entry, memory: torch.Tensor, version: int, chain: bytes) -> None:
        """Keep a version of an entry."""

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
    """Keeps everything in the memory of the host."""

    def __init__(self, base: Checkpoint, names: Mapping[str, Sequence[Piece]], entries: Sequence[Entry]) -> None:
        super().__init__(base, names)
        self.held: dict[int, torch.Tensor] = {}
        self.versions = {entry.number: 0 for entry in entries}
        for entry in entries:
            memory = torch.empty(entry.nbytes, dtype=torch.uint8)
            self.start(entry, memory)
            self.held[entry.number] = memory

    @override
    def read(self, entry: Entry, out: torch.Tensor, chains: Sequence[bytes]) -> int:
        out.copy_(self.held[entry.number])
        return self.versions[entry.number]

    @override
    def rows(self, entry: Entry, out: torch.Tensor, first: int, chains: Sequence[bytes]) -> None:
        out.copy_(entry.tensors(self.held[entry.number])[0].view(-1)[first : first + out.numel()])

    @override
    def write(self, entry: Entry, memory: torch.Tensor, version: int, chain: bytes) -> None:
        self.held[entry.number].copy_(memory)
        self.versions[entry.number] = version

    @override
    def version(self, entry: Entry, sure: bool = True) -> int:
        return self.versions[entry.number]


class _Record(NamedTuple):
    version: int
    chain: bytes
    check: int


class DiskStore(Store):
    """Reads the checkpoint itself until an entry has moved, then a file of its own in a folder.

    Args:
        base: The checkpoint.
        names: What each parameter is made of in it.
        entries: All entries.
        folder: The folder, which may hold what an earlier run of the same journal has written; none makes one that is
            removed at the end.

    Raises:
        OSError: The folder cannot be written.
        StoreError: It is of another model, or another process uses it.
    """

    def __init__(
        self, base: Checkpoint, names: Mapping[str, Sequence[Piece]], entries: Sequence[Entry], folder: Path | None
    ) -> None:
        super().__init__(base, names)
        self.entries, self.temporary = entries, folder is None
        self.folder = Path(tempfile.mkdtemp(prefix="blackbox_zo-")) if folder is None else folder
        self.handles: dict[int, int] = {}
        self.records: dict[int, list[_Record | None]] = {}
        self.checked = set[tuple[int, int]]()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self.lock)
            raise StoreError(
                f"The weights in '{self.folder}' are in use by another process, or opened twice."
            ) from None
        try:
            self._open()
        except BaseException:
            self._close()
            raise

    def _open(self) -> None:
        about = {
            "format": 1,
            "checkpoint": self.base.describe(),
            "entries": [[e.name, e.names, e.nbytes, [str(p.dtype) for p in e.parameters]] for e in self.entries],
        }
        file = self.folder / "weights.json"
        text = json.dumps(about)
        if file.is_file():
            if file.read_text() != text:
                raise StoreError(
                    f"'{self.folder}' holds the weights of another model, another version of it or another type of "
                    "its numbers. Name another folder."
                )
        else:
            partial = file.with_suffix(".partial")
            partial.write_text(text)
            partial.replace(file)
        for entry in self.entries:
            if (path := self._path(entry)).is_file():
                self._adopt(entry, os.open(path, os.O_RDWR))

    def _path(self, entry: Entry) -> Path:
        return self.folder / f"{entry.number:04d}.weights"

    def _adopt(self, entry: Entry, handle: int) -> None:
        self.handles[entry.number] = handle
        self.records[entry.number] = [self._record(handle, slot) for slot in (0, 1)]

    @staticmethod
    def _record(handle: int, slot: int) -> _Record | None:
        raw = os.pread(handle, RECORD.size, slot * PLACE)
        if len(raw) < RECORD.size:
            return None
        magic, version, chain, check, own = RECORD.unpack(raw)
        if magic != MAGIC or own != zlib.crc32(raw[:-4]):
            return None
        return _Record(version, chain, check)

    def _at(self, entry: Entry, slot: int) -> int:
        return 2 * PLACE + slot * (-(-entry.nbytes // PLACE) * PLACE)

    @override
    def read(self, entry: Entry, out: torch.Tensor, chains: Sequence[bytes]) -> int:
        records = self.records.get(entry.number, [])
        moved = sorted(
            ((r.version, slot) for slot, r in enumerate(records) if r is not None and r.version < len(chains)),
            reverse=True,
        )
        for version, slot in moved:
            record = records[slot]
            assert record is not None
            if record.chain != chains[version]:
                raise StoreError(
                    f"'{self.folder}' holds the weights of another run: after {version} moves they are others. Give "
                    "the journal of that run, or another folder."
                )
            read_into(self.handles[entry.number], out, self._at(entry, slot), self._path(entry))
            if (entry.number, slot) in self.checked or zlib.crc32(out.numpy().data) == record.check:
                self.checked.add((entry.number, slot))
                return version
            records[slot] = None  # it is written again
            warnings.warn(
                f"The weights of {entry.name!r} after {version} moves are damaged: their checksum in "
                f"'{self._path(entry)}' is wrong. An older version is taken, and the moves after it are made again.",
                stacklevel=2,
            )
        self.start(entry, out)
        return 0

    @override
    def rows(self, entry: Entry, out: torch.Tensor, first: int, chains: Sequence[bytes]) -> None:
        newest = len(chains) - 1
        for slot, record in enumerate(self.records.get(entry.number, [])):
            if newest and record is not None and record.version == newest and (entry.number, slot) in self.checked:
                at = self._at(entry, slot) + first * out.element_size()
                read_into(self.handles[entry.number], out, at, self._path(entry))
                return
        self.base.read(self.names[entry.names[0]], out, first)

    @override
    def write(self, entry: Entry, memory: torch.Tensor, version: int, chain: bytes) -> None:
        try:
            if entry.number not in self.handles:
                handle = os.open(self._path(entry), os.O_RDWR | os.O_CREAT, 0o644)
                os.posix_fallocate(handle, 0, self._at(entry, 2))  # a full disk is found before weights are lost
                self._adopt(entry, handle)
            handle, records = self.handles[entry.number], self.records[entry.number]
            slot = min((0, 1), key=lambda s: -1 if records[s] is None else records[s].version)  # type: ignore[union-attr]
            records[slot] = None
            _write(handle, bytes(RECORD.size), slot * PLACE)
            data = memory.numpy().data
            _write(handle, data, self._at(entry, slot))
            head = RECORD.pack(MAGIC, version, chain, zlib.crc32(data), 0)[:-4]
            _write(handle, head + zlib.crc32(head).to_bytes(4, "little"), slot * PLACE)
        except OSError as error:
            full = " Make room, then resume." if error.errno == errno.ENOSPC else ""
            raise OSError(
                error.errno,
                f"The weights of {entry.name!r} cannot be written to '{self.folder}': {error.strerror}. What was "
                f"there before is whole, and the journal has every move.{full}",
            ) from None
        records[slot] = self._record(handle, slot)
        self.checked.add((entry.number, slot))

    @override
    def version(self, entry: Entry, sure: bool = True) -> int:
        found = enumerate(self.records.get(entry.number, []))
        known = (r.version for s, r in found if r is not None and (not sure or (entry.number, s) in self.checked))
        return max(known, default=0)

    @override
    def close(self) -> None:
        super().close()
        self._close()

    def _close(self) -> None:
        for handle in self.handles.values():
            os.close(handle)
        self.handles = {}
        os.close(self.lock)
        if self.temporary:
            shutil.rmtree(self.folder, ignore_errors=True)


def _write(handle: int, data: Any, at: int) -> None:
    view, done = memoryview(data), 0
    while done < len(view):
        done += os.pwrite(handle, view[done : done + (1 << 30)], at + done)
