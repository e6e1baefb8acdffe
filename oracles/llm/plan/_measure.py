"""What this machine can do, measured with the library's own code on two blocks of a model."""

from __future__ import annotations

import copy
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch

import blackbox_zo as bz
from blackbox_zo._arrays import Array, write_arrays
from blackbox_zo.checkpoints import emptied
from blackbox_zo.modules._devices import full_precision
from blackbox_zo.modules._module import KINDS, bits_of
from blackbox_zo.modules._moves import Moved, Mover
from blackbox_zo.streaming._link import Link
from blackbox_zo.streaming._units import Window, windows_of
from oracles.llm import Completion, LossOracle
from oracles.llm.plan._machines import Figure, Machine
from oracles.llm.plan._models import Shape
from oracles.llm.plan._quantities import said
from oracles.llm.plan._ways import Work, inside
from oracles.options import BadInput

__all__ = ["Measuring", "measured"]

BLOCKS = 2
"""Blocks of the model that is measured."""

READ = 1 << 28
"""Bytes of the model's file that are read, to measure the disk."""

_LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")


def measured(
    shape: Shape, work: Work, transfer_dtype: str | None = None, repeats: int = 5, folder: Path | None = None
) -> Machine:
    """Measure this machine, with its CPU as the device, at the shapes of a model's step.

    Args:
        shape: The model.
        work: What a step computes.
        transfer_dtype: How weights are to be held.
        repeats: Samples; the median of each figure counts.
        folder: As in `Measuring`.

    Raises:
        BadInput: The model's blocks cannot be made fewer, or two of them need more memory than is free.
    """
    with Measuring(shape, work, transfer_dtype, folder) as measuring:
        return measuring.machine([measuring.sample() for _ in range(repeats)])


class Measuring:
    """Two blocks of a model with random weights: to run, move, store, read and write them.

    Args:
        shape: The model.
        work: What a step computes.
        transfer_dtype: How weights are to be held.
        folder: For the two blocks, on the disk that is meant; none takes the temporary one.

    Raises:
        BadInput: The model's blocks cannot be made fewer, or two of them need more memory than is free.
    """

    def __init__(self, shape: Shape, work: Work, transfer_dtype: Any = None, folder: Path | None = None) -> None:
        self.shape, self.work = shape, work
        config = _smaller(shape)
        self.free = psutil.virtual_memory().available
        self.runtime = psutil.Process().memory_info().rss
        if not inside(shape):
            raise BadInput(f"--measure: {shape.name} is too small; no block of it would come and go.")
        every = sum(w.entry.nbytes for w in windows_of(emptied(type(shape.model), config, shape.model.dtype)))
        if 3 * every > self.free:
            raise BadInput(
                f"--measure needs {said(3 * every)} for two blocks and the tables of {shape.name}, and "
                f"{said(self.free)} are free. Name a --machine, and give --flops."
            )
        self.file = next(iter(sorted(Path(shape.name).expanduser().glob("*.safetensors"))), None)
        self.place = tempfile.TemporaryDirectory(prefix="blackbox_zo-plan-", dir=folder)
        small = _written(Path(self.place.name), type(shape.model), config, config.dtype or torch.float32)
        self.stored = bz.StreamedModule.from_pretrained(
            small, dtype=shape.model.dtype, transfer_dtype=transfer_dtype, weights=small / "moved"
        )
        self._prepare(small)

    def _prepare(self, small: Path) -> None:
        """The model with all weights in memory, laid out as in a sweep, and its first step, which is checked."""
        self.x = x = bz.StreamedModule.from_pretrained(small, dtype=self.shape.model.dtype, budget=1 << 60)
        work, words = self.work, self.shape.model.config.get_text_config().vocab_size
        self.rows = min(work.rows, max(1, 2 * work.passes(True)[0] // work.queries))
        ids = torch.randint(3, words, (self.rows, work.length), generator=torch.Generator().manual_seed(0))
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
        self.size = sum(p.numel() * p.element_size() for p in x.parameters.values())
        self.blocks = [w for w in windows_of(x.model) if len(w.entry.names) > 1]
        oracle = LossOracle(x.model, [batch], Completion(), micro_batch=work.micro_batch)
        search = bz.Search(x, bz.RandomVector(1e-3, max(1, work.queries // 2), "lowrank"), bz.SGD(1e-6))
        self.latest = _latest(x, "add_")
        self.steps = iter(search.run(oracle, steps=1_000_000))
        next(self.steps)

    def sample(self) -> dict[str, float]:
        """Each figure once."""
        return {**self._computing(), **self._storing()}

    def _computing(self) -> dict[str, float]:
        """Operations a second in blocks and outside of them, and bytes moved, in a real step in memory."""
        next(self.steps)  # after a pause, memory and caches are cold
        with _clocked(self.blocks) as clock:
            begun = time.perf_counter()
            next(self.steps)
            whole = time.perf_counter() - begun
        move, again = self._moves()
        block, head = _operations(self.shape, self.work, self.rows)
        return {
            "flops": BLOCKS * block / max(1e-9, clock[0]),
            "head_flops": max(1.0, head) / max(1e-9, whole - clock[0] - move),
            "move": self.size / move,
            "again": self.size / again,
        }

    def _moves(self) -> tuple[float, float]:
        """Seconds of a move, and of one that was made before, on other weights."""
        x = self.x
        items = [Moved(b, x.parameters[b.name], 1.0, True, 1.0, None) for b in x.blocks]
        mover = Mover(self.latest[0], items, x.version if x.rounding == "stochastic" else None)
        with torch.no_grad(), full_precision():
            return _took(lambda: mover.make(items)), _took(lambda: mover.make(items))

    def _storing(self) -> dict[str, float]:
        """Bytes read, decoded, written and copied a second."""
        store, shape = self.stored.store, self.shape
        entry = max((e for e in self.stored.entries if len(e.names) > 1), key=lambda e: e.nbytes)
        out, chains = torch.empty(entry.nbytes, dtype=torch.uint8), [b"\0" * 16] * 2
        held, other = torch.zeros(store.size(entry), dtype=torch.uint8), torch.empty_like(out)
        writing = _took(lambda: store.write(entry, held, 1, chains[1]))
        link = Link(store, self.stored.entries)
        reading = _took(lambda: link.bring(entry, out, chains, []))
        if store.encoding is None:
            raw = len(held) / reading
            decoding = _took(lambda: store.start(entry, out)) - shape.file_share * entry.nbytes / raw
        else:
            raw = _reading(Path(self.place.name, "model.safetensors"))
            decoding = reading - len(held) / raw
        return {
            "disk": raw if self.file is None else _reading(self.file),
            "disk_write": len(held) / writing,
            "decode": min(1e12, entry.nbytes / max(1e-9, decoding)),
            "copy": entry.nbytes / _took(lambda: other.copy_(out)),
        }

    def machine(self, samples: Sequence[dict[str, float]]) -> Machine:
        """The machine of the medians."""
        middle = {name: statistics.median(sample[name] for sample in samples) for name in samples[0]}
        steps = f"measured in steps of {self.rows} x {self.work.length} tokens"
        file = "two blocks, in the page cache" if self.file is None else f"{self.file.name}, as it was"
        sources = {
            "flops": steps, "head_flops": steps, "move": steps, "again": steps, "disk": f"measured on {file}",
            "disk_write": "measured, to the page cache and with checksums", "decode": "measured, in one thread",
            "copy": "measured",
        }  # fmt: skip
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        threads = torch.get_num_threads()
        return Machine(
            f"this machine, {cores} cores, {threads} {'thread' if threads == 1 else 'threads'}",
            **{name: Figure(value, sources[name]) for name, value in middle.items()},
            link=None,
            link_back=None,
            device_memory=Figure(float(self.free), "measured: what was free"),
            runtime=Figure(float(self.runtime), "measured: of this process"),
            cores=cores,
            threads=threads,
        )

    def close(self) -> None:
        """Remove the two blocks."""
        self.x.close()
        self.stored.close()
        self.place.cleanup()

    def __enter__(self) -> Measuring:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


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


def _operations(shape: Shape, work: Work, rows: int) -> tuple[float, float]:
    """Of a mean block, and of what lies outside the blocks, in a step on some rows."""
    found, blocks = shape.a_pass(1, work.length).uses, inside(shape)
    mine = [f for e, f in found if e.number in blocks]
    each = work.queries * rows
    return each * sum(mine) / max(1, len(mine)), each * sum(f for e, f in found if e.number not in blocks)


def _took(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return max(1e-9, time.perf_counter() - begun)


def _reading(file: Path) -> float:
    """Bytes of a file read a second, its beginning."""
    memory, read, begun = memoryview(bytearray(16 << 20)), 0, time.perf_counter()
    with file.open("rb", buffering=0) as opened:
        while read < READ and (n := opened.readinto(memory)):
            read += n
    return read / max(1e-9, time.perf_counter() - begun)


def _latest(thing: Any, name: str) -> list[Any]:
    """What a method was last called with."""
    found, method = list[Any](), getattr(thing, name)

    def noted(*arguments: Any) -> Any:
        found[:] = arguments
        return method(*arguments)

    setattr(thing, name, noted)
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
