"""The tasks of a step: which entry is read, copied, moved, used and written, and what each waits for.

It follows `blackbox_zo.streaming`: the ring has two ends, the next entry is fetched once the one before is given up,
moves are made when an entry arrives, and it is written while passes use it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from blackbox_zo.streaming._encoding import Encoding
from blackbox_zo.streaming._units import Entry
from oracles.llm.plan._machines import Figure, Machine
from oracles.llm.plan._pipeline import Span, Task, simulated

__all__ = ["COMPUTE", "Step", "Sweep"]

DISK, UP, COMPUTE, DOWN, WRITE = "disk → memory", "host → device", "compute", "device → host", "memory → disk"

SLOTS = 2
"""Entries in the ring."""


@dataclass(frozen=True)
class Step:
    """What a step took, once the pipeline is full.

    Attributes:
        seconds: From one step to the next.
        busy: Seconds of work by lane.
        waits: Seconds by (who waits, for whom).
        spans: The tasks of the step; times count from its beginning.
    """

    seconds: float
    busy: dict[str, float]
    waits: dict[tuple[str, str], float]
    spans: list[Span]


@dataclass(frozen=True)
class Sweep:
    """A way to stream a model.

    Attributes:
        machine: The machine.
        uses: Entries in the order in which a step needs them, with the operations of all its passes.
        inside: Numbers of the entries that are blocks; others are tables.
        kept: Numbers of the entries that stay on the device.
        cached: Numbers of those that stay in the host's memory, of a store on the disk.
        on_host: Whether the store is the host's memory.
        merge_every: Moves after which an entry is written.
        encoding: How entries are held.
        file_share: Bytes in the checkpoint over bytes in memory.
        rewritten: Whether entries come from where they were written before, and not from the checkpoint.
        slots: Entries in the ring.
    """

    machine: Machine
    uses: list[tuple[Entry, float]]
    inside: Collection[int]
    kept: Collection[int] = frozenset()
    cached: Collection[int] = frozenset()
    on_host: bool = False
    merge_every: int = 1
    encoding: Encoding | None = None
    file_share: float = 1.0
    rewritten: bool = True
    slots: int = SLOTS
    _sizes: dict[int, int] = field(default_factory=dict)

    def held(self, entry: Entry) -> int:
        """Bytes of an entry as it is held."""
        if self.encoding is None:
            return entry.nbytes
        return self._sizes.setdefault(entry.number, self.encoding.nbytes(entry))

    def step(self, moves: int, sweeps: int = 4) -> Step:
        """A step in the steady state.

        Args:
            moves: Moves that wait for each entry.
            sweeps: Steps that are simulated; the last but one is looked at.
        """
        tasks, ends = _Tasks(self, moves), []
        for _ in range(sweeps):
            tasks.add_sweep()
            ends.append(len(tasks.tasks) - 1)
        spans = simulated(tasks.tasks, self.machine.cores)
        first, last = (max(s.end for s in spans[: i + 1] if s.task.lane == COMPUTE) for i in ends[-3:-1])
        mine = spans[ends[-3] + 1 : ends[-2] + 1]
        busy: dict[str, float] = {}
        waits: dict[tuple[str, str], float] = {}
        for span in mine:
            busy[span.task.lane] = busy.get(span.task.lane, 0.0) + span.task.seconds
            if span.whom:
                pair = span.task.lane, span.whom
                waits[pair] = waits.get(pair, 0.0) + span.waited
        for span in mine:
            span.begin, span.end = span.begin - first, span.end - first
        return Step(last - first, busy, waits, mine)


class _Tasks:
    """The list of tasks while it grows."""

    def __init__(self, sweep: Sweep, moves: int) -> None:
        self.sweep, self.machine, self.moves = sweep, sweep.machine, moves
        self.tasks: list[Task] = []
        self.given_up: list[tuple[int, ...]] = []
        self.read: list[int] = []
        self.written: list[int] = []
        self.stored: dict[int, int] = {}
        self.current: Entry | None = None
        self.due = moves % sweep.merge_every == 0

    def add(self, lane: str, seconds: float, what: str, after: tuple[int, ...]) -> int:
        cores = self.machine.threads if lane == COMPUTE else 1
        self.tasks.append(Task(lane, seconds, what, after, cores if self.machine.link is None else 0.0))
        return len(self.tasks) - 1

    def add_sweep(self) -> None:
        moved = set[int]()
        for entry, flops in self.sweep.uses:
            streamed = entry.number not in self.sweep.kept
            ready: tuple[int, ...] = ()
            fetched = streamed and entry is not self.current
            if fetched:
                ready = (self._fetch(entry),)
            lacks = entry.number not in moved or (fetched and not self.due)
            busy, write = self._move(entry, ready) if lacks else -1, -1
            if lacks and self.due and streamed and entry.number not in moved:
                write = self._write(entry, busy)
            moved.add(entry.number)
            use = self._use(entry, flops, ready if busy < 0 else (busy,))
            if streamed:
                self._note(entry, fetched, (use, write) if write >= 0 else (use,))

    def _note(self, entry: Entry, fetched: bool, ends: tuple[int, ...]) -> None:
        """What must be done before another entry takes this one's place."""
        if fetched:
            self.given_up.append(ends)
        else:
            self.given_up[-1] = (*self.given_up[-1], *ends)
        self.current = entry

    def _place(self) -> tuple[int, ...]:
        """What must be done before the ring has room."""
        back = len(self.given_up) - self.sweep.slots
        return self.given_up[back] if back >= 0 else ()

    def _fetch(self, entry: Entry) -> int:
        machine, held = self.machine, self.sweep.held(entry)
        wait = (self.stored[entry.number],) if entry.number in self.stored else ()
        decoded = self.sweep.encoding is not None
        if machine.link is None:
            plain = self.sweep.rewritten or self.sweep.on_host
            size = held if plain else entry.nbytes * self.sweep.file_share
            seconds = size / (machine.copy if self.sweep.on_host else machine.disk).value
            if decoded or (not plain and self.sweep.file_share != 1.0):
                seconds += entry.nbytes / machine.decode.value
            return self.add(DISK, seconds, entry.name, (*self._place(), *wait))
        if not self.sweep.on_host and entry.number not in self.sweep.cached:
            size = held if self.sweep.rewritten else entry.nbytes * self.sweep.file_share
            room = (self.read[-SLOTS],) if len(self.read) >= SLOTS else ()
            wait = (self.add(DISK, size / machine.disk.value, entry.name, (*room, *wait)),)
        seconds = held / machine.link.value + (entry.nbytes / machine.decode.value if decoded else 0.0)
        up = self.add(UP, seconds, entry.name, (*self._place(), *wait))
        if not self.sweep.on_host and entry.number not in self.sweep.cached:
            self.read.append(up)
        return up

    def _move(self, entry: Entry, ready: tuple[int, ...]) -> int:
        times = 1 if entry.number in self.sweep.kept else self.moves
        again = self.machine.again or self.machine.move
        seconds = entry.nbytes / self.machine.move.value + (times - 1) * entry.nbytes / again.value
        if self.sweep.encoding is not None and self.due:
            seconds += entry.nbytes / self.machine.move.value  # it is encoded, with random bits
        return self.add(COMPUTE, seconds, f"{entry.name}, move", ready)

    def _use(self, entry: Entry, flops: float, ready: tuple[int, ...]) -> int:
        machine = self.machine
        rate = machine.flops
        if entry.number not in self.sweep.inside and machine.head_flops is not None:
            rate = machine.head_flops
        return self.add(COMPUTE, flops / rate.value, entry.name, ready)

    def _write(self, entry: Entry, moved: int) -> int:
        held, machine = self.sweep.held(entry), self.machine
        if machine.link_back is None:
            rate: Figure = machine.copy if self.sweep.on_host else machine.disk_write
            end = self.add(WRITE, held / rate.value, entry.name, (moved,))
        else:
            to_disk = not self.sweep.on_host and entry.number not in self.sweep.cached
            room = (self.written[-SLOTS],) if to_disk and len(self.written) >= SLOTS else ()
            end = self.add(DOWN, held / machine.link_back.value, entry.name, (moved, *room))
            if to_disk:
                self.stored[entry.number] = self.add(WRITE, held / machine.disk_write.value, entry.name, (end,))
                self.written.append(self.stored[entry.number])
                return end
        self.stored[entry.number] = end
        return end
