"""Arrays in a safetensors file: written and read one at a time, each with a checksum.

The package `safetensors` needs all arrays in the memory of the host at once, and keeps no checksums. These files are
plain safetensors, which it reads.
"""

from __future__ import annotations

import json
import math
import os
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Array", "StoredArrays", "array_of", "write_arrays"]

KINDS: dict[str, Any] = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.int16, "I64": np.int64, "I32": np.int32,
    "I16": np.int16, "I8": np.int8, "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8,
    "BOOL": np.bool_,
}  # fmt: skip
"""The numpy type of each kind of element; numpy has no bf16, whose bits are taken for integers."""

_CHUNK = 1 << 20
"""Bytes checked at a time."""


class Array(NamedTuple):
    """An array to be written.

    Attributes:
        kind: Kind of its elements, a key of `KINDS`.
        shape: Its shape.
        get: Returns it, or its bits, when it is written.
    """

    kind: str
    shape: tuple[int, ...]
    get: Callable[[], Any]

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return math.prod(self.shape) * int(np.dtype(KINDS[self.kind]).itemsize)


def array_of(array: Any) -> Array:
    """An array of numpy.

    Raises:
        TypeError: Its elements are of a kind that no file holds.
    """
    kind = next((kind for kind, dtype in KINDS.items() if array.dtype == dtype and kind != "BF16"), None)
    if kind is None:
        raise TypeError(f"an array of {array.dtype} cannot be written")
    return Array(kind, array.shape, lambda: array)


def write_arrays(path: Path, arrays: Mapping[str, Array], more: Mapping[str, Any]) -> None:
    """Write a file, and flush it to the disk.

    Args:
        path: The file, which is replaced.
        arrays: The arrays by name. One is in memory at a time.
        more: Anything else, as JSON.

    Raises:
        OSError: The file cannot be written.
    """
    size = {name: np.dtype(KINDS[a.kind]).itemsize for name, a in arrays.items()}
    order = sorted(arrays, key=lambda name: (-size[name], name))  # so that each begins at a multiple of its size
    none, marker = "0" * 8 * (len(order) + 1), '"checksums": "'
    header: dict[str, Any] = {"__metadata__": {"checksums": none, "format": "pt", "more": json.dumps(more)}}
    end = 0
    for name in order:
        begin, end = end, end + arrays[name].nbytes
        header[name] = {"dtype": arrays[name].kind, "shape": arrays[name].shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    sums = [zlib.crc32(text)]
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            flat = np.ascontiguousarray(arrays[name].get()).reshape(-1).view(np.uint8)
            if flat.nbytes != arrays[name].nbytes:
                raise ValueError(f"the array {name!r} has {flat.nbytes} bytes, not {arrays[name].nbytes}")
            sums.append(zlib.crc32(flat.data))
            file.write(flat.data)
        file.seek(8 + text.index(marker.encode()) + len(marker))
        file.write("".join(f"{s:08x}" for s in sums).encode())
        file.flush()
        os.fsync(file.fileno())


class _DamagedError(ValueError):
    """How a file is damaged."""


class StoredArrays(Mapping[str, Any]):
    """The arrays of a file, each read when it is asked for. Close it, or use `with`.

    Args:
        path: The file.

    Attributes:
        more: What was written besides.

    Raises:
        ValueError: The file is damaged, or of another kind.
        OSError: It cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._lock = path, threading.Lock()
        self._file = path.open("rb")
        try:
            self._begin()
        except BaseException as error:
            self.close()
            if isinstance(error, _DamagedError) or not isinstance(error, ValueError | LookupError | TypeError):
                raise
            raise _DamagedError("its header is damaged") from None

    def _begin(self) -> None:
        whole = os.fstat(self._file.fileno()).st_size
        length = int.from_bytes(self._file.read(8), "little")
        if length > whole:
            raise _DamagedError("its header is incomplete")
        text = self._file.read(length)
        header = json.loads(text)
        meta = header.pop("__metadata__")
        sums = meta["checksums"]
        self._sums = [int(sums[i : i + 8], 16) for i in range(0, len(sums), 8)]
        blank = text.replace(sums.encode(), b"0" * len(sums), 1)
        if zlib.crc32(blank) != self._sums[0]:
            raise _DamagedError("the checksum of its header is wrong")
        self.more: Any = json.loads(meta["more"])
        self._data, self._entries = 8 + length, dict[str, Any](header)
        if whole != self._data + max((e["data_offsets"][1] for e in header.values()), default=0):
            raise _DamagedError("it is incomplete")

    def check(self) -> None:
        """Compare all checksums.

        Raises:
            ValueError: One is wrong.
            OSError: The file cannot be read.
        """
        with ThreadPoolExecutor(2) as pool:  # checksums let other threads run
            for name, found, wanted in zip(self, pool.map(self._sum, self), self._sums[1:], strict=True):
                if found != wanted:
                    raise _DamagedError(f"the checksum of {name!r} is wrong")

    def _sum(self, name: str) -> int:
        begin, end = self._entries[name]["data_offsets"]
        chunk, found = memoryview(bytearray(min(_CHUNK, end - begin))), 0
        for at in range(begin, end, _CHUNK):
            part = chunk[: min(_CHUNK, end - at)]
            self._fill(part, at)
            found = zlib.crc32(part, found)
        return found

    def _fill(self, out: memoryview, at: int) -> None:
        """Read the bytes of the arrays from one on."""
        if not hasattr(os, "preadv"):  # Windows and older macOS: the place is that of the file
            with self._lock:
                self._file.seek(self._data + at)
                n = self._file.readinto(out)
        else:
            n = 0
            while n < len(out) and (more := os.preadv(self._file.fileno(), [out[n:]], self._data + at + n)):
                n += more
        if n < len(out):
            raise _DamagedError(f"{str(self.path)!r} was shortened while it was read")

    def kind(self, name: str) -> tuple[str, tuple[int, ...]]:
        """Kind and shape of an array.

        Raises:
            KeyError: There is none of this name.
        """
        entry = self._entries[name]
        return entry["dtype"], tuple(entry["shape"])

    def into(self, places: Mapping[str, Any]) -> None:
        """Read arrays into others of the same sizes, which are contiguous.

        Raises:
            ValueError: The file has been shortened.
            OSError: It cannot be read.
        """

        def read(name: str) -> None:
            self._fill(places[name].reshape(-1).view(np.uint8).data, self._entries[name]["data_offsets"][0])

        with ThreadPoolExecutor(2) as pool:
            for _ in pool.map(read, places):
                pass

    def __getitem__(self, name: str) -> Any:
        kind, shape = self.kind(name)
        out = np.empty(shape, dtype=KINDS[kind])
        self.into({name: out})
        return out

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> StoredArrays:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()
