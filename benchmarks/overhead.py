"""CPU microseconds per query of ask + tell, ours and two peers in turn, in one process and one run.

The function costs nothing: random numbers are told. Batches of 16; the peers take their own way (SepCMA one ask a
point and one tell a generation, OnePlusOne one of each). Then whole minimisations with "auto", beside SLSQP and
lq-CMA-ES; above 100 dimensions beside L-BFGS-B and pycma's diagonal CMA-ES. Run:
OMP_NUM_THREADS=1 python benchmarks/overhead.py
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import warnings
from collections.abc import Callable

import _overhead_minimize
import cmaes
import nevergrad as ng
import numpy as np
from _common import cpu, interleaved, save

import blackbox_zo as bz

BATCH, ROUNDS = 16, 9
QUERIES = {10: 1600, 1000: 800, 10_000: 320}
rng = np.random.default_rng(0)


def ours(estimator: bz.Estimator, d: int) -> Callable[[], float]:
    """One round: a fresh search, warmed up for two steps."""
    n = QUERIES[d]

    def measure() -> float:
        search = bz.Search(np.zeros(d), estimator, bz.SGD(1e-3))
        answers = [bz.Values(rng.random(BATCH)) for _ in range(2 + n // BATCH)]

        def loop(some: list[bz.Values]) -> None:
            for answer in some:
                proposal = search.ask()
                assert proposal.points.shape == (BATCH, d)
                search.tell(proposal, answer)

        loop(answers[:2])
        return cpu(lambda: loop(answers[2:])) / n * 1e6

    return measure


def sep_cma(d: int) -> Callable[[], float]:
    """SepCMA of the package cmaes, population 16."""
    n = QUERIES[d]

    def measure() -> float:
        optimizer = cmaes.SepCMA(mean=np.zeros(d), sigma=0.1, population_size=BATCH, seed=0)
        values = rng.random(n + 2 * BATCH).tolist()

        def loop(some: list[float]) -> None:
            for start in range(0, len(some), BATCH):
                optimizer.tell([(optimizer.ask(), value) for value in some[start : start + BATCH]])

        loop(values[: 2 * BATCH])
        return cpu(lambda: loop(values[2 * BATCH :])) / n * 1e6

    return measure


def one_plus_one(d: int) -> Callable[[], float]:
    """OnePlusOne of nevergrad, the cheapest of its methods per query."""
    n = QUERIES[d] // 4

    def measure() -> float:
        optimizer = ng.optimizers.OnePlusOne(parametrization=ng.p.Array(init=np.zeros(d)), budget=10**6)
        values = rng.random(n + 20).tolist()

        def loop(some: list[float]) -> None:
            for value in some:
                optimizer.tell(optimizer.ask(), value)

        loop(values[:20])
        return cpu(lambda: loop(values[20:])) / n * 1e6

    return measure


def draws(d: int) -> Callable[[], float]:
    """Nothing but drawing as many normals as there are coordinates in a query, with numpy's fastest generator."""
    n = QUERIES[d]
    generator, out = np.random.Generator(np.random.SFC64(0)), np.empty((BATCH, d))
    return lambda: cpu(lambda: [generator.standard_normal(out=out) for _ in range(n // BATCH)]) / n * 1e6


def main() -> None:
    warnings.simplefilter("ignore")
    table: dict[str, dict[str, float]] = {}
    for d in QUERIES:
        tasks = {
            "RandomVector gaussian central": ours(bz.RandomVector(0.1, 8), d),
            "RandomVector rademacher central": ours(bz.RandomVector(0.1, 8, "rademacher"), d),
            "RandomVector sphere central": ours(bz.RandomVector(0.1, 8, "sphere"), d),
            "RankBased": ours(bz.RankBased(0.1, BATCH), d),
            "ConsensusBased hopping": ours(bz.ConsensusBased(0.1, BATCH, scheme="hopping"), d),
            "EvolutionStrategy isotropic": ours(bz.EvolutionStrategy(0.1, BATCH, "isotropic"), d),
            "EvolutionStrategy diagonal": ours(bz.EvolutionStrategy(0.1, BATCH, "diagonal"), d),
            "cmaes SepCMA": sep_cma(d),
            "nevergrad OnePlusOne": one_plus_one(d),
            "drawing normals alone": draws(d),
        }
        if d == 10:
            tasks["EvolutionStrategy full"] = ours(bz.EvolutionStrategy(0.1, BATCH), d)
        table[f"d={d}"] = {name: round(value, 1) for name, value in interleaved(tasks, ROUNDS).items()}
    unit = "CPU microseconds per query, median of 9 interleaved rounds, of 3 for `minimize`"
    save(__file__, {"unit": unit, "batch": BATCH, **table, "minimize": _overhead_minimize.table(3)})


if __name__ == "__main__":
    main()
