"""The functions of COCO: bbob, bbob-largescale, bbob-noisy, and bbob with normal noise."""

from __future__ import annotations

import math

import numpy as np

from blackbox_zo._typing import Floats
from oracles.bench._needed import needed
from oracles.bench.problem import Problem, start_of

__all__ = ["bbob", "gaussian", "largescale", "noisy", "optimum"]

_SEEDS = {4: 3, 18: 17}
"""Functions that have the random numbers of another."""
_NOISY = (1, 8, 1, 8, 7, 10, 14, 17, 19, 21)
"""What lies under f101-103, f104-106, ..., f128-130: sphere, Rosenbrock, again both, step ellipsoid, ..."""


def bbob(function: int, d: int, instance: int) -> Problem:
    """One of the 24 noiseless functions (Hansen et al. 2009)."""
    return _problem("bbob", function, d, instance, optimum(function, instance))


def largescale(function: int, d: int, instance: int) -> Problem:
    """One of the 24 functions for up to 640 dimensions (Elhara et al. 2019)."""
    return _problem("bbob-largescale", function, d, instance, optimum(function, instance))


def gaussian(function: int, d: int, instance: int) -> Problem:
    """One of the 24 noiseless functions; N(0, 1) is added to each value. The noise is the same for every solver."""
    plain = bbob(function, d, instance)
    noise = np.random.default_rng([function, d, instance, 1])
    return Problem(
        "bbob-gaussian", function, d, instance, lambda x: plain.f(x) + noise.standard_normal(), plain.f_opt, plain.x0,
        true=plain.f,
    )  # fmt: skip


def noisy(function: int, d: int, instance: int) -> Problem:
    """One of the 30 noisy functions, f101 to f130 (Hansen et al. 2009), as 1 to 30."""
    if not 1 <= function <= 30:
        raise ValueError(f"`function` must be from 1 to 30 in bbob-noisy, got {function}.")
    f_opt = optimum(_NOISY[(function - 1) // 3], instance)
    return _problem("bbob-noisy", function, d, instance, f_opt, noisy=True)


def optimum(function: int, instance: int) -> float:
    """The lowest value of a noiseless function, in any dimension.

    It is a quotient of two normal numbers, rounded to hundredths and cut off at 1000 (`bbob2009_compute_fopt`).
    """
    seed = _SEEDS.get(function, function) + 10_000 * instance
    return min(1000.0, max(-1000.0, _rounded(100 * 100 * _normal(seed) / _normal(seed + 1)) / 100))


class _Open:
    """An open problem of COCO. It holds the suite too, with which a problem would die."""

    def __init__(self, suite: str, function: int, d: int, instance: int) -> None:
        cocoex = needed("cocoex")
        cocoex.log_level("error")
        try:
            self.suite = cocoex.Suite(suite, f"instances: {instance}", f"dimensions: {d} function_indices: {function}")
            self.problem = self.suite.get_problem(0)
            opened = self.problem.id_function % 100, self.problem.dimension
        except cocoex.exceptions.NoSuchSuiteException:  # so it says of some dimensions, and takes all instead of others
            opened = None
        if opened != (function, d):
            raise ValueError(f"{suite} has no function {function} in {d} dimensions.")

    def __call__(self, x: Floats) -> float:
        return float(self.problem(x))


class _Noiseless:
    """The value without noise of a function of bbob-noisy, which COCO does not tell.

    The functions come in threes that differ in their noise alone. The third has Cauchy noise, which adds a constant to
    all values, and noise to one in five at most; so the median of a few of its values is exact.
    """

    def __init__(self, function: int, d: int, instance: int) -> None:
        third = 3 * ((function - 1) // 3) + 3
        self.twin = _Open("bbob-noisy", third, d, instance)
        strength = 0.01 if third <= 6 else 1.0  # moderate, severe
        self.constant = 1000.0 * strength + 1.01e-8

    def __call__(self, x: Floats) -> float:
        return float(np.median([self.twin(x) for _ in range(51)])) - self.constant


def _problem(suite: str, function: int, d: int, instance: int, f_opt: float, noisy: bool = False) -> Problem:
    f = _Open(suite, function, d, instance)
    true = _Noiseless(function, d, instance) if noisy else None
    return Problem(suite, function, d, instance, f, f_opt, start_of(function, d, instance), true=true)


def _rounded(x: float) -> float:
    return math.floor(x + 0.5)


def _normal(seed: int) -> float:
    """The first normal number of BBOB's own generator."""
    u, v = _uniform(2, seed)
    return math.sqrt(-2 * math.log(u)) * math.cos(2 * math.pi * v) or 1e-99


def _uniform(n: int, seed: int) -> list[float]:
    """BBOB's own generator: a minimal standard one, shuffled (Park & Miller 1988; Bays & Durham 1976)."""
    at, table = max(1, abs(seed)), [0] * 32
    for i in reversed(range(40)):
        at = 16_807 * at % 2_147_483_647
        if i < 32:
            table[i] = at
    now, out = table[0], []
    for _ in range(n):
        at = 16_807 * at % 2_147_483_647
        place = now // 67_108_865
        now, table[place] = table[place], at
        out.append(now / 2_147_483_647 or 1e-99)
    return out
