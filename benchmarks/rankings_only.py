"""What `minimize` loses where it is told rankings alone: queries to a target, by those of the same call with values.

On bbob, from the same starts and seeds. The targets are those that the run with values reached within 100 d queries,
but for those that the start has reached already; one that the run with rankings does not reach within 300 d counts as
infinite. The run with rankings sees the order of the points of a step, and nothing else. `EvolutionStrategy` is what
"auto" did with rankings before it had a model of them, and no search along coordinates.
Run: OMP_NUM_THREADS=1 python benchmarks/rankings_only.py; needs the extra bbob.
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import argparse
import statistics
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from _common import save

import blackbox_zo as bz
from oracles.bench.problem import Counted
from oracles.bench.suites import SUITES
from oracles.cli.bench import numbers

VALUES, RANKINGS = 100, 300
"""Queries per dimension of the two runs."""

RANGES = {"100 to 1": slice(0, 11), "below 1, to 1e-2": slice(11, 21), "below 1e-2, to 1e-8": slice(21, 51)}
"""Which of the targets, distances from the optimum, are in each row."""

AIM = 3.0

METHODS = {"auto": "auto", "EvolutionStrategy(0.3)": bz.EvolutionStrategy(0.3)}
"""With rankings. With values it is always "auto"."""


def hits(function: int, d: int, instance: int, method: Any = None) -> list[int]:
    """The number of queries after which each target was first reached: by a method with rankings, or by values."""
    problem = SUITES["bbob"].problem(function, d, instance)
    budget = (RANKINGS if method else VALUES) * d
    f = Counted(problem, budget)
    seed = int(np.random.SeedSequence([0, function, d, instance]).generate_state(1)[0])
    fun: Any = bz.RankOnly(bz.FunctionOracle(f)) if method else f
    unit = (f.bounds[1] - f.bounds[0]) / 2 if f.bounds else None  # as "auto" takes it
    bz.minimize(fun, f.x0, method or "auto", budget=budget, bounds=f.bounds, unit=unit, seed=seed)
    return f.hits


def ratios(values: list[int], rankings: list[int]) -> dict[int, float]:
    """For each target, by number, the queries with rankings by those with values."""
    rest = [float("inf")] * (len(values) - len(rankings))
    both = enumerate(zip(values, [*rankings, *rest], strict=False))
    return {i: ours / base for i, (base, ours) in both if base > 1}


def summary(found: list[tuple[int, float]]) -> dict[str, Any]:
    """Median, quartiles and the share that is never reached."""
    each = [ratio for _, ratio in found]
    low, middle, high = np.quantile(each, (0.25, 0.5, 0.75), method="closest_observation").tolist()
    return {
        "median": round(statistics.median(each), 2) if np.isfinite(middle) else middle,
        "quartiles": [round(low, 2), round(high, 2)],
        "at most 3": round(float(np.mean(np.array(each) <= AIM)), 3),
        "never": round(float(np.mean(np.isinf(each))), 3),
        "pairs": len(each),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dimensions", type=int, nargs="+", default=[5, 10])
    parser.add_argument("--functions", type=numbers, default=list(range(1, 25)))
    parser.add_argument("--instances", type=numbers, default=[1, 2, 3])
    parser.add_argument("--out", type=Path, default=Path(__file__), help="beside which the JSON is kept")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    table: dict[str, Any] = {"unit": "queries with rankings ÷ queries with values", "aim": f"median ≤ {AIM:.0f}"}
    problems = [(function, instance) for function in given.functions for instance in given.instances]
    for d in given.dimensions:
        values = {(f, i): hits(f, d, i) for f, i in problems}
        table[f"d = {d}"] = {}
        for name, method in METHODS.items():
            found = {(f, i): ratios(values[f, i], hits(f, d, i, method)) for f, i in problems}
            every = [pair for some in found.values() for pair in some.items()]
            rows: dict[str, Any] = {"all targets": summary(every)}
            for title, part in RANGES.items():
                if some := [(i, r) for i, r in every if part.start <= i < part.stop]:
                    rows[title] = summary(some)
            by = {f: [r for i in given.instances for r in found[f, i].values()] for f in given.functions}
            rows["median by function"] = {f"f{f}": round(statistics.median(r), 2) for f, r in by.items() if r}
            table[f"d = {d}"][name] = rows
    save(str(given.out), table)


if __name__ == "__main__":
    main()
