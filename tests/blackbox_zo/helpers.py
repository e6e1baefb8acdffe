"""What several test files share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import settings

import blackbox_zo as bz
from blackbox_zo._typing import Floats

laws = settings(deadline=None, derandomize=True, max_examples=60)
"""For tests of laws over many inputs: the same inputs in every run, and no time limit on a busy machine."""

few = settings(deadline=None, derandomize=True, max_examples=20)

BLOCKS = (bz.Block("matrix", (3, 2)), bz.Block("vector", (4,)), bz.Block("number", ()))
LARGE = (bz.Block("matrix", (130, 130)), bz.Block("number", ()))
"""The first block is larger than a tile of random numbers."""


def bits(array: Any) -> tuple[str, tuple[int, ...], bytes]:
    """Equal if type, shape and every bit are."""
    a = np.asarray(array)
    return a.dtype.str, a.shape, a.tobytes()


class Quadratic:
    """`x'Ax/2 + b'x + c` with a random symmetric A, on rows of points."""

    def __init__(self, d: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        a = rng.standard_normal((d, d))
        self.a: Floats = a + a.T
        self.b: Floats = rng.standard_normal(d)
        self.x: Floats = rng.standard_normal(d)

    def __call__(self, points: Floats) -> Floats:
        return np.asarray(0.5 * np.einsum("...i,ij,...j->...", points, self.a, points) + points @ self.b + 3.0)

    def minimum(self) -> float:
        return float(self(np.asarray(np.linalg.solve(self.a, -self.b), dtype=np.float64)))

    def gradient(self, x: Floats) -> Floats:
        return np.asarray(self.a @ x + self.b)


def one_step(
    estimator: bz.Estimator, fun: Callable[[Floats], Floats], x: Any, *, seed: int = 0, step: int = 0, state: Any = None
) -> tuple[Any, bz.Queries, bz.Step]:
    """The next state, the queries and the estimate of one step at x."""
    variable = bz.Vector(x)
    queries = estimator.sample(estimator.start(variable) if state is None else state, variable, bz.Key(seed, step))
    values = bz.Values(fun(queries.points()))
    state, estimate = estimator.estimate(
        estimator.start(variable) if state is None else state, variable, queries, values
    )
    return state, queries, estimate


def run(search: bz.Search, fun: Callable[[Floats], Floats], steps: int) -> bz.Search:
    """Make `steps` steps with `fun` of all points at once."""
    for _ in range(steps):
        proposal = search.ask()
        search.tell(proposal, told(search.estimator, fun(proposal.points)))
    return search


def told(estimator: bz.Estimator, values: Floats) -> bz.Feedback:
    """Values as an estimator takes them."""
    return bz.Values(values) if bz.Values in estimator.accepts else bz.Values(values).ranking()


def sphere(points: Floats) -> Floats:
    return np.asarray((points * points).sum(axis=-1))


def stretched(points: Floats) -> Floats:
    """An ellipsoid of condition 1e3, least at 0.3."""
    d = points.shape[-1]
    return np.asarray((10.0 ** (3 * np.arange(d) / (d - 1)) * (points - 0.3) ** 2).sum(axis=-1))
