"""What a plan lays out and simulates, on tiny models: beside the real `StreamedModule`, and by laws."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

import blackbox_zo as bz
from blackbox_zo.streaming._encoding import ENCODINGS
from oracles.llm import Completion, LossOracle
from oracles.llm.plan import MACHINES, Figure, Machine, Way, plan
from oracles.llm.plan._models import Shape, shape_of
from oracles.llm.plan._plan import work_of
from oracles.llm.plan._sweep import COMPUTE, DISK, UP, WRITE
from oracles.llm.plan._ways import Work, in_memory, way_of
from tests.oracles.llm.helpers import gpt2, llama

INFINITE = Figure(1e30, "given")
CARD = MACHINES["a100"]
CPU = CARD.but(link=None, link_back=None, copy=Figure(5e9, "given"), runtime=Figure(0, "given"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama whose head is its embedding, in four blocks."""
    where = tmp_path_factory.mktemp("models")
    model = llama()
    model.config.num_hidden_layers = 4
    type(model)(model.config).save_pretrained(where / "tied")
    gpt2().save_pretrained(where / "places")
    return where


@cache
def opt() -> Shape:
    return shape_of("opt-125m", None)


def way(budget: int | None = None, machine: Machine = CARD, work: Work | None = None, **how: Any) -> Way:
    """A way of OPT-125M within what the first of several sizes leave."""
    how = {"store": "host", "log_structured": False, "encoding": None, **how}
    return way_of(opt(), machine, work or work_of(opt(), 512, 128, 2), budget=budget, **how)


@pytest.mark.parametrize("name", ["tied", "places"])
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("budget", ["130KiB", "160KiB", "10MiB"])
def test_it_keeps_and_reads_what_the_real_one_does(folder: Path, name: str, log: bool, budget: str) -> None:
    """The same entries of the same sizes stay, and a step fetches the same ones, as often, in the same order."""
    from blackbox_zo.streaming._budget import in_bytes

    batch = {key: torch.ones(4, 16, dtype=torch.long) for key in ("input_ids", "attention_mask", "labels")}
    with bz.StreamedModule.from_pretrained(folder / name, budget=budget, log_structured=log) as x:
        fetched: list[str] = []
        find = x.store.find

        def noted(entry: Any, *rest: Any) -> Any:
            fetched.append(entry.name)
            return find(entry, *rest)

        x.store.find = noted  # type: ignore[method-assign, assignment]
        search = bz.Search(x, bz.RandomVector(1e-3, 1, "lowrank"), bz.SGD(1e-3))
        steps = iter(search.run(LossOracle(x.model, [batch], Completion()), steps=4))
        next(steps)
        next(steps)
        x.streamer.ring.reader.submit(int).result()
        before = len(fetched)
        next(steps)
        x.streamer.ring.reader.submit(int).result()
        real = fetched[before:]
        shape = shape_of(str(folder / name), None)
        mine = way_of(shape, CPU, work_of(shape, 64, 16, 2), "disk", log, None, in_bytes(budget), moves=[2])
        assert [(e.name, e.names, e.nbytes) for e in shape.order] == [
            (w.entry.name, w.entry.names, w.entry.nbytes) for w in x.streamer.windows
        ]
        assert mine.kept.kept == x.plan.kept and mine.kept.total == x.plan.total
    planned = [s.task.what for s in mine.step.spans if s.task.lane == DISK]
    assert sorted(planned) == sorted(real)
    assert not planned or planned == real[-1:] + real[:-1] or planned == real


def test_passes_are_those_of_the_oracle() -> None:
    assert Work(2, 8, 256).passes(on_cpu=True) == [4] * 4
    assert Work(2, 8, 256).passes(on_cpu=False) == [16]
    assert Work(2, 8, 256, micro_batch=2).passes(on_cpu=False) == [2] * 8


def test_operations_are_those_of_the_products(folder: Path) -> None:
    """Two for each weight of a matrix and token, and four times width for each pair of tokens."""
    shape, length = shape_of(str(folder / "tied"), None), 16
    config, uses = shape.model.config, shape.a_pass(1, length).uses
    matrices = sum(p.numel() for p in shape.windows[1].module.parameters() if p.dim() == 2)
    assert uses[1][1] == 2 * matrices * length + 4 * config.hidden_size * length**2
    assert uses[-1][1] == 2 * config.hidden_size * config.vocab_size * length
    assert [e.name for e, _ in uses] == [e.name for e in shape.order]


@pytest.mark.parametrize("store", ["host", "disk"])
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("machine", [CARD, CPU])
def test_a_step_takes_as_long_as_each_lane_works(store: str, log: bool, machine: Machine) -> None:
    encoding = ENCODINGS["bf16"] if (store, machine) == ("host", CPU) else None  # else it is not copied
    found = way((250 if encoding else 95) << 20, machine, store=store, log_structured=log, encoding=encoding)
    assert found.step.busy.keys() > {COMPUTE}
    assert all(seconds <= found.step.seconds * (1 + 1e-9) for seconds in found.step.busy.values())
    assert found.seconds >= found.resident * (1 - 1e-9)


def test_with_infinitely_fast_links_it_takes_what_computing_takes() -> None:
    fast = CARD.but(link=INFINITE, link_back=INFINITE, disk=INFINITE, disk_write=INFINITE)
    for store in ("host", "disk"):
        assert way(95 << 20, fast, store=store).seconds == pytest.approx(in_memory(opt(), fast, way().work))


def test_a_slow_disk_is_what_limits_it() -> None:
    slow = CARD.but(disk=Figure(1e6, "given"), disk_write=INFINITE)
    found = way(95 << 20, slow, store="disk")
    streamed = sum(e.nbytes for e in opt().entries if e.number not in found.kept.kept)
    again = [e for e in opt().order if e.number not in found.kept.kept]
    assert found.limit[0] == DISK and found.seconds == pytest.approx(streamed / 1e6, rel=0.01)
    assert len(again) - len(set(again)) in (0, 1)  # the tied table is still there when the next step begins


def test_more_budget_is_never_slower_and_never_exceeded() -> None:
    slow = CARD.but(link=Figure(1e9, "given"), link_back=Figure(1e9, "given"))
    sizes = [95 << 20, 120 << 20, 150 << 20, 200 << 20]
    ways = [way(size, slow) for size in sizes]
    assert all(found.kept.total <= size for found, size in zip(ways, sizes, strict=True))
    times = [found.seconds for found in ways]
    assert times == sorted(times, reverse=True) and times[0] > times[-1]


def test_the_device_holds_no_more_than_it_has() -> None:
    for size in (600 << 20, 800 << 20, 1200 << 20):
        machine = CARD.but(device_memory=Figure(size, "given"), runtime=Figure(0, "given"))
        found = way(machine=machine, work=work_of(opt(), 512, 128, 2))
        assert sum(found.memory["device"].values()) <= size


def test_what_fits_is_not_streamed() -> None:
    found = plan(opt(), CARD, 512)
    assert found.best.store == "none" and found.others == [] and found.best.ratio == 1.0
    assert found.best.step.busy.keys() == {COMPUTE} and found.best.memory["host"] == {"the store": 0}


def test_more_queries_read_and_copy_nothing_more() -> None:
    few, many = (way(95 << 20, work=work_of(opt(), 512, 128, n)) for n in (2, 16))
    assert many.step.busy[COMPUTE] > few.step.busy[COMPUTE]
    assert {n: t for n, t in many.step.busy.items() if n != COMPUTE} == pytest.approx(
        {n: t for n, t in few.step.busy.items() if n != COMPUTE}
    )


def test_more_passes_than_run_at_once_read_again() -> None:
    """`run_together` runs sixteen at most, so 32 passes of one example take two sweeps."""
    once, twice = (way(95 << 20, work=work_of(opt(), 128 * n, 128, 2, 1)) for n in (8, 16))
    assert twice.step.busy[UP] == pytest.approx(2 * once.step.busy[UP], rel=0.2)


def test_log_structured_writes_after_sixteen_moves_only() -> None:
    few, last = (way(95 << 20, CPU, store="disk", log_structured=True, moves=[n]) for n in (3, 16))
    assert WRITE not in few.step.busy and last.step.busy[WRITE] > 0
    moved = [sum(s.task.seconds for s in w.step.spans if s.task.what.endswith(", move")) for w in (few, last)]
    assert moved[1] > 4 * moved[0]


def test_a_move_that_was_made_before_has_a_speed_of_its_own() -> None:
    quick = CPU.but(again=INFINITE)
    one, many = (way(95 << 20, quick, store="disk", log_structured=True, moves=[n]) for n in (1, 15))
    assert many.seconds == pytest.approx(one.seconds)


def test_a_third_block_in_the_ring_takes_its_room() -> None:
    two, three = way(95 << 20), way(110 << 20, slots=3)
    assert three.seconds <= two.seconds * (1 + 1e-9)
    assert three.memory["device"]["ring"] >= two.memory["device"]["ring"] + 13 * 2**20


def test_blocks_that_the_host_has_room_for_are_not_read() -> None:
    roomy = CARD.but(host_memory=Figure(1e9, "given"))
    assert DISK not in way(95 << 20, roomy, store="disk").step.busy
    tight = way(95 << 20, CARD.but(host_memory=Figure(400e6, "given")), store="disk")
    assert sum(tight.memory["host"].values()) <= 400e6 and tight.memory["host"]["blocks that stay"] > 0


def test_passes_become_smaller_until_two_blocks_fit() -> None:
    machine = CARD.but(device_memory=Figure(300 << 20, "given"), runtime=Figure(0, "given"))
    found = way(machine=machine, work=work_of(opt(), 512, 128, 2))
    assert found.work.micro_batch is not None and sum(found.memory["device"].values()) <= 300 << 20


def test_one_that_lacks_memory_of_the_host_is_said_to() -> None:
    machine = CARD.but(device_memory=Figure(450 << 20, "given"), runtime=Figure(0, "given"))
    found = plan(opt(), machine.but(host_memory=Figure(200e6, "given")), 512)
    assert found.best.store == "disk" and {w.store for w in found.others if w.lacking} == {"host"}
    with pytest.raises(ValueError, match="does not fit"):
        plan(opt(), machine.but(host_memory=Figure(100e6, "given")), 512, store="host")


def test_the_sizes_of_published_shapes() -> None:
    sizes = {"opt-1.3b": 1.316, "opt-13b": 12.85, "llama-3-8b": 8.03, "qwen3-8b": 8.19}
    for name, billions in sizes.items():
        assert shape_of(name, None).numbers / 1e9 == pytest.approx(billions, rel=0.002)


def test_replaced_figures_leave_the_machine_as_it_was() -> None:
    assert CARD.but(link=INFINITE).link == INFINITE and CARD.link != INFINITE
    assert replace(CARD, name="x").figures() == CARD.figures()
