"""The suites of problems, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from blackbox_zo._typing import Floats
from oracles.bench import _coco, _plain
from oracles.bench._needed import needed
from oracles.bench.problem import Problem, start_of

__all__ = ["SUITES", "Suite"]


@dataclass(frozen=True)
class Suite:
    """Some functions, each in several dimensions and instances.

    Attributes:
        name: Its name.
        problem: Makes the problem of a function, a dimension and an instance.
        functions: Their number; they are numbered from 1.
        dimensions: Those measured by default.
        peers: Solvers to measure beside ours by default.
        package: The module that it needs, or "".
        noisy: Whether values have noise. Then not the best query but the point that a solver recommends is judged, by
            its value without noise.
    """

    name: str
    problem: Callable[[int, int, int], Problem]
    functions: int
    dimensions: tuple[int, ...]
    peers: tuple[str, ...]
    package: str = ""
    noisy: bool = False


def _affine(function: int, d: int, instance: int) -> Problem:
    """A random affine combination of bbob's functions (Vermetten et al. 2025), number function + 24 (instance - 1)."""
    made = needed("ioh").problem.ManyAffine(function + 24 * (instance - 1), d)

    def f(x: Floats) -> float:
        return float(made(x))

    return Problem("ma-bbob", function, d, instance, f, float(made.optimum.y), start_of(function, d, instance))


_PEERS = ("slsqp", "lq-cma", "cma", "l-bfgs-b", "bfgs", "cobyqa", "powell", "de", "nelder-mead", "ngiohtuned")
_LARGE = ("l-bfgs-b", "cma-diagonal", "sep-cma", "powell")
_NOISE = ("cma-noise", "cma-lra", "tbpsa")

SUITES = {
    suite.name: suite
    for suite in (
        Suite("bbob", _coco.bbob, 24, (5, 10, 20, 40), _PEERS, "cocoex"),
        Suite("bbob-largescale", _coco.largescale, 24, (160, 640), _LARGE, "cocoex"),
        Suite("bbob-noisy", _coco.noisy, 30, (10, 40), _NOISE, "cocoex", noisy=True),
        Suite("bbob-gaussian", _coco.gaussian, 24, (10, 40), _NOISE, "cocoex", noisy=True),
        Suite("ma-bbob", _affine, 24, (5, 10, 20), _PEERS, "ioh"),
        Suite("plain", _plain.plain, 3, (10_000, 100_000), ("l-bfgs-b", "sep-cma")),
    )
}
