"""The weights of a GGUF file: quantised on the disk, and in numbers only where they are read to."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from blackbox_zo._typing import override
from blackbox_zo.checkpoints._base import Checkpoint, Stored, read_into
from blackbox_zo.checkpoints._names import Piece, Pieces

__all__ = ["GGUF", "decoded", "hollow_gguf"]

CHUNK = 4 << 20
"""Numbers that are decoded at once."""


class _Rows(NamedTuple):
    """How the rows of a tensor are stored.

    Attributes:
        kind: The type of the file's format.
        nbytes: Bytes of a row.
        order: The place in the file of each row of the model's parameter; none if it is its own.
    """

    kind: Any
    nbytes: int
    order: np.ndarray[Any, Any] | None


class GGUF(Checkpoint):
    """A GGUF file under the names of a model of transformers. It is opened once, and only read.

    transformers says which tensor is which parameter, and how it is to be changed; of a matrix, rows may change places.

    Args:
        path: The file.
        model: The model, its parameters on meta.
        reader: Of gguf, which takes seconds to make.

    Attributes:
        rows: How the rows of each matrix are stored.
        small: The vectors.
        plain: Where the vectors of fp32 begin that are parameters as they are.
        titles: The tensor in the file of each parameter.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It is no GGUF file, or a tensor is of a type that cannot be read, or stored in another form.
    """

    def __init__(self, path: Path, model: Any, reader: Any) -> None:
        from transformers.modeling_gguf_pytorch_utils import (
            TENSOR_PROCESSORS,
            TensorProcessor,
            get_gguf_hf_weights_map,
        )

        kind: Any = TENSOR_PROCESSORS.get(model.config.model_type, TensorProcessor)
        self.processor: Any = kind(config=model.config.to_dict())
        names = get_gguf_hf_weights_map(model, self.processor)
        self.paths, self.stored = [path], dict[str, Stored]()
        self.rows: dict[str, _Rows] = {}
        self.small: dict[str, torch.Tensor] = {}
        self.plain: dict[str, int] = {}
        self.titles: dict[str, str] = {}
        for tensor in reader.tensors:
            self._note(tensor, names.get(tensor.name, tensor.name), path)
        self.handle = os.open(path, os.O_RDONLY)

    def _note(self, tensor: Any, name: str, path: Path) -> None:
        from gguf.quants import _type_traits, dequantize

        kind, shape = tensor.tensor_type, tuple(int(n) for n in reversed(tensor.shape))
        if kind.name not in ("F32", "F16") and kind not in _type_traits:
            known = ", ".join(sorted({"F32", "F16"} | {str(k.name) for k in _type_traits}))
            raise ValueError(f"'{path}': {tensor.name!r} is of type {kind.name}, which cannot be read; {known} can.")
        self.titles[name] = tensor.name
        self.stored[name] = Stored(0, int(tensor.data_offset), torch.float32, shape)
        if len(shape) == 1:
            own = dequantize(tensor.data, kind)
            made = np.array(self.processor.process(weights=own, name=tensor.name).weights, dtype=np.float32)
            self.small[name] = torch.from_numpy(made)
            if kind.name == "F32" and np.array_equal(made, own):
                self.plain[name] = int(tensor.data_offset)
            return
        index = np.arange(shape[0], dtype=np.int64)[:, None]
        try:
            order = np.asarray(self.processor.process(weights=index, name=tensor.name).weights)
        except Exception as error:  # whatever a processor does with what it did not expect
            raise ValueError(_not_here(path, tensor.name)) from error
        if len(shape) != 2 or order.shape != index.shape or not (np.sort(order, axis=0) == index).all():
            raise ValueError(_not_here(path, tensor.name))
        moved = None if (order == index).all() else order[:, 0]
        self.rows[name] = _Rows(kind, int(tensor.n_bytes) // shape[0], moved)

    @override
    def pieces(self, model: Any, wanted: Mapping[str, tuple[int, ...]], known: Collection[str]) -> Pieces:
        for name, shape in wanted.items():
            if name not in self.stored:
                raise ValueError(f"'{self.paths[0]}' lacks {name!r}, which {type(model).__name__} has.")
            if self.stored[name].shape != shape:
                there = list(self.stored[name].shape)
                raise ValueError(f"{name!r} is {there} in '{self.paths[0]}', but {list(shape)} by its configuration.")
        extra = [name for name in self.stored if name not in wanted and name not in _DERIVED]
        if extra:
            raise ValueError(f"'{self.paths[0]}' has {extra[0]!r}, which {type(model).__name__} does not have.")
        return {name: [Piece(name, 0, math.prod(shape))] for name, shape in wanted.items()}

    @override
    def read(self, pieces: Sequence[Piece], out: torch.Tensor, first: int = 0) -> None:
        (piece,) = pieces
        if piece.name in self.small:
            out.copy_(self.small[piece.name][first : first + out.numel()])
            return
        width = self.stored[piece.name].shape[1]
        a, end = first // width, -(-(first + out.numel()) // width)
        step = max(1, CHUNK // width)
        for b in range(a, end, step):
            c = min(b + step, end)
            flat = torch.from_numpy(self._decoded(piece.name, b, c)).view(-1)
            low, high = max(first, b * width), min(first + out.numel(), c * width)
            out[low - first : high - first].copy_(flat[low - b * width : high - b * width])

    def _decoded(self, name: str, a: int, b: int) -> np.ndarray[Any, Any]:
        """Rows of a matrix in fp32."""
        rows, at = self.rows[name], self.stored[name].at
        wanted = np.arange(a, b) if rows.order is None else rows.order[a:b]
        low, high = int(wanted.min()), int(wanted.max()) + 1
        held = torch.empty((high - low) * rows.nbytes, dtype=torch.uint8)
        read_into(self.handle, held, at + low * rows.nbytes, self.paths[0])
        raw = held.numpy().reshape(high - low, rows.nbytes)
        if rows.order is not None:
            raw = raw[wanted - low]
        return decoded(raw, rows.kind)

    @override
    def close(self) -> None:
        if self.handle >= 0:
            os.close(self.handle)
        self.handle = -1


def decoded(raw: np.ndarray[Any, Any], kind: Any) -> np.ndarray[Any, Any]:
    """The numbers in bytes of a type, (rows, bytes), in fp32; memory of its own."""
    from gguf.quants import dequantize

    plain = {"F32": np.float32, "F16": np.float16}.get(kind.name)
    typed: Any = np.ascontiguousarray(raw)
    return np.array(dequantize(typed if plain is None else typed.view(plain), kind), dtype=np.float32)


_DERIVED = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
"""Tensors that the model computes from its configuration."""


def hollow_gguf(path: Path, dtype: torch.dtype | None) -> tuple[Any, Any]:
    """The causal language model that a GGUF file's metadata describe, its parameters on meta, and a reader of the file.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It is no GGUF file, or of an architecture that transformers does not read.
    """
    import transformers

    from blackbox_zo.checkpoints._hollow import emptied

    reader = _reader(path)
    try:
        raw = transformers.AutoConfig.from_pretrained(str(path.parent), gguf_file=path.name)
    except Exception as error:  # whatever transformers raises for what it does not know
        raise ValueError(f"'{path}' cannot be read by transformers: {error}") from error
    settings = raw.to_dict()
    settings.pop("quantization_config", None)
    config = type(raw)(**settings)
    kind: Any = transformers.MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    config.architectures, config.dtype = [kind.__name__], dtype or torch.float32
    config.name_or_path = str(path.resolve())
    return emptied(kind, config, dtype or torch.float32), reader


def _reader(path: Path) -> Any:
    try:
        import gguf
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"'{path}' is read by gguf: pip install gguf", name="gguf") from error
    if not path.is_file():
        raise FileNotFoundError(f"'{path}' does not exist; check the path.")
    with path.open("rb") as file:
        start = file.read(4)
    if start != b"GGUF":
        raise ValueError(f"'{path}' is not a GGUF file: it begins with {start!r}, not b'GGUF'.")
    try:
        return gguf.GGUFReader(path)
    except Exception as error:  # it indexes whatever there is
        raise ValueError(f"'{path}' is damaged or cut off: {error}") from error


def _not_here(path: Path, name: str) -> str:
    return (
        f"'{path}': {name!r} is stored in another form than transformers' parameter, so it cannot be read row by row. "
        "Convert the file once (`oracles.llm.load_model`), and stream the folder."
    )
