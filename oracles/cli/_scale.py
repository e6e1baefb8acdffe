"""Axes of a report: their scales, limits and ticks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from blackbox_zo._typing import Floats
from oracles.words import figure as number

__all__ = ["Scale", "fixed", "log_ticks", "round_ticks"]


class Scale:
    """The axis of the values: logarithmic where that helps, and cut if a few values are far off.

    Args:
        low: The lowest value shown.
        high: The highest value shown.
        log: Whether the axis is logarithmic.
        worse: 1 if higher is worse, -1 if lower is.
        cut: Where the axis is cut off before the worst values; None if all are shown.

    Attributes:
        beyond: Number of values that are not shown.
        empty: Whether there are no values.
    """

    def __init__(self, low: float, high: float, log: bool, worse: int, cut: float | None) -> None:
        self.low, self.high, self.log, self.worse, self.cut = low, high, log, worse, cut
        self.beyond, self.empty = 0, False

    @classmethod
    def of(cls, values: Floats, maximize: bool, linear: bool = False, whole: Floats | None = None) -> Scale:
        """Choose the scale for some values.

        Args:
            values: Values; those far off on the worse side may be cut. NaNs are ignored.
            maximize: Whether higher is better.
            linear: Whether to exclude a logarithmic scale.
            whole: Further values, which are never cut.
        """
        found, kept = (v[~np.isnan(v)] for v in (values, np.empty(0) if whole is None else whole))
        everything = np.concatenate([found, kept])
        if not everything.size:
            nothing = cls(0.0, 1.0, False, 1, None)
            nothing.empty = True
            return nothing
        low, high = float(everything.min()), float(everything.max())
        log = not linear and low > 0 and high / low >= 20
        if not found.size:
            return cls(low, high, log, -1 if maximize else 1, None)
        shown = np.log(found) if log else found
        worse = -1 if maximize else 1
        key = np.sort(shown * worse)  # ascending: from the best to the worst
        best, usual = key[0], key[int(0.75 * (len(key) - 1))]
        limit = usual + 4 * (usual - best)
        scale = cls(low, high, log, worse, None)
        if usual > best and key[-1] > limit + 2 * (usual - best):
            inner = np.concatenate([found[shown * worse <= limit], kept])
            scale.low, scale.high = float(inner.min()), float(inner.max())
            scale.cut = scale.low if maximize else scale.high
            scale.beyond = int(np.count_nonzero((found < scale.low) | (found > scale.high)))
        return scale

    def apply(self, axis: Any) -> None:
        """Set limits and ticks."""
        if self.empty:
            fixed(axis, [])
        elif self.log:
            axis.axes.set_yscale("log")
            span = math.log(self.high / self.low) or 1.0
            low, high = self.low * math.exp(-0.06 * span), self.high * math.exp(0.1 * span)
            axis.axes.set_ylim(low, high)
            fixed(axis, log_ticks(low, high, 5))
        else:
            span = (self.high - self.low) or abs(self.high) * 0.1 or 1.0
            low, high = self.low - 0.06 * span, self.high + 0.1 * span
            axis.axes.set_ylim(low, high)
            fixed(axis, round_ticks(low, high, 5))


def fixed(axis: Any, ticks: Sequence[float]) -> None:
    """Label a matplotlib axis with these numbers only."""
    from matplotlib.ticker import NullLocator

    axis.set_ticks(list(ticks), [number(tick) for tick in ticks])
    axis.set_minor_locator(NullLocator())


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """At most about `most` round numbers between two positive ones, evenly spaced in the logarithm."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    inside = [k for k in range(first, last + 1) if low <= 10.0**k <= high]
    if len(inside) >= 3:
        step = math.ceil(len(inside) / most)
        return [10.0**k for k in inside if k % step == 0] or [10.0**k for k in inside[:1]]
    for factors in ((1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        ticks = [f * 10.0**k for k in range(first, last + 1) for f in factors if low <= f * 10.0**k <= high]
        if len(ticks) >= 2:
            return ticks if len(ticks) <= most + 1 else ticks[:: math.ceil(len(ticks) / most)]
    return round_ticks(low, high, most)


def round_ticks(low: float, high: float, most: int, whole: bool = False) -> list[float]:
    """Round numbers between two others."""
    span = high - low
    if not span > 0:
        return [low]
    raw = span / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(f * power for f in (1, 2, 5, 10) if f * power >= raw * 0.999)
    if whole:
        step = max(1.0, round(step))
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]
