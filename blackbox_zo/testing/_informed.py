"""The laws of an estimator that is told values it did not ask for."""

from __future__ import annotations

import numpy as np

from blackbox_zo.testing._laws import answers, bits, check_state, require, same
from blackbox_zo.testing._moments import Moment

__all__ = ["check_inform"]


def check_inform(m: Moment) -> None:
    """`inform` is pure, takes failures and x itself, and leaves a state from which the search goes on."""
    d, x = m.variable.size, m.variable.value
    points = m.variable.project(x + np.concatenate((np.zeros((1, d)), 0.1 * np.eye(d), -0.2 * np.eye(d))))
    values = (points**2).sum(axis=1)
    values[-1] = np.nan
    before, given = bits(m.state), bits((points, values))
    told = m.estimator.inform(m.state, m.variable, points, values)
    require(
        same(told, m.estimator.inform(m.state, m.variable, points, values)),
        f"`inform` {m.where} gives another state the second time; it must depend on its arguments alone.",
    )
    require(
        bits(m.state) == before and bits((points, values)) == given and m.variable.value is x,
        f"`inform` {m.where} writes to its arguments; return a new state instead.",
    )
    check_state(told, f"`{m.estimator!r:.120}`")
    queries = m.estimator.sample(told, m.variable, m.key)
    asked = queries.points()
    require(
        bool(np.isfinite(asked).all()),
        f"`sample` {m.where} asks about points that are not finite after it was informed of a failure (NaN). Leave "
        "failures out.",
    )
    _, step = m.estimator.estimate(told, m.variable, queries, m.usual(answers(queries)))
    require(
        bool(np.isfinite(step.w).all()),
        f"`estimate` {m.where} gives weights that are not finite after it was informed of a failure (NaN). Leave "
        "failures out.",
    )
