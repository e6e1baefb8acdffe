"""What a journal, and the evaluations beside it, tell about a training."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blackbox_zo._describe import spell
from blackbox_zo.journal import read
from oracles.cli._finetune_history import _rule
from oracles.cli._history import Floats
from oracles.cli._rl_evaluations import Evaluations, beside
from oracles.cli._rl_journal import env_name, go_on
from oracles.cli._rl_progress import figure

__all__ = ["Career", "career_of"]


@dataclass(frozen=True)
class Career:
    """A search of a policy.

    Attributes:
        path: Of the journal.
        header: Of the journal.
        played: Steps of the environment by the end of each step of the search, shape (steps,).
        mean: Mean return of each step's candidates, shape (steps,); NaN where all failed, or played the first steps of
            episodes only.
        highest: Highest return of each step's candidates, shape (steps,); NaN likewise.
        barren: Whether all candidates of a step failed, shape (steps,).
        candidates: How many have been answered.
        failures: Number and reason of each candidate that failed.
        evaluations: What was evaluated in between.
    """

    path: Path
    header: dict[str, Any]
    played: Floats
    mean: Floats
    highest: Floats
    barren: npt.NDArray[np.bool_]
    candidates: int
    failures: list[tuple[int, str]]
    evaluations: Evaluations

    @property
    def steps(self) -> int:
        """Number of steps that have an answer."""
        return len(self.mean)

    @property
    def env(self) -> str:
        """The environment, as it was asked for."""
        return env_name(self.header)

    @property
    def settings(self) -> dict[str, Any]:
        """What may change between resumes."""
        return self.header.get("settings") or {}

    @property
    def best_so_far(self) -> Floats:
        """The highest return of a candidate up to each step."""
        return np.asarray(np.fmax.accumulate(self.highest)) if self.steps else self.highest

    @property
    def note(self) -> str:
        """What a reader should know first; may be empty."""
        if not self.steps:
            return "No step has been recorded yet."
        if self.barren.all():
            return "Every candidate failed. See the reasons below."
        return ""

    def tiles(self) -> list[tuple[str, str]]:
        """Large figures, each with its label."""
        out = []
        best, last = self.evaluations.best, self.evaluations.last
        if best is not None and last is not None:
            out.append((f"best evaluated, after step {best.step:,}", figure(best.mean)))
            if last.step > best.step:
                out.append((f"last evaluated, after step {last.step:,}", figure(last.mean)))
        elif np.isfinite(self.mean).any():
            out.append(("highest return of a candidate", figure(float(np.nanmax(self.highest)))))
        goal = self.settings.get("steps")
        out.append(("steps", f"{self.steps:,}" + (f" of {goal:,}" if goal and goal > self.steps else "")))
        out.append(("steps of the environment", f"{int(self.played[-1]) if self.steps else 0:,}"))
        out.append(("episodes", f"{self.candidates * self.header['problem']['episodes']:,}"))
        out.append(("failed candidates", f"{len(self.failures):,}"))
        return out

    def reasons(self) -> list[tuple[str, int, int]]:
        """Why candidates failed: the reason, how many, and the latest; the most frequent first."""
        latest = dict((reason, number) for number, reason in sorted(self.failures))
        counts = Counter(reason for _, reason in self.failures).most_common()
        return [(reason, count, latest[reason]) for reason, count in counts]

    def commands(self) -> list[tuple[str, str]]:
        """What to do with the run, and the command for it."""
        arguments = self.settings.get("arguments")
        if not isinstance(arguments, list):
            return []
        more = self.steps >= int(self.settings.get("steps") or self.steps + 1)
        return [("to go on, with a larger --steps" if more else "to go on", go_on(list(map(str, arguments))))]

    def facts(self) -> list[tuple[str, str]]:
        """The settings of the run."""
        header, settings, problem = self.header, self.settings, self.header["problem"]
        hidden = settings.get("hidden")
        policy = str(problem["policy"]) + (f", hidden layers of {', '.join(map(str, hidden))}" if hidden else "")
        out = [("environment", self.env), ("policy", f"{policy}, {header.get('dimension'):,} parameters")]
        out.append(("observations", "normalised" if problem.get("normalize") else "as they are"))
        if settings.get("preset"):
            out.append(("preset", str(settings["preset"])))
        out += [("estimator", spell(header.get("estimator"))), ("rule", _rule(header.get("rule")))]
        out.append(("learns from", "the order of the episodes alone" if problem.get("rank") else "scores"))
        out.append(("score", str(problem["score"]) if problem.get("score") else "sum of rewards"))
        if problem.get("survival_bonus"):
            out.append(("taken off each reward", f"{problem['survival_bonus']:g}"))
        out.append(("episodes for a candidate", str(problem["episodes"])))
        out.append(("most steps of an episode", str(problem.get("max_steps") or "the environment's")))
        if problem.get("num_envs", 1) != 1:
            out.append(("environments that step together", str(problem["num_envs"])))
        if problem.get("horizon"):
            first, growth = problem["horizon"]
            out.append(("steps of an episode that are played", f"{first} at first, {growth} more in each step"))
        if settings.get("timeout"):
            out.append(("most seconds of an episode", f"{settings['timeout']:g}"))
        if settings.get("workers") is not None:
            out.append(("workers", str(settings["workers"])))
        if settings.get("evaluate"):
            out.append(("evaluations", f"{settings['evaluate']} episodes every {settings['every']} steps"))
        out.append(("seed", str(header.get("seed"))))
        versions = ", ".join(f"{name} {version}" for name, version in problem["versions"].items())
        out.append(("versions", f"{versions}, numpy {header.get('numpy')}, blackbox_zo {header.get('library')}"))
        return out


def career_of(path: Path) -> Career:
    """Read a journal, which may still be written to, and the evaluations beside it.

    Raises:
        JournalError: It is empty, damaged, or no journal.
        OSError: It cannot be read.
    """
    header, records = read(path)
    steps: dict[int, list[float]] = {}
    taken: dict[int, int] = {}
    cut: set[int] = set()
    failures, candidates = [], 0
    for record in records:
        step = int(record["step"])
        ids, infos = (record["ids"], record.get("info")) if "ids" in record else ([record["id"]], [record.get("info")])
        for number, info in zip(ids, infos or [None] * len(ids), strict=True):
            info, candidates = info or {}, candidates + 1
            taken[step] = taken.get(step, 0) + int(info.get("steps", 0))
            known = steps.setdefault(step, [])
            if "cut" in info:
                cut.add(step)
            if "return" in info:
                known.append(float(info["return"]))
            else:
                failures.append((int(number), str(info.get("error", "the score is not finite"))))
    order = sorted(steps)
    mean = [float(np.mean(steps[s])) if steps[s] and s not in cut else np.nan for s in order]
    highest = [max(steps[s], default=np.nan) if s not in cut else np.nan for s in order]
    barren = np.array([not steps[s] for s in order], dtype=bool)
    played = np.cumsum([taken[s] for s in order], dtype=np.float64)
    evaluations = Evaluations.of(beside(path))
    return Career(path, header, played, np.array(mean), np.array(highest), barren, candidates, failures, evaluations)
