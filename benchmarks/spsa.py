"""`SPSA` with gains that it measures, beside other methods, with and without noise N(0, 1) on every value.

A sphere, a turned ellipsoid of condition 1e3, and Rosenbrock's function, in 10 dimensions and, with noise, 40, from a
start uniform in [-4, 4]; 300 and 100 queries a dimension. Each cell is the median over three starts of f without noise
at the point that the method recommends: the centre of the search, nevergrad's recommendation, pycma's favourite. Beside
SPSA: the same random signs with Adam, nevergrad's SPSA and TBPSA, pycma's CMA-ES with and without its noise handling
(step size 1), and `minimize` with no method named. Nobody is told of the noise, nor of a scale.

Run: OMP_NUM_THREADS=1 python benchmarks/spsa.py; needs the extra bbob. Two minutes.
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from _common import save

import blackbox_zo as bz

Function = Callable[[np.ndarray], float]
SEEDS = 3


def problem(name: str, d: int, seed: int) -> tuple[Function, np.ndarray]:
    rng = np.random.default_rng([seed, d])
    best, x0 = rng.uniform(-2, 2, d), rng.uniform(-4, 4, d)
    turn, scales = np.linalg.qr(rng.standard_normal((d, d)))[0], np.logspace(0, 3, d)

    def sphere(x: np.ndarray) -> float:
        return float(((x - best) ** 2).sum())

    def ellipsoid(x: np.ndarray) -> float:
        return float(scales @ (turn @ (x - best)) ** 2)

    def rosenbrock(x: np.ndarray) -> float:
        return float((100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum())

    return {"sphere": sphere, "ellipsoid": ellipsoid, "rosenbrock": rosenbrock}[name], x0


def of_ours(method: Any) -> Callable[..., np.ndarray]:
    def solve(f: Function, x0: np.ndarray, n: int, seed: int) -> np.ndarray:
        r = bz.minimize(f, x0, method, budget=n, seed=seed)
        return np.asarray(r.x if method == "auto" else r.center)

    return solve


def of_nevergrad(name: str) -> Callable[..., np.ndarray]:
    def solve(f: Function, x0: np.ndarray, n: int, seed: int) -> np.ndarray:
        import nevergrad

        x = nevergrad.p.Array(init=x0)
        x.random_state.seed(seed)
        return np.asarray(nevergrad.optimizers.registry[name](x, budget=n).minimize(f).value)

    return solve


def of_pycma(handled: bool) -> Callable[..., np.ndarray]:
    def solve(f: Function, x0: np.ndarray, n: int, seed: int) -> np.ndarray:
        import cma

        never = {"tolfun": 0, "tolx": 0, "tolstagnation": 10**9, "tolfunhist": 0}
        noise = cma.NoiseHandler(len(x0)) if handled else None
        options = {"maxfevals": n, "verbose": -9, "seed": seed + 1, **never}
        _, es = cma.fmin2(f, x0, 1.0, options, noise_handler=noise)
        return np.asarray(es.result.xfavorite)

    return solve


METHODS: dict[str, Callable[..., np.ndarray]] = {
    "SPSA()": of_ours(bz.SPSA()),
    "RandomVector(0.3, 1, 'rademacher'), Adam": of_ours(bz.RandomVector(0.3, 1, "rademacher")),
    "nevergrad SPSA": of_nevergrad("SPSA"),
    "nevergrad TBPSA": of_nevergrad("TBPSA"),
    "pycma": of_pycma(False),
    "pycma, NoiseHandler": of_pycma(True),
    "minimize": of_ours("auto"),
}


def found(solve: Callable[..., np.ndarray], name: str, d: int, n: int, sigma: float) -> float:
    values = []
    for seed in range(SEEDS):
        f, x0 = problem(name, d, seed)
        rng = np.random.default_rng([seed, 99])
        values.append(f(solve(lambda x, f=f, rng=rng: f(np.asarray(x)) + sigma * rng.standard_normal(), x0, n, seed)))
    return float(f"{np.median(values):.3g}")


def main() -> None:
    warnings.filterwarnings("ignore")
    result: dict[str, Any] = {}
    for sigma, sizes in ((1.0, ((10, 3000), (40, 4000))), (0.0, ((10, 3000),))):
        for d, n in sizes:
            for name in ("sphere", "ellipsoid", "rosenbrock"):
                at = [problem(name, d, seed) for seed in range(SEEDS)]
                row = {"start": float(f"{np.median([f(x0) for f, x0 in at]):.3g}")}
                row |= {method: found(solve, name, d, n, sigma) for method, solve in METHODS.items()}
                result[f"{name}, d = {d}, {n} queries, noise N(0, {sigma:g}²)"] = row
                print(name, d, sigma, row, flush=True)
    save(__file__, {"f at the recommended point, median of 3": result})


if __name__ == "__main__":
    main()
