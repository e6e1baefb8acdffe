"""Following a journal: its lines as they come, without a lock, until nobody writes to it any more."""

from __future__ import annotations

import json
import math
import os
import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from blackbox_zo._stop import Stop
from blackbox_zo.errors import JournalError
from oracles.cli._rl_evaluations import Evaluations, beside
from oracles.cli._rl_journal import is_training
from oracles.cli._rl_progress import figure, returned
from oracles.cli._scale import number

__all__ = ["Follower", "watch", "written"]

_WAIT, _LOOK = 0.25, 2.0
"""Seconds between looks at the file, and at whether somebody writes to it."""


class Follower:
    """The whole lines of a growing file, each once. A torn last line is read again when it is whole.

    Args:
        path: Of the journal.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._at = path, 0

    def new(self) -> list[dict[str, Any]]:
        """The entries that came since the last call.

        Raises:
            JournalError: The file is no journal, or was replaced by a shorter one.
            OSError: It cannot be read.
        """
        with self.path.open("rb") as file:
            if os.fstat(file.fileno()).st_size < self._at:
                raise JournalError(f"'{self.path}' was replaced by another file while it was watched.")
            file.seek(self._at)
            lines = file.read().split(b"\n")[:-1]
        found = []
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:
                entry = None
            if self._at == 0 and (not isinstance(entry, dict) or entry.get("journal") != "blackbox_zo"):
                raise JournalError(f"'{self.path}' is not a journal of blackbox_zo.")
            self._at += len(line) + 1
            if isinstance(entry, dict):
                found.append(entry)
        return found


class _Answers:
    """A line for each answer of any run.

    Args:
        header: Of the journal.
    """

    def __init__(self, header: Mapping[str, Any]) -> None:
        problem, settings = header.get("problem"), header.get("settings") or {}
        self.maximize = isinstance(problem, dict) and problem.get("maximize") is True
        self.goal, self.done, self.best = settings.get("budget"), 0, math.nan

    def lines(self, record: Mapping[str, Any]) -> Iterator[str]:
        """What to say of a line of the journal."""
        if "ids" in record:
            self.done += len(record["ids"])
            yield f"step {record['step']}: a ranking of {len(record['ids'])}"
            return
        values = record["values"] if "values" in record else [record["value"]]
        for query, value in enumerate(values, record["id"]):
            yield self._answer(query, value, (record.get("info") or {}).get("error"))

    def _answer(self, query: int, value: float | None, error: str | None) -> str:
        self.done += 1
        if value is None:
            return f"query {query}: failed{f': {error}' if error else ''}"
        shown = -value if self.maximize else value
        self.best = (max if self.maximize else min)(shown, self.best if math.isfinite(self.best) else shown)
        return f"query {query}: {number(shown)}, best {number(self.best)}"

    @property
    def complete(self) -> bool:
        """Whether the run has what was asked for."""
        return self.goal is not None and self.done >= self.goal

    def rest(self) -> Iterator[str]:
        """What is left to say at the end."""
        return iter(())


class _Steps:
    """A line for each step of a training.

    Args:
        header: Of the journal.
        path: Of the journal, whose evaluations are beside it.
    """

    def __init__(self, header: Mapping[str, Any], path: Path) -> None:
        self.path, self.each = path, int(header["problem"]["episodes"])
        self.goal, self.done = (header.get("settings") or {}).get("steps"), 0
        self.step, self.returns, self.failed, self.cut = -1, list[float](), 0, 0
        self.episodes = self.steps = 0
        self.best = -math.inf
        self.told: set[int] = set()
        self.times: deque[tuple[float, int]] = deque(maxlen=200)

    def lines(self, record: Mapping[str, Any]) -> Iterator[str]:
        """What to say of a line of the journal: when a step is over, its return."""
        if record["step"] != self.step:
            yield from self.rest()
            self.step = int(record["step"])
        infos = record.get("info")
        for info in infos if isinstance(infos, list) else [infos]:
            self.episodes += self.each
            self.steps += int((info or {}).get("steps", 0))
            self.cut = max(self.cut, int((info or {}).get("cut", 0)))
            if info and "return" in info:
                self.returns.append(float(info["return"]))
            else:
                self.failed += 1
        self.times.append((time.monotonic(), self.steps))

    @property
    def complete(self) -> bool:
        """Whether the run has begun the last of the steps that were asked for."""
        return self.goal is not None and self.step + 1 >= self.goal

    def rest(self) -> Iterator[str]:
        """The line of the present step, and what was evaluated after it."""
        if self.step < 0:
            yield from self._evaluated()
            return
        known = self.returns
        self.best = max([self.best, *(known if not self.cut else ())])
        parts = [returned(sum(known) / len(known), self.cut) if known else "no return"]
        parts += [f"best {figure(self.best)}"] * math.isfinite(self.best)
        parts += [f"{self.episodes:,} episodes", f"{self.steps:,} steps"]
        parts += [f"{self.failed} failed"] * bool(self.failed)
        (begun, before), (now, after) = self.times[0], self.times[-1]
        if now - begun > 0.5:
            parts.append(f"{(after - before) / (now - begun):,.0f} steps/s")
        self.done, self.returns, self.cut = self.step + 1, [], 0
        yield f"step {self.done}{f'/{self.goal}' if self.goal else ''}: {', '.join(parts)}"
        yield from self._evaluated()

    def _evaluated(self) -> Iterator[str]:
        for step, one in Evaluations.of(beside(self.path)).done.items():
            if step <= self.done and step not in self.told:
                self.told.add(step)
                yield f"step {step}: evaluated {figure(one.mean) if math.isfinite(one.mean) else 'failed'}"


def watch(path: Path, last: int) -> int:
    """Print a journal's lines as they come, and return the exit code.

    Args:
        path: Of the journal.
        last: How many of those that are there already are shown.

    Raises:
        JournalError: It is no journal.
        OSError: It cannot be read.
    """
    with Stop() as stop:
        try:
            _follow(path, last)
        except KeyboardInterrupt:
            return 0 if stop.number == 2 else 128 + stop.number
    return 0


def _follow(path: Path, last: int) -> None:
    follower = Follower(path)
    teller: _Answers | _Steps | None = None
    kept: deque[str] | None = deque(maxlen=last)
    looked, quiet_since = 0.0, time.monotonic()
    while True:
        over = False
        if time.monotonic() - looked >= _LOOK or kept is not None:  # looked at before the file, so that nothing is lost
            looked, writer = time.monotonic(), written(path)
            silent = time.monotonic() - quiet_since >= 2 * _LOOK
            over = writer is False or (writer is None and silent and teller is not None and teller.complete)
        for entry in follower.new():
            quiet_since = time.monotonic()
            if "journal" in entry:
                teller = _Steps(entry, path) if is_training(entry) else _Answers(entry)
                continue
            assert teller is not None
            for line in teller.lines(entry):
                print(line, flush=True) if kept is None else kept.append(line)
        rest = list(teller.rest()) if over and teller is not None else []
        if kept is not None:
            kept.extend(rest)
        for line in rest if kept is None else kept:
            print(line, flush=True)
        if over:
            print(_end(teller))
            return
        if teller is not None:
            kept = None
        time.sleep(_WAIT)


def _end(teller: _Answers | _Steps | None) -> str:
    if teller is None:
        return "The journal is empty, and nobody writes to it."
    if teller.complete:
        return "The run has ended."
    return "Nobody writes to this journal: the run has ended, or was interrupted."


def written(path: Path) -> bool | None:
    """Whether a process here has a file open to write to it; none where the system does not tell.

    It is found in `/proc`. That locks nothing: a lock that is tried for an instant could keep a run from starting.
    """
    target = path.stat()
    if not Path("/proc/self/fd").exists() or (target.st_uid != os.getuid() and os.getuid() != 0):
        return None
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            if process.stat().st_uid != target.st_uid and os.getuid() != 0:
                continue
            for link in (process / "fd").iterdir():
                if link.lstat().st_mode & 0o200 and os.path.samestat(link.stat(), target):
                    return True
        except OSError:  # it has ended, or is not ours
            continue
    return False
