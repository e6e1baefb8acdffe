"""Schedules: learning rates that change with the number of moves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from blackbox_zo._checks import check_at_least, check_positive

__all__ = ["Cosine", "Linear", "Warmup"]


@final
@dataclass(frozen=True)
class Linear:
    """A straight line from `start` to `end` over `steps` moves, `end` after that.

    Args:
        start: The rate at step 0, positive.
        end: The rate from step `steps` on.
        steps: Length of the line in moves.
    """

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        check_positive("Linear", start=self.start)
        check_at_least("Linear", 1, steps=self.steps)

    def __call__(self, step: int) -> float:
        """The rate after `step` moves."""
        return self.start + (self.end - self.start) * min(step / self.steps, 1.0)


@final
@dataclass(frozen=True)
class Cosine:
    """Half a cosine from `start` to `end` over `steps` moves, `end` after that (Loshchilov & Hutter 2017, eq. (5)).

    Args:
        start: The rate at step 0, positive.
        end: The rate from step `steps` on.
        steps: Length of the half wave in moves.
    """

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        check_positive("Cosine", start=self.start)
        check_at_least("Cosine", 1, steps=self.steps)

    def __call__(self, step: int) -> float:
        """The rate after `step` moves."""
        share = min(step / self.steps, 1.0)
        return self.end + 0.5 * (self.start - self.end) * (1.0 + math.cos(math.pi * share))


@final
@dataclass(frozen=True)
class Warmup:
    """Rise in a straight line over `steps` moves to what `after` gives, then follow `after`.

    Args:
        steps: Length of the rise in moves; move 0 has the rate `after / steps`.
        after: A rate or a schedule, which is counted from the first move.
    """

    steps: int
    after: float | Linear | Cosine

    def __post_init__(self) -> None:
        check_at_least("Warmup", 1, steps=self.steps)

    def __call__(self, step: int) -> float:
        """The rate after `step` moves."""
        rate = self.after(step) if callable(self.after) else self.after
        return rate * min((step + 1) / self.steps, 1.0)
