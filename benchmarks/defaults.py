"""What `minimize` finds with no method named where its users found it wanting: many variables, restarts, fits.

- "many": a sphere ((x - 0.3)^2 summed, from 0) and Rosenbrock's function (from 0) in 1,000 to 100,000 dimensions, with
  and without bounds, beside pycma's diagonal CMA-ES and nevergrad's NGOpt: f at the end over f(x0).
- "Rastrigin": in 5 dimensions, 10,000 queries, five starts: f at the end.
- "fits": kinetics (A -> B <-> C, rates on a log scale), Lotka and Volterra's model, and a quadratic of condition 1e4
  that fails in a part of its box, beside scipy's COBYQA and SLSQP and pycma: the median of f over five starts after
  10, 20, 30, 50 and 100 queries a dimension. A failure is 1e10 to scipy's, which do not take NaN.

Run: OMP_NUM_THREADS=1 python benchmarks/defaults.py; needs the extra bbob. A few minutes.
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.integrate
import scipy.optimize
from _common import save

import blackbox_zo as bz

MANY = ((1000, 5000), (10_000, 2000), (100_000, 500))
AT = (10, 20, 30, 50, 100)
SEEDS = 5
Function = Callable[[np.ndarray], float]


class Spent(Exception):
    """All queries are asked."""


def sphere(x: np.ndarray) -> float:
    return float(((x - 0.3) ** 2).sum())


def rosenbrock(x: np.ndarray) -> float:
    return float((100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum())


def rastrigin(x: np.ndarray) -> float:
    return float(10 * x.size + (x**2 - 10 * np.cos(2 * np.pi * x)).sum())


def kinetics() -> Function:
    times, truth = np.linspace(0, 10, 25), np.log([0.7, 0.3, 0.05, 1.2])

    def course(p: np.ndarray) -> np.ndarray:
        k1, k2, k3 = np.exp(p[:3])

        def rates(y: np.ndarray, _: float) -> list[float]:
            return [-k1 * y[0], k1 * y[0] - k2 * y[1] + k3 * y[2], k2 * y[1] - k3 * y[2]]

        return np.asarray(scipy.integrate.odeint(rates, [np.exp(p[3]), 0, 0], times))

    data = course(truth)
    return lambda p: float(((course(p) - data) ** 2).sum())


def lotka_volterra() -> Function:
    times = np.linspace(0, 12, 40)

    def course(p: np.ndarray) -> np.ndarray:
        a, b, c, d = p

        def rates(y: np.ndarray, _: float) -> list[float]:
            return [a * y[0] - b * y[0] * y[1], -c * y[1] + d * y[0] * y[1]]

        return np.asarray(scipy.integrate.odeint(rates, [10.0, 5.0], times, mxstep=2000))

    data = np.log(course(np.array([1.1, 0.4, 0.4, 0.1])))
    return lambda p: float(((np.log(np.abs(course(p)) + 1e-9) - data) ** 2).mean())


def crashing() -> Function:
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((6, 6)))[0]
    scales, best = np.logspace(0, 4, 6), np.array([0.2, 0.1, -0.3, 0.4, 0.0, -0.2])

    def f(x: np.ndarray) -> float:
        return float("nan") if x[0] + 0.3 * x[1] > 0.6 else float(scales @ (turn @ (x - best)) ** 2)

    return f


FITS: dict[str, tuple[Function, list[tuple[float, float]], np.ndarray]] = {
    "kinetics": (kinetics(), [(-5.0, 2.0)] * 4, np.log([0.2, 1.0, 0.2, 0.6])),
    "Lotka-Volterra": (lotka_volterra(), [(0.01, 2.0)] * 4, np.array([0.6, 0.6, 0.6, 0.2])),
    "fails in a part": (crashing(), [(-1.0, 1.0)] * 6, np.full(6, -0.6)),
}


def solvers(f: Function, x0: np.ndarray, bounds: Any, n: int, seed: int) -> dict[str, Callable[[Function], Any]]:
    def finite(g: Function) -> Function:
        return lambda x: v if np.isfinite(v := g(np.asarray(x))) else 1e10

    def scipys(method: str, **options: Any) -> Callable[[Function], Any]:
        return lambda g: scipy.optimize.minimize(finite(g), x0, method=method, bounds=bounds, options=options)

    def pycma(g: Function) -> Any:
        import cma

        low, high = np.transpose(bounds)
        options = {"maxfevals": n, "verbose": -9, "seed": seed + 1, "bounds": [low, high], "CMA_stds": (high - low) / 2}
        return cma.fmin2(g, x0, 0.3, options)

    return {
        "minimize": lambda g: bz.minimize(g, x0, bounds=bounds, budget=n, seed=seed),
        "COBYQA": scipys("COBYQA", maxfev=n, final_tr_radius=1e-10),
        "SLSQP": scipys("SLSQP", ftol=1e-14, maxiter=1000),
        "pycma": pycma,
    }


def fits() -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, (f, bounds, start) in FITS.items():
        d, rng = len(start), np.random.default_rng(1)
        low, high = np.transpose(bounds)
        ends: dict[str, list[list[float]]] = {}
        for seed in range(SEEDS):  # the first start as it is, the others near it
            x0 = np.clip(start + (seed > 0) * 0.05 * (high - low) * rng.standard_normal(d), low, high)
            for solver, run in solvers(f, x0, bounds, max(AT) * d, seed).items():
                values: list[float] = []

                def asked(x: np.ndarray, values: list[float] = values, f: Function = f, d: int = d) -> float:
                    if len(values) >= max(AT) * d:
                        raise Spent
                    value = f(np.asarray(x))
                    values.append(value if np.isfinite(value) else np.inf)
                    return value

                try:
                    run(asked)
                except Spent:
                    pass
                best = np.minimum.accumulate(values)
                ends.setdefault(solver, []).append([float(best[min(n * d, len(best)) - 1]) for n in AT])
        out[name] = {solver: [float(f"{v:.2g}") for v in np.median(rows, axis=0)] for solver, rows in ends.items()}
        print(name, out[name], flush=True)
    return out


def many() -> dict[str, Any]:
    import cma
    import nevergrad as ng

    out: dict[str, Any] = {}
    for f in (sphere, rosenbrock):
        for d, n in MANY:
            x0, row = np.zeros(d), {}
            for bounds in (None, (-1.0, 1.0)):
                row["minimize" + (", bounds" if bounds else "")] = bz.minimize(f, x0, bounds=bounds, budget=n).fun
                options = {"maxfevals": n, "verbose": -9, "seed": 1, "CMA_diagonal": True}
                found = cma.fmin2(f, x0, 0.3, options | ({"bounds": [-1, 1]} if bounds else {}))[1].result
                row["pycma diagonal" + (", bounds" if bounds else "")] = min(found.fbest, f(found.xfavorite))
            optimizer = ng.optimizers.registry["NGOpt"](ng.p.Array(init=x0), budget=n)
            optimizer.parametrization.random_state.seed(0)
            row["NGOpt"] = f(optimizer.minimize(f).value)
            name = f"{f.__name__}, d = {d:,}, {n:,} queries"
            out[name] = {solver: float(f"{value / f(x0):.3g}") for solver, value in row.items()}
            print(name, out[name], flush=True)
    return out


def main() -> None:
    warnings.simplefilter("ignore")
    starts = [np.random.default_rng(k).uniform(-4, 4, 5) for k in range(SEEDS)]
    ends = [bz.minimize(rastrigin, x0, bounds=(-5, 5), budget=10_000, seed=k).fun for k, x0 in enumerate(starts)]
    print("Rastrigin", ends, flush=True)
    save(__file__, {"fits": fits(), "queries a dimension": AT, "Rastrigin": ends, "many": many()})


if __name__ == "__main__":
    main()
