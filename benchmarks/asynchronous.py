"""Eight workers without generations: how busy they are, and what it costs in queries.

Two parts. **Busy**: calls that sleep for a heavy-tailed time (lognormal with sigma 1.5, or Pareto with exponent 1.5;
at most 50 times the median), asked by `minimize` with eight workers: step by step, asynchronously, and asynchronously
on Dask's `LocalCluster`. A worker is busy while it sleeps. An asynchronous run counts until its last query is handed
out, one step by step as a whole. **Queries**: the same laws on a clock that is only counted, so that there are more
runs: how many queries a portfolio of the model-assisted CMA-ES needs for a target with one worker and generations, and
with eight without.
Run: OMP_NUM_THREADS=1 python benchmarks/asynchronous.py
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import heapq
import importlib
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from _common import save

import blackbox_zo as bz
from blackbox_zo._auto import auto
from oracles import FunctionOracle

D, WORKERS = 10, 8
LAWS = {"lognormal 1.5": lambda rng: rng.lognormal(0.0, 1.5), "Pareto 1.5": lambda rng: rng.pareto(1.5) + 1.0}
MOST = 50.0
TARGETS = {"sphere": 1e-6, "ellipsoid": 1e-6, "rosenbrock": 1e-6, "rastrigin": 20.0}
BUDGET, SEEDS = 6000, range(7)

CMA = bz.EvolutionStrategy(0.3, model=True)
GENERATIONS = bz.Portfolio((CMA, CMA), growth=(2.0, 0.0))


def sphere(x: Any) -> float:
    return float(x @ x)


def ellipsoid(x: Any) -> float:
    return float((10.0 ** (6 * np.arange(len(x)) / (len(x) - 1))) @ (x * x))


def rosenbrock(x: Any) -> float:
    return float(np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2))


def rastrigin(x: Any) -> float:
    return float(10 * len(x) + np.sum(x * x - 10 * np.cos(2 * np.pi * x)))


FUNCTIONS = {f.__name__: f for f in (sphere, ellipsoid, rosenbrock, rastrigin)}


def scale(law: str) -> float:
    """What makes the mean of a law, cut at `MOST` medians, one."""
    draws = np.array([LAWS[law](rng) for rng in [np.random.default_rng(0)] for _ in range(100_000)])
    return float(1.0 / np.minimum(draws, MOST * np.median(draws)).mean())


SCALE = {law: scale(law) for law in LAWS}
MEDIAN = {"lognormal 1.5": 1.0, "Pareto 1.5": 2.0 ** (1 / 1.5)}


def seconds(law: str, rng: np.random.Generator) -> float:
    """The time of a call with mean 1."""
    return float(SCALE[law] * min(LAWS[law](rng), MOST * MEDIAN[law]))


def rng_of(x: Any) -> np.random.Generator:
    """A generator that follows from a point."""
    return np.random.default_rng(int.from_bytes(x.tobytes()[:16], "little"))


def sleeper(name: str, law: str, mean: float) -> Callable[[Any], float]:
    """A function that takes a time that follows from its point."""
    f, constants = FUNCTIONS[name], (SCALE[law], MOST * MEDIAN[law], law.startswith("log"))

    def fun(x: Any) -> float:
        rng = rng_of(x)
        drawn = rng.lognormal(0.0, 1.5) if constants[2] else rng.pareto(1.5) + 1.0
        time.sleep(mean * constants[0] * min(drawn, constants[1]))
        return f(x)

    return fun


class Watched(FunctionOracle):
    """A `FunctionOracle` that keeps when it was asked about which point."""

    asked: dict[int, tuple[float, Any]]

    def parts(self, proposal: bz.Proposal) -> Any:
        """See `FunctionOracle.parts`."""
        self._keep(proposal)
        return super().parts(proposal)

    def stream(self, ask: Any) -> Any:
        """See `FunctionOracle.stream`."""

        def also() -> bz.Proposal | None:
            proposal: bz.Proposal | None = ask()
            if proposal is not None:
                self._keep(proposal)
            return proposal

        return super().stream(also)

    def _keep(self, proposal: bz.Proposal) -> None:
        now = time.monotonic()
        self.asked.update((i, (now, np.array(x))) for i, x in zip(proposal.ids.tolist(), proposal.points, strict=True))


def busy(
    name: str, law: str, seed: int, *, calls: int, mean: float, asynchronous: bool, executor: Any = None
) -> tuple[float, float, float]:
    """Share of the workers' time in which they sleep, the final value, and the seconds of the run."""
    given: dict[str, Any] = {"executor": executor} if executor is not None else {"workers": WORKERS}
    oracle = Watched(sleeper(name, law, mean), **given)
    oracle.asked = {}
    warm = bz.Search(np.ones(D), bz.RankBased(1.0, WORKERS), seed=seed)  # the workers start before the clock does
    oracle.answer(warm.ask())
    oracle.asked.clear()
    x0 = np.random.default_rng(seed).uniform(-2.0, 2.0, D)
    begun = time.monotonic()
    result = bz.minimize(
        oracle, x0, "auto" if asynchronous else GENERATIONS, calls, seed=seed, asynchronous=asynchronous
    )
    wall = time.monotonic() - begun
    oracle.close()
    last = max(then for then, _ in oracle.asked.values()) if asynchronous else begun + wall
    slept = [(then, mean * seconds(law, rng_of(x))) for then, x in oracle.asked.values()]
    total = sum(min(took, last - then) if asynchronous else took for then, took in slept)
    return total / (WORKERS * (last - begun)), float(result.fun), wall


def queries(name: str, law: str, estimator: bz.Estimator, workers: int, seed: int) -> int:
    """Queries until the target, with workers whose time is only counted."""
    rng, f = np.random.default_rng(seed), FUNCTIONS[name]
    x0 = np.random.default_rng(seed).uniform(-2.0, 2.0, D)
    search = bz.Search(x0, estimator, seed=seed, budget=BUDGET)
    under_way: list[tuple[float, int, bz.Proposal]] = []
    now, count = 0.0, 0

    def ask() -> None:
        nonlocal count
        if search.nfev + sum(p.n for _, _, p in under_way) < BUDGET:
            proposal, count = search.ask(), count + 1
            heapq.heappush(under_way, (now + seconds(law, rng), count, proposal))

    for _ in range(workers):
        ask()
    while under_way and not search.best.value <= TARGETS[name]:
        now, _, proposal = heapq.heappop(under_way)
        search.tell(proposal, bz.Values([f(x) for x in proposal.points]))
        ask()
    return search.nfev if search.best.value <= TARGETS[name] else BUDGET + 1


def main() -> None:
    from distributed import Client, LocalCluster

    found: dict[str, Any] = {"busy": {}, "queries": {}}
    singly = auto(bz.Vector(np.zeros(D)), np.zeros(D), None, None, asynchronous=True)[1]
    serial_auto = auto(bz.Vector(np.zeros(D)), np.zeros(D), None, None)[1]
    for law in LAWS:
        for name in FUNCTIONS:
            needed = {
                label: statistics.median(queries(name, law, estimator, workers, seed) for seed in SEEDS)
                for label, estimator, workers in (
                    ("one worker, generations", GENERATIONS, 1),
                    ("eight workers, asynchronous", singly, 8),
                    ("one worker, auto", serial_auto, 1),
                )
            }
            found["queries"][f"{name}, {law}"] = needed

    def rows(label: str, names: Any, seeds: Any, **how: Any) -> None:
        for law in LAWS:
            for name in names:
                runs = [busy(name, law, seed, **how) for seed in seeds]
                found["busy"][f"{label}: {name}, {law}"] = {
                    "busy": round(statistics.median(run[0] for run in runs), 3),
                    "f": statistics.median(run[1] for run in runs),
                    "seconds": round(statistics.median(run[2] for run in runs), 2),
                }

    rows("asynchronous", FUNCTIONS, (0, 1), asynchronous=True, calls=400, mean=0.1)
    rows("step by step", ("sphere",), (0,), asynchronous=False, calls=400, mean=0.1)
    with (
        LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        executor = client.get_executor()
        client.run(importlib.import_module, "blackbox_zo")  # the workers start before the clock does
        dask: dict[str, Any] = {"asynchronous": True, "calls": 100, "mean": 1.0, "executor": executor}
        rows("asynchronous, Dask", ("sphere", "rosenbrock"), (0,), **dask)
    save(
        __file__,
        {
            "unit": f"queries until the target, median of 7 starts ({BUDGET + 1}: not reached); share of the time of 8 "
            "workers in which a call sleeps, f at the end, and seconds: 400 calls of 100 ms in the mean, median of 2 "
            "starts (step by step of 1); on Dask 100 of 1 s, 1 start",
            "targets": TARGETS,
            **found,
        },
    )


if __name__ == "__main__":
    main()
