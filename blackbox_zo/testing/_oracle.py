"""`check_oracle`."""

from __future__ import annotations

from typing import Any

import numpy as np

from blackbox_zo._typing import Tree
from blackbox_zo.directions import Dense, Gaussian
from blackbox_zo.estimators import RankBased
from blackbox_zo.feedback import Feedback, Ranking, Values
from blackbox_zo.oracle import Answers, Oracle, parts_of
from blackbox_zo.proposal import Proposal
from blackbox_zo.randomness import Key
from blackbox_zo.steps import Queries
from blackbox_zo.testing._broken_runs import Drive
from blackbox_zo.testing._laws import require, same
from blackbox_zo.testing._learning import check_learning, check_states
from blackbox_zo.variables import Vector
from blackbox_zo.variables._tree import flatten

__all__ = ["check_oracle"]


def check_oracle(
    oracle: Answers,
    x0: Tree,
    *,
    radius: float = 0.1,
    n: int = 4,
    bounds: Any = None,
    failing: Tree | None = None,
    repeatable: bool = True,
) -> None:
    """Check the laws of `Oracle`, with some `25 n` queries, or `150 n` if the oracle learns.

    - one answer for each query, in the order of the queries, as `Values` or a `Ranking`; never an exception;
    - `parts` answers every id exactly once, with the same answers as `answer`;
    - the points are not modified;
    - `repeatable`: asked twice about a step, it gives the same answers, whatever was asked in between; for values, also
      however the queries of the step are split up and ordered. Resumed runs rely on this;
    - `repeatable`: a run whose journal is closed and reopened anywhere ends at the same bits; and whatever the oracle
      learns belongs to the search, through every wrapper: see `check_learning`;
    - a query at `failing` is NaN in `Values`, or unranked, and does not harm the others.

    Args:
        oracle: Anything with `answer(proposal) -> Feedback`. It is not closed.
        x0: Centre of the queries, in the structure the oracle expects.
        radius: Distance of the queries from x0.
        n: Number of queries in a proposal, at least 2.
        bounds: Bounds, as for `Vector`.
        failing: A point at which a query fails.
        repeatable: False for an oracle that is inherently noisy, such as a person.

    Raises:
        AssertionError: A law does not hold.

    Example:
        >>> import blackbox_zo as bz, numpy as np
        >>> from blackbox_zo.function import FunctionOracle
        >>> from blackbox_zo.testing import check_oracle
        >>> check_oracle(FunctionOracle(lambda x: float(x @ x)), np.ones(3))
    """
    require(
        isinstance(oracle, Oracle) or callable(getattr(oracle, "answer", None)),
        f"`{oracle!r:.80}` has no method `answer(proposal)`; inherit from `Oracle`.",
    )
    variable = Vector(x0, bounds)
    name = f"`{type(oracle).__name__}`"
    first, second = (_proposal(variable, step, n, radius) for step in (0, 1))
    answered = _answer(oracle, first, name)
    parts = _parts(oracle, first, name)
    _answer(oracle, second, name)
    if repeatable:
        for again in (_answer(oracle, first, name), _answer(oracle, _proposal(variable, 0, n, radius), name)):
            require(
                _content(again) == _content(answered),
                f"{name} answers {again} about step 0, but {answered} the first time. Draw its randomness from a hash "
                "of `proposal.step` and the id, record what it learns by `proposal.learn`, or pass `repeatable=False`.",
            )
        if isinstance(answered, Values):
            found = np.array([parts[int(i)] for i in first.ids])
            require(
                same(found, answered.values), f"The `parts` of {name} give {found}, but `answer` {answered.values}."
            )
            _check_split(oracle, variable, first, answered, name)
    if failing is not None:
        _check_failing(oracle, variable, failing, name)
    _check_runs(oracle, x0, bounds, RankBased(radius, n), repeatable)


def _check_runs(oracle: Answers, x0: Tree, bounds: Any, estimator: RankBased, repeatable: bool) -> None:
    def start() -> tuple[Answers, Vector]:
        return oracle, Vector(x0, bounds)

    if repeatable:
        check_learning(start, estimator)
    else:
        check_states(Drive(start, estimator, None, 2))


def _proposal(variable: Vector, step: int, n: int, radius: float) -> Proposal:
    directions = Gaussian(variable.blocks, n, Key(1, step))
    return Proposal.numbered(
        step, step * n, Queries(directions, np.arange(n), np.full(n, radius), variable.value), variable
    )


def _content(feedback: Feedback) -> bytes:
    if isinstance(feedback, Values):
        return feedback.values.tobytes()
    return feedback.levels.tobytes() + (b"" if feedback.weights is None else feedback.weights.tobytes())


def _answer(oracle: Answers, proposal: Proposal, name: str) -> Feedback:
    before = proposal.points.copy()
    try:
        feedback = oracle.answer(proposal)
    except Exception as error:
        raise AssertionError(
            f"{name} raised {type(error).__name__}: {error}. A query that fails is NaN in `Values` (or unranked), so "
            "that the others count; say why in `Values(info=...)`."
        ) from error
    require(
        isinstance(feedback, Values | Ranking),
        f"{name} answers {feedback!r:.60}; it must answer `Values` or a `Ranking`.",
    )
    require(
        feedback.n == proposal.n, f"{name} gives {feedback.n} answers to {proposal.n} queries; one for each is needed."
    )
    require(same(proposal.points, before), f"{name} writes to `proposal.points`; work on a copy.")
    return feedback


def _parts(oracle: Answers, proposal: Proposal, name: str) -> dict[int, float]:
    """The value by id; NaN for rankings."""
    out: dict[int, float] = {}
    for ids, part in parts_of(oracle, proposal):
        require(len(ids) == part.n, f"A part of {name} has {len(ids)} ids, but {part.n} answers.")
        for position, i in enumerate(ids):
            require(int(i) in proposal.ids, f"A part of {name} names id {i}, which is not one of {proposal.ids}.")
            require(int(i) not in out, f"The parts of {name} answer id {i} twice; each query has one answer.")
            out[int(i)] = float(part.values[position]) if isinstance(part, Values) else np.nan
    missing = set(proposal.ids.tolist()) - set(out)
    require(not missing, f"The parts of {name} leave the ids {sorted(missing)} unanswered.")
    return out


def _check_split(oracle: Answers, variable: Vector, whole: Proposal, answered: Values, name: str) -> None:
    for which in (np.arange(whole.n)[::-1], np.array([whole.n - 1])):
        some = whole.take(which)
        again = _answer(oracle, some, name)
        require(
            isinstance(again, Values) and same(again.values, answered.values[which]),
            f"{name} answers {again} to the queries {some.ids} of step {whole.step}, but {answered.values[which]} "
            "when it is asked about the whole step. An answer must depend on the step, the id and the point alone, "
            "in the order asked.",
        )


def _check_failing(oracle: Answers, variable: Vector, failing: Tree, name: str) -> None:
    rows = np.stack((np.zeros(variable.size), flatten(failing, "failing")[0] - variable.value, np.zeros(variable.size)))
    queries = Queries(Dense(variable.blocks, rows), np.arange(3), np.ones(3), variable.value)
    feedback = _answer(oracle, Proposal.numbered(2, 100, queries, variable), name)
    if isinstance(feedback, Values):
        require(
            bool(np.isnan(feedback.values[1])),
            f"{name} answers {feedback.values[1]} at {failing}, where a query fails; it must be NaN.",
        )
        require(
            bool(np.isfinite(feedback.values[[0, 2]]).all()),
            f"{name} answers {feedback.values} about x0, a point that fails, and x0: one failure must not harm the "
            "others.",
        )
    else:
        require(
            int(np.argmax(feedback.net_losses())) == 1,
            f"{name} answers {feedback} about x0, a point that fails, and x0; the one that fails must be worst.",
        )
