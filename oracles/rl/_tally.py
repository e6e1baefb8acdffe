"""The progress of a training, counted from its lines: live, or from a journal."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, final

import blackbox_zo as bz
from blackbox_zo._typing import override
from blackbox_zo.journal import Answers, Line
from blackbox_zo.tally import StepTally
from oracles.rl._names import RETURN

__all__ = ["TrainingTally", "short"]

_PAUSE, _EVERY, _LEAST = 0.1, 0.5, 0.2
"""Seconds without a line after which the run is taken to be live; seconds between samples of the speed; seconds needed
to tell the speed."""


@final
class TrainingTally(StepTally):
    """Counts the lines of a training.

    Args:
        steps: Planned steps of the search; none if unknown.
        env_steps: Planned environment steps; none if unknown.
        episodes: Episodes per candidate.

    Attributes:
        best: Highest return of a candidate that played whole episodes; NaN until there is one.
        mean_return: Mean return of the newest step's candidates; NaN if all failed.
        cut: Steps that they played if the horizon cut their episodes short, else 0.
        evaluated: Mean return of the latest evaluation; NaN before the first.
        step: Steps of the search so far.
        episodes: Episodes so far.
        env_steps: Environment steps so far.
        failed: Candidates that failed so far.
    """

    def __init__(self, steps: int | None, env_steps: int | None, episodes: int) -> None:
        self._by_steps = steps is not None or env_steps is None
        super().__init__(steps if self._by_steps else env_steps, maximize=True)
        self.unit = "steps" if self._by_steps else "env-steps"
        self._each, self._returns, self._cut = episodes, list[float](), 0
        self.mean_return = self.evaluated = math.nan
        self.cut = self.step = self.episodes = self.env_steps = 0
        self._samples = deque[tuple[float, int]](maxlen=20)
        self._seen_at = time.monotonic()

    @override
    def begin(self, run: bz.Run) -> None:
        """The run starts: lines from here on are live."""
        self.step = max(self.step, run.search.moves)
        self._samples.append((time.monotonic(), self.env_steps))
        self._count()
        self._samples.append((time.monotonic(), self.env_steps))

    @override
    def see(self, line: Line) -> None:
        """Count a line; a line of a new step closes the step before."""
        if isinstance(line, bz.Measured):
            if line.name == RETURN and not line.error:
                self.evaluated = line.values[RETURN]
            return
        super().see(line)

    @override
    def take(self, line: Answers) -> None:
        self._sample()
        for info in line.info or [None] * len(line.ids):
            self._answer(info or {})
        self._count()

    def _answer(self, info: Mapping[str, Any]) -> None:
        self.episodes += self._each
        self.env_steps += int(info.get("steps", 0))
        self._cut = max(self._cut, int(info.get("cut", 0)))
        if "return" not in info:
            self.failed += 1
            return
        self._returns.append(float(info["return"]))

    @override
    def complete(self) -> None:
        self.step, known = max(self.step, self._step + 1), self._returns
        self.mean_return, self.cut = (sum(known) / len(known) if known else math.nan), self._cut
        if known and not self._cut:
            self.best = max(known) if math.isnan(self.best) else max(self.best, *known)
        self._returns, self._cut = [], 0
        self._count()

    @override
    def rest(self) -> Iterator[str]:
        """The line of text for the current step."""
        if self._step >= 0:
            self.close()
            of = f"/{self.total}" if self._by_steps and self.total and self.done <= self.total else ""
            played = [f"{self.episodes:,} episodes", f"{self.env_steps:,} steps"]
            yield f"step {self.step}{of}: {', '.join([*self._returns_so_far(), *played, *self._rest()])}"

    @override
    def failure(self, query: int, info: Mapping[str, Any]) -> str:
        return f"candidate {query} failed: {info.get('error') or 'the score is not finite'}"

    @override
    def measure(self, line: bz.Measured) -> str:
        if line.name != RETURN:
            return super().measure(line)
        if line.error:
            return f"step {line.step}: an episode of the evaluation failed: {line.error}"
        return f"step {line.step}: evaluated {short(line.values[RETURN])}"

    @override
    def __str__(self) -> str:
        """The progress, short enough for a bar."""
        parts = [] if self._by_steps else [f"step {self.step}"]
        evaluated = [f"evaluated {short(self.evaluated)}"] * (self.evaluated == self.evaluated)
        return ", ".join([*parts, *self._returns_so_far(), *evaluated, f"{self.episodes:,} episodes", *self._rest()])

    def _returns_so_far(self) -> list[str]:
        first = f" in the first {self.cut} steps" if self.cut else ""
        mean = f"return {short(self.mean_return)}{first}" if self.mean_return == self.mean_return else "no return"
        return [mean, *[f"best {short(self.best)}"] * (self.best == self.best)]

    def _rest(self) -> list[str]:
        """Failures, and the speed if known."""
        parts = [f"{self.failed} failed"] * bool(self.failed)
        if self._samples:
            then, before = self._samples[0]
            seconds = time.monotonic() - then
            if seconds > _LEAST:
                parts.append(f"{(self.env_steps - before) / seconds:,.0f} steps/s")
        return parts

    def _sample(self) -> None:
        """Sample the speed now and then, but not while an old journal is read."""
        now, last = time.monotonic(), self._seen_at
        self._seen_at = now
        if now - last > _PAUSE or (self._samples and now - self._samples[-1][0] > _EVERY):
            self._samples.append((now, self.env_steps))

    def _count(self) -> None:
        self.done = self.step if self._by_steps else self.env_steps


def short(value: float) -> str:
    """A return, short: 1,234, 500, 12.3, 0.0123."""
    if not math.isfinite(value):
        return str(value)
    if abs(value) >= 1000 or (value == round(value) and abs(value) >= 1):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"
