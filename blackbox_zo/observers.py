"""Observers: what is shown of a run, and who else is told of it."""

from __future__ import annotations

import inspect
import logging
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TextIO

from blackbox_zo._records import Report
from blackbox_zo.journal import Answers, Line, Measured
from blackbox_zo.run import Observer, Run

__all__ = ["Bar", "Callback", "Counted", "Lines", "LoggingObserver", "StepTally", "Tally", "display"]


class Tally:
    """What can be said of a run from its lines, as they come: live, or from a journal. This one is of any run.

    Args:
        total: How many queries there will be; none if that is not known.
        maximize: Whether the user knows the values with the other sign.

    Attributes:
        done: How many there have been.
        failed: How many of them failed.
        best: The best value, with the user's sign; NaN before the first.
    """

    unit = "queries"

    def __init__(self, total: int | None, *, maximize: bool = False) -> None:
        self.total, self.maximize = total, maximize
        self.done, self.failed, self.best = 0, 0, math.nan

    def begin(self, run: Run) -> None:
        """Count what a run has behind it, if its lines have not been seen."""
        search = run.search
        if not self.done:
            self.done, self.failed = search.nfev, search.failed
            self.best = -search.best.value if self.maximize else search.best.value

    def see(self, line: Line) -> None:
        """Count a line."""
        if not isinstance(line, Answers):
            return
        self.done += len(line.ids)
        for value in line.values or ():
            if value != value:
                self.failed += 1
            else:
                shown = -value if self.maximize else value
                if not (shown <= self.best if self.maximize else shown >= self.best):
                    self.best = shown

    def close(self) -> None:
        """The step that was seen last is complete."""

    def told(self, line: Line) -> Iterator[str]:
        """Count a line, and say what it tells, in lines of text, as `blackbox-zo watch` prints them."""
        if not isinstance(line, Answers):
            return
        if line.values is None:
            self.see(line)
            yield f"step {line.step}: a ranking of {len(line.ids)}"
            return
        for i, (query, value) in enumerate(zip(line.ids, line.values, strict=True)):
            info = (line.info[i] if line.info else None) or {}
            self.see(line._replace(ids=[query], values=[value]))
            if value == value:
                yield f"query {query}: {-value if self.maximize else value:.6g}, best {self.best:.6g}"
            else:
                yield f"query {query}: failed" + (f": {info['error']}" if info.get("error") else "")

    def rest(self) -> Iterator[str]:
        """What is left to say when no line follows."""
        return iter(())

    def __str__(self) -> str:
        """Where the run stands."""
        best = f"best {self.best:.6g}" if self.best == self.best else "no value yet"
        return best + (f", {self.failed} failed" if self.failed else "")


class StepTally(Tally):
    """What can be said of a run by its steps: the mean value of the newest, and what was measured last.

    Args:
        total: How many steps there will be; none if that is not known.
        maximize: Whether the user knows the values with the other sign.

    Attributes:
        value: Mean value of the newest step, with the user's sign; NaN where it has none.
        measured: What was measured last, by name.
    """

    unit = "steps"

    def __init__(self, total: int | None, *, maximize: bool = False) -> None:
        super().__init__(total, maximize=maximize)
        self.value, self.measured = math.nan, dict[str, float]()
        self._step, self._values = -1, list[float]()

    def begin(self, run: Run) -> None:
        """Count the steps that a run has behind it. One that is half answered stays as it was seen."""
        if self._step not in run.search.waiting:
            self.close()
        self.done = run.search.moves

    def see(self, line: Line) -> None:
        """Count a line; one of another step closes the step before."""
        if isinstance(line, Measured):
            self.measured.update(line.values)
            return
        if line.step != self._step:
            self.close()
            self._step = line.step
        self._values += [v for v in line.values or () if v == v]
        self.failed += sum(v != v for v in line.values or ())

    def close(self) -> None:
        """The step that was seen last is complete."""
        if self._step >= 0:
            self.done = max(self.done, self._step + 1)
            mean = sum(self._values) / len(self._values) if self._values else math.nan
            self.value = -mean if self.maximize else mean
            self._step, self._values = -1, []

    def told(self, line: Line) -> Iterator[str]:
        """Count a line; say what is told by a measure, or of the step before where the line begins another one."""
        if isinstance(line, Measured) or line.step != self._step:
            yield from self.rest()
        self.see(line)
        if isinstance(line, Measured):
            found = line.error or ", ".join(f"{name} {value:.6g}" for name, value in line.values.items())
            yield f"step {line.step}: " + (found if list(line.values) == [line.name] else f"{line.name}: {found}")

    def rest(self) -> Iterator[str]:
        """The line of the step that was seen last."""
        if self._step >= 0:
            self.close()
            yield f"step {self.done}{f'/{self.total}' if self.total else ''}: {self}"

    def __str__(self) -> str:
        """Where the run stands."""
        parts = [f"value {self.value:.6g}"] * (self.value == self.value)
        parts += [f"{name} {value:.6g}" for name, value in self.measured.items()]
        parts += [f"{self.failed} failed"] * bool(self.failed)
        return ", ".join(parts) or "no value yet"


class Callback(Observer):
    """Hands each step's report to a function.

    Args:
        function: From a `Report`; the run ends if it returns something true.
    """

    def __init__(self, function: Callable[[Report], Any]) -> None:
        self.function = function

    def stepped(self, run: Run, report: Report) -> bool:
        """Hand it on."""
        answer = self.function(report)
        return answer is not None and bool(answer)


class Counted(Observer):
    """Keeps a tally, and shows nothing of it; what shows one is built on this."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally

    def begin(self, run: Run) -> None:
        """Count what the run has behind it."""
        self.tally.begin(run)

    def answered(self, run: Run, answers: Answers) -> None:
        """Count and show."""
        self.tally.see(answers)
        self.show(run)

    def measured(self, run: Run, measured: Measured) -> None:
        """Count and show."""
        self.tally.see(measured)
        self.show(run)

    def stepped(self, run: Run, report: Report) -> bool | None:
        """Close the step."""
        self.tally.close()
        return None

    def show(self, run: Run) -> None:
        """Show the tally, if it is time."""


class Lines(Counted):
    """A line now and then: at most one for each tenth of the run, and one every few seconds.

    Args:
        tally: What is shown.
        stream: Where; none is the standard error stream.
        seconds: Between two lines at least.
    """

    def __init__(self, tally: Tally, stream: TextIO | None = None, seconds: float = 2.0) -> None:
        super().__init__(tally)
        self.stream, self.seconds = stream, seconds
        self._next, self._last = 0.0, -math.inf

    def stepped(self, run: Run, report: Report) -> None:
        """Show where the run stands, if it is time."""
        tally, now = self.tally, time.monotonic()
        tally.close()
        share = tally.done / tally.total if tally.total else 0.0
        if share >= 1.0 or (share >= self._next and now - self._last >= self.seconds):
            self._next, self._last = ((int(share * 10) + 1) / 10 if tally.total else 0.0), now
            self.note(f"{tally.done}{f'/{tally.total}' if tally.total else ''} {tally.unit}, {tally}")

    def note(self, text: str) -> None:
        """Print it."""
        print(text, file=self.stream or sys.stderr, flush=True)


class Bar(Counted):
    """A live bar on a terminal, drawn by rich.

    Args:
        tally: What is shown.

    Raises:
        ImportError: rich is not installed.
    """

    def __init__(self, tally: Tally) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        super().__init__(tally)
        columns = (BarColumn(20), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
        self._rich = Progress(*columns, console=Console(stderr=True))
        self._task = self._rich.add_task("", total=tally.total)

    def begin(self, run: Run) -> None:
        """Open the bar."""
        super().begin(run)
        self._rich.start()
        self.show(run)

    def show(self, run: Run) -> None:
        """Redraw."""
        self._rich.update(self._task, completed=self.tally.done, description=str(self.tally))

    def stepped(self, run: Run, report: Report) -> None:
        """Redraw."""
        self.tally.close()
        self.show(run)

    def note(self, text: str) -> None:
        """Print it above the bar."""
        self._rich.console.print(text, markup=False, highlight=False)

    def end(self, run: Run) -> None:
        """Close the bar."""
        self._rich.stop()


class LoggingObserver(Observer):
    """Writes to Python's `logging`: a step at level DEBUG, a measure and the end at INFO, the first failure at WARNING.

    Args:
        logger: Where to; none is the logger "blackbox_zo".
    """

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self.logger = logging.getLogger("blackbox_zo") if logger is None else logger
        self._failure_told = False

    def begin(self, run: Run) -> None:
        """Say that the run begins or goes on."""
        before = f" goes on after {run.search.nfev} queries" if run.search.nfev else " begins"
        self.logger.info("The run%s.", before)

    def stepped(self, run: Run, report: Report) -> None:
        """Log a step."""
        self.logger.debug(
            "step %d: mean value %.6g, best %.6g, %d queries, %d failed",
            report.step, report.value, report.best, report.nfev, report.failed,
        )  # fmt: skip
        if run.first_failure is not None and not self._failure_told:
            self._failure_told = True
            self.logger.warning("query %d failed: %s", run.first_failure.query, run.first_failure.reason or "NaN")

    def measured(self, run: Run, measured: Measured) -> None:
        """Log a measure."""
        self.logger.info("%s after %d moves: %s", measured.name, measured.step, _in_words(measured.values))

    def end(self, run: Run) -> None:
        """Say how the run ended."""
        self.logger.info("The run ended: %s", run.message)


def display(progress: Any, tally: Tally) -> list[Observer]:
    """What the argument `progress` asks for.

    Args:
        progress: True for a bar on a terminal (if rich is installed) and lines elsewhere; a function of each `Report`;
            an `Observer`, or several; None or False for nothing.
        tally: What a bar or lines show.

    Raises:
        TypeError: It is something else.
    """
    if progress is None or progress is False:
        return []
    if progress is True:
        if sys.stderr.isatty():
            try:
                return [Bar(tally)]
            except ImportError:
                pass
        return [Lines(tally)]
    if isinstance(progress, Observer):
        return [progress]
    if isinstance(progress, list | tuple) and all(isinstance(p, Observer) for p in progress):
        return list(progress)
    if callable(progress) and not inspect.isclass(progress):
        return [Callback(progress)]
    raise TypeError(
        f"`progress` must be True, False, None, a function of a report, or observers; got {progress!r:.60}."
    )


def _in_words(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.6g}" for name, value in values.items()) or "failed"
