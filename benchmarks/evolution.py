"""`EvolutionStrategy` beside pycma and cmaes: within bounds, in many dimensions, its cost, and under noise.

Each figure is a median over `SEEDS` seeds, all sides in one run, with the same starts, radii and budgets.

- `bounds`: gap of the best point, as a share of that of the start, after the queries given; the optimum is inside, on
  half of the faces, or beyond a corner, or the start is on all upper bounds.
- `high`: f at the best point over f at the start, without bounds, from a radius of 0.3 (right), 3 and 0.03.
- `low_rank`: the same, for the covariances, on functions whose variables depend on each other in blocks of 40.
- `cost`: CPU microseconds a query with ask and tell and a cheap function; and with a model, queries for each dimension
  until the gap is below 1e-8 (None: not in 300).
- `noise`: f without its noise at the last mean.

Run: OMP_NUM_THREADS=1 python benchmarks/evolution.py, in about 15 minutes; needs cma and cmaes.
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import argparse
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cma
import cmaes
import numpy as np
from _common import cpu, save
from cma.restricted_gaussian_sampler import GaussVkDSampler

import blackbox_zo as bz

SEEDS = 5
Function = Callable[[np.ndarray], Any]
Run = Callable[[int], float]
NEVER = 10**9
TO_THE_END: dict[str, Any] = {
    "verbose": -9, "tolfun": 0, "tolx": 0, "tolfunhist": 0, "tolstagnation": NEVER, "tolflatfitness": NEVER,
}  # fmt: skip


# ------------------------------------------------------------------------------------------------- functions of (…, d)


def turn(d: int, seed: int, block: int = 40) -> Function:
    """A random rotation: of blocks, between two permutations."""
    rng = np.random.default_rng([seed, d])
    parts = [np.linalg.qr(rng.standard_normal((min(block, d - i),) * 2))[0] for i in range(0, d, block)]
    first, last = rng.permutation(d), rng.permutation(d)

    def turned(x: np.ndarray) -> np.ndarray:
        x = x[..., first]
        ends = [x[..., i : i + block] @ part for i, part in zip(range(0, d, block), parts, strict=True)]
        return np.concatenate(ends, axis=-1)[..., last]

    return turned


def function(kind: str, d: int, best: Any, seed: int = 0) -> Function:
    """A function that is 0 at `best`."""
    rotation = turn(d, seed) if kind.startswith("turned") else lambda x: x
    kind = kind.removeprefix("turned ")
    if kind == "Rosenbrock":
        far = max(1.0, np.sqrt(d) / 8)

        def valley(x: np.ndarray) -> Any:
            z = rotation(x - best) * far + 1
            return (100 * (z[..., 1:] - z[..., :-1] ** 2) ** 2 + (z[..., :-1] - 1) ** 2).sum(axis=-1)

        return valley
    if kind == "Rastrigin":
        return lambda x: (10 - 10 * np.cos(2 * np.pi * (x - best)) + (x - best) ** 2).sum(axis=-1)
    shares = np.linspace(0, 1, d)
    axes = {"sphere": 0 * shares, "ellipsoid 1e3": 3 * shares, "ellipsoid 1e6": 6 * shares, "cigar": 6 * (shares > 0)}[
        kind
    ]
    return lambda x: (10.0**axes * rotation(x - best) ** 2).sum(axis=-1)


# -------------------------------------------------------------------------------------------------------- the sides


def ours(f: Function, x0: Any, radius: float, budget: int, seed: int, bounds: Any = None, **options: Any) -> bz.Search:
    search = bz.Search(bz.Vector(x0, bounds), bz.EvolutionStrategy(radius, **options), seed=seed, budget=budget)
    while not search.exhausted:
        proposal = search.ask()
        search.tell(proposal, bz.Values(f(proposal.points)))
    return search


def pycma(f: Function, x0: Any, radius: float, budget: int, seed: int, **options: Any) -> Any:
    options = TO_THE_END | options | {"maxfevals": budget, "seed": seed + 1}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return cma.fmin2(lambda x: float(f(np.asarray(x))), x0, radius, options)[1]


def median(run: Run, seeds: int = SEEDS) -> float:
    return float(f"{np.median([run(seed) for seed in range(seeds)]):.3g}")


def in_bounds(d: int, budget: int, kind: str, least: Any, x0: float) -> dict[str, Any]:
    f = function(kind, d, least)
    start, at_best = np.full(d, x0), float(f(np.clip(least, -1, 1)))

    def share(best: float) -> float:
        return (best - at_best) / (float(f(start)) - at_best)

    def peer(seed: int) -> float:
        return share(pycma(f, start, 0.3, budget, seed, bounds=[-1, 1], CMA_diagonal=d > 100).result.fbest)

    return {
        "ours": median(lambda seed: share(ours(f, start, 0.3, budget, seed, (-1.0, 1.0)).best.value)),
        "pycma": median(peer),
    }


def bounds() -> dict[str, Any]:
    table: dict[str, Any] = {}
    for d, budget in ((2, 150), (10, 1000), (100, 5000), (1000, 5000)):
        half = np.where(np.arange(d) % 2, 0.3, 1.5)
        for place, least, x0 in (
            ("inside", np.full(d, 0.3), 0.0),
            ("on half of the faces", half, 0.0),
            ("beyond a corner", np.full(d, 1.5), 0.0),
            ("inside, start on the bounds", np.full(d, 0.3), 1.0),
        ):
            for kind in ("sphere", "ellipsoid 1e3"):
                table[f"d={d}, {budget} queries, {kind}, {place}"] = in_bounds(d, budget, kind, least, x0)
    return table


def in_many_dimensions(d: int, budget: int, kind: str, radius: float) -> dict[str, Any]:
    f, x0 = function(kind, d, 0.3), np.zeros(d)
    start = float(f(x0))

    def peer(seed: int) -> float:
        return float(pycma(f, x0, radius, budget, seed, CMA_diagonal=True).result.fbest / start)

    return {
        "ours": median(lambda seed: ours(f, x0, radius, budget, seed).best.value / start),
        "pycma diagonal": median(peer),
    }


def high() -> dict[str, Any]:
    return {
        f"d={d}, {budget} queries, {kind}, radius {radius:g}": in_many_dimensions(d, budget, kind, radius)
        for d, budget in ((1000, 5000), (10_000, 2000), (100_000, 500))
        for kind in ("sphere", "ellipsoid 1e3", "Rosenbrock")
        for radius in (0.3, 3.0, 0.03)
    }


def by_covariance(d: int, times: int, kind: str) -> dict[str, Any]:
    x0, budget = np.zeros(d), times * d

    def instance(seed: int) -> tuple[Function, float]:
        f = function(kind, d, np.random.default_rng([seed, d]).uniform(-1, 1, d), seed)
        return f, float(f(x0))

    def mine(covariance: Any, step_size: Any) -> float:
        def run(seed: int) -> float:
            f, start = instance(seed)
            search = ours(f, x0, 0.6, budget, seed, covariance=covariance, step_size=step_size)
            return search.best.value / start

        return median(run)

    def theirs(options: dict[str, Any]) -> float:
        def run(seed: int) -> float:
            f, start = instance(seed)
            return float(pycma(f, x0, 0.6, budget, seed, **options).result.fbest / start)

        return median(run)

    return {
        "low-rank, line": mine("low-rank", "line"),
        "diagonal, line": mine("diagonal", "line"),
        "diagonal, both": mine("diagonal", "both"),
        "diagonal, path": mine("diagonal", "path"),
        "pycma diagonal": theirs({"CMA_diagonal": True}),
        "pycma VkD": theirs(GaussVkDSampler.extend_cma_options({})),
    }


def low_rank() -> dict[str, Any]:
    turned = [f"turned {kind}" for kind in ("ellipsoid 1e3", "ellipsoid 1e6", "cigar", "Rosenbrock")]
    return {
        f"d={d}, {times} d queries, {kind}": by_covariance(d, times, kind)
        for d, times in ((160, 100), (640, 25), (2000, 10))
        for kind in ("sphere", "ellipsoid 1e6", *turned)
    }


def microseconds(side: Callable[..., Any], d: int, queries: int, **options: Any) -> float:
    f, x0 = function("Rosenbrock", d, 0.3), np.zeros(d)
    return median(lambda seed: cpu(lambda: side(f, x0, 0.6, queries, seed, **options)) / queries * 1e6)


def with_a_model(kind: str, d: int) -> float | None:
    def needed(seed: int) -> float:
        f = function(kind, d, np.random.default_rng(seed).uniform(-1, 1, d), seed)
        search = bz.Search(np.zeros(d), bz.EvolutionStrategy(0.6, model=True), seed=seed, budget=300 * d)
        while not search.exhausted and not search.best.value < 1e-8:
            proposal = search.ask()
            search.tell(proposal, bz.Values(f(proposal.points)))
        return search.nfev / d if search.best.value < 1e-8 else np.inf

    found = median(needed)
    return found if np.isfinite(found) else None


def cost() -> dict[str, Any]:
    table: dict[str, Any] = {}
    for d in (10, 20):
        table[f"d={d}"] = {
            "ours, model": microseconds(ours, d, 100 * d, model=True),
            "ours, model, bounds": microseconds(ours, d, 100 * d, model=True, bounds=(-5.0, 5.0)),
            "ours": microseconds(ours, d, 100 * d),
            "ours, adapted learning rate": microseconds(ours, d, 100 * d, learning_rate="adapted"),
            "pycma": microseconds(pycma, d, 100 * d),
        }
    for d, queries in ((1000, 3000), (10_000, 1000), (100_000, 200)):
        table[f"d={d}"] = {
            "ours": microseconds(ours, d, queries),
            "ours, low-rank": microseconds(ours, d, queries, covariance="low-rank"),
            "pycma diagonal": microseconds(pycma, d, queries, CMA_diagonal=True),
        }
    for kind in ("sphere", "turned ellipsoid 1e6", "turned Rosenbrock"):
        for d in (5, 10, 20):
            table[f"d={d}, {kind}: queries / d to 1e-8 with a model"] = with_a_model(kind, d)
    return table


def under_noise(kind: str, d: int, budget: int, sd: float) -> dict[str, Any]:
    f = function(kind, d, 1.0)

    def noisy(seed: int) -> Function:
        rng = np.random.default_rng(seed + 100)
        return lambda x: f(x) + sd * rng.standard_normal(np.shape(x)[:-1])

    def x0(seed: int) -> np.ndarray:
        return np.random.default_rng(seed).uniform(-3, 3, d)

    def mine(rate: Any) -> float:
        def run(seed: int) -> float:
            return float(f(np.asarray(ours(noisy(seed), x0(seed), 2.0, budget, seed, learning_rate=rate).x)))

        return median(run)

    def theirs(adapt: bool) -> float:
        def run(seed: int) -> float:
            es, shaken = cmaes.CMA(mean=x0(seed), sigma=2.0, seed=seed + 1, lr_adapt=adapt), noisy(seed)
            for _ in range(budget // es.population_size):
                points = [es.ask() for _ in range(es.population_size)]
                es.tell([(x, float(v)) for x, v in zip(points, shaken(np.array(points)), strict=True)])
            return float(f(es.mean))

        return median(run)

    return {
        "ours, adapted": mine("adapted"), "ours, constant": mine("constant"),
        "cmaes, lr_adapt": theirs(True), "cmaes": theirs(False),
    }  # fmt: skip


def noise() -> dict[str, Any]:
    return {
        f"{kind}, d={d}, {budget} queries, N(0, {sd:g})": under_noise(kind, d, budget, sd)
        for kind, d, budget, sd in (
            ("sphere", 10, 3000, 1.0), ("ellipsoid 1e3", 10, 10_000, 1.0), ("sphere", 40, 8000, 1.0),
            ("ellipsoid 1e3", 40, 20_000, 1.0), ("Rastrigin", 10, 20_000, 0.0), ("Rastrigin", 40, 40_000, 0.0),
        )
    }  # fmt: skip


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "bounds": bounds, "high": high, "low_rank": low_rank, "cost": cost, "noise": noise,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="others keep their figures")
    given = parser.parse_args().parts or list(PARTS)
    path = Path(__file__).with_suffix(".json")
    result: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    result |= {"seeds": SEEDS, "peers": {"cma": cma.__version__, "cmaes": cmaes.__version__}}
    for part in given:
        result[part] = PARTS[part]()
        print(part, json.dumps(result[part], indent=1), flush=True)
    save(__file__, {name: part for name, part in result.items() if name not in ("machine", "load_after")})


if __name__ == "__main__":
    main()
