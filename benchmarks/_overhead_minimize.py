"""CPU microseconds per query of whole minimisations, ours and peers: the function's own time is taken out."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from _common import interleaved

from blackbox_zo._typing import Floats
from oracles.bench.problem import Counted, Problem, start_of
from oracles.bench.solvers import SOLVERS, solve

QUERIES = {10: 100, 20: 100, 1000: 10}
"""Queries per dimension."""

PEERS = {10: ("slsqp", "lq-cma"), 20: ("slsqp", "lq-cma"), 1000: ("l-bfgs-b", "cma-diagonal")}
"""Above 100 dimensions a step of SLSQP takes seconds, and a quadratic model does not fit in memory."""

AROUND = 0.7
"""Where the optimum is, in each coordinate."""


def functions(d: int) -> dict[str, Callable[[Floats], float]]:
    """A smooth function, an ill-conditioned and a rugged one, rotated up to 100 dimensions."""
    turn = np.linalg.qr(np.random.default_rng(d).standard_normal((d, d)))[0] if d <= 100 else None
    scales = np.power(10.0, np.linspace(0.0, 6.0, d))

    def turned(x: Floats) -> Floats:
        y: Floats = x - AROUND
        return y if turn is None else turn @ y

    def rosenbrock(x: Floats) -> float:
        y = 1.0 + turned(x)
        return float((100.0 * (y[1:] - y[:-1] ** 2) ** 2 + (1.0 - y[:-1]) ** 2).sum())

    def ellipsoid(x: Floats) -> float:
        return float(scales @ turned(x) ** 2)

    def rastrigin(x: Floats) -> float:
        y = turned(x)
        return float(y @ y + 10.0 * (d - np.cos(2 * np.pi * y).sum()))

    return {"Rosenbrock": rosenbrock, "ellipsoid, condition 1e6": ellipsoid, "Rastrigin": rastrigin}


def one(solver: str, name: str, d: int) -> Callable[[], float]:
    """One minimisation, from the same start and with the same seed each time."""
    f = functions(d)[name]

    def measure() -> float:
        inside = 0.0

        def timed(x: Floats) -> float:
            nonlocal inside
            begun = time.process_time()
            value = f(x)
            inside += time.process_time() - begun
            return value

        problem = Problem("overhead", 1, d, 1, timed, 0.0, start_of(1, d, 1))
        counted = Counted(problem, QUERIES[d] * d)
        begun = time.process_time()
        solve(SOLVERS[solver], counted, 1)
        return (time.process_time() - begun - inside) / counted.queries * 1e6

    return measure


def table(rounds: int) -> dict[str, dict[str, float]]:
    """Medians by dimension, and by solver and function."""
    out = {}
    for d, peers in PEERS.items():
        tasks = {f"{s}: {name}": one(s, name, d) for s in ("ours", *peers) for name in functions(d)}
        out[f"d={d}, {QUERIES[d]} d queries"] = {k: round(v, 1) for k, v in interleaved(tasks, rounds).items()}
    return out
