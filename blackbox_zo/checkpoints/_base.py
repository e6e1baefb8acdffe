"""The weights of a checkpoint in safetensors files: which there are, and reading runs of them."""

from __future__ import annotations

import json
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from blackbox_zo._typing import override
from blackbox_zo.checkpoints._names import Piece, Pieces, matched

__all__ = ["Checkpoint", "Safetensors", "Stored", "read_into"]

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "I64": torch.int64, "I32": torch.int32,
    "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip

CHUNK = 4 << 20
"""Bytes that are read at once where they are to be converted."""


class Stored(NamedTuple):
    """Where a tensor is."""

    file: int
    at: int
    dtype: torch.dtype
    shape: tuple[int, ...]


class Checkpoint(ABC):
    """Files with the weights of a model, which are only read.

    Attributes:
        paths: The files.
        stored: Where each tensor is.
    """

    paths: list[Path]
    stored: dict[str, Stored]

    @abstractmethod
    def pieces(self, model: Any, wanted: Mapping[str, tuple[int, ...]], known: Collection[str]) -> Pieces:
        """The pieces of each tensor of a model.

        Args:
            model: The model.
            wanted: Shapes of its tensors by name.
            known: Further names of tensors of the model, which may be stored and are not read.

        Raises:
            ValueError: One is missing or of another shape, or there are others.
        """

    @abstractmethod
    def read(self, pieces: Sequence[Piece], out: torch.Tensor, first: int = 0) -> None:
        """Elements of a tensor made of pieces, from one on, converted to the type of `out`, which is flat."""

    def describe(self) -> list[Any]:
        """What tells its files from others."""
        return [[p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in self.paths]

    @abstractmethod
    def close(self) -> None:
        """Close the files."""


class Safetensors(Checkpoint):
    """A folder written by `save_pretrained`. Its files are opened once, and only read.

    Args:
        folder: The folder.

    Raises:
        FileNotFoundError: It has no safetensors files.
        ValueError: One is damaged or cut off, or lacks a tensor that the index promises.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        index = folder / "model.safetensors.index.json"
        if index.is_file():
            self.names: dict[str, str] = json.loads(index.read_text())["weight_map"]
            files = sorted(set(self.names.values()))
        else:
            self.names, files = {}, ["model.safetensors"]
        self.stored: dict[str, Stored] = {}
        self.handles: list[int] = []
        self.paths = [folder / name for name in files]
        for path in self.paths:
            if not path.is_file():
                raise FileNotFoundError(
                    f"'{path}' does not exist; the model must be in safetensors files (`save_pretrained`)."
                )
            self.handles.append(os.open(path, os.O_RDONLY))
            self._note(len(self.handles) - 1, path)
        lacking = sorted(set(self.names) - set(self.stored))
        if lacking:
            raise ValueError(f"'{index}' promises {lacking[0]!r}, which is in none of its files.")

    def _note(self, file: int, path: Path) -> None:
        size = os.fstat(self.handles[file]).st_size
        length = int.from_bytes(os.pread(self.handles[file], 8, 0), "little")
        try:
            header: dict[str, Any] = json.loads(os.pread(self.handles[file], min(length, size), 8))
        except ValueError:
            raise ValueError(f"'{path}' is no safetensors file, or it is damaged.") from None
        header.pop("__metadata__", None)
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            dtype, shape = DTYPES.get(entry["dtype"]), tuple(entry["shape"])
            if dtype is None:
                raise ValueError(f"'{path}': {name!r} is of type {entry['dtype']}, which is not supported.")
            if 8 + length + end > size or end - begin != math.prod(shape) * dtype.itemsize:
                raise ValueError(f"'{path}' is cut off or damaged: {name!r} should end at byte {8 + length + end:,}.")
            self.stored[name] = Stored(file, 8 + length + begin, dtype, shape)

    @override
    def pieces(self, model: Any, wanted: Mapping[str, tuple[int, ...]], known: Collection[str]) -> Pieces:
        return matched(model, wanted, known, {name: found.shape for name, found in self.stored.items()})

    @override
    def read(self, pieces: Sequence[Piece], out: torch.Tensor, first: int = 0) -> None:
        for piece in pieces:
            a, b = max(first, piece.first), min(first + out.numel(), piece.first + piece.size)
            if a < b:
                self._read(piece.name, out[a - first : b - first], a - piece.first)

    def _read(self, name: str, out: torch.Tensor, first: int) -> None:
        stored = self.stored[name]
        at, path = stored.at + first * stored.dtype.itemsize, self.paths[stored.file]
        if out.dtype == stored.dtype:
            read_into(self.handles[stored.file], out, at, path)
            return
        step = CHUNK // stored.dtype.itemsize
        chunk = torch.empty(min(step, out.numel()), dtype=stored.dtype)
        for a in range(0, out.numel(), step):
            part = chunk[: min(step, out.numel() - a)]
            read_into(self.handles[stored.file], part, at + a * stored.dtype.itemsize, path)
            out[a : a + part.numel()].copy_(part)

    @override
    def close(self) -> None:
        for handle in self.handles:
            os.close(handle)
        self.handles = []


def read_into(handle: int, out: torch.Tensor, at: int, path: Path) -> None:
    """Fill a flat tensor with the bytes of a file from one on.

    Raises:
        OSError: They cannot be read, or the file is too short.
    """
    view, done = out.view(torch.uint8).numpy().data, 0
    while done < len(view):
        n = os.preadv(handle, [view[done : done + (1 << 30)]], at + done)
        if not n:
            raise OSError(f"'{path}' has been cut off: byte {at + done:,} is missing.")
        done += n
