"""Generations of an `EvolutionStrategy` that a model ranks, so that few of their candidates are asked (lq-CMA-ES).

Hansen 2019, "A global surrogate assisted CMA-ES", GECCO: of the candidates of a generation those that the model ranks
first are asked. If it ranks the newest answers as the function does, it ranks the rest of the generation. Else half as
many more are asked, and so on, until all are. Where generations need many, half of what they need is asked at first: it
would be asked anyway, and in fewer rounds.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from blackbox_zo._checks import all_finite
from blackbox_zo._typing import Floats, Ints
from blackbox_zo.estimators._candidates import Candidates
from blackbox_zo.estimators._model_fit import UNFITTED, Fit, fitted
from blackbox_zo.estimators._quadratic_model import Quadratic, coefficients
from blackbox_zo.steps import Queries

__all__ = ["Surrogate", "first_surrogate", "ranked", "refitted", "remembered", "started", "to_ask"]

AGREEMENT = 0.85
"""Kendall's tau from which the model is trusted."""

REFIT = 70
"""The model is fitted again when it has at most so many coefficients for each answer since; up to d = 10, always."""

RISE = 0.3
"""By what share of a surplus `needed` rises; it falls at once, so that a model that is good is asked little."""

NEWEST = 15
"""At least as many answers are compared."""


class Surrogate(NamedTuple):
    """What the model is made of, and the generation that is being asked.

    Attributes:
        points: The newest points asked about, shape (n, d).
        values: Their values, shape (n,); infinite where the query failed.
        fit: The model fitted to them.
        fresh: How many of them came after the fit.
        y: The candidates of this generation, in units of sigma, shape (k, d); (0, d) before the first answer.
        asked: Positions of those that were asked, shape (m,).
        told: Their values, shape (m,); infinite where the query failed.
        needed: How many queries a generation has taken lately.
    """

    points: Floats
    values: Floats
    fit: Fit
    fresh: int
    y: Floats
    asked: Ints
    told: Floats
    needed: float

    @property
    def model(self) -> Quadratic:
        """The model."""
        return self.fit.model


def first_surrogate(d: int) -> Surrogate:
    """Before the first answer."""
    return Surrogate(
        np.empty((0, d)), np.empty(0), UNFITTED, 0, np.empty((0, d)), np.empty(0, dtype=np.intp), np.empty(0), 0.0
    )


def to_ask(s: Surrogate, candidates: Candidates) -> Ints:
    """Positions of the candidates to ask next, shape (m,): those that the model ranks first; all without a model."""
    if not s.model.centre.size:
        return np.setdiff1d(np.arange(candidates.k), s.asked)
    guess = s.model.values(candidates.asked)
    guess[s.asked] = np.inf
    m = math.ceil(len(s.asked) / 2) or max(1 + candidates.k // 50, int((s.needed + 0.5) / 2))
    best: Ints = guess.argsort(kind="stable")[: min(m, candidates.k - len(s.asked))]
    return best


def remembered(s: Surrogate, points: Floats, values: Floats, k: int, **others: Any) -> Surrogate:
    """With more answers; the newest are kept, two for each coefficient, or two generations of k candidates.

    Args:
        s: The state so far.
        points: The points asked about, shape (n, d).
        values: Their values, shape (n,); NaN where the query failed.
        k: Candidates of a generation.
        others: Other fields to replace.
    """
    most = 2 * max(coefficients(points.shape[1]), k)
    points = np.concatenate((s.points, points))[-most:]
    window = np.concatenate((s.values, _told(values)))[-most:]
    return s._replace(points=points, values=window, fresh=s.fresh + len(values), **others)


def _told(values: Floats) -> Floats:
    """Values, infinite where the query failed."""
    return values if all_finite(values) else np.where(np.isfinite(values), values, np.inf)


def ranked(
    s: Surrogate, queries: Queries, values: Floats, centre: Floats, whiten: Floats
) -> tuple[Surrogate, Floats | None]:
    """The state after answers, and the values of the whole generation, if they suffice to rank it.

    Args:
        s: The state so far.
        queries: Some candidates of this generation.
        values: Their answers, shape (m,); NaN where the query failed.
        centre: The mean, shape (d,).
        whiten: The coordinates of the fit; see `Quadratic`.

    Returns:
        The values, shape (k,), are those of the model where it is trusted, so they tell of the order alone.
    """
    candidates = queries.directions
    assert isinstance(candidates, Candidates)
    which, k, points = queries.index[: len(values)], candidates.k, candidates.asked
    told = np.concatenate((s.told, _told(values)))
    s = remembered(s, points[which], values, k, y=candidates.y, asked=np.concatenate((s.asked, which)), told=told)
    if REFIT * s.fresh >= coefficients(candidates.size):
        s = refitted(s, centre, whiten)
    if len(told) < k and (not s.model.centre.size or _agreement(s, k) < AGREEMENT):
        return s, None
    whole = np.empty(k)
    if len(told) < k:
        whole[:] = s.model.values(points)
    else:
        whole[s.asked] = told
    if not all_finite(told):
        whole[s.asked[np.isinf(told)]] = np.nan
    n = len(told)
    return started(s, min(n, s.needed + RISE * (n - s.needed))), whole


def started(s: Surrogate, needed: float) -> Surrogate:
    """At the beginning of a generation, where those before have needed so many queries."""
    return s._replace(y=s.y[:0], asked=s.asked[:0], told=s.told[:0], needed=needed)


def refitted(s: Surrogate, centre: Floats, whiten: Floats) -> Surrogate:
    """With a model of all answers; where a query failed, f counts as high as anywhere.

    A full quadratic is updated by the new ones, until a fit is due.
    """
    fit = s.fit.updated(s.points, s.values, s.fresh)
    if fit is not None:
        return s._replace(fit=fit, fresh=0)
    values = s.values
    if not all_finite(values):
        failed = np.isinf(values)
        if failed.all():
            return s._replace(fit=UNFITTED, fresh=0)
        values = np.where(failed, values[~failed].max(), values)
    return s._replace(fit=fitted(s.points, values, centre, whiten), fresh=0)


def _agreement(s: Surrogate, k: int) -> float:
    """Kendall's tau between the newest answers and the model."""
    n = max(NEWEST, int(min(1.2 * len(s.asked), 0.75 * k)))
    f = s.values[-n:]
    n = len(f)
    m = s.model.values(s.points[-n:])
    above, higher = f[:, None] > f, m[:, None] > m  # each pair once, and one of two that failed is no higher
    same, against = int(np.count_nonzero(above & higher)), int(np.count_nonzero(above & higher.T))
    return 2.0 * (same - against) / max(n * (n - 1), 1)
