"""Showing how a run goes: a live bar on a terminal (with rich, if installed), plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from blackbox_zo.search import Report

__all__ = ["Bar", "Calls", "Lines", "Progress", "progress_of"]


class Progress:
    """Called with each step's report, inside a `with` block. This one shows nothing."""

    def __call__(self, report: Report) -> None:
        """Show a report."""

    def note(self, text: str) -> None:
        """Show a line of text."""

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *args: object) -> None:
        pass


class Calls(Progress):
    """Hands every report to a function."""

    def __init__(self, function: Callable[[Report], Any]) -> None:
        self.function = function

    def __call__(self, report: Report) -> None:
        """Hand it on."""
        self.function(report)


class Lines(Progress):
    """A line now and then: each tenth of the budget, and at most every `seconds`."""

    def __init__(self, budget: int, stream: TextIO, seconds: float = 2.0) -> None:
        self.budget, self.stream, self.seconds = budget, stream, seconds
        self.next_share, self.last = 0.0, -float("inf")

    def __call__(self, report: Report) -> None:
        """Print, if it is time."""
        now, share = time.monotonic(), report.nfev / self.budget
        if (share >= self.next_share and now - self.last >= self.seconds) or share >= 1.0:
            self.next_share, self.last = (int(share * 10) + 1) / 10, now
            print(f"{report.nfev}/{self.budget} queries, {_best(report)}{_failed(report)}", file=self.stream)

    def note(self, text: str) -> None:
        """Print it."""
        print(text, file=self.stream, flush=True)


class Bar(Progress):
    """A live bar drawn by rich."""

    def __init__(self, budget: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
        self.rich = RichProgress(*columns, console=Console(stderr=True))
        self.task = self.rich.add_task("asking", total=budget)

    def __call__(self, report: Report) -> None:
        """Redraw."""
        text = f"{_best(report)}{_failed(report)}"
        self.rich.update(self.task, completed=report.nfev, description=text)

    def note(self, text: str) -> None:
        """Print it above the bar."""
        self.rich.console.print(text, markup=False, highlight=False)

    def __enter__(self) -> Bar:
        self.rich.start()
        return self

    def __exit__(self, *args: object) -> None:
        self.rich.stop()


def _best(report: Report) -> str:
    return "no value yet" if report.best != report.best else f"best {report.best:.6g}"


def _failed(report: Report) -> str:
    return f", {report.failed} failed" if report.failed else ""


def progress_of(progress: bool | Callable[[Report], Any] | None, budget: int) -> Progress:
    """What the argument `progress` of `minimize` asks for.

    Raises:
        TypeError: It is neither a bool, None nor a function.
    """
    if progress is None or progress is False:
        return Progress()
    if progress is True:
        if sys.stderr.isatty():
            try:
                return Bar(budget)
            except ImportError:
                pass
        return Lines(budget, sys.stderr)
    if isinstance(progress, Progress):
        return progress
    if callable(progress):
        return Calls(progress)
    raise TypeError(f"`progress` must be True, False, None or a function of a report, got {progress!r:.60}.")
