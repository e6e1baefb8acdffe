"""The evaluations of a training, one line each, in a file beside its journal."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import NamedTuple

__all__ = ["Evaluation", "Evaluations", "beside"]


class Evaluation(NamedTuple):
    """What a policy got in episodes of its own.

    Attributes:
        step: Steps of the search before it.
        steps: Steps of the environment that the search had taken by then.
        episodes: Episodes that it had played by then.
        mean: Mean return of the evaluation's episodes; NaN if one failed.
        stderr: Its standard error; NaN where that is not known.
    """

    step: int
    steps: int
    episodes: int
    mean: float
    stderr: float = math.nan


def beside(journal: Path) -> Path:
    """Where the evaluations of a journal's run are."""
    return journal.with_name(journal.name + ".eval.jsonl")


class Evaluations:
    """The evaluations so far, in memory and, with a path, in a file.

    Args:
        path: The file; none keeps them in memory alone.

    Attributes:
        done: Each evaluation, by step, in the order of the steps.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.done: dict[int, Evaluation] = {}

    @classmethod
    def of(cls, path: Path) -> Evaluations:
        """Those in a file, which may be missing; what is no whole line of ours, such as a torn last one, is skipped."""
        found = cls(path)
        for line in path.read_bytes().split(b"\n") if path.exists() else ():
            try:
                entry = json.loads(line)
                numbers = [math.nan if entry.get(n) is None else float(entry[n]) for n in ("return", "stderr")]
                one = Evaluation(int(entry["step"]), int(entry["steps"]), int(entry["episodes"]), *numbers)
            except (ValueError, TypeError, KeyError, AttributeError):
                continue
            found.done[one.step] = one
        found.done = dict(sorted(found.done.items()))
        return found

    def begin(self, step: int) -> None:
        """Drop what is after a step, where the run goes on, and write the file anew."""
        self.done = {s: e for s, e in self.done.items() if s <= step}
        if self.path is not None:
            partial = self.path.with_name(f".{self.path.name}.{os.getpid()}")
            partial.write_text("".join(map(_line, self.done.values())), encoding="utf-8")
            partial.replace(self.path)

    def add(self, one: Evaluation) -> None:
        """Note an evaluation, at the end of the file."""
        self.done[one.step] = one
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_line(one))

    @property
    def last(self) -> Evaluation | None:
        """The latest one that has a mean."""
        known = self._known()
        return known[-1] if known else None

    @property
    def best(self) -> Evaluation | None:
        """The one of the highest mean, the first among equals."""
        return max(self._known(), key=lambda e: e.mean, default=None)

    def _known(self) -> list[Evaluation]:
        return [e for e in self.done.values() if math.isfinite(e.mean)]


def _line(one: Evaluation) -> str:
    numbers = {"return": one.mean, "stderr": one.stderr}
    known = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
    return json.dumps({"step": one.step, "steps": one.steps, "episodes": one.episodes, **known}) + "\n"
