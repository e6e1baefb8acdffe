"""How a search becomes what one was before: in memory, from a file, or from the answers in a journal."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from blackbox_zo import _checkpoint
from blackbox_zo._describe import describe
from blackbox_zo._engine import Snapshot
from blackbox_zo._known import tries_of
from blackbox_zo._replay import known_as, replay
from blackbox_zo._snapshot import Keeper, begin_from
from blackbox_zo._steering import Steered
from blackbox_zo.errors import JournalError
from blackbox_zo.journal import Answers as AnswerLine
from blackbox_zo.journal import JournalReader, Line, Measured
from blackbox_zo.journal._snapshots import Mark, Snapshots

__all__ = ["Saved"]


class Saved(Steered):
    """How the state of a search is taken and brought back."""

    _keeper: Keeper | None
    _unhanded: deque[int]
    _doubted: bool

    def _without_measures(self, lines: Iterator[Line]) -> Iterator[Line]:
        for line in lines:
            if isinstance(line, Measured):
                self._measured.append(line)
                continue
            if isinstance(line, AnswerLine):
                self._tries += tries_of(line.info)
            yield line

    def _begin_from(self, snapshots: Snapshots, rebuilt: Callable[[Any], Any], most: int | None = None) -> Mark | None:
        """Begin from the newest snapshot that can be used; return its place in the journal."""
        found = begin_from(self._engine, snapshots, rebuilt, most)
        if found is None:
            return None
        self._tries += found[1]
        if self._keeper is not None:
            self._keeper.last = self.moves
        return found[0]

    def replay(self, lines: Iterable[Line], moves: int | None = None) -> None:
        """Replay the answers of a journal in a search that has asked nothing yet, without writing a journal.

        Of a `JournalReader`, the newest snapshot that is beside the file and early enough is loaded, and only what came
        later is replayed. The result is the same.

        Args:
            lines: Lines of a run with the same arguments, or the `JournalReader` of its journal.
            moves: Stop after this many moves; None to replay all.

        Raises:
            JournalError: A line does not fit the run.
        """
        if type(lines) is JournalReader:  # others read no file
            lines = lines.after(self._begin_from(Snapshots(lines.path), self._as_given, moves))
        replay(self._engine, self._without_measures(iter(lines)), moves=moves)
        self._doubted = self._engine.doubt.found is not None
        self._unhanded = deque(sorted(self._engine.open))

    def _as_given(self, description: Any) -> Any:
        """The estimator or rule of a description: the present one, if it is that, else a new one."""
        present = (self.estimator, self.rule)
        return next((mine for mine in present if describe(mine) == description), None) or known_as(description)

    def snapshot(self) -> Snapshot:
        """The whole state, for `restore`. It takes no more memory than x.

        Raises:
            TypeError: The variable's moves cannot be undone.
        """
        return self._engine.snapshot()

    def restore(self, then: Snapshot) -> None:
        """Go back to a snapshot of this search. Proposals that were open then are handed out again.

        Raises:
            JournalError: The search has a journal, from which no answer can be removed.
        """
        if self._journal is not None:
            raise JournalError("A journal keeps every answer, so none can be withdrawn. Search without a journal.")
        self._engine.restore(then)
        self._measured = [m for m in self._measured if m.step <= self.moves]
        self._unhanded = deque(sorted(self._engine.open))

    def state_dict(self) -> dict[str, Any]:
        """The whole state as a flat dict of arrays and numbers, including open proposals and what oracles have learnt.

        Save it with `numpy.savez(path, **s.state_dict())` and load it with `dict(numpy.load(path))`.

        Raises:
            ValueError: What an oracle has learnt in an open step is not JSON-able.
        """
        return _checkpoint.save(self._engine)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a saved state into a search made with the same arguments.

        Args:
            state: A state from `state_dict`.

        Raises:
            ValueError: The state has another dimension, seed, estimator, rule or version.
        """
        if self._journal is not None:
            raise ValueError("A search with a journal resumes from the journal; load the state into one without.")
        _checkpoint.load(self._engine, state)
        self._unhanded = deque(sorted(self._engine.open))
