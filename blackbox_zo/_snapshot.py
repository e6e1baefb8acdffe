"""Snapshots of a search beside its journal: when one is due, what is in it, and how a search begins from one.

A snapshot is where a replay of the journal up to some line would lead, to the last bit. So it is taken right after an
answer was recorded, and never contains what the journal does not determine: a step that was asked since, or one that
was cut short by the budget, which may be another after a resume.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from blackbox_zo import _checkpoint
from blackbox_zo._arrays import Array, StoredArrays, array_of
from blackbox_zo._describe import describe
from blackbox_zo._engine import Engine
from blackbox_zo.journal import Journal
from blackbox_zo.journal._snapshots import Mark, Snapshots

__all__ = ["Keeper", "begin_from"]

LEAST = 10.0
"""Seconds that a replay may take before a snapshot is taken that nobody asked for."""

TIMES = 20
"""How much longer a replay must take than writing a snapshot: writing costs at most a twentieth of the moves' time."""

AT_END = 1.0
"""Seconds of a replay that are worth a snapshot when a search is closed, if writing it takes no longer."""

SPEED = 100e6
"""Bytes that a disk writes in a second, until that is measured."""

PREFIX = "search/"
"""What the names of all arrays but those of x begin with."""


class Keeper:
    """Takes the snapshots of a search.

    Args:
        engine: The engine of the search.
        journal: Its journal, open.

    Attributes:
        spent: Seconds that it took to make the moves since the last snapshot, as a replay would take.
        whole: Whether the state is that after some line of the journal; false while a step is taken.
    """

    def __init__(self, engine: Engine, journal: Journal) -> None:
        self.engine, self.journal = engine, journal
        self.every, self.spent, self.whole = journal.snapshot_every, 0.0, True
        self.last = engine.variable.version
        self._cost: float | None = None
        self._trouble = ""

    def due(self, closing: bool = False) -> bool:
        """Whether a snapshot is to be taken now."""
        moves = self.engine.variable.version - self.last
        if not self.every or not moves or not self.whole or self.engine.cut:
            return False
        if self.every != "auto":
            return closing or moves >= self.every
        if self.engine.variable.durable or self.spent < (AT_END if closing else LEAST):
            return False
        size = sum(block.size for block in self.engine.variable.blocks)
        cost = 8 * size / SPEED if self._cost is None else self._cost
        return self.spent >= (cost if closing else TIMES * cost)

    def take(self, recorded: int, tries: int, closing: bool = False) -> None:
        """Take one; if the disk fails, a warning says so, and the run goes on, as the journal has all.

        Args:
            recorded: Number of steps that the journal determines; later ones are left out.
            tries: Tries of queries beyond the first.
            closing: Whether there will be no other.
        """
        begun = time.perf_counter()
        engine, snapshots = self.engine, self.journal.snapshots
        engine.variable.settle()
        try:
            arrays, more = contents(engine, recorded)
        except ValueError as error:  # an open step cannot be saved now; after the next step perhaps
            if closing and self.every != "auto":
                self._warn("open", f"No snapshot could be taken after move {engine.variable.version}: {error}")
            return
        except TypeError as error:
            self.every = 0
            self._warn("kind", f"No snapshots can be taken of this search: {error}. A resume replays its journal.")
            return
        moves, size = engine.variable.version, sum(array.nbytes for array in arrays.values())
        if self.every == "auto" and not snapshots.room(size):
            self.last, self.spent = moves, 0.0
            self._warn(
                "room",
                f"No snapshot was taken after move {moves}: it takes {size / 1e9:.2g} GB, and the disk of "
                f"'{snapshots.path}' has no room for four. A resume replays the journal. Make room, or give "
                "`snapshot_every`, on the command line --snapshot-every: a number of moves, or 0 for none.",
            )
            return
        try:
            snapshots.write(moves, arrays, {**more, "tries": tries}, self.journal.mark())
            self._trouble = ""
        except OSError as error:
            self._warn(
                f"disk {error.errno}",
                f"The snapshot after move {moves} could not be written ({error.strerror or error}). The run goes on; "
                "its journal has every answer, and a resume replays it from the last snapshot.",
            )
        self.last, self.spent, self._cost = moves, 0.0, time.perf_counter() - begun

    def _warn(self, trouble: str, text: str) -> None:
        """Say something once, until a snapshot was written again."""
        if trouble != self._trouble:
            self._trouble = trouble
            warnings.warn(text, stacklevel=4)


def contents(engine: Engine, recorded: int) -> tuple[dict[str, Array], dict[str, Any]]:
    """The state of an engine after `recorded` steps, as arrays and JSON.

    Raises:
        ValueError: An open step cannot be saved now.
        TypeError: A part of the state is of a kind that no file holds.
    """
    arrays, numbers = dict(engine.variable.arrays()), dict[str, Any]()
    state = {**_checkpoint.save(engine, recorded), **engine.past.save()}
    for name, value in state.items():
        if isinstance(value, np.ndarray) and value.dtype.kind not in "US":
            arrays[PREFIX + name] = array_of(value)
        else:
            plain = value.item() if isinstance(value, np.ndarray | np.generic) else value
            if not isinstance(plain, bool | int | float | str):
                raise TypeError(f"its state has {name!r}, which is {plain!r:.40}")
            numbers[name] = plain
    return arrays, {
        "method": [describe(engine.estimator), describe(engine.rule)],
        "doubt": engine.doubt.save(),
        "numbers": numbers,
    }


def begin_from(
    engine: Engine, snapshots: Snapshots, rebuilt: Callable[[Any], Any], most: int | None = None
) -> tuple[Mark, int] | None:
    """Put a fresh engine where the newest snapshot was taken that is whole, and of the run in the journal.

    Args:
        engine: An engine as at the start of the journal.
        snapshots: The snapshots beside it.
        rebuilt: From the description of an estimator or a rule to it.
        most: The number of moves that it has at most; None for any.

    Returns:
        The place in the journal, and the tries of queries beyond the first before it; None if there is no snapshot, and
        the engine is as it was.

    Raises:
        JournalError: The method of the run cannot be made again.
    """
    for stored in snapshots.usable(most):
        more, method = stored.more, (engine.estimator, engine.rule, engine.state, engine.rule_state)
        if engine.budget is not None and engine.budget < more["numbers"]["asked"]:
            continue  # a step that is open may be cut short now
        try:
            _load(engine, stored, rebuilt)
        except (ValueError, TypeError, KeyError) as error:
            engine.estimator, engine.rule, engine.state, engine.rule_state = method
            snapshots.doubt(stored.path, f"does not fit the search ({error})")
            continue
        return Mark(*more["journal"]), int(more["tries"])
    return None


def _load(engine: Engine, stored: StoredArrays, rebuilt: Callable[[Any], Any]) -> None:
    more, variable = stored.more, engine.variable
    if more["numbers"]["begun"]:
        engine.estimator, engine.rule = (rebuilt(description) for description in more["method"])
        engine.state, engine.rule_state = engine.estimator.start(variable), engine.rule.start(variable)
    names = [name for name in stored if name.startswith(PREFIX)]
    state: Mapping[str, Any] = {**more["numbers"], **{name.removeprefix(PREFIX): stored[name] for name in names}}
    _checkpoint.load(engine, state, lambda version: variable.read(stored, version))
    engine.past.load(state)
    engine.doubt.load(more["doubt"])
