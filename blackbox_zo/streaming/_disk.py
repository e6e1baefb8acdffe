"""The store on a disk: the checkpoint's own files until an entry has moved, then a file of its own for each.

Each file has room for two versions: what is written never touches what is valid. First the older record is blanked,
then the weights are written, then the new record, with a checksum of the weights. Whenever a process is killed, one of
the two is whole.
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
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from blackbox_zo._typing import override
from blackbox_zo.checkpoints import Checkpoint, Pieces, read_into
from blackbox_zo.streaming._encoding import Encoding
from blackbox_zo.streaming._store import Found, Store, StoreError
from blackbox_zo.streaming._units import Entry

__all__ = ["DiskStore"]

RECORD = struct.Struct("<8sQ16sII")
MAGIC = b"bzWEIGHT"
PLACE = 4096
"""Bytes between two records, and before the weights: a page, which is written whole."""

UNMOVED = b"\0" * 16
"""What stands for the last move before version 0."""


class _Record(NamedTuple):
    version: int
    chain: bytes
    check: int


class DiskStore(Store):
    """Reads the checkpoint itself until an entry has moved, then a file of its own in a folder.

    With fewer bits than the checkpoint has, every entry is encoded and written at once, with no moves in it.

    Args:
        base: The checkpoint.
        names: What each parameter is made of in it.
        encoding: How weights are held; none holds them as they are in memory.
        entries: All entries.
        folder: The folder, which may hold what an earlier run of the same journal has written; none makes one that is
            removed at the end.

    Raises:
        OSError: The folder cannot be written.
        StoreError: It is of another model, or another process uses it.
    """

    def __init__(
        self,
        base: Checkpoint,
        names: Pieces,
        encoding: Encoding | None,
        entries: Sequence[Entry],
        folder: Path | None,
    ) -> None:
        super().__init__(base, names, encoding)
        self.entries, self.lasting = entries, folder is not None
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
        if self.encoding is not None:
            about["encoding"] = self.encoding.name
        file = self.folder / "weights.json"
        text = json.dumps(about)
        if file.is_file():
            if file.read_text() != text:
                raise StoreError(
                    f"'{self.folder}' holds the weights of another model, another version of it or another type of "
                    "its numbers. Name another folder."
                )
        else:
            _replace(file, text)
        for entry in self.entries:
            if (path := self._path(entry)).is_file():
                self._adopt(entry, os.open(path, os.O_RDWR))
        if self.encoding is not None:
            self._encode_all()

    def _encode_all(self) -> None:
        """Write what no earlier run has written, and know how much is lost in all."""
        file = self.folder / "errors.json"
        known: dict[str, list[float]] = json.loads(file.read_text()) if file.is_file() else {}
        for entry in self.entries:
            if self.is_direct(entry):
                continue
            if str(entry.number) not in known or not any(self.records.get(entry.number, [])):
                held, *sums = self.start(entry, torch.empty(self.size(entry), dtype=torch.uint8))
                if not any(self.records.get(entry.number, [])):
                    self.write(entry, held, 0, UNMOVED)
                known[str(entry.number)] = sums
                _replace(file, json.dumps(known))
        errors, squares = (sum(column) for column in zip(*known.values(), strict=True)) if known else (0.0, 0.0)
        self.error = (errors / squares) ** 0.5 if squares else 0.0

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
        return 2 * PLACE + slot * (-(-self.size(entry) // PLACE) * PLACE)

    @override
    def find(self, entry: Entry, scratch: torch.Tensor, chains: Sequence[bytes]) -> Found:
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
            if self._taken(entry, scratch, slot, record):
                self.checked.add((entry.number, slot))
                return Found(version, scratch)
            records[slot] = None  # it is written again
            warnings.warn(
                f"The weights of {entry.name!r} after {version} moves are damaged: their checksum in "
                f"'{self._path(entry)}' is wrong. An older version is taken, and the moves after it are made again.",
                stacklevel=2,
            )
        return Found(0, self.start(entry, scratch)[0])

    def _taken(self, entry: Entry, out: torch.Tensor, slot: int, record: _Record) -> bool:
        """Read what is in a slot; whether it is what was written."""
        read_into(self.handles[entry.number], out, self._at(entry, slot), self._path(entry))
        return (entry.number, slot) in self.checked or zlib.crc32(out.numpy().data) == record.check

    @override
    def rows(self, entry: Entry, out: torch.Tensor, first: int, chains: Sequence[bytes]) -> None:
        newest = len(chains) - 1
        for slot, record in enumerate(self.records.get(entry.number, [])):
            if record is not None and record.version == newest and (entry.number, slot) in self.checked:
                self._rows(out, first, partial(self._fill, entry, slot))
                return
        self._start_rows(entry, out, first)

    def _fill(self, entry: Entry, slot: int, held: torch.Tensor, at: int) -> None:
        read_into(self.handles[entry.number], held, self._at(entry, slot) + at, self._path(entry))

    @override
    def write(self, entry: Entry, held: torch.Tensor, version: int, chain: bytes) -> None:
        try:
            if entry.number not in self.handles:
                handle = os.open(self._path(entry), os.O_RDWR | os.O_CREAT, 0o644)
                os.posix_fallocate(handle, 0, self._at(entry, 2))  # a full disk is found before weights are lost
                self._adopt(entry, handle)
            handle, records = self.handles[entry.number], self.records[entry.number]
            slot = min((0, 1), key=lambda s: -1 if records[s] is None else records[s].version)  # type: ignore[union-attr]
            records[slot] = None
            _write(handle, bytes(RECORD.size), slot * PLACE)
            data = held.numpy().data
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
        if not self.lasting:
            shutil.rmtree(self.folder, ignore_errors=True)


def _write(handle: int, data: Any, at: int) -> None:
    view, done = memoryview(data), 0
    while done < len(view):
        done += os.pwrite(handle, view[done : done + (1 << 30)], at + done)


def _replace(file: Path, text: str) -> None:
    """Write a small file whole or not at all."""
    beside = file.with_suffix(".partial")
    beside.write_text(text)
    beside.replace(file)
