"""`check_estimator`."""

from __future__ import annotations

from typing import Any

from blackbox_zo._typing import Tree
from blackbox_zo.estimators import Estimator
from blackbox_zo.feedback import Ranking, Values
from blackbox_zo.rules import Rule
from blackbox_zo.testing import _moments, _runs
from blackbox_zo.testing._informed import check_inform
from blackbox_zo.testing._laws import check_configuration, require

__all__ = ["check_estimator"]

_X0 = (0.5, -0.25, 1.0, -0.75)


def check_estimator(
    estimator: Estimator,
    *,
    rule: Rule | None = None,
    x0: Tree = _X0,
    bounds: Any = None,
    seed: int = 0,
    order_only: bool = True,
    shift_invariant: bool = True,
    budget: int = 2000,
    progress: float = 0.25,
) -> None:
    """Check the laws of `Estimator`, for single steps and for whole runs.

    - the configuration is a frozen dataclass; the state is made of numbers, arrays and tuples, and can be saved;
    - `start`, `sample` and `estimate` are pure: the same arguments give the same bits, and nothing is written to;
    - a step asks at least one query, around the current x; the estimate has finite weights;
    - `inform` is pure too, takes failures (NaN) and the value at x, and the search goes on from there;
    - failed queries (NaN), even all of a step, a step cut short by the budget and a late answer do no harm;
    - feedback it does not accept is refused with `FeedbackError`; with `order_only`, an estimator that accepts both
      kinds makes the same step from a ranking as from values in that order;
    - with `shift_invariant`, adding a constant to f changes no step;
    - answers told in parts, in any order, give the same bits as answers told at once;
    - a run saved within a step with `Search.state_dict` and `numpy.savez`, and loaded into another search, ends at the
      same bits;
    - a budget of any size is spent exactly;
    - from x0, `budget` queries bring the sum of squares below `progress` times its start.

    Args:
        estimator: The estimator.
        rule: The rule it is used with; None for its own.
        x0: Start of the runs, in any structure; nonzero.
        bounds: Bounds, as for `Vector`.
        seed: Seed of all runs.
        order_only: False for an estimator that accepts rankings, but uses more of values than their order.
        shift_invariant: False for an estimator that uses single values rather than differences, such as one-point
            feedback.
        budget: Queries in which to make progress; 0 skips that check.
        progress: See above.

    Raises:
        AssertionError: A law does not hold.

    Example:
        >>> import blackbox_zo as bz
        >>> from blackbox_zo.testing import check_estimator
        >>> check_estimator(bz.RandomVector(0.01, 2, "sphere"), rule=bz.Adam(0.05))
    """
    require(
        isinstance(estimator, Estimator),
        f"`{estimator!r:.120}` is not an `Estimator`; inherit from that abstract class.",
    )
    check_configuration(estimator)
    own = estimator.rule()
    require(isinstance(own, Rule), f"`{estimator!r}.rule()` gives {own!r:.60}, which is not a `Rule`.")
    accepts = estimator.accepts
    require(
        len(accepts) > 0 and set(accepts) <= {Values, Ranking},
        f"`{type(estimator).__name__}.accepts` is {accepts}; it must name `Values`, `Ranking` or both.",
    )
    case = _runs.Case(estimator, rule or own, x0, bounds, seed)
    before = repr(estimator)
    for steps in (0, estimator.warmup + 3):
        here = _moments.advance(case, steps)
        _moments.check_pure(here)
        _moments.check_failures(here)
        if Values in accepts:
            check_inform(here)
        if set(accepts) == {Values, Ranking} and order_only:
            _moments.check_order(here)
    _moments.check_warmup(case)
    _runs.check_feedback(case)
    if Values in accepts:
        _runs.check_parts(case)
        if shift_invariant:
            _runs.check_shift(case)
    _runs.check_resume(case)
    _runs.check_budget(case)
    if budget:
        _runs.check_progress(case, budget, progress)
    require(
        repr(estimator) == before, f"`{before}` became `{estimator!r}` during a run; keep what changes in the state."
    )
