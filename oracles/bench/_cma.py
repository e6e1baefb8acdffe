"""CMA-ES of the packages cma and cmaes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from blackbox_zo._typing import Floats
from oracles.bench._needed import needed
from oracles.bench.problem import Counted, Spent

__all__ = ["adapted", "bipop", "diagonal", "handler", "separable", "surrogate"]

_SIGMA = 2.0
_RESTARTS = 1000


def bipop(f: Counted, budget: int, seed: int) -> None:
    """BIPOP-CMA-ES (Hansen 2009)."""
    _fmin(f, seed, bipop=True)


def diagonal(f: Counted, budget: int, seed: int) -> None:
    """CMA-ES with a diagonal covariance, IPOP."""
    _fmin(f, seed, CMA_diagonal=True)


def surrogate(f: Counted, budget: int, seed: int) -> None:
    """lq-CMA-ES (Hansen 2019): a linear or quadratic model chooses whom to ask."""
    cma, start = needed("cma"), _starts(f, seed)
    while f.left:
        cma.fmin_lq_surr(f, start(), _SIGMA, _options(seed))
        seed += 1


def handler(f: Counted, budget: int, seed: int) -> Floats:
    """CMA-ES that raises the number of evaluations and sigma with the noise (Hansen et al. 2009), restarted."""
    cma, start, best = needed("cma"), _starts(f, seed), f.x0
    try:
        while f.left:
            es = cma.CMAEvolutionStrategy(start(), _SIGMA, _options(seed))
            noise = cma.NoiseHandler(es.N, maxevals=[1, 1, 30])
            while not es.stop():
                points, values = es.ask_and_eval(f, evaluations=noise.evaluations)
                es.tell(points, values)
                es.sigma *= noise(points, values, f, es.ask)
                es.countevals += noise.evaluations_just_done
                best = es.result.xfavorite
            seed += 1
    except Spent:
        pass
    return best


def separable(f: Counted, budget: int, seed: int) -> None:
    """Separable CMA-ES (Ros & Hansen 2008)."""
    cmaes = needed("cmaes")
    _cmaes(f, seed, lambda mean, seed: cmaes.SepCMA(mean=mean, sigma=_SIGMA, seed=seed))


def adapted(f: Counted, budget: int, seed: int) -> Floats:
    """CMA-ES with an adapted learning rate (Nomura et al. 2023)."""
    cmaes = needed("cmaes")
    return _cmaes(f, seed, lambda mean, seed: cmaes.CMA(mean=mean, sigma=_SIGMA, seed=seed, lr_adapt=True))


def _fmin(f: Counted, seed: int, bipop: bool = False, **options: Any) -> None:
    cma, start = needed("cma"), _starts(f, seed)
    while f.left:
        cma.fmin2(f, start, _SIGMA, {**_options(seed), **options}, restarts=_RESTARTS, bipop=bipop)
        seed += 1


def _cmaes(f: Counted, seed: int, make: Callable[[Floats, int], Any]) -> Floats:
    """Run an optimiser of cmaes until it stops or the budget is spent, again and again; return its last mean."""
    start, es = _starts(f, seed), None
    try:
        while f.left:
            es = make(start(), seed)
            while not es.should_stop():
                es.tell([(x, f(x)) for x in (es.ask() for _ in range(es.population_size))])
            seed += 1
    except Spent:
        pass
    return f.x0 if es is None else np.asarray(es.mean)


def _options(seed: int) -> dict[str, Any]:
    return {"verbose": -9, "seed": seed % 2**31 + 1, "maxfevals": float("inf")}


def _starts(f: Counted, seed: int) -> Callable[[], Floats]:
    """The start of the problem at first, then random points."""
    rng, given = np.random.default_rng(seed), [f.x0]
    return lambda: given.pop() if given else rng.uniform(-4.0, 4.0, f.d)
