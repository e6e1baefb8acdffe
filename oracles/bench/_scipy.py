"""scipy's minimisers, restarted at random points until the budget is spent; its own differences count as queries."""

from __future__ import annotations

from typing import Any

import numpy as np

from oracles.bench.problem import Counted

__all__ = ["bfgs", "cobyqa", "differential_evolution", "l_bfgs_b", "nelder_mead", "powell", "slsqp"]

_FOREVER = 10**9


def slsqp(f: Counted, budget: int, seed: int) -> None:
    """SLSQP."""
    _multistart(f, seed, "SLSQP", {"ftol": 1e-12, "maxiter": _FOREVER})


def l_bfgs_b(f: Counted, budget: int, seed: int) -> None:
    """L-BFGS-B."""
    options = {"ftol": 0.0, "gtol": 0.0, "maxcor": 20, "maxiter": _FOREVER, "maxfun": _FOREVER}
    _multistart(f, seed, "L-BFGS-B", options)


def bfgs(f: Counted, budget: int, seed: int) -> None:
    """BFGS."""
    _multistart(f, seed, "BFGS", {"maxiter": _FOREVER}, bounded=False)


def cobyqa(f: Counted, budget: int, seed: int) -> None:
    """COBYQA."""
    options = {"initial_tr_radius": 1.0, "final_tr_radius": 1e-8, "maxfev": _FOREVER, "maxiter": _FOREVER}
    _multistart(f, seed, "COBYQA", options)


def powell(f: Counted, budget: int, seed: int) -> None:
    """Powell's conjugate directions."""
    _multistart(f, seed, "Powell", {"maxiter": _FOREVER, "maxfev": _FOREVER})


def nelder_mead(f: Counted, budget: int, seed: int) -> None:
    """Nelder and Mead's simplex."""
    options = {"xatol": 1e-8, "fatol": 1e-8, "maxiter": _FOREVER, "maxfev": _FOREVER}
    _multistart(f, seed, "Nelder-Mead", options, bounded=False)


def differential_evolution(f: Counted, budget: int, seed: int) -> None:
    """Differential evolution."""
    from scipy import optimize

    low, high = f.bounds or (-5.0, 5.0)
    rng, start = np.random.default_rng(seed), f.x0
    while f.left:
        optimize.differential_evolution(f, [(low, high)] * f.d, x0=start, maxiter=_FOREVER, rng=rng)
        start = rng.uniform(-4.0, 4.0, f.d)


def _multistart(f: Counted, seed: int, method: str, options: dict[str, Any], bounded: bool = True) -> None:
    from scipy import optimize

    bounds = [f.bounds] * f.d if bounded and f.bounds is not None else None
    rng, start = np.random.default_rng(seed), f.x0
    while f.left:
        optimize.minimize(f, start, method=method, bounds=bounds, options=options)
        start = rng.uniform(-4.0, 4.0, f.d)
