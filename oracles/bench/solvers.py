"""The solvers, by name: ours, and its peers with the settings that are usual for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import blackbox_zo
from blackbox_zo._typing import Floats
from oracles.bench import _cma, _nevergrad, _scipy
from oracles.bench.problem import Counted, Spent

__all__ = ["OURS", "SOLVERS", "Solver", "solve"]

OURS = "ours"


@dataclass(frozen=True)
class Solver:
    """An optimiser, as it is measured.

    Attributes:
        name: Its name.
        run: Asks the function, given the budget and a seed, until it raises `Spent` or the solver has done. What it
            returns is the point that it recommends; None means the best that it asked.
        about: Its settings, in words.
        package: The package that it comes from.
        most: Most queries per dimension that it is given, where it is dear; None for no limit.
        largest: Largest dimension in which it is run; None for no limit.
    """

    name: str
    run: Callable[[Counted, int, int], Floats | None]
    about: str
    package: str
    most: int | None = None
    largest: int | None = None


def _ours(f: Counted, budget: int, seed: int) -> Floats:
    return blackbox_zo.minimize(f, f.x0, budget=budget, bounds=f.bounds, seed=seed).x  # type: ignore[no-any-return]


def solve(solver: Solver, f: Counted, seed: int) -> Floats:
    """Run a solver to its end, and return the point that it recommends.

    Raises:
        Exception: Whatever the solver raises.
    """
    try:
        x = solver.run(f, f.budget, seed)
    except Spent:
        x = None
    return f.best_x if x is None else x


SOLVERS = {
    solver.name: solver
    for solver in (
        Solver(OURS, _ours, "minimize(fun, x0, budget=, bounds=), nothing else", "blackbox-zo"),
        Solver("slsqp", _scipy.slsqp, "bounds, ftol 1e-12, forward differences, random restarts", "scipy"),
        Solver("lq-cma", _cma.surrogate, "fmin_lq_surr, sigma 2, random restarts", "cma", most=100),
        Solver("cma", _cma.bipop, "BIPOP, sigma 2, restarts at random points", "cma"),
        Solver("l-bfgs-b", _scipy.l_bfgs_b, "bounds, ftol = gtol = 0, 20 pairs, random restarts", "scipy"),
        Solver("bfgs", _scipy.bfgs, "no bounds, defaults, random restarts", "scipy"),
        Solver("cobyqa", _scipy.cobyqa, "bounds, radius 1 to 1e-8, random restarts", "scipy", most=100, largest=5),
        Solver("powell", _scipy.powell, "bounds, defaults, random restarts", "scipy"),
        Solver("de", _scipy.differential_evolution, "bounds, x0 in the first population, defaults", "scipy"),
        Solver("nelder-mead", _scipy.nelder_mead, "no bounds, xatol = fatol = 1e-8, random restarts", "scipy"),
        Solver("ngiohtuned", _nevergrad.ngiohtuned, "Array(init, lower, upper), one worker", "nevergrad", 100, 100),
        Solver("cma-diagonal", _cma.diagonal, "CMA_diagonal, sigma 2, restarts at random points", "cma"),
        Solver("sep-cma", _cma.separable, "SepCMA, sigma 2, random restarts", "cmaes"),
        Solver("cma-noise", _cma.handler, "NoiseHandler(maxevals=[1, 1, 30]), sigma 2; recommends xfavorite", "cma"),
        Solver("cma-lra", _cma.adapted, "CMA(lr_adapt=True), sigma 2; recommends the mean", "cmaes", largest=100),
        Solver("tbpsa", _nevergrad.tbpsa, "Array(init, lower, upper); recommends provide_recommendation", "nevergrad"),
    )
}
