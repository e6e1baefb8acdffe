"""Which ranks should move the mean: `EvolutionStrategy` with weights "best" and "all", from 1 to 100 dimensions.

The figure is the natural logarithm of f / f(x0) at the last mean after about 240 exact answers (at least 10 rounds), as
the median over `SEEDS`, without bounds, from sigma 0.7 and a random optimum about sqrt(d) away: the sphere, a randomly
turned ellipsoid with axes from 1 to 10, and Rosenbrock's function. k of the n candidates are ranked.
Run: OMP_NUM_THREADS=1 python benchmarks/weights.py
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _common import save

import blackbox_zo as bz

SEEDS, QUERIES, RADIUS = 11, 240, 0.7
DIMENSIONS = (1, 2, 3, 4, 6, 8, 12, 20, 40, 100)
ANSWERS = ((2, 2), (4, 4), (8, 8), (8, 3), (8, 1), (16, 16), (30, 30))
FUNCTIONS = ("sphere", "ellipsoid", "Rosenbrock")


def function(kind: str, d: int, seed: int) -> Callable[[np.ndarray], Any]:
    """A random instance, of arrays (..., d)."""
    rng = np.random.default_rng([seed, d])
    best, turn = rng.standard_normal(d), np.linalg.qr(rng.standard_normal((d, d)))[0]
    if kind == "Rosenbrock":
        return lambda x: (
            100 * ((x - best + 1)[..., 1:] - (x - best + 1)[..., :-1] ** 2) ** 2 + (x - best)[..., :-1] ** 2
        ).sum(axis=-1)
    axes = 10.0 ** np.linspace(0, 1, d) if kind == "ellipsoid" else np.ones(d)
    return lambda x: (axes * ((x - best) @ turn) ** 2).sum(axis=-1)


def fall(kind: str, d: int, n: int, k: int, covariance: Any, weights: Any, seed: int) -> float:
    f = function(kind, d, seed)
    search = bz.Search(np.zeros(d), bz.EvolutionStrategy(RADIUS, n, covariance, weights=weights), seed=seed)
    for _ in range(max(10, QUERIES // n)):
        proposal = search.ask()
        search.tell(proposal, bz.Values(f(proposal.points)).ranking(k))
    return math.log(max(float(f(np.asarray(search.x)) / f(np.zeros(d))), 1e-30))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--covariances", nargs="+", default=["isotropic", "diagonal"], help="others keep their figures")
    parser.add_argument("--dimensions", type=int, nargs="+", default=DIMENSIONS)
    given = parser.parse_args()
    path = Path(__file__).with_suffix(".json")
    result: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    result |= {"unit": "median ln f / f0: best, all", "seeds": SEEDS, "radius": RADIUS}
    for covariance in given.covariances:
        table: dict[str, Any] = result.setdefault(covariance, {})
        for d in given.dimensions:
            for n, k in ANSWERS:
                row = {}
                for kind in FUNCTIONS if d > 1 else FUNCTIONS[:1]:
                    row[kind] = [
                        round(float(np.median([fall(kind, d, n, k, covariance, w, s) for s in range(SEEDS)])), 2)
                        for w in ("best", "all")
                    ]
                table[f"d={d}, {k} of {n}"] = row
                print(covariance, d, n, k, row, flush=True)
    save(__file__, {name: part for name, part in result.items() if name != "machine"})


if __name__ == "__main__":
    main()
