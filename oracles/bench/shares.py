"""Shares of (problem, target) pairs reached, of a solver, of the best of several, and of COCO's virtual best solver."""

from __future__ import annotations

import bisect
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from blackbox_zo._typing import Floats
from oracles.bench.problem import TARGETS
from oracles.bench.suites import SUITES
from oracles.bench.trials import Trial

__all__ = ["BUDGETS", "Shares", "reference"]

BUDGETS = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000)
"""Queries per dimension at which a table has a column."""

Where: TypeAlias = tuple[int, int, int]
"""A function, an instance and a seed."""


class Shares:
    """The trials of one suite in one dimension.

    Attributes:
        d: Dimension.
        solvers: Their names, in the order of the trials.
    """

    def __init__(self, trials: Iterable[Trial], d: int) -> None:
        self.d = d
        self.suite = ""
        self._runs: dict[str, dict[int, dict[Where, Trial]]] = defaultdict(lambda: defaultdict(dict))
        for trial in trials:
            task = trial.task
            if task.d == d:
                self.suite = task.suite
                self._runs[task.solver][task.budget][task.function, task.instance, task.seed] = trial
        self.solvers = list(self._runs)

    def budgets(self, columns: Sequence[int] = BUDGETS) -> list[int]:
        """Those of `columns` at which a solver was measured; without those below 10 if there are others."""
        found = [b for b in columns if any(self.runs(name, b) for name in self.solvers)]
        return [b for b in found if b >= 10] if max(found, default=0) > 10 else found

    def runs(self, solver: str, budget: int) -> dict[Where, Trial]:
        """The trials that tell about a budget: the shortest that reach it; under noise those that end there."""
        made = self._runs[solver] if solver in self._runs else {}
        noisy = SUITES[self.suite].noisy
        fit = [b for b in made if (b == budget if noisy else b >= budget)]
        return made[min(fit)] if fit else {}

    @property
    def functions(self) -> set[int]:
        """The functions that some solver was measured on."""
        return {function for name in self.solvers for function, *_ in self.longest(name)}

    def longest(self, solver: str) -> dict[Where, Trial]:
        """The trials with the largest budget."""
        return self._runs[solver][max(self._runs[solver])]

    def share(self, solver: str, budget: float, among: Iterable[Where] | None = None) -> float:
        """Share of pairs reached within `budget` queries per dimension; NaN if not measured."""
        runs = self.runs(solver, int(np.ceil(budget)))
        places = list(runs) if among is None else [w for w in among if w in runs]
        return _share([runs[w].hits for w in places], budget * self.d)

    def virtual(self, solvers: Iterable[str], budget: float) -> float:
        """The share that the best of some solvers for each target has, on the problems of the first of them."""
        names = [name for name in solvers if self.runs(name, int(np.ceil(budget)))]
        every = [self.runs(name, int(np.ceil(budget))) for name in names]
        if not every:
            return float("nan")
        best = [np.min([_lengths(runs[w].hits) for runs in every if w in runs], axis=0) for w in every[0]]
        return float(np.mean(np.array(best) <= budget * self.d))

    def behind(self, solver: str, peers: Iterable[str], budget: int) -> tuple[float, float, str]:
        """The share of a solver less that of its best peer, each on the problems that both have seen.

        Returns:
            The difference, the peer's share, and its name; NaN and "" if there is no peer to compare with.
        """
        ours, found = self.runs(solver, budget), []
        for peer in peers:
            common = [w for w in self.runs(peer, budget) if w in ours]
            if common and peer != solver:
                theirs = self.share(peer, budget, common)
                found.append((self.share(solver, budget, common) - theirs, theirs, peer))
        return min(found, default=(float("nan"), float("nan"), ""))

    def rank(self, solver: str, solvers: Sequence[str], budget: int) -> float:
        """Mean rank among some solvers, by targets reached, then by the queries to the last of them; ties share."""
        every = {name: self.runs(name, budget) for name in solvers if self.runs(name, budget)}
        common = set.intersection(*(set(runs) for runs in every.values())) if every else set()
        if solver not in every or not common:
            return float("nan")
        ranks = []
        for where in common:
            scores = {name: _score(runs[where].hits, budget * self.d) for name, runs in every.items()}
            better = sum(score < scores[solver] for score in scores.values())
            ranks.append(better + (1 + sum(score == scores[solver] for score in scores.values())) / 2)
        return float(np.mean(ranks))

    def gap(self, solver: str, budget: int) -> float:
        """Geometric mean of the gaps at the end of the runs that tell about a budget; at least 1e-8 each."""
        gaps = [trial.gap for trial in self.runs(solver, budget).values() if trial.task.budget == budget]
        return float(np.exp(np.mean(np.log(np.maximum(gaps, 1e-8))))) if gaps else float("nan")

    def micros(self, solver: str) -> float:
        """Median CPU microseconds a query, of the longest runs."""
        return float(np.median([trial.micros for trial in self.longest(solver).values()]))

    def slow(self, solver: str, peers: Iterable[str], factor: float = 3.0, at: int = 20) -> list[dict[str, Any]]:
        """The problems where a solver needs more than `factor` times its best peer's queries to a target, 1e-2."""
        names = [name for name in peers if name != solver]
        out = []
        for where, trial in sorted(self.longest(solver).items()):
            found = [
                (float(_lengths(runs[where].hits)[at]), name)
                for name in names
                for runs in (self.longest(name),)
                if where in runs
            ]
            theirs, name = min(found, default=(np.inf, ""))
            ours = float(_lengths(trial.hits)[at])
            if factor * theirs < min(ours, trial.task.budget * self.d + 1):
                out.append({"function": where[0], "instance": where[1], "ours": ours, "peer": name, "theirs": theirs})
        return out


@cache
def _references() -> dict[str, Any]:
    text = Path(__file__).with_name("vbs.json").read_text("utf-8")
    return dict(json.loads(text))


def reference(suite: str, d: int, budget: float) -> float:
    """The share of COCO's virtual best solver, of expected running times; NaN where COCO has none.

    Between the budgets of the file it is that of the one below.
    """
    document = _references()
    shares = document["suites"].get(suite, {}).get("shares", {}).get(str(d))
    at = bisect.bisect_right(document["budgets"], budget) - 1
    return float("nan") if shares is None or at < 0 else float(shares[at])


def _lengths(hits: Sequence[int]) -> Floats:
    out = np.full(len(TARGETS), np.inf)
    out[: len(hits)] = hits
    return out


def _share(hits: Sequence[Sequence[int]], queries: float) -> float:
    if not hits:
        return float("nan")
    return sum(bisect.bisect_right(h, queries) for h in hits) / (len(hits) * len(TARGETS))


def _score(hits: Sequence[int], queries: float) -> tuple[int, int]:
    reached = bisect.bisect_right(hits, queries)
    return -reached, hits[reached - 1] if reached else 0
