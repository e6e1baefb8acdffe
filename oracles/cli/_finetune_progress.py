"""Showing how a fine-tuning goes: a live bar on a terminal (with rich, if installed), plain lines elsewhere."""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TextIO

from oracles.cli._shown import Bar, Lines, Shown, chosen

__all__ = ["Pace", "Progress", "in_words", "memory", "shown_of"]


@dataclass
class Pace:
    """The loss and the speed of the latest steps.

    Attributes:
        losses: Finite losses of up to 20 steps.
        spans: Seconds and examples of up to 20 steps that no validation came with.
        failed: Steps without a finite loss.
    """

    losses: deque[float] = field(default_factory=lambda: deque(maxlen=20))
    spans: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=20))
    failed: int = 0
    last: tuple[float, int] = (0.0, 0)

    def see(self, loss: float, seconds: float, forwards: int, validated: bool) -> None:
        """Note a step.

        Args:
            loss: Of the step; NaN if there is none.
            seconds: Since the run began.
            forwards: Examples since then.
            validated: Whether the time has a validation in it.
        """
        if math.isfinite(loss):
            self.losses.append(loss)
        else:
            self.failed += 1
        if not validated and forwards > self.last[1]:
            self.spans.append((seconds - self.last[0], forwards - self.last[1]))
        self.last = seconds, forwards

    def __str__(self) -> str:
        parts = [f"loss {sum(self.losses) / len(self.losses):.4f}"] if self.losses else []
        if self.failed:
            parts.append(f"{self.failed} failed")
        seconds, examples = (sum(column) for column in zip(*self.spans, strict=True)) if self.spans else (0.0, 0)
        if seconds > 0:
            rate = examples / seconds
            parts.append(f"{rate:,.0f} examples/s" if rate >= 100 else f"{rate:.3g} examples/s")
        return ", ".join([*parts, *([f"{used:,.0f} MB"] if (used := memory()) else [])])


class Progress(Shown):
    """What is shown of a fine-tuning. This one shows nothing."""

    def step(self, step: int, pace: Pace) -> None:
        """Show a step."""


class _Lines(Lines, Progress):
    def __init__(self, steps: int, stream: TextIO) -> None:
        super().__init__(stream)
        self.steps = steps

    def step(self, step: int, pace: Pace) -> None:
        """Print, if it is time."""
        if (pace.losses or pace.failed) and self.due(step / self.steps):
            self.note(f"step {step}/{self.steps}: {pace}")


class _Bar(Bar, Progress):
    validated = ""

    def step(self, step: int, pace: Pace) -> None:
        """Redraw."""
        self.draw(step, f"{pace}{self.validated}")

    def note(self, text: str) -> None:
        """Print it above the bar; what it says of a validation stays in the bar."""
        super().note(text)
        _, found, numbers = text.partition(": validation ")
        if found:
            self.validated = f", validation {numbers}"


def shown_of(quiet: bool, steps: int) -> Progress:
    """How a run of so many steps is shown."""
    return chosen(quiet, Progress, lambda: _Bar(steps), lambda stream: _Lines(steps, stream))


def in_words(numbers: Mapping[str, float]) -> str:
    """Measures in a line."""
    return ", ".join(f"{name} {value:.4f}" for name, value in numbers.items())


def memory() -> float:
    """The most memory that the process has had, in MB; 0 where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e6 if sys.platform == "darwin" else most / 1e3
