"""`gradient`: a single gradient estimate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from blackbox_zo._checks import check_seed
from blackbox_zo._typing import Tree
from blackbox_zo.errors import FeedbackError
from blackbox_zo.estimators import Estimator
from blackbox_zo.feedback import Values
from blackbox_zo.function import FunctionOracle
from blackbox_zo.oracle import Oracle
from blackbox_zo.proposal import Proposal
from blackbox_zo.randomness import Key
from blackbox_zo.variables import Vector

__all__ = ["gradient"]


def gradient(
    fun: Callable[..., Any] | Oracle, x: Tree, estimator: Estimator, seed: int = 0, *, vectorized: bool = False
) -> Tree:
    """One gradient estimate at x.

    Args:
        fun: From x to one number (or, with `vectorized`, from all points to all numbers), or an oracle.
        x: The point: a number, an array, or nested dicts and lists of them.
        estimator: Any. A population method gives minus its first move; residual feedback takes one step to warm up.
        seed: Determines all randomness.
        vectorized: Whether `fun` takes all points at once.

    Returns:
        The estimate, in the structure of x.

    Raises:
        ValueError: x is empty or not finite.
        TypeError: x is not numeric, or `fun` does not return a number.

    Example:
        >>> import blackbox_zo as bz
        >>> bz.gradient(lambda x: x["a"] ** 2, {"a": 3.0}, bz.Coordinatewise(0.1))
        {'a': 6.000000000000005}
    """
    variable, seed = Vector(x), check_seed(seed)
    oracle = fun if isinstance(fun, Oracle) else FunctionOracle(fun, vectorized=vectorized)
    state = estimator.start(variable)
    first_id = 0
    for step in range(estimator.warmup + 1):
        queries = estimator.sample(state, variable, Key(seed, step))
        proposal = Proposal.numbered(step, first_id, queries, variable)
        feedback = oracle.answer(proposal)
        if not isinstance(feedback, estimator.accepts):
            kind = "a Ranking" if not isinstance(feedback, Values) else "Values"
            raise FeedbackError(f"Cannot use `{type(estimator).__name__}` with this oracle: it answered {kind}.")
        state, estimate = estimator.estimate(state, variable, queries, feedback)
        if (found := estimate.dense()).any():
            break
        first_id += queries.n
    return variable.treedef.unflatten(found)
