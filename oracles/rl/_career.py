"""A training run, read from its journal."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

import numpy as np

import blackbox_zo as bz
from blackbox_zo._typing import Floats, Ints, override
from blackbox_zo.journal import Answers, JournalReader, Line
from oracles.recorded import Recorded
from oracles.rl._names import RETURN, best_of

__all__ = ["Career", "lines_of"]


class Career(Recorded):
    """A training run; its queries are the candidates.

    Args:
        reader: Reader of its journal, which may still be written to.

    Attributes:
        played: Environment steps up to the end of each step of the search, shape (steps,).
        mean_return: Mean return of each step's candidates, shape (steps,); NaN where all failed, or where the
            horizon cut episodes short.
        best_return: Highest return of each step's candidates, shape (steps,); NaN likewise.
        barren: Whether all candidates of a step failed, shape (steps,).
        evaluations: All evaluations, including failed ones.
        others: All other measures.

    Raises:
        JournalError: The journal is damaged.
        OSError: The journal cannot be read.
    """

    def __init__(self, reader: JournalReader) -> None:
        super().__init__(reader, lines_of(reader))
        self.returns: Floats = np.array([info.get("return", math.nan) for info in self.infos], dtype=np.float64)
        cut = self.by_step(np.array([float("cut" in info) for info in self.infos]), np.maximum) > 0
        self.played = np.cumsum(self.by_step(np.array([float(info.get("steps", 0)) for info in self.infos]), np.add))
        self.best_return = self.by_step(self.returns, np.fmax)
        self.barren = np.isnan(self.best_return)
        self.mean_return = np.where(cut, np.nan, self.mean_by_step(self.returns))
        self.best_return[cut] = np.nan
        self.evaluations = [m for m in self.measured if m.name == RETURN]
        self.others = [m for m in self.measured if m.name != RETURN]

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

    @property
    @override
    def failed(self) -> Ints:
        """Rows of the candidates that failed, ranked or not."""
        return np.flatnonzero([("return" not in info) for info in self.infos])

    @override
    def reason(self, row: int) -> str:
        return str(self.infos[row].get("error", "the score is not finite"))


def lines_of(reader: JournalReader) -> Iterator[Line]:
    """The lines of a journal; those of format 1 are converted to the current format.

    Format 1 stored what was learnt in the info, and evaluations in a file next to the journal.
    """
    if reader.header.get("format") != 1:
        yield from reader
        return
    for line in reader:
        if not isinstance(line, Answers) or line.info is None:
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
