"""What the journal costs a run whose function takes 1 ms: share of wall and CPU time, with and without, in turn.

`minimize` is called with a function that works for 1 ms (it spins, so that wall time is CPU time). Small and large
steps: 2, 9 and 32 queries. Run: OMP_NUM_THREADS=1 python benchmarks/journal.py
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from _common import interleaved, save

import blackbox_zo as bz

QUERIES, D = 512, 6


def fun(x: np.ndarray) -> float:
    end = time.perf_counter() + 1e-3
    while time.perf_counter() < end:
        pass
    return float(x @ x)


def run(method: bz.Estimator, clock: Callable[[], float], journal: bool) -> float:
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:  # on the disk, not in a memory file system
        path = Path(folder) / "run.jsonl" if journal else None
        start = clock()
        bz.minimize(fun, np.ones(D), (method, bz.SGD(1e-3)), budget=QUERIES, journal=path)
        return clock() - start


def main() -> None:
    table = {}
    bz.minimize(fun, np.ones(D), budget=20)
    for name, method in {
        "2 queries a step": bz.RandomVector(0.1, 1),
        "9 queries a step": bz.EvolutionStrategy(0.3),
        "32 queries a step": bz.RandomVector(0.1, 16),
    }.items():
        row = {}
        for kind, clock in (("wall", time.perf_counter), ("cpu", time.process_time)):
            found = interleaved(
                {
                    "with": lambda method=method, clock=clock: run(method, clock, True),
                    "without": lambda method=method, clock=clock: run(method, clock, False),
                },
                rounds=9,
            )
            row[f"{kind}: share of the run, %"] = round(100 * (found["with"] / found["without"] - 1), 2)
            row[f"{kind}: microseconds a query"] = round((found["with"] - found["without"]) / QUERIES * 1e6, 1)
        table[name] = row
    save(__file__, {"unit": "median of 9 interleaved rounds of 512 queries at 1 ms", **table})


if __name__ == "__main__":
    main()
