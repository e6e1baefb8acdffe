"""Weights on a device with queues of its own: each pass finds the right ones, in whatever order its work is done."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import blackbox_zo as bz
from blackbox_zo._typing import override
from blackbox_zo.checkpoints import Piece, Safetensors
from blackbox_zo.streaming import _assembly, _module
from blackbox_zo.streaming._budget import Plan, planned
from blackbox_zo.streaming._disk import DiskStore
from blackbox_zo.streaming._encoding import ENCODINGS
from blackbox_zo.streaming._link import DeviceLink
from blackbox_zo.streaming._ring import Ring
from blackbox_zo.streaming._store import HostStore, Store
from blackbox_zo.streaming._units import Entry
from tests.blackbox_zo.streaming.models import saved, values_of
from tests.blackbox_zo.streaming.queues import EagerModel, Queues

files: Any = pytest.importorskip("safetensors.torch", reason="needs safetensors: pip install blackbox-zo[llm]")


def _store(folder: Path, kind: str, sizes: list[int], encoding: str | None = None) -> tuple[Store, list[Entry]]:
    """A store of entries of one parameter each, and the entries."""
    generator = torch.Generator().manual_seed(0)
    tensors = {f"w{i}": torch.randn(size, generator=generator) for i, size in enumerate(sizes)}
    files.save_file(tensors, folder / "model.safetensors")
    entries = [
        Entry(n, (n,), (torch.nn.Parameter(torch.zeros(t.shape)),), i) for i, (n, t) in enumerate(tensors.items())
    ]
    names = {n: [Piece(n, 0, t.numel())] for n, t in tensors.items()}
    base, held = Safetensors(folder), ENCODINGS.get(encoding or "")
    if kind == "host":
        return HostStore(base, names, held, entries, torch.device("cpu")), entries
    return DiskStore(base, names, held, entries, folder / "moved"), entries


@pytest.mark.parametrize("kind", ["disk", "host"])
@pytest.mark.parametrize("spare", [0, 4 * 640])
@pytest.mark.parametrize("seed", range(20))
def test_every_use_finds_its_weights(kind: str, spare: int, seed: int, tmp_path: Path) -> None:
    """Uses, moves in place and writes of entries of several sizes in any order; what was written is what was moved."""
    rng, queues = np.random.default_rng(seed), Queues(seed)
    store, entries = _store(tmp_path, kind, [64, 640, 256, 256, 1024])
    chains = [b"\0" * 16]
    link = DeviceLink(store, entries, queues)
    ring = Ring(link, 4 * (1024 + 256), spare, entries, lambda: chains)
    want = {e.number: store.find(e, torch.empty(e.nbytes, dtype=torch.uint8), chains).held.clone() for e in entries}
    wrong: list[str] = []

    def expect(memory: torch.Tensor, value: torch.Tensor, said: str) -> None:
        if not torch.equal(memory, value):
            wrong.append(said)

    order = [entries[i % 5] for i in range(15)] if rng.random() < 0.5 else [entries[i] for i in rng.integers(0, 5, 15)]
    for at, entry in enumerate(order):
        memory, _ = ring.take(entry)
        queues.run(partial(expect, memory, want[entry.number], f"use {at}"))
        if rng.random() < 0.6:
            ring.wait(entry)
            chains.append(bytes(rng.bytes(16)))
            new = want[entry.number].clone()
            new.view(torch.float32)[:] += 1.0
            queues.run(partial(memory.view(torch.float32).add_, 1.0))
            want[entry.number] = new
            ring.write(entry, memory, len(chains) - 1, chains[-1])
            queues.run(partial(expect, memory, new, f"after move {at}"))
    ring.wait()
    for entry in entries:
        memory, _ = ring.take(entry)
        queues.run(partial(expect, memory, want[entry.number], f"at the end {entry.name}"))
    ring.close()
    store.close()
    assert wrong == []


@pytest.mark.parametrize("spare", [0, 1024])
def test_one_comes_while_another_goes_back(spare: int, tmp_path: Path) -> None:
    """With room for a third; else it comes when the other has gone."""
    store, entries = _store(tmp_path, "disk", [256, 256, 256])
    may_go = threading.Event()

    class Slow(DeviceLink):
        @override
        def send(self, entry: Entry, held: torch.Tensor, after: Any) -> torch.Tensor:
            may_go.wait()
            return super().send(entry, held, after)

    ring = Ring(Slow(store, entries, EagerModel(0)), 2048, spare, entries, lambda: [b"\0" * 16, b"\1" * 16])
    memory, _ = ring.take(entries[0])
    ring.write(entries[0], memory, 1, b"\1" * 16)
    ring.take(entries[1])  # and the third is on its way
    (third,) = [slot for slot in ring.slots if slot.entry is entries[2]]
    assert third.fetched is not None
    if spare:
        third.fetched.result(timeout=30)
    else:
        with pytest.raises(TimeoutError):
            third.fetched.result(timeout=0.3)
    may_go.set()
    ring.wait()
    ring.close()
    store.close()


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("seed", range(6))
def test_codes_are_decoded_where_they_arrive(encoding: str, seed: int, tmp_path: Path) -> None:
    """In the order of their copies, each from its own."""
    queues = Queues(seed)
    store, entries = _store(tmp_path, "disk", [640, 256, 1024], encoding)
    link, held = DeviceLink(store, entries, queues), ENCODINGS[encoding]
    outs = [torch.zeros(e.nbytes, dtype=torch.uint8) for e in entries]
    marks = [link.bring(e, out, [b"\0" * 16], [])[1] for e, out in zip(entries, outs, strict=True)]
    for mark in marks:
        queues.finish(mark)
    for entry, out in zip(entries, outs, strict=True):
        want = torch.zeros_like(out)
        found = store.find(entry, torch.empty(store.size(entry), dtype=torch.uint8), [b"\0" * 16])
        held.restore(entry, found.held, want)
        assert torch.equal(out, want)
    link.close()
    store.close()


HOWS: list[dict[str, Any]] = [
    {},
    {"log_structured": True},
    {"store": "host"},
    {"budget": "300kB"},
    {"transfer_dtype": "int8"},
    {"store": "host", "transfer_dtype": "bf16", "log_structured": True},
]
LOWRANK = bz.RandomVector(1e-3, 2, "lowrank")


def planned_anyway(fixed: int, order: list[Entry], budget: int | None) -> Plan:
    """What a device with memory of its own plans for weights on the host."""
    return planned(fixed, order, budget, spare=True)


@pytest.mark.parametrize("how", HOWS, ids=str)
def test_a_model_finds_its_weights(how: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers are those of weights that come and go on a CPU."""
    name, folder, steps = "llama tied", saved("llama tied", tmp_path / "model"), 18 if "log_structured" in how else 5
    with bz.StreamedModule.from_pretrained(folder, **how) as want:
        values = values_of(name, want, LOWRANK, steps)
        fingerprint = want.fingerprint()
    monkeypatch.setattr(_assembly, "in_store", planned_anyway)
    monkeypatch.setattr(_module, "link_of", lambda store, entries, _: DeviceLink(store, entries, EagerModel(1)))
    with bz.StreamedModule.from_pretrained(folder, **how) as x:
        assert isinstance(x.streamer.link, DeviceLink)
        assert values_of(name, x, LOWRANK, steps) == values
        assert x.fingerprint() == fingerprint
