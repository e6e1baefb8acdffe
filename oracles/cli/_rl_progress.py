"""Showing how a training goes: a live bar on a terminal (with rich, if installed), plain lines elsewhere."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TextIO

from oracles.cli._shown import Bar, Lines, Shown, chosen

__all__ = ["Pace", "Progress", "figure", "returned", "shown_of"]


@dataclass
class Pace:
    """Where a training stands.

    Attributes:
        step: Steps of the search made so far.
        score: Mean return of the latest step's candidates; NaN before the first.
        cut: Steps that they played, where those are only the first of their episodes; else 0.
        evaluated: Mean return of the latest evaluation; NaN before the first.
        episodes: Episodes so far.
        steps: Steps of the environment so far.
        failed: Candidates that failed in this run.
        spans: Times, and steps of the environment by then, of the latest answers.
    """

    step: int = 0
    score: float = math.nan
    cut: int = 0
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
        parts = [returned(self.score, self.cut)] if math.isfinite(self.score) else []
        if math.isfinite(self.evaluated):
            parts.append(f"evaluated {figure(self.evaluated)}")
        parts.append(f"{self.episodes:,} episodes")
        if self.failed:
            parts.append(f"{self.failed} failed")
        if len(self.spans) > 1 and self.spans[-1][0] > self.spans[0][0]:
            (begun, before), (now, after) = self.spans[0], self.spans[-1]
            parts.append(f"{(after - before) / (now - begun):,.0f} steps/s")
        return ", ".join(parts)


class Progress(Shown):
    """What is shown of a training. This one shows nothing."""

    def answer(self, pace: Pace) -> None:
        """Show an answer."""

    def step(self, pace: Pace) -> None:
        """Show a step."""


class _Lines(Lines, Progress):
    def __init__(self, steps: int | None, env_steps: int | None, stream: TextIO) -> None:
        super().__init__(stream)
        self.goals = steps, env_steps

    def step(self, pace: Pace) -> None:
        """Print, if it is time."""
        if self.due(_share(pace, *self.goals)):
            self.note(f"step {pace.step}{f'/{self.goals[0]}' if self.goals[0] else ''}: {pace}")


class _Bar(Bar, Progress):
    def __init__(self, steps: int | None, env_steps: int | None) -> None:
        super().__init__(env_steps if steps is None else steps)
        self.by_steps = steps is not None

    def answer(self, pace: Pace) -> None:
        """Redraw."""
        self.draw(pace.step if self.by_steps else pace.steps, str(pace))

    step = answer


def shown_of(quiet: bool, steps: int | None, env_steps: int | None) -> Progress:
    """How a training of so many steps, or steps of the environment, is shown."""
    goals = steps, env_steps
    return chosen(quiet, Progress, lambda: _Bar(*goals), lambda stream: _Lines(*goals, stream))


def figure(value: float) -> str:
    """A return, short: 1,234, 500, 12.3, 0.0123."""
    if abs(value) >= 1000 or (value == round(value) and abs(value) >= 1):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def returned(value: float, cut: int) -> str:
    """A mean return, and in how many steps, if those are only the first of episodes."""
    return f"return {figure(value)}" + (f" in the first {cut} steps" if cut else "")


def _share(pace: Pace, steps: int | None, env_steps: int | None) -> float:
    shares = [done / goal for done, goal in ((pace.step, steps), (pace.steps, env_steps)) if goal]
    return max(shares)
