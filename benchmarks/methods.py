"""Which method asks people best: f / f(x0) after 10, 20 and 40 answers, by dimension and kind of round.

Twelve instances a cell, three each of four kinds of functions, without bounds, each with its optimum at a random place
(normal, 0.7 a coordinate) and radius 1: a sphere, a randomly turned ellipsoid with axes from 1 to 10, Rosenbrock's
function, and Ackley's. The figure is the median over the twelve of f / f(x0) at the search's answer; "geometric" is the
geometric mean. The simulated person orders the k best of m by true values ("exact"), or errs as with Bradley-Terry of
temperature `ERRING` times the median difference between two points at the radius about x0.

Every method of the library has one configuration; pycma gets ranks as values (those not ranked share the last).
`oracles.ranking.ranking_method` rests on this. In duels RankSGD is not one: its line searches show three. With
--dimensions a part is measured, and the other figures in the JSON file are kept.
Run: OMP_NUM_THREADS=1 python benchmarks/methods.py; needs pip install cma.
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

import numpy as np
from _common import save

import blackbox_zo as bz
from blackbox_zo.proposal import Proposal
from oracles import FunctionOracle
from oracles.ranking import BradleyTerry, Exact, SimulatedRater

SEEDS, AT, ERRING = 12, (10, 20, 40), 0.1
DIMENSIONS = (3, 8, 21, 30, 100)
ANSWERS = ((2, 1), (4, 4), (8, 3))
KINDS = ("sphere", "ellipsoid", "Rosenbrock", "Ackley")


def function(kind: str, d: int, seed: int) -> Callable[[np.ndarray], Any]:
    """A random instance, of arrays (..., d); 0 is its minimum."""
    rng = np.random.default_rng([seed, d, 1])
    best, turn = 0.7 * rng.standard_normal(d), np.linalg.qr(rng.standard_normal((d, d)))[0]
    if kind == "sphere":
        return lambda x: ((x - best) ** 2).sum(axis=-1)
    if kind == "ellipsoid":
        axes = 10.0 ** np.linspace(0, 1, d)
        return lambda x: (axes * ((x - best) @ turn) ** 2).sum(axis=-1)
    if kind == "Rosenbrock":

        def rosenbrock(x: np.ndarray) -> Any:
            z = x - best + 1
            return (100 * (z[..., 1:] - z[..., :-1] ** 2) ** 2 + (1 - z[..., :-1]) ** 2).sum(axis=-1)

        return rosenbrock

    def ackley(x: np.ndarray) -> Any:
        z = 3 * (x - best)
        waves = np.exp(np.cos(2 * np.pi * z).mean(axis=-1))
        return 20 + np.e - 20 * np.exp(-0.2 * np.sqrt((z * z).mean(axis=-1))) - waves

    return ackley


def person(f: Callable, d: int, k: int, erring: bool, seed: int) -> SimulatedRater:
    values = f(np.random.default_rng(seed).standard_normal((2000, d)))
    noise = BradleyTerry(ERRING * float(np.median(np.abs(np.diff(values))))) if erring else Exact()
    return SimulatedRater(FunctionOracle(f, vectorized=True), noise, n_ranked=k, seed=seed)


def methods(m: int) -> dict[str, bz.Estimator]:
    return {
        "PreferenceGP": bz.PreferenceGP(1.0, m),
        "EvolutionStrategy full": bz.EvolutionStrategy(1.0, m, "full"),
        "EvolutionStrategy diagonal": bz.EvolutionStrategy(1.0, m, "diagonal"),
        "EvolutionStrategy full, all": bz.EvolutionStrategy(1.0, m, "full", weights="all"),
        "EvolutionStrategy diagonal, all": bz.EvolutionStrategy(1.0, m, "diagonal", weights="all"),
        "EvolutionStrategy isotropic, all": bz.EvolutionStrategy(1.0, m, "isotropic", weights="all"),
        "RankSGD": bz.RankSGD(1.0, m, max(m, 3)),
        "RankBased": bz.RankBased(1.0, m),
    }


def searched(f: Callable, d: int, estimator: bz.Estimator, k: int, erring: bool, seed: int) -> list[float]:
    """F / f(x0) after each number of answers in `AT`."""
    search, rater = bz.Search(np.zeros(d), estimator, seed=seed), person(f, d, k, erring, seed)
    f0, ends = float(f(np.zeros(d))), []
    for step in range(max(AT)):
        proposal = search.ask()
        search.tell(proposal, rater.answer(proposal))
        if step + 1 in AT:
            ends.append(float(f(np.asarray(search.x))) / f0)
    return ends


def pycma(f: Callable, d: int, m: int, k: int, erring: bool, seed: int) -> list[float]:
    """The same with pycma's defaults, of which the mean is the answer."""
    import cma

    options = {"popsize": m, "seed": seed + 1, "verbose": -9} | ({"CMA_mu": 1} if m < 4 else {})
    es = cma.CMAEvolutionStrategy(np.zeros(d), 1.0, options)
    rater, variable, ends, f0 = person(f, d, k, erring, seed), bz.Vector(np.zeros(d)), [], float(f(np.zeros(d)))
    for step in range(max(AT)):
        points = es.ask()
        shown = bz.Queries(bz.Dense(variable.blocks, np.array(points)), np.arange(m), np.ones(m), np.zeros(d))
        answer = rater.answer(Proposal.numbered(step, step * m, shown, variable))
        es.tell(points, answer.levels[0].astype(float).tolist())
        if step + 1 in AT:
            ends.append(float(f(np.asarray(es.mean))) / f0)
    return ends


def cell(d: int, m: int, k: int, erring: bool) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, estimator in methods(m).items():
        runs = [searched(function(KINDS[s % 4], d, s), d, estimator, k, erring, s) for s in range(SEEDS)]
        out[name] = figures(runs)
    out["pycma"] = figures([pycma(function(KINDS[s % 4], d, s), d, m, k, erring, s) for s in range(SEEDS)])
    return out


def figures(runs: list[list[float]]) -> dict[str, list[float]]:
    ends = np.maximum(np.array(runs), 1e-12)
    means = {"median": np.median(ends, axis=0), "geometric": np.exp(np.log(ends).mean(axis=0))}
    return {name: [float(f"{v:.3g}") for v in values] for name, values in means.items()}


def main() -> None:
    warnings.simplefilter("ignore")  # pycma's, of small populations
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dimensions", type=int, nargs="+", default=DIMENSIONS)
    given = parser.parse_args()
    path = Path(__file__).with_suffix(".json")
    kept = json.loads(path.read_text())["cells"] if path.exists() else {}
    result: dict[str, Any] = {"answers": AT, "seeds": SEEDS, "erring": ERRING, "cells": kept}
    for d in given.dimensions:
        for m, k in ANSWERS:
            for erring in (False, True):
                name = f"d={d}, {k} of {m}, {'erring' if erring else 'exact'}"
                result["cells"][name] = cell(d, m, k, erring)
                print(name, flush=True)
                for method, row in result["cells"][name].items():
                    print(f"    {method:35}", *(f"{v:9.3g}" for v in row["geometric"] + row["median"]), flush=True)
    save(__file__, result)


if __name__ == "__main__":
    main()
