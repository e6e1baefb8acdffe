"""What `ranking.py` compares with: methods for rankings, comparisons and values, written from their descriptions.

Each gives a trace: pairs of queries so far and f at the present x.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator

import numpy as np

import blackbox_zo as bz

Trace = Iterator[tuple[int, float]]
Order = Callable[[np.ndarray], list[int]]
"""Which of some values a person would name, best first."""


def best_first(values: np.ndarray) -> list[int]:
    """The true order."""
    return np.argsort(values, kind="stable").tolist()


def zo_rank_sgd(
    f: Callable, x: np.ndarray, m: int, k: int, iterations: int, seed: int,
    eta: float, mu: float, gamma: float, order: Order = best_first,
) -> Trace:  # fmt: skip
    """ZO-RankSGD with weights indegree - outdegree, and a line search over x and four fixed lengths."""
    rng = np.random.default_rng(seed)
    rng.standard_normal(x.size)  # the start was drawn from this stream
    edges = k * (k - 1) / 2 + k * (m - k)
    for t in range(iterations):
        xi = rng.standard_normal((m, x.size))
        ranked = order(f(x + mu * xi))[:k]
        w = np.full(m, float(k))
        w[ranked] = -(m - 1 - 2.0 * np.arange(k))
        g = (w / edges) @ xi
        candidates = np.vstack([x, *(x - eta * gamma**i * g for i in range(4))])
        x = candidates[order(f(candidates))[0]]
        yield (t + 1) * (m + 5), float(f(x[None])[0])


def two_point(f: Callable, x: np.ndarray, n: int, iterations: int, seed: int, rate: float) -> Trace:
    """ZO-SGD from values: n queries an iteration, n - 1 forward differences from one base point."""
    search = bz.Search(x, bz.RandomVector(1e-7, n - 1, "gaussian", "forward"), bz.SGD(rate), seed=seed)
    with np.errstate(over="ignore", invalid="ignore"):  # a rate may be too high
        for _ in range(iterations):
            p = search.ask()
            search.tell(p, bz.Values(f(p.points)))
            yield search.nfev, float(f(np.asarray(search.x)[None])[0])


def gld_fast(f: Callable, x: np.ndarray, budget: int, seed: int, radius: float, condition: float) -> Trace:
    """GLD-Fast (Golovin et al. 2020): points in balls of radii around one that is halved by a schedule; best of all."""
    rng, d, queries = np.random.default_rng([seed, 1]), x.size, 0
    reach = math.ceil(math.log2(4 * math.sqrt(condition)))
    halve = math.ceil(d * condition * max(math.log(condition), 1.0))
    for t in range(10**9):
        if t and t % halve == 0:
            radius /= 2
        v = rng.standard_normal((2 * reach + 1, d))
        v *= (rng.random(len(v)) ** (1 / d) / np.linalg.norm(v, axis=1))[:, None]
        candidates = np.vstack([x, x + (radius * 2.0 ** np.arange(-reach, reach + 1))[:, None] * v])
        queries += len(v)
        if queries > budget:
            return
        x = candidates[np.argmin(f(candidates))]
        yield queries, float(f(x[None])[0])


def scobo(
    f: Callable, x: np.ndarray, n: int, iterations: int, seed: int, rate: float, keep: float, sparsity: float
) -> Trace:
    """SCOBO (Cai et al. 2022): n - 1 comparisons with x give the gradient's direction by 1-bit compressed sensing.

    `max y'Zg` over `|g|_1 <= sqrt(s)`, `|g|_2 <= 1` has the solution `g = S(Z'y) / |S(Z'y)|`, S soft thresholding as
    far as it takes; no solver is needed. A move is `rate keep^t` long.
    """
    rng = np.random.default_rng([seed, 2])
    for t in range(iterations):
        z = rng.standard_normal((n - 1, x.size))
        values = f(np.vstack([x, x + 1e-3 * z]))
        g = _thresholded(np.sign(values[1:] - values[0]) @ z, math.sqrt(sparsity))
        x = x - rate * keep**t * g
        yield (t + 1) * n, float(f(x[None])[0])


def _thresholded(v: np.ndarray, limit: float) -> np.ndarray:
    """The unit vector along `sign(v) max(|v| - c, 0)` with the least c at which `|g|_1 <= limit |g|_2`."""
    low, high = 0.0, float(np.abs(v).max())
    for _ in range(60):
        c = (low + high) / 2
        g = np.maximum(np.abs(v) - c, 0.0)
        low, high = (c, high) if g.sum() > limit * np.linalg.norm(g) else (low, c)
    g = np.sign(v) * np.maximum(np.abs(v) - low, 0.0)
    return g / np.linalg.norm(g)


def cma_es(f: Callable, x: np.ndarray, n: int, iterations: int, seed: int) -> Trace:
    """CMA-ES of pycma with its defaults, a population of n and a first sigma of 1/3; it uses ranks alone."""
    import cma

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        es = cma.CMAEvolutionStrategy(x, 1 / 3, {"popsize": max(n, 2), "seed": seed + 1, "verbose": -9})
        for t in range(iterations):
            points = np.array(es.ask())
            es.tell(list(points), f(points).tolist())
            yield (t + 1) * len(points), float(f(np.asarray(es.mean)[None])[0])
