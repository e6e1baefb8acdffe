"""A simulated person steers a generator of clothes to a wanted class, by rankings of 8 pictures, in 15 rounds.

Generator and classifier are those of `oracles.ranking.renderers.fashion`; x has 8 numbers. The person looks at the
classifier's log-probability of the wanted class, and errs by Bradley & Terry's model at temperature 1: each comparison
that sorting takes is wrong with probability `1 / (1 + exp(gap))`. (8, 8): all eight are put in
order; (8, 3): the best three.

A run starts at a draw from N(0, I) whose picture the classifier does not take for the wanted class; all methods have
the same starts. It has succeeded after r rounds if the classifier takes the picture of the search's present x, which
need not have been shown, for the wanted class. Each figure is of 10 classes x `SEEDS` starts.

Of each method, the settings listed are tried on `TUNING` other starts of each class, and the one with the most
successes in the end, (8, 8) and (8, 3) together, is taken for all: nothing is set by class. `PreferenceGP`, a run of
which takes a second, has one setting, and no other was tried. ZO-RankSGD (Tang et al. 2024) has the rounds of its
published code: one for the gradient, one for a line search over six lengths `eta 0.5^i`, x, and the best picture of the
round before; where x wins, gradients are averaged. Its weights are the correct ones.

Run: OMP_NUM_THREADS=1 python benchmarks/fashion.py. With names of methods, only these are measured, and the rest is as
in the JSON file. The picture: python docs/pictures/make.py fashion.
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import functools
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from _common import save

import blackbox_zo as bz
from oracles import FunctionOracle
from oracles.ranking import BradleyTerry, SimulatedRater
from oracles.ranking.raters._raters import in_order
from oracles.ranking.renderers.fashion import CLASSES, D, Wanted, classifier, generator, read

ROUNDS, M, RANKED = 15, 8, (8, 3)
SEEDS, TUNING = range(20), range(1000, 1005)

Way = Iterator[np.ndarray]
Method = Callable[[Wanted, np.ndarray, int, int], Way]
"""From what is wanted, a start, k and a seed to the present x after each round."""


def search(estimator: Callable[[int], bz.Estimator], rule: bz.Rule | None = None) -> Method:
    """A method of this package; `estimator` gets k."""

    def method(want: Wanted, x0: np.ndarray, k: int, seed: int) -> Way:
        oracle = SimulatedRater(FunctionOracle(want, vectorized=True), BradleyTerry(), n_ranked=k, seed=seed)
        run = bz.Search(x0, estimator(k), rule, seed=seed)
        for _ in run.run(oracle, ROUNDS):
            yield np.array(run.x)

    return method


def zo_rank_sgd(eta: float, mu: float) -> Method:
    """ZO-RankSGD as published, but with weights indegree - outdegree."""

    def method(want: Wanted, x0: np.ndarray, k: int, seed: int) -> Way:
        rng, x, kept, edges = np.random.default_rng([seed, 1]), x0, [], k * (k - 1) / 2 + k * (M - k)

        def ranked(points: np.ndarray) -> list[int]:
            values = want(points)

            def compare(i: int, j: int) -> int:
                right = rng.random() < BradleyTerry().chance(abs(values[i] - values[j]))
                return (-1 if values[i] < values[j] else 1) * (1 if right else -1)

            return [i for (i,) in in_order(list(range(M)), compare, k)]

        for _ in range(0, ROUNDS, 2):
            xi = rng.standard_normal((M, D))
            order = ranked(x + mu * xi)
            w = np.full(M, float(k))
            w[order] = -(M - 1 - 2.0 * np.arange(k))
            kept.append((w / edges) @ xi)
            yield x
            g = np.mean(kept, axis=0)
            points = np.vstack([x, x + mu * xi[order[0]], *(x - eta * 0.5**i * g for i in range(M - 2))])
            best = ranked(points)[0]
            if best:
                x, kept = points[best], []
            yield x

    return method


METHODS: dict[str, dict[str, Method]] = {
    "ZO-RankSGD, published rounds": {
        f"eta {eta}, mu {mu}": zo_rank_sgd(eta, mu) for eta in (1.0, 2.0, 4.0, 8.0) for mu in (0.1, 0.5, 1.0, 2.0, 3.0)
    },
    "RankBased + SGD": {
        f"radius {r}, rate {s}": search(lambda k, r=r: bz.RankBased(r, M, k), bz.SGD(s))
        for r in (0.5, 1.0, 2.0, 3.0)
        for s in (0.5, 1.0, 2.0, 3.0)
    },
    "RankSGD": {f"radius {r}": search(lambda k, r=r: bz.RankSGD(r, M, M, k)) for r in (0.5, 1.0, 2.0, 3.0)},
    "RankSGD, shared rounds": {
        f"radius {r}": search(lambda k, r=r: bz.RankSGD(r, 4, 4, shared_round=True)) for r in (0.5, 1.0, 1.5, 2.0)
    },
    'EvolutionStrategy, weights="all"': {
        f"radius {r}, {c}": search(lambda k, r=r, c=c: bz.EvolutionStrategy(r, M, c, weights="all"))
        for r in (0.5, 1.0, 1.5, 2.0)
        for c in ("isotropic", "diagonal", "full")
    },
    "EvolutionStrategy": {
        f"radius {r}, {c}": search(lambda k, r=r, c=c: bz.EvolutionStrategy(r, M, c))
        for r in (0.5, 1.0, 1.5, 2.0)
        for c in ("isotropic", "diagonal", "full")
    },
    "PreferenceGP": {"radius 2": search(lambda k: bz.PreferenceGP(2.0, M, k))},
}


@functools.cache
def start(label: int, seed: int) -> np.ndarray:
    want, rng = Wanted(label), np.random.default_rng([seed, label])
    while True:
        x: np.ndarray = rng.standard_normal(D)
        if not want.found(x):
            return x


def runs(method: Method, k: int, seeds: range) -> np.ndarray:
    """Whether the wanted class is there after each of 0 to 15 rounds, shape (classes, seeds, 16)."""
    found = np.zeros((len(CLASSES), len(seeds), ROUNDS + 1), dtype=bool)
    for label in range(len(CLASSES)):
        want = Wanted(label)
        for i, seed in enumerate(seeds):
            x0 = start(label, seed)
            way = [x for x, _ in zip(method(want, x0, k, seed), range(ROUNDS), strict=False)]
            found[label, i] = want.found(np.array([x0, *way]))
    return found


def measured(name: str) -> dict[str, Any]:
    """A method's best setting on the tuning starts, and its successes on the others."""
    settings = METHODS[name] if len(METHODS[name]) > 1 else {}
    tried = {s: [float(runs(m, k, TUNING)[..., -1].mean()) for k in RANKED] for s, m in settings.items()}
    best = max(tried, key=lambda s: sum(tried[s])) if tried else next(iter(METHODS[name]))
    out: dict[str, Any] = {"setting": best, "tried": {s: np.round(v, 3).tolist() for s, v in tried.items()}}
    for k in RANKED:
        found = runs(METHODS[name][best], k, SEEDS)
        share = found.mean(axis=(0, 1))
        error = np.sqrt(share[-1] * (1 - share[-1]) / found[..., -1].size)
        out[f"({M}, {k})"] = {
            "success": np.round(share, 4).tolist(),
            "standard error at the end": round(float(error), 4),
            "success after some round": round(float(found.any(axis=-1).mean()), 4),
            "by class at the end": dict(zip(CLASSES, found[..., -1].mean(axis=1).round(3).tolist(), strict=True)),
        }
    print(name, best, [out[f"({M}, {k})"]["success"][::3] for k in RANKED], flush=True)
    return out


def models() -> dict[str, Any]:
    """How good generator and classifier are."""
    pictures, labels = read("t10k")
    said = classifier()(generator()(np.random.default_rng(0).standard_normal((5000, D))))
    shares = np.bincount(said.argmax(axis=1), minlength=10) / len(said)
    return {
        "classifier, test accuracy": float((classifier()(pictures / 255).argmax(axis=1) == labels).mean()),
        "classes of 5000 pictures of N(0, I)": dict(zip(CLASSES, shares.round(3).tolist(), strict=True)),
        "mean probability of the likeliest class": round(float(np.exp(said.max(axis=1)).mean()), 3),
    }


def main() -> None:
    path, names = Path(__file__).with_suffix(".json"), sys.argv[1:] or list(METHODS)
    known = json.loads(path.read_text())["methods"] if sys.argv[1:] else {}
    found = known | {name: measured(name) for name in names}
    unit = f"share of {len(CLASSES)} x {len(SEEDS)} runs that are there after 0 to {ROUNDS} rounds"
    save(__file__, {"unit": unit, "models": models(), "methods": {n: found[n] for n in METHODS if n in found}})


if __name__ == "__main__":
    main()
