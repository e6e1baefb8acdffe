"""Tallies: the progress of a run, counted from its lines, live or from a journal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from blackbox_zo._describe import spell
from blackbox_zo._typing import override
from blackbox_zo.journal import Answers, Changed, Known, Line, Measured
from blackbox_zo.run import Run

__all__ = ["StepTally", "Tally"]


class Tally:
    """Counts queries and keeps the best value, from the lines of a run: live, or read from a journal.

    Args:
        total: Number of queries the run will make; None if unknown.
        maximize: Show values with the other sign.

    Attributes:
        done: Queries answered so far.
        failed: Queries that failed so far.
        stopped: Queries that a stopping rule ended, as far as they were seen.
        best: The best value, with the sign shown; NaN before the first.
    """

    unit = "queries"
    lines: ClassVar[int | None] = None
    """How many of the newest lines it needs, besides measures, if a run is resumed from a snapshot; None for all."""

    def __init__(self, total: int | None, *, maximize: bool = False) -> None:
        self.total, self.maximize = total, maximize
        self.done, self.failed, self.stopped, self.best = 0, 0, 0, math.nan

    def begin(self, run: Run) -> None:
        """Start from the counts of a resumed run, unless its lines have been seen."""
        search = run.search
        if not self.done:
            self.done, self.failed = search.nfev, search.failed
        if search.best.value == search.best.value:  # it may be known
            self._see([search.best.value])

    def see(self, line: Line) -> None:
        """Process a line."""
        if isinstance(line, Known):
            self._see(v for v in line.values if v == v)
        elif isinstance(line, Answers):
            self.done += len(line.ids)
            self.stopped += sum(bool(info and info.get("stopped")) for info in line.info or ())
            good = [v for v in line.values or () if v == v]
            self.failed += len(line.values or ()) - len(good)
            self._see(good)

    def _see(self, values: Iterable[float]) -> None:
        for value in values:
            shown = -value if self.maximize else value
            if not (shown <= self.best if self.maximize else shown >= self.best):
                self.best = shown

    def event(self, line: Known | Changed) -> str:
        """Describe what happened between answers, in one line."""
        if isinstance(line, Changed) and line.keeps:
            return f"after {line.steps} steps the learning rate changed: {spell(line.rule)}"
        if isinstance(line, Changed):
            return f"after {line.steps} steps the method changed to {spell(line.estimator)}"
        good = [v for v in line.values if v == v]
        best = (max(-v for v in good) if self.maximize else min(good)) if good else None
        many = "1 known value" if len(line.values) == 1 else f"{len(line.values)} known values"
        return many + (", which failed" if best is None else f", the best {best:.6g}")

    def close(self) -> None:
        """Complete the latest step."""

    def told(self, line: Line) -> Iterator[str]:
        """Count a line, and yield the text that `blackbox-zo watch` prints for it."""
        if isinstance(line, Known | Changed):
            self.see(line)
            yield self.event(line)
        if not isinstance(line, Answers):
            return
        if line.values is None:
            self.see(line)
            yield f"step {line.step}: a ranking of {len(line.ids)}"
            return
        for i, (query, value) in enumerate(zip(line.ids, line.values, strict=True)):
            info = (line.info[i] if line.info else None) or {}
            self.see(line._replace(ids=[query], values=[value], info=[info]))
            if value == value:
                early = f", stopped after {info.get('reports')} reports" if info.get("stopped") else ""
                yield f"query {query}: {-value if self.maximize else value:.6g}{early}, best {self.best:.6g}"
            else:
                yield f"query {query}: failed" + (f": {info['error']}" if info.get("error") else "")

    def rest(self) -> Iterator[str]:
        """Yield the remaining text after the last line."""
        return iter(())

    def failure(self, query: int, info: Mapping[str, Any]) -> str:
        """Describe a failed query, with the reason that the oracle recorded."""
        return f"query {query} failed: {info.get('error') or 'the value is NaN or infinite'}"

    def measure(self, line: Measured) -> str:
        """Describe a measure, in one line."""
        found = line.error or ", ".join(f"{name} {value:.6g}" for name, value in line.values.items())
        return f"step {line.step}: " + (found if list(line.values) == [line.name] else f"{line.name}: {found}")

    @override
    def __str__(self) -> str:
        """The latest numbers, in one line."""
        best = f"best {self.best:.6g}" if self.best == self.best else "no value yet"
        stopped = f", {self.stopped} stopped early" if self.stopped else ""
        return best + stopped + (f", {self.failed} failed" if self.failed else "")


class StepTally(Tally):
    """Counts steps, and keeps the mean value of the latest one and the latest measures.

    Args:
        total: Number of steps the run will make; None if unknown.
        maximize: Show values with the other sign.

    Attributes:
        value: Mean value of the latest step, with the sign shown; NaN if it has none.
        measured: The latest number of each measure, by name.
    """

    unit = "steps"

    def __init__(self, total: int | None, *, maximize: bool = False) -> None:
        super().__init__(total, maximize=maximize)
        self.value, self.measured = math.nan, dict[str, float]()
        self._step, self._values = -1, list[float]()

    @override
    def begin(self, run: Run) -> None:
        """Start from the completed steps of a resumed run. A half-answered step is kept as seen."""
        if self._step not in run.search.waiting:
            self.close()
        self.done = run.search.moves

    @override
    def see(self, line: Line) -> None:
        """Process a line; the first line of a new step completes the previous step."""
        if isinstance(line, Measured):
            self.measured.update(line.values)
        if not isinstance(line, Answers):
            return
        if line.step != self._step:
            self.close()
            self._step = line.step
        self.take(line)

    def take(self, line: Answers) -> None:
        """Add answers of the current step."""
        self._values += [v for v in line.values or () if v == v]
        self.failed += sum(v != v for v in line.values or ())

    @override
    def close(self) -> None:
        """Complete the latest step."""
        if self._step >= 0:
            self.done = max(self.done, self._step + 1)
            self.complete()
            self._step = -1

    def complete(self) -> None:
        """Summarise the answers of the completed step."""
        mean = sum(self._values) / len(self._values) if self._values else math.nan
        self.value, self._values = -mean if self.maximize else mean, []

    @override
    def told(self, line: Line) -> Iterator[str]:
        """Count a line; yield the text of a measure, or of the previous step if the line starts a new one."""
        if not isinstance(line, Answers) or line.step != self._step:
            yield from self.rest()
        self.see(line)
        if isinstance(line, Measured):
            yield self.measure(line)
        elif not isinstance(line, Answers):
            yield self.event(line)

    @override
    def rest(self) -> Iterator[str]:
        """Yield the text of the latest step."""
        if self._step >= 0:
            self.close()
            total = f"/{self.total}" if self.total and self.done <= self.total else ""  # it may continue past it
            yield f"step {self.done}{total}: {self}"

    @override
    def __str__(self) -> str:
        """The latest numbers, in one line."""
        parts = [f"value {self.value:.6g}"] * (self.value == self.value)
        parts += [f"{name} {value:.6g}" for name, value in self.measured.items()]
        parts += [f"{self.failed} failed"] * bool(self.failed)
        return ", ".join(parts) or "no value yet"
