"""The progress of a fine-tuning run: on a terminal, in lines, and in `blackbox-zo watch`."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable

from blackbox_zo._typing import override
from blackbox_zo.journal import Line, Measured
from blackbox_zo.run import Observer, Report, Run
from blackbox_zo.tally import StepTally
from oracles.llm._validations import in_words

__all__ = ["Pace", "TuningTally", "memory"]

_LATEST = 20
"""Number of latest steps whose mean loss and speed are shown."""


class TuningTally(StepTally):
    """The mean loss of the latest steps, and the latest of each measure, such as the validation.

    Args:
        total: Planned number of steps; None if unknown.

    Attributes:
        barren: Number of steps without a finite loss.
        pace: The speed of the run, as text; empty if the run is read from a journal.
    """

    lines = 50 * _LATEST  # so that `_latest` is right if a step has at most 50

    def __init__(self, total: int | None) -> None:
        super().__init__(total)
        self.barren, self.pace = 0, ""
        self._measures: dict[str, Measured] = {}
        self._latest: deque[float] = deque(maxlen=_LATEST)

    @override
    def begin(self, run: Run) -> None:
        super().begin(run)
        self.failed, self.barren = run.search.failed, run.search.barren_steps

    @override
    def complete(self) -> None:
        super().complete()
        if self.value == self.value:
            self._latest.append(self.value)
        else:
            self.barren += 1

    @override
    def see(self, line: Line) -> None:
        super().see(line)
        if isinstance(line, Measured):
            self._measures[line.name] = line

    @override
    def measure(self, line: Measured) -> str:
        of = f"/{self.total}" if self.total and self.done <= self.total else ""
        return f"step {line.step}{of}: {line.name} {f'failed: {line.error}' if line.error else in_words(line.values)}"

    @override
    def __str__(self) -> str:
        parts = [f"loss {sum(self._latest) / len(self._latest):.4f}"] if self._latest else []
        parts += [f"{self.barren} steps without a finite loss"] * bool(self.barren)
        parts += [self.pace] * bool(self.pace)
        parts += [f"{name} {in_words(line.values)}" for name, line in self._measures.items() if line.values]
        return ", ".join(parts) or "no step yet"


class Pace(Observer):
    """Records the speed of a run in a tally.

    Args:
        tally: The tally.
        forwards: Returns the number of forward passes so far.
    """

    def __init__(self, tally: TuningTally, forwards: Callable[[], int]) -> None:
        self.tally, self.forwards = tally, forwards
        self.spans: deque[tuple[float, int]] = deque(maxlen=_LATEST)
        self.last = (0.0, forwards())

    @override
    def stepped(self, run: Run, report: Report) -> None:
        """Update the speed over the latest steps, except those that also took a measure."""
        now = report.seconds, self.forwards()
        if not report.measured and now[1] > self.last[1]:
            self.spans.append((now[0] - self.last[0], now[1] - self.last[1]))
        self.last = now
        seconds, examples = sum(s for s, _ in self.spans), sum(n for _, n in self.spans)
        rate = examples / seconds if seconds > 0 else 0.0
        parts = [f"{rate:,.0f} examples/s" if rate >= 100 else f"{rate:.3g} examples/s"] * bool(rate)
        parts += [f"{used:,.0f} MB"] if (used := memory()) else []
        self.tally.pace = ", ".join(parts)


def memory() -> float:
    """Peak memory of the process, in MB; 0 if the system does not report it."""
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e6 if sys.platform == "darwin" else most / 1e3
