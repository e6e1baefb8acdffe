"""Models that run from a GGUF file, and files with moved scales."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from blackbox_zo._checks import check_choice
from blackbox_zo.checkpoints import GGUF, hollow_gguf
from blackbox_zo.journal._snapshots import flush_folder
from blackbox_zo.quantised._layers import QuantisedEmbedding, QuantisedLinear
from blackbox_zo.quantised._sums import begin
from blackbox_zo.quantised._tables import CHUNK, LAYOUTS, BlockTable, CodedTable, FrozenTable, ScaledTable, Table

__all__ = ["load_gguf", "save_gguf"]


def load_gguf(
    path: str | Path,
    dtype: torch.dtype = torch.float32,
    moves: Literal["scales", "codes"] = "scales",
    folder: str | Path | None = None,
) -> Any:
    """A causal language model that runs from a GGUF file; its weights never are in memory as a whole.

    Linear layers and embeddings are replaced by layers that compute the rows they need from the file, which is mapped,
    so that the system's page cache holds it. Of blocks of Q4_0, Q4_1 and Q8_0 either the scales can be searched, as
    `bz.Module(model, "scale_shift")`, see `ScaledTable`; or the integers of linear layers, as
    `bz.Module(model, "code_shift")`, see `CodedTable`, by queries that change them by whole numbers, such as those of
    `bz.RandomVector(1 / 8, distribution="sparse")`. All other matrices are frozen. Norms and biases are parameters.

    Args:
        path: The file.
        dtype: What the model computes in.
        moves: What can be searched: "scales" or "codes".
        folder: For "codes": where a file is mapped that holds two bytes for each code. It has no name, and is gone with
            the model. None takes the system's folder for temporary files. In a file system in memory it takes memory.

    Returns:
        The model of transformers, in evaluation mode.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It is no GGUF file, or has what cannot be read.
        OSError: There is no room in the folder.
    """
    check_choice("load_gguf", ("scales", "codes"), moves=moves)
    path = Path(path).expanduser()
    model, reader = hollow_gguf(path, dtype)
    file = GGUF(path, model, reader)
    try:
        wanted = {name: tuple(p.shape) for name, p in model.named_parameters()}
        pieces = file.pieces(model, wanted, ())
        data = np.memmap(path, np.uint8, mode="c")  # which torch takes without a warning; nothing is ever written
        names = {id(p): name for name, p in model.named_parameters()}
        made, tables = list(model.named_modules()), dict[int, Table]()
        looked_up = {id(m.weight) for _, m in made if isinstance(m, torch.nn.Embedding)}
        for place, module in made:
            if type(module) in (torch.nn.Linear, torch.nn.Embedding) and names[id(module.weight)] in file.rows:
                key = id(module.weight)
                if key not in tables:
                    kind: Any = ScaledTable if moves == "scales" else FrozenTable if key in looked_up else CodedTable
                    tables[key] = _table(file, names[key], data, kind)
                model.set_submodule(place, _layer(module, tables[key], dtype))
        for name, p in list(model.named_parameters()):
            if p.is_meta:
                value = torch.empty(p.shape, dtype=p.dtype)
                file.read(pieces[name], value.view(-1))
                parent, _, own = name.rpartition(".")
                setattr(model.get_submodule(parent), own, torch.nn.Parameter(value))
        begin([table for table in tables.values() if isinstance(table, CodedTable)], folder)
    finally:
        file.close()
    others = {n: p.detach().clone() for n, p in model.named_parameters() if n in file.small and n not in file.plain}
    model._zo_gguf = Source(path, file.plain, others)
    model.save_pretrained = _refuse
    return model.eval()


class Source(NamedTuple):
    """Where a model is from.

    Attributes:
        path: The file.
        plain: Where its vectors of fp32 are that are parameters as they are, by name.
        others: What other vectors are, which cannot be written back.
    """

    path: Path
    plain: Mapping[str, int]
    others: Mapping[str, torch.Tensor]


def _refuse(*_: Any, **__: Any) -> None:
    raise ValueError("A model that runs from a GGUF file is saved by `save_gguf`, to another GGUF file.")


def _table(file: GGUF, name: str, data: np.ndarray[Any, Any], kind: type[BlockTable] | type[FrozenTable]) -> Table:
    rows, stored = file.rows[name], file.stored[name]
    height, width = stored.shape
    raw = torch.from_numpy(data[stored.at : stored.at + height * rows.nbytes]).view(height, rows.nbytes)
    kind = kind if rows.kind.name in LAYOUTS else FrozenTable
    return kind(raw, width, rows.order, rows.kind, stored.at)


def _layer(module: Any, table: Table, dtype: torch.dtype) -> torch.nn.Module:
    if isinstance(module, torch.nn.Embedding):
        return QuantisedEmbedding(table, dtype)
    return QuantisedLinear(table, module.bias)


@torch.no_grad()
def save_gguf(model: Any, path: str | Path) -> float:
    """Write the file that a model runs from again, with its codes, or its scales rounded to fp16. Nothing else changes.

    Args:
        model: From `load_gguf`.
        path: The new file.

    Returns:
        What rounding loses: the root of the mean square of the scales' errors, over that of what was added to them.
        Codes are saved as the model runs on them, so they lose nothing.

    Raises:
        ValueError: The model is not from a GGUF file, the new file is the same, or a parameter has moved that is
            stored in another form than the model has it.
    """
    source: Source | None = getattr(model, "_zo_gguf", None)
    if source is None:
        raise ValueError("`save_gguf` takes a model of `load_gguf`.")
    path = Path(path).expanduser()
    if path.exists() and path.samefile(source.path):
        raise ValueError(f"'{path}' is the file that the model runs from; name another.")
    beside = path.with_name(f"{path.name}.partial")
    try:
        shutil.copyfile(source.path, beside)
        error = _edit(model, source, beside)
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
        flush_folder(path.absolute().parent)
    finally:
        beside.unlink(missing_ok=True)
    return error


def _edit(model: Any, source: Source, path: Path) -> float:
    """Change the scales, and the plain vectors, in a copy of the model's file."""
    errors = moves = 0.0
    data = np.memmap(path, np.uint8, mode="r+")
    for table in model.modules():
        if not isinstance(table, BlockTable):
            continue
        height, nbytes = table.raw.shape
        there, step = data[table.at : table.at + height * nbytes].reshape(height, nbytes), max(1, CHUNK // table.width)
        for a in range(0, height, step):
            which = slice(a, min(a + step, height))
            rows = which if table.order is None else table.order[which].numpy()
            there[rows] = table.stored(which).numpy()
            if isinstance(table, ScaledTable):
                exact = table.scales(table.scale_shift, which)
                errors += float((exact.half().float() - exact).double().square().sum())
                moves += float((table.size * table.scale_shift[which].double()).square().sum())
    for name, p in model.named_parameters():
        if name in source.others and not torch.equal(p, source.others[name]):
            raise ValueError(f"{name!r} has moved, but it is stored in another form, so it cannot be written back.")
        if name in source.plain:
            mine = p.float().numpy().view(np.uint8)
            data[source.plain[name] : source.plain[name] + len(mine)] = mine
    data.flush()
    return math.sqrt(errors / moves) if moves else 0.0
