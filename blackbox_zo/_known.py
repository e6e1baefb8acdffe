"""Checks of values that were known, and of a new method, before a search takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from blackbox_zo._engine import Engine
from blackbox_zo._number import floats
from blackbox_zo._open import cannot_use
from blackbox_zo._typing import Floats, Tree
from blackbox_zo.errors import FeedbackError, TellError
from blackbox_zo.estimators import Estimator
from blackbox_zo.feedback import Feedback, Ranking, Values
from blackbox_zo.rules import Rule

__all__ = ["check_comparable", "check_feedback", "check_method", "doubtful", "known_values", "tries_of"]


def check_method(estimator: Any, rule: Any) -> None:
    """Raise TypeError unless these are an estimator, and a rule or None."""
    if not isinstance(estimator, Estimator):
        raise TypeError(f"`estimator` must be an estimator such as `RandomVector(0.1)`, got {estimator!r:.60}.")
    if rule is not None and not isinstance(rule, Rule):
        raise TypeError(f"`rule` must be a rule such as `SGD(0.1)`, got {rule!r:.60}.")


def check_feedback(engine: Engine, estimator: Estimator) -> None:
    """Raise FeedbackError if the answers so far are rankings, and the estimator needs values."""
    if ranked(engine) and Ranking not in estimator.accepts:
        raise FeedbackError(cannot_use(estimator, Ranking([], 1)))


def check_comparable(engine: Engine, feedback: Feedback) -> None:
    """Raise FeedbackError if an answer is a ranking, and values are known."""
    if isinstance(feedback, Ranking) and len(engine.past.known):
        raise FeedbackError(
            "Known values and rankings cannot be compared: this search has known values, but the oracle answered "
            "`Ranking`. Leave `known` out, or answer `Values`."
        )


def ranked(engine: Engine) -> bool:
    """Whether the answers so far are rankings."""
    _, value, query = engine.best.found
    return query >= 0 and value != value


def known_values(engine: Engine, points: Sequence[Tree], values: Any) -> tuple[Floats, Floats]:
    """Known points as rows, shape (n, d), and their values, shape (n,); see `Search.tell_known`."""
    variable = engine.past.variable
    if variable is None:
        kind = type(engine.variable).__name__
        raise TypeError(f"The points of a `{kind}` are never written out, so no point of it can be known.")
    if Values not in engine.estimator.accepts or ranked(engine):
        raise FeedbackError(
            "Known values and rankings cannot be compared: "
            + (
                "the answers so far are rankings."
                if ranked(engine)
                else f"`{type(engine.estimator).__name__}` uses rankings alone."
            )
            + " Leave `known` out."
        )
    try:
        found = floats(values)
    except (TypeError, ValueError) as error:
        raise TellError(f"`known` values must be real numbers, got {values!r:.80}: {error}") from None
    if found.shape != (len(points),):
        what = f"{found.size} values" if found.ndim == 1 else f"values of shape {found.shape}"
        raise TellError(f"`known` has {len(points)} points but {what}; give one value per point.")
    if np.isinf(found).any():
        i = int(np.argmax(np.isinf(found)))
        raise TellError(f"`known[{i}]` has the value {found[i]}; give NaN for a point that is known to fail.")
    rows = [variable.flat_of(point, f"known[{i}]") for i, point in enumerate(points)]
    return np.array(rows).reshape(len(rows), variable.lower.size), found


def doubtful(point: Tree, known: float, answered: float) -> str:
    """What to say about an answer that disagrees with a known value."""
    return (
        f"The known value {known:.8g} disagrees with the answer {answered:.8g} at the same point, {point!r:.200}. Were "
        "the known values measured of another function, or with the other sign? The search relies on them."
    )


def tries_of(info: Sequence[Mapping[str, Any] | None] | None) -> int:
    """How many tries beyond the first some queries took."""
    return 0 if info is None else sum(int(entry.get("tries", 1)) - 1 for entry in info if entry)
