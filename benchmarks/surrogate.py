"""Queries that the surrogate saves against two-point estimates, on the 300-dimensional quadratic of FZooS.

z = 20 x - 10, x in [0, 1]^300, F(x) = (0.1/d) sum_i (c1_i z_i² + c2_i z_i + 1), the mean over N = 5 clients of
functions whose coefficients are drawn from a Dirichlet law; for every C the minimum is F* = -0.025 + 0.1/d. One
client alone (C = 1) is the heterogeneous case, the mean of all (every c = 1) the plain one. The start is uniform.

Every method gets the same starts and budget. Every rule listed is tried, and each side is quoted with the best of its
own; the two-point side includes the rate that is optimal for this function.
Run: OMP_NUM_THREADS=1 python benchmarks/surrogate.py
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import statistics
from collections.abc import Callable

import numpy as np
from _common import save

import blackbox_zo as bz
from oracles import FunctionOracle

D, CLIENTS, BUDGET, SEEDS = 300, 5, 3000, (0, 1, 2)
SHARES = (0.1, 0.01, 0.001)
"""What part of the first gap is left when the queries are counted."""


def quadratic(heterogeneous: bool, seed: int) -> tuple[Callable[[np.ndarray], float], float]:
    """One function of the family, and its minimum over the box."""
    if not heterogeneous:
        c1 = c2 = np.ones(D)
    else:
        rng = np.random.default_rng(1000 + seed)
        c1, c2 = (1 + (rng.dirichlet(np.full(CLIENTS, 1 / CLIENTS), D)[:, 0] - 1 / CLIENTS) for _ in range(2))

    def f(x: np.ndarray) -> float:
        z = 20.0 * np.clip(x, 0.0, 1.0) - 10.0
        return float(0.1 / D * (c1 * z * z + c2 * z + 1.0).sum())

    best = np.clip(-c2 / (2 * c1), -10, 10)
    return f, float(0.1 / D * (c1 * best * best + c2 * best + 1.0).sum())


def queries_to(estimator: bz.Estimator, rule: bz.Rule, heterogeneous: bool, seed: int) -> list[float]:
    """Queries until each share of the first gap is reached at the centre of the search; infinite if never."""
    f, least = quadratic(heterogeneous, seed)
    x0 = np.random.default_rng(seed).random(D)
    first = f(x0) - least
    search = bz.Search(bz.Vector(x0, (0.0, 1.0)), estimator, rule, seed=seed, budget=BUDGET)
    reached = [float("inf")] * len(SHARES)
    for report in search.run(FunctionOracle(f)):
        gap = f(search.variable.flat) - least  # for the record alone; not counted, not shown to the search
        for i, share in enumerate(SHARES):
            if gap <= share * first:
                reached[i] = min(reached[i], report.nfev)
        if np.isfinite(reached).all():
            break
    return reached


METHODS: dict[str, tuple[bz.Estimator, list[bz.Rule]]] = {
    "Surrogate(0.1, 20, history=300)": (
        bz.Surrogate(0.1, 20, 300),
        [bz.SGD(1.0), bz.SGD(2.0), bz.SGD(3.75), bz.Adam(0.01), bz.Adam(0.03)],
    ),
    "RandomVector(0.01, 20, orthogonal, forward)": (
        bz.RandomVector(0.01, 20, "orthogonal", "forward"),
        [bz.SGD(0.06), bz.SGD(0.125), bz.SGD(0.25), bz.SGD(0.5), bz.Adam(0.01), bz.Adam(0.03)],
    ),
    "RandomVector(0.01, 10, gaussian, central)": (
        bz.RandomVector(0.01, 10),
        [bz.SGD(0.03), bz.SGD(0.06), bz.SGD(0.125), bz.SGD(0.25), bz.Adam(0.01), bz.Adam(0.03)],
    ),
}


def main() -> None:
    table = {}
    for heterogeneous in (False, True):
        rows = {}
        for name, (estimator, rules) in METHODS.items():
            by_rule = {}
            for rule in rules:
                runs = [queries_to(estimator, rule, heterogeneous, seed) for seed in SEEDS]
                by_rule[repr(rule)] = [statistics.median(run[i] for run in runs) for i in range(len(SHARES))]
            best = [min(m[i] for m in by_rule.values()) for i in range(len(SHARES))]
            rows[name] = {"best rule": best, "by rule": by_rule}
        ours, theirs = rows["Surrogate(0.1, 20, history=300)"], rows["RandomVector(0.01, 20, orthogonal, forward)"]
        rows["queries of RandomVector / queries of Surrogate"] = [
            round(b / a, 2) for a, b in zip(ours["best rule"], theirs["best rule"], strict=True)
        ]
        table["one client, C = 1" if heterogeneous else "mean of the clients"] = rows
    save(
        __file__,
        {
            "unit": "queries to a gap of 0.1, 0.01, 0.001 of the first; median of 3 starts; Infinity: not in 3000",
            **table,
        },
    )


if __name__ == "__main__":
    main()
