"""Observers of a run: progress bars, plain lines, callbacks and logging."""

from __future__ import annotations

import inspect
import logging
import math
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from blackbox_zo._records import Report
from blackbox_zo._typing import override
from blackbox_zo.journal import Answers, Measured
from blackbox_zo.run import Observer, Run
from blackbox_zo.tally import Tally

__all__ = ["Bar", "Callback", "Counted", "Lines", "LoggingObserver", "display"]


class Callback(Observer):
    """Calls a function after each step.

    Args:
        function: Called with the step's `Report`; the run ends if it returns something true.
    """

    called = "the callback"

    def __init__(self, function: Callable[[Report], Any]) -> None:
        self.function = function

    @override
    def stepped(self, run: Run, report: Report) -> bool:
        answer = self.function(report)
        return answer is not None and bool(answer)


class Counted(Observer):
    """Keeps a tally without showing it; the base class of observers that show one."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally

    @override
    def begin(self, run: Run) -> None:
        self.tally.begin(run)

    @override
    def answered(self, run: Run, answers: Answers) -> None:
        self.tally.see(answers)
        self.show(run)

    @override
    def measured(self, run: Run, measured: Measured) -> None:
        self.tally.see(measured)
        self.show(run)

    @override
    def stepped(self, run: Run, report: Report) -> bool | None:
        """Complete the step."""
        self.tally.close()
        return None

    def show(self, run: Run) -> None:
        """Called whenever the tally has changed."""


class Lines(Counted):
    """Prints progress lines: at most one for each tenth of the run, and at most one every few seconds.

    Args:
        tally: The tally to print.
        stream: Where to print; None for stderr.
        seconds: Minimum time between two lines, in seconds.
    """

    def __init__(self, tally: Tally, stream: TextIO | None = None, seconds: float = 2.0) -> None:
        super().__init__(tally)
        self.stream, self.seconds = stream, seconds
        self._next, self._last = 0.0, -math.inf

    @override
    def stepped(self, run: Run, report: Report) -> None:
        tally, now = self.tally, time.monotonic()
        tally.close()
        share = tally.done / tally.total if tally.total else 0.0
        if share >= 1.0 or (share >= self._next and now - self._last >= self.seconds):
            self._next, self._last = ((int(share * 10) + 1) / 10 if tally.total else 0.0), now
            self.note(f"{tally.done}{f'/{tally.total}' if tally.total else ''} {tally.unit}, {tally}")

    @override
    def note(self, text: str) -> None:
        print(text, file=self.stream or sys.stderr, flush=True)


class Bar(Counted):
    """A live bar on a terminal, drawn by rich.

    Args:
        tally: The tally shown next to the bar.

    Raises:
        ImportError: rich is not installed.
    """

    def __init__(self, tally: Tally) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.table import Column

        super().__init__(tally)
        whole, rest = Column(no_wrap=True), Column(no_wrap=True, ratio=1)  # on a narrow terminal the text is cut first
        columns = (
            BarColumn(20),
            MofNCompleteColumn(table_column=whole),
            TextColumn("{task.description}", table_column=rest),
            TimeRemainingColumn(table_column=whole.copy()),
        )
        self._rich = Progress(*columns, console=Console(stderr=True), expand=True)
        self._task = self._rich.add_task("", total=tally.total)

    @override
    def begin(self, run: Run) -> None:
        super().begin(run)
        self._rich.start()
        self.show(run)

    @override
    def show(self, run: Run) -> None:
        """Redraw the bar."""
        self._rich.update(self._task, completed=self.tally.done, description=str(self.tally))

    @override
    def stepped(self, run: Run, report: Report) -> None:
        self.tally.close()
        self.show(run)

    @override
    def note(self, text: str) -> None:
        self._rich.console.print(text, markup=False, highlight=False)

    @override
    def end(self, run: Run) -> None:
        self._rich.stop()


class LoggingObserver(Observer):
    """Logs a run by Python's `logging`: steps at DEBUG, begin, measures and end at INFO, the first failure at WARNING.

    Args:
        logger: The logger; None for the one named "blackbox_zo".
    """

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self.logger = logging.getLogger("blackbox_zo") if logger is None else logger
        self._failure_told = False

    @override
    def begin(self, run: Run) -> None:
        before = f" continues after {run.search.nfev} queries" if run.search.nfev else " begins"
        self.logger.info("The run%s.", before)

    @override
    def stepped(self, run: Run, report: Report) -> None:
        self.logger.debug(
            "step %d: mean value %.6g, best %.6g, %d queries, %d failed",
            report.step, report.value, report.best, report.nfev, report.failed,
        )  # fmt: skip
        if run.first_failure is not None and not self._failure_told:
            self._failure_told = True
            self.logger.warning("query %d failed: %s", run.first_failure.query, run.first_failure.reason or "NaN")

    @override
    def measured(self, run: Run, measured: Measured) -> None:
        found = ", ".join([f"{name} {value:.6g}" for name, value in measured.values.items()] + [measured.error])
        self.logger.info("%s after %d moves: %s", measured.name, measured.step, found.removesuffix(", "))

    @override
    def end(self, run: Run) -> None:
        self.logger.info("The run ended: %s", run.message)


def display(progress: Any, tally: Tally) -> list[Observer]:
    """The observers that a `progress` argument specifies.

    Args:
        progress: True for a bar on a terminal (if rich is installed) and plain lines elsewhere; a function of each
            `Report`; an `Observer` or a list of them; None or False for none.
        tally: The tally that the bar or the lines show.

    Raises:
        TypeError: `progress` is none of these.
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
