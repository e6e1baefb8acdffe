"""Learning rates of `EvolutionStrategy` that follow the signal-to-noise ratio of its updates (LRA-CMA-ES)."""

from __future__ import annotations

import math

import numpy as np

from blackbox_zo._typing import Floats
from blackbox_zo.estimators._evolution_state import Average, EvolutionState, Rates, kind
from blackbox_zo.estimators._evolution_update import whiten

__all__ = ["first_rates", "learnt"]

ALPHA, GAMMA = 1.4, 0.1
BETA_MEAN, BETA_SHAPE = 0.1, 0.03


def first_rates(s: EvolutionState) -> Rates:
    """Both rates are 1 at first."""
    mean, shape = np.zeros(s.path_radius.size), np.zeros(s.shape.shape if s.shape.size else 1)
    return Rates(Average(1.0, mean, 0.0), Average(1.0, shape, 0.0))


def learnt(s: EvolutionState, then: EvolutionState, y_w: Floats) -> tuple[EvolutionState, float]:
    """Damp an update of mean and Sigma (Nomura, Akimoto & Ono 2023, arXiv 2304.03473, algorithm 1).

    Each rate is kept at the signal-to-noise ratio of its update over alpha, so that the expected progress is most of
    what it could be. sigma then grows as the rate of the mean falls, which would want a larger one.

    Args:
        s: The state before the update, with the rates so far; its `axes` and `lengths` must be those of C.
        then: The state after it, with a rate of 1; its `axes` and `lengths` are not used.
        y_w: The move of the mean with a rate of 1, in units of the sigma of `s`, shape (d,).

    Returns:
        The next state, and the rate of the mean, by which the move is to be multiplied.
    """
    rates = Rates(*s.rates)
    before = s.radius**2
    after = then.radius**2
    mean = _next(rates.mean, whiten(s, y_w), BETA_MEAN)
    if kind(s) == "isotropic":
        change: Floats = np.full(1, (after / before - 1.0) * math.sqrt(y_w.size))
    elif kind(s) == "diagonal":
        change = after * then.shape / (before * s.shape) - 1.0
    else:
        change = whiten(s, whiten(s, then.shape * (after / before) - s.shape).T)
    shape = _next(rates.shape, change / math.sqrt(2.0), BETA_SHAPE)
    then = _decomposed(then, s, shape.rate)
    return then._replace(radius=then.radius * rates.mean.rate / mean.rate, rates=Rates(mean, shape)), mean.rate


def _next(a: Average, update: Floats, beta: float) -> Average:
    """The next averages, and the rate by them."""
    drift = (1 - beta) * a.drift + beta * update
    power = (1 - beta) * a.power + beta * float(np.vdot(update, update))
    signal = float(np.vdot(drift, drift))
    if power <= signal:  # no update has differed from another yet
        return Average(a.rate, drift, power)
    ratio = (signal - beta / (2 - beta) * power) / (power - signal)
    towards = min(max(ratio / (ALPHA * a.rate) - 1.0, -1.0), 1.0)
    return Average(min(1.0, a.rate * math.exp(min(GAMMA * a.rate, beta) * towards)), drift, power)


def _decomposed(then: EvolutionState, s: EvolutionState, rate: float) -> EvolutionState:
    """`Sigma + rate (Sigma' - Sigma)` as sigma² C, the determinant of C being 1."""
    before, after = (1.0 - rate) * s.radius**2, rate * then.radius**2
    if kind(s) == "isotropic":
        return then._replace(radius=math.sqrt(before + after))
    sigma = before * s.shape + after * then.shape
    if kind(s) == "diagonal":
        values, axes = sigma, s.axes
    else:
        values, axes = np.linalg.eigh((sigma + sigma.T) / 2)
        values = np.maximum(values, 1e-20 * values[-1])
    squared = math.exp(float(np.log(values).mean()))
    return then._replace(
        radius=math.sqrt(squared), shape=sigma / squared, axes=axes, lengths=np.sqrt(values / squared),
        refreshed=then.generation,
    )  # fmt: skip
