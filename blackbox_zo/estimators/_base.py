"""The abstract `Estimator`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from blackbox_zo.feedback import Feedback, Ranking, Values
from blackbox_zo.randomness import Key
from blackbox_zo.rules import SGD, Rule
from blackbox_zo.steps import Queries, Step
from blackbox_zo.variables import Variable, Vector

__all__ = ["Estimator", "vector_of"]


class Estimator(ABC):
    """Chooses what to ask about, and turns the answers into a gradient estimate `w U`.

    Configuration is frozen; the state goes in and comes out, made of numbers, arrays, and (named) tuples of them, so a
    run can be saved, replayed and shared. `sample` is a pure function of its arguments. A population method gives
    minus its move as the gradient, so that `SGD(1.0)` makes that move.

    Attributes:
        accepts: The kinds of feedback it can use.
        warmup: Steps that must be answered before the first estimate.
    """

    accepts: ClassVar[tuple[type[Values] | type[Ranking], ...]] = (Values,)
    warmup: int = 0

    @abstractmethod
    def start(self, variable: Variable) -> Any:
        """The state before the first step."""

    @abstractmethod
    def sample(self, state: Any, variable: Variable, key: Key) -> Queries:
        """The points to ask about.

        Args:
            state: As `start` or `estimate` gave it.
            variable: Where x stands; not changed.
            key: All that the randomness may depend on.
        """

    @abstractmethod
    def estimate(self, state: Any, variable: Variable, queries: Queries, feedback: Feedback) -> tuple[Any, Step]:
        """The next state, and the gradient estimate.

        Args:
            state: The newest state, which may be later than the one the queries were sampled from.
            variable: Where x stands now.
            queries: What `sample` gave, or its first rows where the budget ended.
            feedback: One answer per query. NaN is a failure; with no usable answer at all the weights are zero.
        """

    def rule(self) -> Rule:
        """The rule that `minimize` uses when it is given the estimator alone."""
        return SGD(1.0)


def vector_of(estimator: Estimator, variable: Variable) -> Vector:
    """The variable as a `Vector`, which estimators need that keep points or distributions of the size of x.

    Raises:
        TypeError: It is of another kind.
    """
    if not isinstance(variable, Vector):
        name, kind = type(estimator).__name__, type(variable).__name__
        raise TypeError(
            f"Cannot use `{name}` with a `{kind}`: it keeps whole points, which would not fit. Use `RandomVector`, "
            "`RankBased` or `Coordinatewise`."
        )
    return variable
