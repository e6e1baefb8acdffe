"""Rankings alone: f after 300 iterations of m + 5 queries in 100 dimensions, and with a fifth of all comparisons wrong.

f is sum x² or Rosenbrock's function, x0 ~ N(0, I), 5 starts; figures are means. (m, k): an answer ranks the k best of
m. ZO-RankSGD (Tang et al. 2024) has correct weights and its published kind of line search, over x and four lengths
`eta gamma^i g`; eta 3, mu 0.01, gamma 0.5 on the quadratic and 1, 1e-3, 0.2 on Rosenbrock. Our side is one
configuration for all cases, which sees answers of the same kind and as many queries:

- `EvolutionStrategy(1/3, m, "isotropic", weights="all")`, all queries in rounds of m of which the k best are ranked;
- `RankSGD(0.1, m)`, rounds of m as above, and line searches of 5, of which the best alone is named;
- the same with both in one round of m + 5, of which the k best are ranked.

Of the other methods, and once more of ZO-RankSGD, every setting listed is tried, and the best is quoted. All queries
count, x itself too.

Flips: m = k = 10, 20 or 30. All pairs of a round are compared, each answer is wrong with probability 0.2, and all
answers are used (`PairwiseOracle`). Naive use sorts by such comparisons, and takes the order to be true.
Run: OMP_NUM_THREADS=1 python benchmarks/ranking.py; with --flips only the flips, the rest of the JSON file is kept.
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _common import save
from _ranking_baselines import Order, Trace, cma_es, gld_fast, scobo, two_point, zo_rank_sgd

import blackbox_zo as bz
from oracles import FunctionOracle
from oracles.ranking import FixedFlip, PairwiseOracle, SimulatedRater

D, ITERATIONS, SEEDS, LINE = 100, 300, range(5), 5
CASES = ((10, 10), (10, 5), (10, 3), (10, 1), (2, 1))
PICTURE = Path(__file__).parents[1] / "docs" / "_static" / "ranking-loss.png"


def quadratic(x: np.ndarray) -> np.ndarray:
    return (x * x).sum(axis=-1)


def rosenbrock(x: np.ndarray) -> np.ndarray:
    return (100 * (x[..., 1:] - x[..., :-1] ** 2) ** 2 + (1 - x[..., :-1]) ** 2).sum(axis=-1)


FUNCTIONS: dict[str, tuple[Callable, dict[str, float]]] = {
    "quadratic": (quadratic, {"eta": 3.0, "mu": 0.01, "gamma": 0.5}),
    "rosenbrock": (rosenbrock, {"eta": 1.0, "mu": 1e-3, "gamma": 0.2}),
}


def start(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(D)


class Limited(bz.Oracle):
    """The true order, but only the k best of each round, or the best alone in rounds of `LINE`."""

    def __init__(self, f: Callable, k: int, single: bool) -> None:
        self.f, self.k, self.single = f, k, single

    def answer(self, proposal: bz.Proposal) -> bz.Ranking:
        """See `Oracle.answer`."""
        k = 1 if self.single and proposal.n == LINE else self.k
        return bz.Values(self.f(proposal.points)).ranking(min(k, proposal.n))


def by_search(f: Callable, estimator: bz.Estimator, oracle: Any, budget: int, seed: int) -> Trace:
    search = bz.Search(start(seed), estimator, seed=seed, budget=budget)
    for report in search.run(oracle):
        yield report.nfev, float(f(np.asarray(search.x)[None])[0])


def ours(m: int) -> dict[str, tuple[bz.Estimator, bool]]:
    """Our configurations, and whether rounds of `LINE` are line searches."""
    return {
        'EvolutionStrategy(1/3, m, "isotropic", weights="all")': (
            bz.EvolutionStrategy(1 / 3, m, "isotropic", weights="all"),
            False,
        ),
        "RankSGD(0.1, m)": (bz.RankSGD(0.1, m, LINE), True),
        "RankSGD(0.1, m, shared_round=True)": (bz.RankSGD(0.1, m, LINE, shared_round=True), False),
    }


def traces(run: Callable[[int], Trace]) -> list[list[tuple[int, float]]]:
    return [list(run(seed)) for seed in SEEDS]


def last(runs: list[list[tuple[int, float]]]) -> float:
    return float(np.mean([trace[-1][1] for trace in runs]))


def curve(f: Callable, runs: list[list[tuple[int, float]]], budget: int) -> list[list[float]]:
    """Mean loss at 61 numbers of queries from 0 on."""
    at = np.linspace(0, budget, 61)
    rows = []
    for seed, trace in zip(SEEDS, runs, strict=True):
        queries, values = np.array([(0, float(f(start(seed)))), *trace]).T
        rows.append(values[np.searchsorted(queries, at, side="right") - 1])
    return [[int(q), float(f"{v:.4g}")] for q, v in zip(at, np.mean(rows, axis=0), strict=True)]


def best_of(runs: dict[str, Callable[[int], Trace]]) -> tuple[list[list[tuple[int, float]]], dict[str, Any]]:
    """The traces of the best setting, and the figures of all."""
    found = {name: traces(run) for name, run in runs.items()}
    figures = {name: last(t) if np.isfinite(last(t)) else float("inf") for name, t in found.items()}
    best = min(figures, key=lambda name: figures[name])
    return found[best], {"final": figures[best], "setting": best, "tried": {n: _short(v) for n, v in figures.items()}}


def _short(value: float) -> float:
    return float(f"{value:.3g}")


def published(f: Callable, m: int) -> dict[str, dict[str, Callable[[int], Trace]]]:
    """The baselines by name and setting."""
    n, budget = m + 5, ITERATIONS * (m + 5)
    rates = [10.0**e * c for e in range(-6, 0) for c in (1, 2, 5)]
    return {
        f"ZO-RankSGD, ({m}, {m})": {
            f"eta {e}, gamma {g}": functools.partial(
                lambda s, e, g: zo_rank_sgd(f, start(s), m, m, ITERATIONS, s, e, 1e-3, g), e=e, g=g
            )
            for e in (0.3, 1.0, 3.0, 10.0)
            for g in (0.5, 0.2, 0.1)
        },
        "ZO-SGD, values": {
            f"rate {r:.0e}": functools.partial(lambda s, r: two_point(f, start(s), n, ITERATIONS, s, r), r=r)
            for r in rates
        },
        "SCOBO": {
            f"rate {r} * {c}^t, s {s_}": functools.partial(
                lambda s, r, c, s_: scobo(f, start(s), n, ITERATIONS, s, r, c, s_), r=r, c=c, s_=s_
            )
            for r in (0.03, 0.1, 0.3, 1.0)
            for c in (1.0, 0.995, 0.99, 0.98)
            for s_ in (20, 100)
        },
        "GLD-Fast": {
            f"R {r}, Q {q}": functools.partial(lambda s, r, q: gld_fast(f, start(s), budget, s, r, q), r=r, q=q)
            for r in (0.3, 1.0, 3.0, 10.0)
            for q in (1, 4, 16)
        },
        "CMA-ES (pycma)": {"defaults": lambda s: cma_es(f, start(s), n, ITERATIONS, s)},
    }


def exact(f: Callable, settings: dict[str, float], curves: dict[str, Any]) -> dict[str, Any]:
    """The table of true answers; `curves` is filled for (10, 10) and (10, 1)."""
    table: dict[str, Any] = {"start": _short(float(np.mean([f(start(s)) for s in SEEDS])))}
    for m, k in CASES:
        budget = ITERATIONS * (m + 5)
        found = {"ZO-RankSGD": traces(lambda s, m=m, k=k: zo_rank_sgd(f, start(s), m, k, ITERATIONS, s, **settings))}
        for name, (estimator, single) in ours(m).items():
            found[name] = traces(
                lambda s, e=estimator, k=k, single=single, b=budget: by_search(f, e, Limited(f, k, single), b, s)
            )
        rows: dict[str, Any] = {name: _short(last(runs)) for name, runs in found.items()}
        mine = next(iter(ours(m)))
        rows["ours / ZO-RankSGD"] = _short(last(found[mine]) / last(found["ZO-RankSGD"]))
        rows["starts of 5 in which ours is below"] = sum(
            a[-1][1] < b[-1][1] for a, b in zip(found[mine], found["ZO-RankSGD"], strict=True)
        )
        table[f"({m}, {k})"] = rows
        if (m, k) in ((10, 10), (10, 1)):
            curves[f"({m}, {k})"] = {name: curve(f, runs, budget) for name, runs in found.items()}
        print(f.__name__, m, k, rows, flush=True)
    for m in (10, 2):
        rows = {}
        for name, runs in published(f, m).items():
            runs_, rows[name] = best_of(runs)
            if m == 10 and not name.startswith("ZO-RankSGD"):
                curves["(10, 10)"][name] = curve(f, runs_, ITERATIONS * (m + 5))
        table[f"other methods, {m + 5} queries an iteration"] = rows
        print(f.__name__, m, {name: (r["final"], r["setting"]) for name, r in rows.items()}, flush=True)
    return table


def sorted_by_flips(seed: int) -> Order:
    """A person who is wrong about every fifth pair, and sorts candidate after candidate into the order so far."""
    from oracles.ranking.raters._raters import in_order

    rng = np.random.default_rng([seed, 3])

    def order(values: np.ndarray) -> list[int]:
        groups = in_order(
            list(range(len(values))),
            lambda i, j: (-1 if values[i] < values[j] else 1) * (1 if rng.random() < 0.8 else -1),
            len(values),
        )
        return [i for (i,) in groups]

    return order


def flipped(f: Callable, settings: dict[str, float], curves: dict[str, Any]) -> dict[str, Any]:
    """With a fifth of all comparisons wrong, m = k = 10, 20 or 30."""
    budget, out = ITERATIONS * 15, {}
    runs: dict[str, Callable[[int], Trace]] = {}
    for n in (10, 20, 30):
        e = bz.EvolutionStrategy(1 / 3, n, "isotropic", weights="all")
        runs[f"ours, {n} a round, no flips"] = lambda s, e=e: by_search(f, e, Limited(f, 99, False), budget, s)
        for repeats in (1, 3, 9) if n == 10 else (1,):
            name = f"ours, {n} a round, every pair asked {'once' if repeats == 1 else f'{repeats} times'}"
            runs[name] = lambda s, e=e, r=repeats: by_search(f, e, all_pairs(f, r, s), budget, s)
        runs[f"ours, {n} a round, naive"] = lambda s, e=e: by_search(f, e, naive(f, s), budget, s)
    line = bz.RankSGD(0.1, 10)
    runs["RankSGD, no flips"] = lambda s: by_search(f, line, Limited(f, 99, False), budget, s)
    runs["RankSGD, every pair asked once"] = lambda s: by_search(f, line, all_pairs(f, 1, s), budget, s)
    runs["RankSGD, naive"] = lambda s: by_search(f, line, naive(f, s), budget, s)
    runs["ZO-RankSGD, no flips"] = lambda s: zo_rank_sgd(f, start(s), 10, 10, ITERATIONS, s, **settings)
    runs["ZO-RankSGD, naive"] = lambda s: zo_rank_sgd(
        f, start(s), 10, 10, ITERATIONS, s, **settings, order=sorted_by_flips(s)
    )
    found = {name: traces(run) for name, run in runs.items()}
    for name, told in found.items():
        side = name.split(", every")[0].split(", no")[0].split(", naive")[0]
        free = last(found[f"{side}, no flips"])
        out[name] = {"final": _short(last(told)), "final / no flips": _short(last(told) / free)}
        if name.startswith(("ours, 20", "ours, 30")):
            out[name]["final / no flips, 10 a round"] = _short(last(told) / last(found["ours, 10 a round, no flips"]))
        if "no flips" not in name:
            out[name]["queries / no flips, to the same loss"] = queries_ratio(found[f"{side}, no flips"], told)
    shown = [
        name
        for name in found
        if "20" not in name and "30" not in name and "9 times" not in name and not name.startswith("RankSGD")
    ]
    curves["flips"] = {name: curve(f, found[name], budget) for name in shown}
    print(f.__name__, "flips", out, flush=True)
    return out


def all_pairs(f: Callable, repeats: int, seed: int) -> bz.Oracle:
    return PairwiseOracle(
        SimulatedRater(FunctionOracle(f, vectorized=True), FixedFlip(0.2), seed=seed), repeats=repeats
    )


def naive(f: Callable, seed: int) -> bz.Oracle:
    return SimulatedRater(FunctionOracle(f, vectorized=True), FixedFlip(0.2), seed=seed)


def queries_ratio(free: list[list[tuple[int, float]]], told: list[list[tuple[int, float]]]) -> float:
    """How many times the queries it takes to the loss at which the flipped run ends; mean over starts."""
    ratios = []
    for a, b in zip(free, told, strict=True):
        end = b[-1][1]
        first = next((q for q, v in a if v <= end), a[-1][0])
        ratios.append(b[-1][0] / first)
    return round(float(np.mean(ratios)), 2)


def picture(curves: dict[str, Any]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    labels = {
        'EvolutionStrategy(1/3, m, "isotropic", weights="all")': "EvolutionStrategy, all ranks",
        "RankSGD(0.1, m)": "RankSGD",
        "RankSGD(0.1, m, shared_round=True)": "RankSGD, shared rounds",
    }
    style = {"ZO-RankSGD": ("black", "-"), "ZO-SGD, values": ("tab:gray", "--"), "SCOBO": ("tab:brown", "--")}
    style |= {"GLD-Fast": ("tab:olive", "--"), "CMA-ES (pycma)": ("tab:purple", "--")}
    figure, axes = plt.subplots(2, 3, figsize=(13, 7.5), layout="constrained")
    for row, (f, by_case) in zip(axes, curves.items(), strict=True):
        for axis, case in zip(row, ("(10, 10)", "(10, 1)", "flips"), strict=True):
            for name, points in by_case[case].items():
                q, v = np.array(points).T
                color, line = style.get(name, (None, "-"))
                axis.semilogy(q, np.maximum(v, 1e-12), line, color=color, label=labels.get(name, name), linewidth=1.4)
            about = "a fifth of all comparisons wrong, (10, 10)" if case == "flips" else f"(m, k) = {case}"
            axis.set_title(f"{f}, {about}", fontsize=10)
            axis.set_xlabel("queries")
            axis.grid(alpha=0.3)
            axis.legend(fontsize=6.5)
        row[0].set_ylabel("f, mean of 5 starts")
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=90)


def main() -> None:
    if "--flips" in sys.argv:
        kept: dict[str, Any] = json.loads(Path(__file__).with_suffix(".json").read_text())
        for name, (f, settings) in FUNCTIONS.items():
            kept[name]["20 % of comparisons wrong"] = flipped(f, settings, {})
        save(__file__, {name: part for name, part in kept.items() if name != "machine"})
        return
    result: dict[str, Any] = {
        "unit": "f after 300 iterations of m + 5 queries, d = 100, mean of 5 starts; all queries count"
    }
    curves: dict[str, dict[str, Any]] = {}
    for name, (f, settings) in FUNCTIONS.items():
        curves[name] = {}
        result[name] = exact(f, settings, curves[name])
        result[name]["20 % of comparisons wrong"] = flipped(f, settings, curves[name])
    picture(curves)
    save(__file__, result)


if __name__ == "__main__":
    main()
