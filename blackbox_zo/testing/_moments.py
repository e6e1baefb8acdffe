"""The laws of one step of an estimator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from blackbox_zo._state import pack
from blackbox_zo._typing import Floats
from blackbox_zo.estimators import Estimator
from blackbox_zo.feedback import Feedback, Values
from blackbox_zo.randomness import Key
from blackbox_zo.steps import Queries, Step
from blackbox_zo.testing._laws import answers, bits, check_state, copied, require, same
from blackbox_zo.testing._runs import Case, vector
from blackbox_zo.variables import Vector

__all__ = ["Moment", "advance", "check_failures", "check_order", "check_pure", "check_warmup"]


@dataclass(frozen=True)
class Moment:
    """A run, stopped before a step."""

    estimator: Estimator
    state: Any
    variable: Vector
    key: Key

    @property
    def where(self) -> str:
        """How to name it in a sentence."""
        return f"of `{self.estimator!r:.120}` at {self.key}, x = {np.array2string(self.variable.flat, threshold=6)}"

    def sample(self) -> Queries:
        """See `Estimator.sample`."""
        return self.estimator.sample(self.state, self.variable, self.key)

    def estimate(self, queries: Queries, feedback: Feedback) -> tuple[Any, Step]:
        """See `Estimator.estimate`."""
        return self.estimator.estimate(self.state, self.variable, queries, feedback)

    def usual(self, values: Values) -> Feedback:
        """The values, or their ranking if the estimator takes no values."""
        return values if Values in self.estimator.accepts else values.ranking()


def advance(case: Case, steps: int) -> Moment:
    """A fresh run after some steps."""
    search = case.search()
    for _ in range(steps):
        proposal = search.ask()
        search.tell(proposal, case.feedback(proposal))
    return Moment(case.estimator, copied(search.state), vector(search), Key(case.seed, search.steps))


def check_pure(m: Moment) -> None:
    """The same arguments give the same bits, no argument is modified, and all shapes are right."""
    require(
        same(m.estimator.start(m.variable), m.estimator.start(m.variable)),
        f"`start` {m.where} gives another state the second time.",
    )
    check_state(m.state, f"`{m.estimator!r:.120}`")
    state, x, version = bits(m.state), m.variable.value, m.variable.version
    q = m.sample()
    require(q.n >= 1, f"`sample` {m.where} asks nothing; every step has at least one query.")
    require(q.origin is x, f"`sample` {m.where} gives another `origin` than `variable.value`; pass on that same array.")
    d, k = m.variable.size, q.directions.k
    require(
        q.index.shape == q.scale.shape == (q.n,) and q.index.dtype.kind in "iu",
        f"`sample` {m.where} gives `index` {q.index} and `scale` {q.scale}; they must be (n,), integers and floats.",
    )
    require(
        0 <= q.index.min() and q.index.max() < k, f"`sample` {m.where} asks along {q.index}; there are {k} directions."
    )
    points = q.points()
    require(
        points.shape == (q.n, d) and bool(np.isfinite(points).all()),
        f"`sample` {m.where} asks about points of shape {points.shape}; they must be ({q.n}, {d}) and finite.",
    )
    require(
        same(m.sample().points(), points),
        f"`sample` {m.where} gives other points the second time. Draw from its key alone (`Gaussian(blocks, k, key)`, "
        "`key.generator(name)`), never from a stored generator.",
    )
    feedback = m.usual(answers(q))
    content = bits((feedback.values if isinstance(feedback, Values) else feedback.levels, q.index, q.scale))
    new, step = m.estimate(q, feedback)
    _check_step(m, step, "")
    twice, again = m.estimate(m.sample(), m.usual(answers(m.sample())))
    require(
        same(again.dense(), step.dense()) and same(twice, new),
        f"`estimate` {m.where} gives another estimate or state the second time; it must depend on its arguments alone.",
    )
    check_state(new, f"`{m.estimator!r:.120}`")
    require(
        bits(m.state) == state and m.variable.value is x and m.variable.version == version,
        f"`sample` or `estimate` {m.where} writes to the state or the variable; return new arrays instead.",
    )
    after = bits((feedback.values if isinstance(feedback, Values) else feedback.levels, q.index, q.scale))
    require(after == content, f"`estimate` {m.where} writes to the feedback or the queries; work on copies.")


def _check_step(m: Moment, step: Step, when: str) -> Floats:
    require(
        step.w.shape == (step.directions.k,) and bool(np.isfinite(step.w).all()),
        f"`estimate` {m.where}{when} gives the weights {step.w} for {step.directions.k} directions; it must be one "
        "finite number for each. Give unknown directions the weight 0.",
    )
    g = step.dense()
    require(bool(np.isfinite(g).all()), f"`estimate` {m.where}{when} gives an estimate that is not finite: {g}.")
    return g


def check_failures(m: Moment) -> None:
    """Failed queries and an exhausted budget do no harm."""
    q = m.sample()
    values = answers(q).values
    nothing = m.usual(Values(np.full(q.n, np.nan)))
    state, step = m.estimate(q, nothing)
    g = _check_step(m, step, ", where all queries failed,")
    require(
        m.key.step > 0 or not g.any(),
        f"`estimate` {m.where} moves x although all queries of the run so far failed; the weights must be 0.",
    )
    unknown = _holding_nan(m.estimator.start(m.variable))  # such as a last value before there is one
    for i in range(q.n):
        for kept in (np.arange(q.n) != i, np.arange(q.n) == i):
            state, step = m.estimate(q, m.usual(Values(np.where(kept, values, np.nan))))
            _check_step(m, step, f", where {np.count_nonzero(~kept)} of {q.n} queries failed,")
            spoilt = _holding_nan(state) - unknown
            require(
                not spoilt,
                f"After a failed query, the state {m.where} holds NaN at {spoilt}; it would stay there forever. "
                "Leave failures out of the state.",
            )
    for n in range(1, q.n):
        _, step = m.estimate(q.take(slice(n)), m.usual(Values(values[:n])))
        _check_step(m, step, f", where the budget ended after {n} of {q.n} queries,")


def _holding_nan(state: Any) -> set[str]:
    return {name for name, part in pack("state", state).items() if np.isnan(np.asarray(part, dtype=float)).any()}


def check_order(m: Moment) -> None:
    """A ranking and values in that order make the same step."""
    q = m.sample()
    values = answers(q)
    by_value, by_order = m.estimate(q, values)[1].dense(), m.estimate(q, values.ranking())[1].dense()
    require(
        same(by_value, by_order),
        f"`estimate` {m.where} makes another step from a ranking than from values in that order; use "
        "`feedback.ranking()`, or pass `order_only=False`.",
    )


def check_warmup(case: Case) -> None:
    """The estimate is nonzero after `warmup` steps at the latest."""
    most = case.estimator.warmup
    for steps in range(most + 1):
        m = advance(case, steps)
        if m.estimate(m.sample(), m.usual(answers(m.sample())))[1].dense().any():
            return
    require(False, f"The estimate {m.where} is still 0 after `warmup` = {most} steps; count the steps that are needed.")
