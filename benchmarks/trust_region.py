"""`TrustRegion` beside `QuasiNewton`: alone with restarts, and before the CMA-ES of `minimize`'s default.

Share of (function, target) pairs reached at 10 to 100 queries per dimension, for each function, on bbob and MA-BBOB.
Then, for each dimension and budget, which of the two goes before the CMA-ES: chosen on all functions but one, and
scored on that one.
Run: OMP_NUM_THREADS=1 python benchmarks/trust_region.py [--cells bbob:5 ma-bbob:7]; needs the extra bbob. Cells that
are not named keep their figures. A minute or two each.
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from _common import save

import blackbox_zo as bz
from oracles.bench.problem import TARGETS, Counted, Problem, Spent, start_of
from oracles.bench.suites import SUITES

BUDGETS = (10, 20, 30, 50, 100)
CELLS = {
    "bbob:3": 3, "bbob:5": 3, "bbob:7": 2, "bbob:9": 2, "bbob:10": 2, "bbob:20": 1, "ma-bbob:5": 1, "ma-bbob:7": 1,
}  # fmt: skip
"""Suite and dimension, and how many instances; ioh has bbob in dimensions that COCO leaves out."""


def problem(suite: str, function: int, d: int, instance: int) -> Problem:
    if suite != "bbob" or d in SUITES["bbob"].dimensions:
        return SUITES[suite].problem(function, d, instance)
    import ioh

    f: Any = ioh.get_problem(function, instance, d, ioh.ProblemClass.BBOB)
    return Problem(suite, function, d, instance, f, float(f.optimum.y), start_of(function, d, instance))


def portfolio(first: bz.Estimator, d: int) -> bz.Portfolio:
    """As in `minimize`'s default."""
    cma = bz.EvolutionStrategy(0.3, model=d <= 20)
    return bz.Portfolio((first, cma, cma), growth=(1.0, 2.0, 0.0))


def methods(d: int) -> dict[str, bz.Estimator]:
    model, bfgs = bz.TrustRegion(0.2), bz.QuasiNewton(0.2)
    return {
        "TrustRegion, restarted": bz.Portfolio((model,)),
        "QuasiNewton, restarted": bz.Portfolio((bfgs,)),
        "TrustRegion, then CMA-ES": portfolio(model, d),
        "QuasiNewton, then CMA-ES": portfolio(bfgs, d),
    }


def measured(suite: str, d: int, instances: int) -> dict[str, dict[str, object]]:
    """For each method the shares for each function and budget, and CPU microseconds a query, f included."""
    out: dict[str, dict[str, object]] = {}
    functions = range(1, min(SUITES[suite].functions, 24) + 1)
    for label, method in methods(d).items():
        began, asked, shares = time.process_time(), 0, np.zeros((len(functions), len(BUDGETS)))
        for row, function in enumerate(functions):
            for instance in range(1, instances + 1):
                f = Counted(problem(suite, function, d, instance), BUDGETS[-1] * d)
                try:
                    bz.minimize(f, f.x0, method, f.budget, f.bounds, instance, unit=5.0)
                except Spent:
                    pass
                hits = np.array(f.hits)
                shares[row] += [(hits <= b * d).sum() / len(TARGETS) for b in BUDGETS]
                asked += f.queries
        shares /= instances
        out[label] = {
            "share": dict(zip(map(str, BUDGETS), shares.mean(axis=0).round(4).tolist(), strict=True)),
            "microseconds": round(1e6 * (time.process_time() - began) / asked),
            "by_function": shares.round(4).tolist(),
        }
        print(suite, d, label, out[label]["share"], out[label]["microseconds"], flush=True)
    return out


def left_out(cell: dict[str, dict[str, object]]) -> dict[str, dict[str, float]]:
    """What choosing the first member without a function, and scoring on it, reaches; how often it is TrustRegion."""
    model, bfgs = (np.array(cell[f"{name}, then CMA-ES"]["by_function"]) for name in ("TrustRegion", "QuasiNewton"))
    out = {}
    for column, budget in enumerate(BUDGETS):
        a, b = model[:, column], bfgs[:, column]
        chosen = (a.sum() - a) > (b.sum() - b)
        out[str(budget)] = {
            "share": round(float(np.where(chosen, a, b).mean()), 4),
            "TrustRegion": round(float(chosen.mean()), 4),
        }
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="*", choices=CELLS, default=list(CELLS))
    path = Path(__file__).with_suffix(".json")
    cells = json.loads(path.read_text())["cells"] if path.exists() else {}
    for name in parser.parse_args().cells:
        suite, d = name.split(":")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = measured(suite, int(d), CELLS[name])
        cells[name] = {"instances": CELLS[name], "methods": found, "left_out": left_out(found)}
    save(__file__, {"cells": {name: cells[name] for name in CELLS if name in cells}})


if __name__ == "__main__":
    main()
