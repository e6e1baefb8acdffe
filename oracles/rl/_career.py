"""A training, read from its journal."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

import blackbox_zo as bz
from blackbox_zo._typing import Floats
from blackbox_zo.journal import JournalReader, Line
from oracles.rl._names import RETURN, best_of

__all__ = ["Career", "career_of", "lines_of"]


@dataclass(frozen=True)
class Career:
    """A training.

    Attributes:
        header: The journal's header.
        played: Environment steps up to the end of each step of the search, shape (steps,).
        mean_return: Mean return of each step's candidates, shape (steps,); NaN where all failed, or where the
            horizon cut episodes short.
        best_return: Highest return of each step's candidates, shape (steps,); NaN likewise.
        barren: Whether all candidates of a step failed, shape (steps,).
        candidates: Number of candidates evaluated.
        failures: Number and reason of each candidate that failed.
        evaluations: All evaluations, failed ones included.
        measured: Any other measures taken between steps.
    """

    header: dict[str, Any]
    played: Floats
    mean_return: Floats
    best_return: Floats
    barren: npt.NDArray[np.bool_]
    candidates: int
    failures: list[tuple[int, str]]
    evaluations: list[bz.Measured]
    measured: list[bz.Measured]

    @property
    def problem(self) -> dict[str, Any]:
        """The problem: environment, policy and rules."""
        problem: dict[str, Any] = self.header["problem"]
        return problem

    @property
    def settings(self) -> dict[str, Any]:
        """Settings that may change when the run is resumed."""
        return self.header.get("settings") or {}

    @property
    def steps(self) -> int:
        """Number of steps with an answer."""
        return len(self.mean_return)

    @property
    def env(self) -> str:
        """The environment."""
        return str(self.settings.get("env") or self.problem["env"])

    @property
    def best(self) -> bz.Measured | None:
        """The evaluation with the highest return."""
        return best_of(self.evaluations)

    @property
    def last(self) -> bz.Measured | None:
        """The latest evaluation that did not fail."""
        return next((m for m in reversed(self.evaluations) if math.isfinite(m.values.get(RETURN, math.nan))), None)

    @property
    def best_so_far(self) -> Floats:
        """The highest return of a candidate up to each step."""
        return np.asarray(np.fmax.accumulate(self.best_return)) if self.steps else self.best_return

    def reasons(self) -> list[tuple[str, int, int]]:
        """Why candidates failed: the reason, how many, and the latest; the most frequent first."""
        latest = dict((reason, number) for number, reason in sorted(self.failures))
        counts = Counter(reason for _, reason in self.failures).most_common()
        return [(reason, count, latest[reason]) for reason, count in counts]


def career_of(reader: JournalReader) -> Career:
    """Read a journal, which may still be written to.

    Raises:
        JournalError: It is damaged.
        OSError: It cannot be read.
    """
    steps: dict[int, list[float]] = {}
    taken: Counter[int] = Counter()
    cut: set[int] = set()
    failures: list[tuple[int, str]] = []
    measured: list[bz.Measured] = []
    candidates = 0
    for line in lines_of(reader):
        if isinstance(line, bz.Measured):
            measured.append(line)
            continue
        known = steps.setdefault(line.step, [])
        for number, entry in zip(line.ids, line.info or [None] * len(line.ids), strict=True):
            info, candidates = entry or {}, candidates + 1
            taken[line.step] += int(info.get("steps", 0))
            if "cut" in info:
                cut.add(line.step)
            if "return" in info:
                known.append(float(info["return"]))
            else:
                failures.append((int(number), str(info.get("error", "the score is not finite"))))
    order = sorted(steps)
    return Career(
        reader.header,
        np.cumsum([taken[s] for s in order], dtype=np.float64),
        np.array([float(np.mean(steps[s])) if steps[s] and s not in cut else np.nan for s in order]),
        np.array([max(steps[s], default=np.nan) if s not in cut else np.nan for s in order]),
        np.array([not steps[s] for s in order], dtype=bool),
        candidates,
        failures,
        [m for m in measured if m.name == RETURN],
        [m for m in measured if m.name != RETURN],
    )


def lines_of(reader: JournalReader) -> Iterator[Line]:
    """The lines of a journal, with those of format 1 converted to today's.

    Format 1 mixed what was learnt with the info, and kept evaluations in a file beside the journal.
    """
    if reader.header.get("format") != 1:
        yield from reader
        return
    for line in reader:
        if isinstance(line, bz.Measured) or line.info is None:
            yield line
            continue
        found = [{"steps": 0, **(info or {})} for info in line.info]
        yield line._replace(learnt={"EpisodeOracle": found})
    beside = reader.path.with_name(reader.path.name + ".eval.jsonl")
    for text in beside.read_text("utf-8", errors="replace").splitlines() if beside.is_file() else ():
        try:
            entry = json.loads(text)
            numbers = {name: math.nan if entry.get(name) is None else float(entry[name]) for name in (RETURN, "stderr")}
            numbers |= {name: float(entry[name]) for name in ("episodes", "steps")}
            error = "" if math.isfinite(numbers[RETURN]) else "an episode failed"
            yield bz.Measured(RETURN, int(entry["step"]), numbers, error)
        except (ValueError, TypeError, KeyError, AttributeError):  # a torn line
            continue
