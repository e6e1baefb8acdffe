"""What the progress of every training shares: a live bar on a terminal, and plain lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import Self, TextIO, TypeVar

__all__ = ["Bar", "Lines", "Shown", "chosen"]

T = TypeVar("T", bound="Shown")


class Shown:
    """What is shown of a run, inside a `with` block. This one shows nothing."""

    def note(self, text: str) -> None:
        """Show a line of text."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        pass


class Lines(Shown):
    """A line now and then: each tenth of the run, and at most every two seconds."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.next_share, self.last = 0.0, -math.inf

    def due(self, share: float) -> bool:
        """Whether it is time for a line, so much of the run being done; if so, the next one has to wait."""
        now = time.monotonic()
        if not ((share >= self.next_share and now - self.last >= 2.0) or share >= 1.0):
            return False
        self.next_share, self.last = (int(share * 10) + 1) / 10, now
        return True

    def note(self, text: str) -> None:
        """Print it."""
        print(text, file=self.stream, flush=True)


class Bar(Shown):
    """A live bar drawn by rich."""

    def __init__(self, total: int | None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (BarColumn(20), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
        self.rich = Progress(*columns, console=Console(stderr=True))
        self.task = self.rich.add_task("", total=total)

    def draw(self, done: int, text: str) -> None:
        """Redraw."""
        self.rich.update(self.task, completed=done, description=text)

    def note(self, text: str) -> None:
        """Print it above the bar."""
        self.rich.console.print(text, markup=False, highlight=False)

    def __enter__(self) -> Self:
        self.rich.start()
        return self

    def __exit__(self, *args: object) -> None:
        self.rich.stop()


def chosen(quiet: bool, nothing: Callable[[], T], bar: Callable[[], T], lines: Callable[[TextIO], T]) -> T:
    """Nothing where it is to be quiet, the bar on a terminal if rich is installed, else lines."""
    if quiet:
        return nothing()
    if sys.stderr.isatty():
        try:
            return bar()
        except ImportError:
            pass
    return lines(sys.stderr)
