"""What `TrustRegion` asks next, and what it makes of the answer."""

from __future__ import annotations

import math

import numpy as np

from blackbox_zo._typing import Floats
from blackbox_zo.estimators._box_step import box_step, gain
from blackbox_zo.estimators._interpolation import Interpolation
from blackbox_zo.estimators._quadratic_model import ball_step, coefficients
from blackbox_zo.estimators._trust_region_state import GEOMETRY, REASONS, RUGGED, TRUST, TrustRegionState
from blackbox_zo.variables import Vector

__all__ = ["absorbed", "error_of", "judged", "planned"]

ROUNDING = 5e-16
"""Relative error of a value where nothing is known of it."""

END = 1e-8
"""The last rho along the shortest axis, in units of the opening's radius."""

HUGE = 1e20
"""The largest radius, in units of the opening's."""

SHORT = 3
"""Points that may be asked to mend the model before rho is reduced."""

KEPT = 0.01
"""Where steps gain a smaller share of what the model promises, f is no quadratic at this scale."""

FADES = 0.9
"""By what the weight of a step in that share falls with each later one."""

COUNTS = 1e-3
"""That is judged while the promise is at least so large, as a share of the differences seen in the opening."""

DROWNS = 1e8
"""A value above the best by so many times the differences within the model counts as failed: in sums with it, these
would be lost to rounding."""

STRETCH = 3.0
"""How much longer than the shortest an axis may become at once."""

LONGEST = 100.0
"""How long an axis may become by that, in units of the opening's radius."""

AGE = 0.5
"""Updates, for each point, after which the model is computed anew."""

POISED = 0.03
"""Where a point would add less than this to what the others determine, it takes the place of another."""


def error_of(s: TrustRegionState) -> float:
    """Error of a value."""
    return max(ROUNDING * abs(s.value), s.noise)


def absorbed(s: TrustRegionState, x: Floats, value: float, most: int) -> TrustRegionState:
    """With one more finite answer in the model, and as the center if it is the best."""
    m = s.model
    u = m.inside(x)
    if value < s.value:
        s = s._replace(center=x, value=value)
    v, beta = m.seen_from(u)
    ratio = s.delta / s.scale
    if len(m.points) < most and beta > POISED * ratio * ratio * ratio * ratio:
        return s._replace(model=m.with_point(u, value, v, beta))
    away = m.points - m.inside(s.center)
    squares = np.einsum("ij,ij->i", away, away)
    sigma = np.abs(m.denominators(v, beta))
    near = max(0.1 * ratio, s.rho / s.scale)
    scores = sigma * np.maximum(1.0, squares / (near * near)) ** 3
    scores[squares <= 1e-16 * near * near] = 0.0  # the center itself stays
    j = int(scores.argmax())
    try:
        return s._replace(model=m.replaced(j, u, value, v, beta)) if scores[j] > 0.0 else s
    except np.linalg.LinAlgError:
        return s


def judged(s: TrustRegionState, x: Floats, value: float, most: int) -> tuple[TrustRegionState, bool]:
    """After the answer to a trial: the model, the radius, whether the step was poor, and whether all were."""
    if not math.isfinite(value) or value - s.value > DROWNS * float(np.ptp(s.model.values)):
        delta = 0.25 * s.delta
        return s._replace(delta=delta, rho=min(s.rho, delta)), False
    if s.phase == GEOMETRY:
        return absorbed(s, x, value, most), False
    away = s.model.back @ (x - s.center)
    length, error = math.sqrt(float(away @ away)) * s.scale, error_of(s)
    # Sun & Nocedal 2023, eq. (2.5): with noise in both, as far as it explains them
    ratio = (s.value - value + 2 * error) / (s.predicted + 2 * error)
    if ratio <= 0.1:
        delta = 0.5 * length
    elif ratio <= 0.7:
        delta = max(0.5 * s.delta, length)
    else:
        delta = min(max(0.5 * s.delta, 2.0 * length), HUGE * s.radius)
    if delta <= 1.5 * s.rho:
        delta = s.rho
    surplus = FADES * s.surplus + max(s.value - value, 0.0) - KEPT * s.predicted
    rugged = surplus < 0.0 and s.judged + 1 >= x.size and s.predicted > COUNTS * s.spread
    # Long steps on a smooth function that grows fast fail too, but short ones change little: less and less beside what
    # the opening saw, as the square of their length
    rugged = rugged and abs(s.value - value) > s.spread * (length / s.radius) ** 2
    reason = REASONS.index(RUGGED) if rugged else 0
    s = s._replace(delta=delta, surplus=surplus, judged=s.judged + 1, reason=reason)
    return absorbed(s, x, value, most), ratio <= 0.1


def planned(s: TrustRegionState, variable: Vector, poor: bool, bottom: bool) -> TrustRegionState:
    """With the next trial, or with the reason why there is none.

    Args:
        s: After the last answer.
        variable: Its bounds count.
        poor: Whether the last step gained less than a tenth of what was predicted.
        bottom: Whether it was at the least radius.
    """
    while True:
        s = _near(s)
        m, error = s.model, error_of(s)
        at = m.inside(s.center)
        away = m.points - at
        squares = np.einsum("ij,ij->i", away, away)
        far = math.sqrt(float(squares.max())) * s.scale
        g = m.gradient + m.hessian @ at
        if not poor:
            if variable.bounded:
                low, high = variable.box
                p = box_step(g, m.hessian, s.delta / s.scale, m.axes, low - s.center, high - s.center)
            else:
                p = ball_step(g, m.hessian, s.delta / s.scale)
            predicted = gain(g, m.hessian, p)
            if predicted > error and math.sqrt(float(p @ p)) * s.scale >= 0.5 * s.rho:
                return s._replace(phase=TRUST, trial=variable.project(s.center + m.axes @ p), predicted=predicted)
            if not math.isfinite(predicted):
                return s._replace(reason=REASONS.index("the points around tell too little"))
            bottom = s.delta <= s.rho
            s = s._replace(delta=max(0.5 * s.delta, s.rho), idle=s.idle + 1)
        if s.idle < SHORT and far > max(s.delta, 2.0 * s.rho):
            limit = max(min(0.1 * far, 0.5 * s.delta), s.rho) / s.scale
            trial = _mending(m, int(squares.argmax()), at, limit, s.center, variable)
            return s._replace(phase=GEOMETRY, trial=trial, predicted=0.0)
        if bottom or not poor:
            shortest = math.sqrt(float(np.square(m.axes).sum(axis=0).min())) / s.scale
            if s.rho * shortest <= END * s.radius:
                return s._replace(reason=REASONS.index("converged: the model sees nothing to gain"))
            s = s._replace(rho=0.1 * s.rho, delta=0.5 * s.rho, idle=0)
            r = s.rho / s.scale
            if math.sqrt(float(g @ g)) * r + 0.5 * float(np.abs(m.hessian).max()) * r * r <= error:
                return s._replace(reason=REASONS.index("converged: the values can be told apart no more"))
        poor = False


def _near(s: TrustRegionState) -> TrustRegionState:
    """With the model in coordinates around the center, of the length of the trust region, where that is far off."""
    m = s.model
    away = m.inside(s.center)
    ratio = s.delta / s.scale
    if m.age >= AGE * len(m.points) or ratio < 0.1 or float(away @ away) > 100.0 * max(ratio * ratio, 1.0):
        return _renewed(s)
    return s


def _renewed(s: TrustRegionState) -> TrustRegionState:
    """With the model around the center, in units of the trust region.

    Where its points determine a quadratic, the axes become those of the Hessian, longer where that is flatter. Without
    that, directions of which nothing is known would count as flat.
    """
    m, d, ratio = s.model, s.center.size, s.delta / s.scale
    turn, lengths = np.eye(d), np.full(d, ratio)
    try:
        if len(m.points) >= coefficients(d):
            curvature, turn = np.linalg.eigh(m.hessian)
            curvature = np.abs(curvature)
            most = float(curvature.max()) or 1.0
            stretch = np.minimum(np.sqrt(most / np.maximum(curvature, 1e-12 * most)), STRETCH)
            present = ratio * np.sqrt(np.square(m.axes @ turn).sum(axis=0))
            lengths *= np.minimum(stretch, np.maximum(1.0, LONGEST * s.radius / present))
        return s._replace(model=m.moved(s.center, turn * lengths, turn.T / lengths[:, None]), scale=s.delta)
    except np.linalg.LinAlgError:
        return s


def _mending(m: Interpolation, j: int, at: Floats, limit: float, center: Floats, variable: Vector) -> Floats:
    """A point that serves the model best in the place of point j: its Lagrange function is large there.

    Tried are its gradient, and the lines through the center and the other points, both ways.
    """
    d = at.size
    column = m.inverse[:, 1 + d + j]
    weights = column[1 + d :]
    slope = column[1 : 1 + d] + m.points.T @ (weights * (m.points @ at))
    tried = np.concatenate((slope[None, :], m.points - at))
    lengths = np.sqrt(np.einsum("ij,ij->i", tried, tried))
    tried *= (limit / np.maximum(lengths, 1e-300))[:, None]
    tried = np.concatenate((tried, -tried))
    places = variable.project(center + tried @ m.axes.T)
    if variable.bounded:
        tried = (places - center) @ m.back.T
    values = np.abs(tried @ slope + 0.5 * np.square(tried @ m.points.T) @ weights)
    best: Floats = places[int(values.argmax())]
    return best
