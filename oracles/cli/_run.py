"""One run of the command line: the search, what is shown of it, and how it ends."""

from __future__ import annotations

import math
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from blackbox_zo._progress import Progress, progress_of

from blackbox_zo.feedback import Feedback, Values
from blackbox_zo.journal import Journal, read
from blackbox_zo.minimize import BUDGET, INTERRUPTED, minimize
from blackbox_zo.oracle import Oracle, Part
from blackbox_zo.proposal import Proposal
from blackbox_zo.search import Report
from oracles.command import CommandOracle

__all__ = ["Run"]


class _Held(Progress):
    """Opens and closes the display, but leaves showing to `Run`, which reports each answer, not only each step."""

    def __init__(self, shown: Progress) -> None:
        self.shown = shown

    def __enter__(self) -> _Held:
        self.shown.__enter__()
        return self

    def __exit__(self, *args: object) -> None:
        self.shown.__exit__(*args)


class Run(Oracle):
    """A command's oracle, watched: each answer moves the progress bar, and the first failure is kept.

    Args:
        oracle: What is asked.
        journal: Where the answers go; none keeps none.
        budget: Most queries.
        time_limit: Seconds after which to stop; none is no limit.
        quiet: Whether to show no progress.
    """

    def __init__(
        self,
        oracle: CommandOracle,
        journal: Journal | None,
        budget: int,
        time_limit: float | None,
        quiet: bool,
    ) -> None:
        self.oracle, self.journal, self.budget, self.time_limit = oracle, journal, budget, time_limit
        self.name = None if journal is None else journal.path
        self.progress = progress_of(not quiet, budget)
        self.answered, self.failed, self.best, self.best_id = 0, 0, math.nan, -1
        self.first_failure: tuple[int, dict[str, Any]] | None = None
        self.signal = signal.SIGINT

    @property
    def calls(self) -> int:
        """Number of programs started."""
        return self.oracle.calls

    def answer(self, proposal: Proposal) -> Feedback:
        """See `Oracle.answer`."""
        return self.oracle.answer(proposal)

    def parts(self, proposal: Proposal) -> Iterator[Part]:
        """See `Oracle.parts`."""
        inner = self.oracle.parts(proposal)
        try:
            for ids, part in inner:
                assert isinstance(part, Values)
                for i, value, info in zip(ids.tolist(), part.values.tolist(), part.info or (), strict=True):
                    self._see(i, value, info)
                    if math.isnan(value) and self.failed == 1:  # tell at once, a wrong command would fail to the end
                        self.progress.note(self._failure_of(i, dict(info or {})))
                yield ids, part
                self.progress(Report(proposal.step, self.answered, math.nan, self._shown(self.best), self.failed))
        finally:
            inner.close()  # type: ignore[attr-defined]

    def _see(self, query: int, value: float, info: Any) -> None:
        self.answered += 1
        if math.isnan(value):
            self.failed += 1
            if self.first_failure is None:
                self.first_failure = query, dict(info or {})
        elif not value >= self.best:
            self.best, self.best_id = value, query
        elif value == self.best:
            self.best_id = min(query, self.best_id)

    def _shown(self, value: float) -> float:
        """A value with the sign that the program printed."""
        return -value if self.oracle.maximize else value

    def minimize(self, x0: Any, **how: Any) -> int:
        """Search, say how it went, and return the exit code."""
        self._read_back()
        begun = time.monotonic()
        try:
            with self._signals():
                result = minimize(
                    self,
                    x0,
                    budget=self.budget,
                    journal=self.journal,
                    time_limit=self.time_limit,
                    progress=_Held(self.progress),
                    **how,
                )
        finally:
            self.oracle.close()
        interrupted = result.status == INTERRUPTED
        if self.answered and self.failed == self.answered:
            query, info = self.first_failure or (0, {})
            first = self._failure_of(query, info)
            print(f"blackbox-zo: all {self.answered} queries failed. The first: {first}", file=sys.stderr)
        if interrupted:
            print("Interrupted; every answer is kept." if self.journal else "Interrupted.")
        if interrupted or self.failed < self.answered:
            self._tell(result, time.monotonic() - begun)
        if interrupted:
            return 128 + self.signal
        return 0 if self.failed < self.answered else 1

    def _read_back(self) -> None:
        """Count what the journal holds already."""
        if self.journal is None or not self.journal.path.exists() or not self.journal.path.stat().st_size:
            return
        header, records = read(self.journal.path)
        if header.get("problem") != self.oracle.problem:
            return  # it will be refused
        for record in records:
            self._see(record["id"], math.nan if record["value"] is None else record["value"], record.get("info"))
        if self.answered >= self.budget:
            print(f"{self.name} holds all {self.answered} answers of this run; a larger --budget would go on.")
        elif self.answered:
            print(f"{self.name} holds {self.answered} answers of this run, which goes on.", flush=True)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGTERM, and a terminal that is closed, end a run as Ctrl-C does."""

        def interrupt(number: int, frame: FrameType | None) -> None:
            del frame
            self.signal = signal.Signals(number)
            raise KeyboardInterrupt

        kinds = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
        before = [(kind, signal.signal(kind, interrupt)) for kind in kinds]
        try:
            yield
        finally:
            for kind, handler in before:
                signal.signal(kind, handler)

    def _tell(self, result: Any, seconds: float) -> None:
        """The best so far, and what it took."""
        if self.best_id >= 0:
            values = self.oracle.decode(result.x)
            width = max(map(len, values))
            print(f"best {self._shown(result.fun):.8g}, query {self.best_id}")
            for name, value in values.items():
                print(f"  {name:<{width}}  {value}")
            print(f"  {shlex.join(self.oracle.command(result.x, self.best_id))}")
        failed = f", {self.failed} failed" if self.failed else ""
        print(f"{self.answered} of {self.budget} queries{failed}, {seconds:.1f} s")
        if result.status not in (BUDGET, INTERRUPTED):
            print(result.message)
        if self.name is not None:
            name = shlex.quote(str(self.name))
            if self.answered < self.budget:
                print(f"to go on: blackbox-zo resume {name}")
            print(f"to see it: blackbox-zo report {name}")

    def _failure_of(self, query: int, info: dict[str, Any]) -> str:
        """How a query failed: why, its parameters, its command, and its last lines."""
        values = info.get("params", {})
        lines = [f"query {query} failed: {info.get('error', 'the number is NaN')}"]
        lines += [f"  {name} = {value}" for name, value in values.items()]
        if values:
            lines.append(f"  {shlex.join(self.oracle.filled(values, query))}")
        lines += [f"  | {line}" for line in str(info.get("tail", "")).splitlines()]
        return "\n".join(lines)
