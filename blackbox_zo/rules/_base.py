"""The abstract `Rule`, chains of rules, and learning rates that change."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, final

from blackbox_zo._typing import override
from blackbox_zo.steps import Step
from blackbox_zo.variables import Variable

__all__ = ["Chain", "Rule", "Schedule", "chain", "rate_at"]

Schedule: TypeAlias = Callable[[int], float]
"""A function from the number of moves made so far to a learning rate."""


class Rule(ABC):
    """Turns a gradient estimate into the step that is subtracted from x: `x <- x - step`.

    A rule does not change the sign of the gradient, so rules can be chained. It is a frozen configuration; its state,
    made of numbers, arrays, and (named) tuples of them, is passed in and returned.
    """

    @abstractmethod
    def start(self, variable: Variable) -> Any:
        """The state before the first step."""

    @abstractmethod
    def update(self, state: Any, gradient: Step) -> tuple[Any, Step]:
        """The next state, and the step to subtract."""


@final
@dataclass(frozen=True)
class Chain(Rule):
    """Rules applied one after another: each one's step is the next one's gradient."""

    rules: tuple[Rule, ...]

    @override
    def start(self, variable: Variable) -> tuple[Any, ...]:
        return tuple(rule.start(variable) for rule in self.rules)

    @override
    def update(self, state: tuple[Any, ...], gradient: Step) -> tuple[tuple[Any, ...], Step]:
        states = []
        for rule, old in zip(self.rules, state, strict=True):
            new, gradient = rule.update(old, gradient)
            states.append(new)
        return tuple(states), gradient


def chain(*rules: Rule) -> Rule:
    """A rule that applies `rules` one after another.

    Args:
        *rules: At least one, for example `chain(ClipNorm(1.0), Adam(0.01))`.

    Raises:
        ValueError: There are none.

    Example:
        >>> import blackbox_zo as bz
        >>> rule = bz.chain(bz.ClipNorm(1.0), bz.WeightDecay(0.01), bz.SGD(0.1))
    """
    if not rules:
        raise ValueError("`chain()` needs at least one rule, for example `chain(ClipNorm(1.0), SGD(0.1))`.")
    return rules[0] if len(rules) == 1 else Chain(rules)


def rate_at(rate: float | Schedule, step: int) -> float:
    """The learning rate after `step` moves."""
    return rate(step) if callable(rate) else rate
