"""Optimisers of nevergrad."""

from __future__ import annotations

import numpy as np

from blackbox_zo._typing import Floats
from oracles.bench._needed import needed
from oracles.bench.problem import Counted

__all__ = ["ngiohtuned", "tbpsa"]


def ngiohtuned(f: Counted, budget: int, seed: int) -> Floats:
    """What nevergrad's README recommends."""
    return _run(f, "NgIohTuned", budget, seed)


def tbpsa(f: Counted, budget: int, seed: int) -> Floats:
    """Test-based population size adaptation (Hellwig & Beyer 2016)."""
    return _run(f, "TBPSA", budget, seed)


def _run(f: Counted, name: str, budget: int, seed: int) -> Floats:
    ng = needed("nevergrad")
    low, high = f.bounds or (None, None)
    array = ng.p.Array(init=f.x0, lower=low, upper=high)
    array.random_state.seed(seed % 2**31)
    optimizer = ng.optimizers.registry[name](parametrization=array, budget=budget, num_workers=1)
    for _ in range(budget):
        asked = optimizer.ask()
        optimizer.tell(asked, f(asked.value))
    return np.asarray(optimizer.provide_recommendation().value, dtype=float)
