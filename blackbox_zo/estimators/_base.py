"""The abstract `Estimator`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from blackbox_zo._typing import Floats
from blackbox_zo.feedback import Feedback, Ranking, Values
from blackbox_zo.randomness import Key
from blackbox_zo.rules import SGD, Rule
from blackbox_zo.steps import Queries, Step
from blackbox_zo.variables import Variable, Vector

__all__ = ["Estimator", "vector_of"]


class Estimator(ABC):
    """Chooses the points of a step, and turns the answers into a gradient estimate `w U`.

    An estimator is a frozen configuration. Its state, made of numbers, arrays, and (named) tuples of them, is passed in
    and returned, so a run can be saved and replayed. `sample` is a pure function of its arguments. A population method
    returns minus its move as the gradient, so that `SGD(1.0)` makes that move.

    Attributes:
        accepts: The kinds of feedback that it can use.
        exact: Whether it is of no use where the same point gives different values.
        noisy: Whether it is of use only where the same point gives different values.
        any_age: Whether it can use an answer however many moves ago the query was asked; see `Search(max_staleness)`.
        everywhere: Whether one run looks everywhere, so that another from elsewhere would find nothing new.
        warmup: Number of steps before the first estimate; the most, where it depends on the answers.
    """

    accepts: ClassVar[tuple[type[Values] | type[Ranking], ...]] = (Values,)
    exact: ClassVar[bool] = False
    noisy: ClassVar[bool] = False
    any_age: ClassVar[bool] = False
    everywhere: ClassVar[bool] = False
    warmup: int = 0

    @abstractmethod
    def start(self, variable: Variable) -> Any:
        """The state before the first step."""

    @abstractmethod
    def sample(self, state: Any, variable: Variable, key: Key) -> Queries:
        """The points to ask about.

        Args:
            state: From `start` or `estimate`.
            variable: Where x stands; not to be changed.
            key: The only source of randomness.
        """

    @abstractmethod
    def estimate(self, state: Any, variable: Variable, queries: Queries, feedback: Feedback) -> tuple[Any, Step]:
        """The next state, and the gradient estimate.

        Args:
            state: The newest state, which may be later than the one the queries were sampled from.
            variable: Where x stands now.
            queries: From `sample`; only the first ones where the budget ended.
            feedback: One answer per query; NaN is a failure. Without any usable answer the weights are zero.
        """

    def over(self, state: Any, variable: Variable) -> str:
        """Why this search can gain no more from here, such as "it has converged"; empty while it can."""
        return ""

    def inform(self, state: Any, variable: Variable, points: Floats, values: Floats) -> Any:
        """The state after answers that this estimator did not ask for; by default they are of no use to it.

        Args:
            state: From `start` or `estimate`.
            variable: Where x stands.
            points: In the coordinates of the variable, shape (m, d).
            values: Their values, shape (m,); NaN is a point that is known to fail.
        """
        return state

    def rule(self) -> Rule:
        """The rule to use if none is given."""
        return SGD(1.0)


def vector_of(estimator: Estimator, variable: Variable) -> Vector:
    """The variable as a `Vector`, for estimators that keep points or distributions of the size of x.

    Raises:
        TypeError: The variable is of another kind.
    """
    if not isinstance(variable, Vector):
        name, kind = type(estimator).__name__, type(variable).__name__
        raise TypeError(
            f"Cannot use `{name}` with a `{kind}`: it keeps whole points, which would not fit. Use `RandomVector`, "
            "`RankBased` or `Coordinatewise`."
        )
    return variable
