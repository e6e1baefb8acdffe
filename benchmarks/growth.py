"""How ask + tell grows with the dimension, against drawing the random numbers alone, from d = 1e4 to 1e6.

`draws` is the time to draw, with the same generator, as many normals as the estimator uses (8 directions a step for
RandomVector, 16 for RankBased), into memory that is there already. Both sides take turns.
Run: OMP_NUM_THREADS=1 python benchmarks/growth.py
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

from collections.abc import Callable

import numpy as np
from _common import cpu, interleaved, save

import blackbox_zo as bz

SIZES = {10_000: 20, 100_000: 6, 1_000_000: 2}
rng = np.random.default_rng(0)


def ours(estimator: bz.Estimator, d: int) -> Callable[[], float]:
    search = bz.Search(np.zeros(d), estimator, bz.SGD(1e-3))

    def loop(steps: int) -> None:
        for _ in range(steps):
            proposal = search.ask()
            assert proposal.points.shape == (16, d)
            search.tell(proposal, bz.Values(rng.random(16)))

    loop(2)
    return lambda: cpu(lambda: loop(SIZES[d])) / SIZES[d] / 16 * 1e6


def draws(k: int, d: int) -> Callable[[], float]:
    generator, out = np.random.Generator(np.random.SFC64(0)), np.empty((k, d))
    return lambda: cpu(lambda: [generator.standard_normal(out=out) for _ in range(SIZES[d])]) / SIZES[d] / 16 * 1e6


def main() -> None:
    table = {}
    for d in SIZES:
        found = interleaved(
            {
                "RandomVector": ours(bz.RandomVector(0.1, 8), d),
                "draws for RandomVector": draws(8, d),
                "RankBased": ours(bz.RankBased(0.1, 16), d),
                "draws for RankBased": draws(16, d),
            },
            rounds=7,
        )
        for name in ("RandomVector", "RankBased"):
            found[f"{name} / draws"] = found[name] / found[f"draws for {name}"]
            found[f"{name} per query and coordinate, ns"] = found[name] * 1e3 / d
        table[f"d={d}"] = {name: round(value, 3) for name, value in found.items()}
    save(__file__, {"unit": "CPU microseconds per query, median of 7 interleaved rounds", "batch": 16, **table})


if __name__ == "__main__":
    main()
