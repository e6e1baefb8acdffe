"""Where to ask next along each coordinate: by a parabola at the best point, or in the easiest interval (STEP)."""

from __future__ import annotations

import numpy as np

from blackbox_zo._typing import Bools, Floats

__all__ = ["easiest", "next_places", "parabola"]

GAIN = 1e-4
"""How much below the least value a point is looked for, as a share of the range of values."""

LOPSIDED = 10.0
"""Ratio of the distances to both neighbours from which the farther is drawn in first."""


def next_places(t: Floats, v: Floats, open_ends: tuple[Bools, Bools], error: float) -> Floats:
    """The next place along each coordinate, shape (d,).

    Global and local steps alternate, so neither waits for the other. Beyond an open end that is the best place, the
    span doubles.

    Args:
        t: Where each coordinate was asked about, in any order, shape (d, m), m ≥ 3.
        v: The values there, from any origin, infinite where the query failed, shape (d, m); one of each d is finite.
        open_ends: Whether each coordinate may go on below its least place and above its largest, each of shape (d,).
        error: The rounding error of values.
    """
    m = t.shape[1]
    order = np.argsort(t, axis=1, kind="stable")
    t, v = np.take_along_axis(t, order, 1), np.take_along_axis(v, order, 1)
    v = np.minimum(v, np.where(np.isinf(v), -np.inf, v).max(axis=1, keepdims=True))  # a failure is as bad as the worst
    to = easiest(t, v)
    if m % 2:
        near, promising = parabola(t, v, error)
        to = np.where(promising, near, to)
    best, width = np.argmin(v, axis=1), t[:, -1] - t[:, 0]
    to = np.where((best == 0) & open_ends[0], t[:, 0] - width, to)
    out: Floats = np.where((best == m - 1) & open_ends[1], t[:, -1] + width, to)
    return out


def easiest(t: Floats, v: Floats) -> Floats:
    """The middle of the easiest interval (STEP; Swarzberg, Seront & Bersini 1994), shape (d,).

    An interval is the easier, the less a parabola through its ends must bend to reach a value T below all others:
    `((sqrt(v_a - T) + sqrt(v_b - T)) / (b - a))²`.
    """
    span = np.ptp(v, axis=1)[:, None]
    above = np.sqrt(v - v.min(axis=1, keepdims=True) + GAIN * np.where(span > 0, span, 1.0))
    width = np.diff(t, axis=1)
    bend = np.where(width > 0, (above[:, 1:] + above[:, :-1]) / np.where(width > 0, width, 1.0), np.inf)
    i, j = np.arange(len(t)), np.argmin(bend, axis=1)
    out: Floats = 0.5 * (t[i, j] + t[i, j + 1])
    return out


def parabola(t: Floats, v: Floats, error: float) -> tuple[Floats, Bools]:
    """The least point of the parabola through the best place and its neighbours, and whether it promises a gain.

    Where one neighbour is much farther than the other, as at a kink, the geometric mean of both distances on its side.
    """
    i, b = np.arange(len(t)), np.argmin(v, axis=1)
    c = np.clip(b, 1, t.shape[1] - 2)
    up, down = t[i, c + 1] - t[i, c], t[i, c] - t[i, c - 1]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        rise, fall = (v[i, c + 1] - v[i, c]) / up, (v[i, c] - v[i, c - 1]) / down
        bend = (rise - fall) / (up + down)
        slope = rise - bend * up
        p, gain = -slope / (2 * bend), slope * slope / (4 * bend)
        p = np.where(up > LOPSIDED * down, np.sqrt(up * down), np.where(down > LOPSIDED * up, -np.sqrt(up * down), p))
        good = (b == c) & (gain > error) & (p > -down) & (p < up) & (t[i, c] + p != t[i, c])
    return t[i, c] + np.where(good, p, 0.0), good
