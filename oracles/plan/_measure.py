"""What this machine can do, measured with the library's own code on two blocks of a model."""

from __future__ import annotations

import copy
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch

import blackbox_zo as bz
from blackbox_zo._arrays import Array, write_arrays
from blackbox_zo.modules._module import KINDS, bits_of
from blackbox_zo.streaming._hollow import emptied
from blackbox_zo.streaming._units import Window, windows_of
from oracles.llm import Completion, LossOracle
from oracles.options import BadInput
from oracles.plan._machines import Figure, Machine
from oracles.plan._models import Shape
from oracles.plan._quantities import said
from oracles.plan._ways import Work, inside

__all__ = ["measured"]

BLOCKS = 2
"""Blocks of the model that is measured."""

READ = 1 << 30
"""Bytes of the model's file that are read, to measure the disk."""

_LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")


def measured(
    shape: Shape, work: Work, transfer_dtype: str | None = None, repeats: int = 3, folder: Path | None = None
) -> Machine:
    """Measure this machine, with its CPU as the device, at the shapes of a model's step.

    Two blocks with random weights are made, stored, read, moved, written and run.

    Args:
        shape: The model.
        work: What a step computes.
        transfer_dtype: How weights are to be held.
        repeats: Of each measurement; the median counts.
        folder: For the two blocks, on the disk that is meant; none takes the model's folder or the temporary one.

    Raises:
        BadInput: The model's blocks cannot be made fewer, or two of them need more memory than is free.
    """
    config = _smaller(shape)
    every = sum(w.entry.nbytes for w in windows_of(emptied(type(shape.model), config, shape.model.dtype)))
    free = psutil.virtual_memory().available
    if 3 * every > free:
        raise BadInput(
            f"--measure needs {said(3 * every)} for two blocks and the tables of {shape.name}, and {said(free)} are "
            "free. Name a --machine, and give --flops."
        )
    runtime = psutil.Process().memory_info().rss
    with tempfile.TemporaryDirectory(prefix="blackbox_zo-plan-", dir=folder) as name:
        stored = config.dtype or torch.float32
        small = _written(Path(name), type(shape.model), config, stored)
        speeds = _computing(shape, small, work, repeats)
        speeds |= _storing(shape, small, transfer_dtype, repeats)
    file = next(iter(sorted(Path(shape.name).expanduser().glob("*.safetensors"))), None)
    if file is not None:
        speeds["disk"] = _reading(file), f"measured on {file.name}, read as it lay on the disk or in the page cache"
    figures = {key: Figure(*value) for key, value in speeds.items()}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Machine(
        f"this machine: {cores} cores, {torch.get_num_threads()} threads",
        **figures,  # type: ignore[arg-type]
        link=None,
        link_back=None,
        device_memory=Figure(float(free), "measured: what is free"),
        runtime=Figure(float(runtime), "measured: of this process"),
        cores=cores,
        threads=torch.get_num_threads(),
    )


def _smaller(shape: Shape) -> Any:
    """The model's configuration with two blocks."""
    config = copy.deepcopy(shape.model.config)
    text = config.get_text_config()
    key = next((key for key in _LAYERS if getattr(text, key, None)), None)
    if key is None:
        raise BadInput(f"--measure cannot make {shape.name} smaller: its configuration has no number of layers.")
    setattr(text, key, BLOCKS)
    kinds = getattr(text, "layer_types", None)
    if kinds:
        text.layer_types = list(kinds)[:BLOCKS]
    return config


def _written(folder: Path, kind: Any, config: Any, dtype: torch.dtype) -> Path:
    """A folder with random weights."""
    config.architectures, config.dtype = [kind.__name__], dtype
    with torch.device("meta"):
        model = kind._from_config(config, dtype=dtype)

    def one(p: torch.Tensor) -> Any:
        return bits_of((torch.ones(p.shape) if p.dim() < 2 else torch.randn(p.shape) * 0.02).to(dtype))

    arrays = {n: Array(KINDS[dtype], tuple(p.shape), lambda p=p: one(p)) for n, p in model.named_parameters()}  # type: ignore[misc]
    write_arrays(folder / "model.safetensors", arrays, {})
    config.save_pretrained(folder)
    return folder


def _computing(shape: Shape, small: Path, work: Work, repeats: int) -> dict[str, tuple[float, str]]:
    """Operations a second in blocks and outside of them, and bytes moved, in real steps in memory."""
    with _no_bars():
        model = type(shape.model).from_pretrained(str(small), dtype=shape.model.dtype).eval()
    rows = min(work.rows, max(1, 2 * work.passes(True)[0] // work.queries))
    ids = torch.randint(
        3, model.config.get_text_config().vocab_size, (rows, work.length), generator=torch.Generator().manual_seed(0)
    )
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    x = bz.Module(model)
    oracle = LossOracle(model, [batch], Completion(), micro_batch=work.micro_batch)
    search = bz.Search(x, bz.RandomVector(1e-3, max(1, work.queries // 2), "lowrank"), bz.SGD(1e-6))
    moving = _timed(x, "add_")
    blocks = [w for w in windows_of(model) if len(w.entry.names) > 1]
    inner, whole, moves = [], [], []
    with _clocked(blocks) as clock:
        steps = iter(search.run(oracle, steps=repeats + 1))
        for _ in range(repeats + 1):
            clock[0], moving[0], begun = 0.0, 0.0, time.perf_counter()
            next(steps)
            inner.append(clock[0])
            moves.append(moving[0])
            whole.append(time.perf_counter() - begun - moving[0])
    block, head = _operations(shape, work, rows)
    in_blocks, move = statistics.median(inner[1:]), statistics.median(moves[1:])  # the first step is checked
    outside = max(1e-9, statistics.median(whole[1:]) - in_blocks)
    size = sum(p.numel() * p.element_size() for p in x.parameters.values())
    said_of = f"measured in steps of {rows} x {work.length} tokens"
    return {
        "flops": (BLOCKS * block / in_blocks, said_of),
        "head_flops": (max(1.0, head) / outside, said_of),
        "move": (size / max(1e-9, move), said_of),
    }


def _operations(shape: Shape, work: Work, rows: int) -> tuple[float, float]:
    """Of a mean block, and of what lies outside the blocks, in a step on some rows."""
    found, blocks = shape.a_pass(1, work.length).uses, inside(shape)
    mine = [f for e, f in found if e.number in blocks]
    each = work.queries * rows
    return each * sum(mine) / max(1, len(mine)), each * sum(f for e, f in found if e.number not in blocks)


def _storing(shape: Shape, small: Path, transfer_dtype: Any, repeats: int) -> dict[str, tuple[float, str]]:
    """Bytes read, decoded and written a second, by the store of a streamed model."""
    with bz.StreamedModule.from_pretrained(
        small, dtype=shape.model.dtype, transfer_dtype=transfer_dtype, weights=small / "moved"
    ) as x:
        entry = max((e for e in x.entries if len(e.names) > 1), key=lambda e: e.nbytes)
        out, chains = torch.empty(entry.nbytes, dtype=torch.uint8), [b"\0" * 16] * 2
        base = _median(lambda: x.store.start(entry, out), repeats)
        held = torch.zeros(x.store.size(entry), dtype=torch.uint8)
        writing = _median(lambda: x.store.write(entry, held, 1, chains[1]), repeats)
        reading = _median(lambda: x.store.read(entry, out, chains), repeats)
        raw = len(held) / reading
        if x.store.encoding is not None:
            raw = _reading(small / "model.safetensors")
            base = reading
        share = len(held) / entry.nbytes if x.store.encoding is not None else shape.file_share
        decoding = max(1e-9, base - share * entry.nbytes / raw)
    other = torch.empty_like(out)
    copying = _median(lambda: other.copy_(out), repeats)
    warm = "measured from the page cache"
    return {
        "disk": (raw, warm),
        "disk_write": (len(held) / writing, "measured to the page cache, with checksums"),
        "decode": (entry.nbytes / decoding, "measured, in one thread"),
        "copy": (entry.nbytes / copying, "measured"),
    }


@contextmanager
def _no_bars() -> Iterator[None]:
    from transformers.utils import logging

    drawn = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if drawn:
            logging.enable_progress_bar()


def _median(work: Callable[[], Any], repeats: int) -> float:
    times = []
    for _ in range(repeats + 1):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return statistics.median(times[1:])


def _reading(file: Path) -> float:
    """Bytes of a file read a second, from some GiB of it."""
    memory, read, begun = memoryview(bytearray(16 << 20)), 0, time.perf_counter()
    with file.open("rb", buffering=0) as opened:
        while read < READ and (n := opened.readinto(memory)):
            read += n
    return read / max(1e-9, time.perf_counter() - begun)


def _timed(thing: Any, name: str) -> list[float]:
    """Add the seconds of each call of a method up, in the first element of what is returned."""
    found, method = [0.0], getattr(thing, name)

    def timed(*arguments: Any) -> Any:
        begun = time.perf_counter()
        try:
            return method(*arguments)
        finally:
            found[0] += time.perf_counter() - begun

    setattr(thing, name, timed)
    return found


@contextmanager
def _clocked(windows: list[Window]) -> Iterator[list[float]]:
    """Within the context, the seconds that modules take, summed."""
    found, begun = [0.0], [0.0]

    def before(*_: Any) -> None:
        begun[0] = time.perf_counter()

    def after(*_: Any) -> None:
        found[0] += time.perf_counter() - begun[0]

    for hook in (before, after):
        hook._zo_streams = True  # type: ignore[attr-defined]  # it leaves what a module computes as it is
    handles = [w.module.register_forward_pre_hook(before) for w in windows]
    handles += [w.module.register_forward_hook(after) for w in windows]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
