"""Showing how a training goes: a live bar on a terminal (with rich, if installed), plain lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TextIO

__all__ = ["Pace", "Shown", "figure", "shown_of"]


@dataclass
class Pace:
    """Where a training stands.

    Attributes:
        step: Steps of the search made so far.
        score: Mean return of the latest step's candidates; NaN before the first.
        evaluated: Mean return of the latest evaluation; NaN before the first.
        episodes: Episodes so far.
        steps: Steps of the environment so far.
        failed: Candidates that failed in this run.
        spans: Times, and steps of the environment by then, of the latest answers.
    """

    step: int = 0
    score: float = math.nan
    evaluated: float = math.nan
    episodes: int = 0
    steps: int = 0
    failed: int = 0
    spans: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=200))

    def played(self, episodes: int, steps: int) -> None:
        """Note what has been played so far."""
        self.episodes, self.steps = episodes, steps
        self.spans.append((time.monotonic(), steps))

    def __str__(self) -> str:
        parts = [f"return {figure(self.score)}"] if math.isfinite(self.score) else []
        if math.isfinite(self.evaluated):
            parts.append(f"evaluated {figure(self.evaluated)}")
        parts.append(f"{self.episodes:,} episodes")
        if self.failed:
            parts.append(f"{self.failed} failed")
        if len(self.spans) > 1 and self.spans[-1][0] > self.spans[0][0]:
            (begun, before), (now, after) = self.spans[0], self.spans[-1]
            parts.append(f"{(after - before) / (now - begun):,.0f} steps/s")
        return ", ".join(parts)


class Shown:
    """What is shown of a training, inside a `with` block. This one shows nothing."""

    def answer(self, pace: Pace) -> None:
        """Show an answer."""

    def step(self, pace: Pace) -> None:
        """Show a step."""

    def note(self, text: str) -> None:
        """Show a line of text."""

    def __enter__(self) -> Shown:
        return self

    def __exit__(self, *args: object) -> None:
        pass


class _Lines(Shown):
    """A line now and then: each tenth of the run, and at most every two seconds."""

    def __init__(self, steps: int | None, env_steps: int | None, stream: TextIO) -> None:
        self.goals, self.stream = (steps, env_steps), stream
        self.next_share, self.last = 0.0, -math.inf

    def step(self, pace: Pace) -> None:
        """Print, if it is time."""
        now, share = time.monotonic(), _share(pace, *self.goals)
        if (share >= self.next_share and now - self.last >= 2.0) or share >= 1.0:
            self.next_share, self.last = (int(share * 10) + 1) / 10, now
            self.note(f"step {pace.step}{f'/{self.goals[0]}' if self.goals[0] else ''}: {pace}")

    def note(self, text: str) -> None:
        """Print it."""
        print(text, file=self.stream, flush=True)


class _Bar(Shown):
    """A live bar drawn by rich."""

    def __init__(self, steps: int | None, env_steps: int | None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (BarColumn(20), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
        self.rich = Progress(*columns, console=Console(stderr=True))
        self.by_steps = steps is not None
        self.task = self.rich.add_task("", total=steps if self.by_steps else env_steps)

    def answer(self, pace: Pace) -> None:
        """Redraw."""
        self.rich.update(self.task, completed=pace.step if self.by_steps else pace.steps, description=str(pace))

    step = answer

    def note(self, text: str) -> None:
        """Print it above the bar."""
        self.rich.console.print(text, markup=False, highlight=False)

    def __enter__(self) -> _Bar:
        self.rich.start()
        return self

    def __exit__(self, *args: object) -> None:
        self.rich.stop()


def shown_of(quiet: bool, steps: int | None, env_steps: int | None) -> Shown:
    """How a training of so many steps, or steps of the environment, is shown."""
    if quiet:
        return Shown()
    if sys.stderr.isatty():
        try:
            return _Bar(steps, env_steps)
        except ImportError:
            pass
    return _Lines(steps, env_steps, sys.stderr)


def figure(value: float) -> str:
    """A return, short: 1,234, 500, 12.3, 0.0123."""
    if abs(value) >= 1000 or (value == round(value) and abs(value) >= 1):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def _share(pace: Pace, steps: int | None, env_steps: int | None) -> float:
    shares = [done / goal for done, goal in ((pace.step, steps), (pace.steps, env_steps)) if goal]
    return max(shares)
