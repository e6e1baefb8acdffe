"""The ways to stream a model on a machine: what each keeps where, and how long a step takes."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from blackbox_zo.streaming._budget import Plan as Kept
from blackbox_zo.streaming._budget import in_store, planned
from blackbox_zo.streaming._encoding import Encoding
from blackbox_zo.streaming._module import MERGE_EVERY
from blackbox_zo.streaming._units import Entry
from oracles.llm._passes import AT_ONCE, CPU_TOKENS, Passes
from oracles.llm.plan._machines import Machine
from oracles.llm.plan._models import Shape
from oracles.llm.plan._quantities import said
from oracles.llm.plan._sweep import COMPUTE, SLOTS, Step, Sweep

__all__ = ["Way", "Work", "activations", "in_memory", "inside", "way_of"]


@dataclass(frozen=True)
class Work:
    """What a step computes.

    Attributes:
        queries: Queries in a step.
        rows: Texts that each query sees.
        length: Tokens in a text.
        micro_batch: Examples in a pass at most, summed over its queries; none lets the device decide.
    """

    queries: int
    rows: int
    length: int
    micro_batch: int | None = None

    @property
    def tokens(self) -> int:
        """Tokens that each query sees."""
        return self.rows * self.length

    def passes(self, on_cpu: bool) -> list[int]:
        """The examples in each pass of a step, as `LossOracle` makes them."""
        most = self.micro_batch or (max(1, CPU_TOKENS // self.length) if on_cpu else 2**31)
        plan = Passes(None).plan(self.queries, self.rows, most)
        return [(q.stop - q.start) * (r.stop - r.start) for q, r in plan]


@dataclass(frozen=True)
class Way:
    """A way to stream a model.

    Attributes:
        store: "disk", "host", or "none" where all weights stay.
        log_structured: Whether blocks are written after 16 moves only.
        work: What a step computes, with the passes that fit.
        sweep: What is simulated.
        budget: Bytes for weights.
        kept: What stays.
        memory: Bytes by tier, and what takes them.
        seconds: Of a step; the mean over the moves that wait.
        least: The shortest step.
        most: The longest.
        resident: Of a step with all weights on the device.
        step: A step in the middle.
        lacking: What does not fit; empty if all does.
    """

    store: str
    log_structured: bool
    work: Work
    sweep: Sweep
    budget: int
    kept: Kept
    memory: dict[str, dict[str, int]]
    seconds: float
    least: float
    most: float
    resident: float
    step: Step
    lacking: str = ""

    @property
    def ratio(self) -> float:
        """Throughput over that with all weights on the device."""
        return self.resident / self.seconds

    @property
    def limit(self) -> tuple[str, float]:
        """The lane that works most, and for which share of a step."""
        lane = max(self.step.busy, key=lambda name: self.step.busy[name])
        return lane, self.step.busy[lane] / self.step.seconds

    @property
    def hidden_from(self) -> int | None:
        """Tokens a step from which computing takes longer than anything else does; none if it does now."""
        other = max((s for lane, s in self.step.busy.items() if lane != COMPUTE), default=0.0)
        moves = sum(s.task.seconds for s in self.step.spans if s.task.what.endswith(", move"))
        passes = self.step.busy[COMPUTE] - moves
        if other <= self.step.busy[COMPUTE] or passes <= 0:
            return None
        return int(self.work.tokens * (other - moves) / passes) + 1


def _uses(shape: Shape, work: Work, on_cpu: bool) -> list[tuple[Entry, float]]:
    """Entries in the order of a step, with operations; more passes than run at once take further sweeps."""
    examples = work.passes(on_cpu)
    one = shape.a_pass(1, work.length).uses
    groups = [sum(examples[a : a + AT_ONCE]) for a in range(0, len(examples), AT_ONCE)]
    return [(entry, count * flops) for count in groups for entry, flops in one]


def activations(shape: Shape, work: Work, on_cpu: bool) -> int:
    """Bytes of activations: those of the pass that runs, and of those that wait."""
    examples = work.passes(on_cpu)
    largest = shape.a_pass(max(examples), work.length)
    return largest.peak + (min(len(examples), AT_ONCE) - 1) * largest.between


def in_memory(shape: Shape, machine: Machine, work: Work) -> float:
    """Seconds of a step with all weights on the device."""
    uses, every = _uses(shape, work, machine.link is None), {e.number for e in shape.entries}
    return Sweep(machine, uses, inside(shape), kept=every).step(1).seconds


def inside(shape: Shape) -> set[int]:
    """Numbers of the entries that are blocks, and not tables."""
    return {w.entry.number for w in shape.windows if len(w.entry.names) > 1 or w.entry.parameters[0].dim() > 2}


def way_of(
    shape: Shape,
    machine: Machine,
    work: Work,
    store: str,
    log_structured: bool,
    encoding: Encoding | None,
    budget: int | None,
    slots: int = SLOTS,
    rewritten: bool = True,
    moves: Sequence[int] | None = None,
) -> Way:
    """Lay out and simulate a way.

    Args:
        shape: The model.
        machine: The machine.
        work: What a step computes; passes are made smaller until two blocks fit beside them.
        store: "disk" or "host".
        log_structured: Whether blocks are written after 16 moves only.
        encoding: How weights are held.
        budget: For weights; none takes what the device has.
        slots: Entries in the ring, two or three.
        rewritten: As in `Sweep`.
        moves: Moves that wait, one simulation each; none takes those of the steady state, from 1 to all that are due.

    Raises:
        ValueError: Not even two blocks fit; the message names the least.
    """
    work, given, kept = _laid_out(shape, machine, work, encoding, budget, slots, store == "host")
    on_cpu, merge_every = machine.link is None, MERGE_EVERY if log_structured else 1
    whole = len(kept.kept) == len(shape.entries)
    sweep = Sweep(
        machine, _uses(shape, work, on_cpu), inside(shape), kept.kept, frozenset(), store == "host", merge_every,
        encoding, shape.file_share, rewritten, slots,
    )  # fmt: skip
    sweep = replace(sweep, cached=_cached(shape, sweep))
    waiting = {1: 1} if whole else dict.fromkeys(moves, 1) if moves else _waiting(merge_every)
    steps = [sweep.step(n) for n in waiting]
    times = [step.seconds for step in steps]
    mean = statistics.fmean(times, weights=waiting.values())
    memory = _memory(shape, sweep, kept, activations(shape, work, on_cpu), whole)
    return Way(
        "none" if whole else store, log_structured and not whole, work, sweep, given, kept, memory,
        mean, min(times), max(times), in_memory(shape, machine, work), steps[len(steps) // 2],
        _lacking(machine, memory),
    )  # fmt: skip


def _waiting(merge_every: int) -> dict[int, int]:
    """Numbers of moves that wait, and for how many steps each stands; those between two writes cost as the middle."""
    if merge_every == 1:
        return {1: 1}
    return {1: 1, merge_every // 2: merge_every - 3, merge_every - 1: 1, merge_every: 1}


def _laid_out(
    shape: Shape, machine: Machine, work: Work, encoding: Encoding | None, budget: int | None, slots: int, host: bool
) -> tuple[Work, int, Kept]:
    """The passes, the bytes for weights, and what stays."""
    on_cpu = machine.link is None
    if on_cpu and host and encoding is None:
        return work, shape.nbytes, in_store(shape.fixed, shape.order, budget)
    spare = slots > SLOTS
    while True:
        beside = activations(shape, work, on_cpu) + int(machine.runtime.value)
        room = int(machine.device_memory.value) - beside
        least = planned(shape.fixed, shape.order, None, encoding, spare).total
        every = shape.nbytes
        if budget is not None and budget + beside <= machine.device_memory.value and budget >= least:
            return work, budget, planned(shape.fixed, shape.order, budget, encoding, spare)
        if budget is None and every <= room:
            return work, room, planned(shape.fixed, shape.order, room + every, None)
        if budget is None and least <= room:
            return work, room, planned(shape.fixed, shape.order, room, encoding, spare)
        examples = max(work.passes(on_cpu))
        if examples == 1 or (budget is not None and budget < least):
            raise ValueError(_too_small(machine, budget, least, beside))
        work = replace(work, micro_batch=examples // 2)


def _too_small(machine: Machine, budget: int | None, least: int, beside: int) -> str:
    def up(size: int) -> str:
        return f"{-(-size // 2**20) / 1024:.1f}GiB" if size > 10 * 2**30 else f"{-(-size // 2**20)}MiB"

    weights = f"two blocks and what always stays take {said(least)}"
    if budget is not None and budget < least:
        return f"--budget {said(budget)} is too small: {weights}. Give at least --budget {up(least)}."
    need = max(least, budget or 0) + beside
    what = weights if budget is None else f"the budget is {said(budget)}"
    return (
        f"--device-memory {said(machine.device_memory.value)} is too small: {what}, activations and the runtime "
        f"{said(beside)}. Give at least --device-memory {up(int(need * 1.01))}."
    )


def _cached(shape: Shape, sweep: Sweep) -> frozenset[int]:
    """Entries of a store on the disk that stay in what the host's memory has beside its buffers, spread evenly."""
    machine = sweep.machine
    coming = [e for e in shape.entries if e.number not in sweep.kept]
    if machine.link is None or sweep.on_host or machine.host_memory is None or not coming:
        return frozenset()
    room = machine.host_memory.value - _buffers(sweep, coming)
    bits = max(1, len(coming).bit_length())
    found = set[int]()
    for i in sorted(range(len(coming)), key=lambda i: int(f"{i:0{bits}b}"[::-1], 2)):
        if sweep.held(coming[i]) <= room:
            room -= sweep.held(coming[i])
            found.add(coming[i].number)
    return frozenset(found)


def _buffers(sweep: Sweep, coming: Sequence[Entry]) -> int:
    """Bytes in the host's memory through which entries pass, to the device and back."""
    return 4 * max(map(sweep.held, coming), default=0)


def _memory(shape: Shape, sweep: Sweep, kept: Kept, active: int, whole: bool) -> dict[str, dict[str, int]]:
    machine, coming = sweep.machine, [e for e in shape.entries if e.number not in kept.kept]
    staying = shape.fixed + sum(e.nbytes for e in shape.entries if e.number in kept.kept)
    device = {
        "weights that stay": staying,
        "ring": 0 if whole else kept.total - staying,
        "activations": active,
        "runtime": int(machine.runtime.value),
    }
    in_store = sum(map(sweep.held, shape.entries))
    files = int(shape.nbytes * shape.file_share)
    moved = 0 if whole or sweep.on_host else 2 * sum(map(sweep.held, coming))
    disk = {"the model's files": files, "moved weights, at most": moved}
    host = {"the store": in_store if sweep.on_host and not whole else 0}
    if machine.link is None:
        return {"memory": device | host, "disk": disk}
    if not whole:
        host["buffers"] = 0 if sweep.on_host else _buffers(sweep, coming)
        host["blocks that stay"] = sum(sweep.held(e) for e in coming if e.number in sweep.cached)
    return {"device": device, "host": host, "disk": disk}


def _lacking(machine: Machine, memory: dict[str, dict[str, int]]) -> str:
    tier = "host" if machine.link is not None else "memory"
    room = machine.host_memory if machine.link is not None else machine.device_memory
    need = sum(memory[tier].values())
    if room is None or need <= room.value:
        return ""
    return f"{said(need)} of {'host ' if tier == 'host' else ''}memory, of which there are {said(room.value)}"
