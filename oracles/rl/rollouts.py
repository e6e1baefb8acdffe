"""Episodes of all candidates at once, by a function of one's own, as on an accelerator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from blackbox_zo._typing import Floats
from oracles.rl._statistics import Statistics

__all__ = ["Played", "Rollouts"]


class Played(NamedTuple):
    """What k episodes gave.

    Attributes:
        returns: Sum of rewards of each, shape (k,).
        steps: Steps of each, shape (k,); none counts one each.
        mean: Of the observations of each, shape (k, o); only a policy that normalises needs it.
        variance: Of the observations of each, not corrected: the mean of squared deviations, shape (k, o).
    """

    returns: Any
    steps: Any = None
    mean: Any = None
    variance: Any = None


@dataclass(frozen=True)
class Rollouts:
    """A function that plays the episodes of many candidates at once, in place of an environment.

    Args:
        play: Called with the parameters, float64 (k, size), the episodes' seeds, int64 (k,) below 2³¹, and the
            `Statistics` to normalise by, or none. It gives the returns, shape (k,), or `Played`. It must be a function
            of its arguments alone. k is the number of all episodes of a step, so a compiled function is compiled once.
    """

    play: Callable[[Floats, Any, Statistics | None], Any]

    @property
    def id(self) -> str:
        """How it is called in messages and journals."""
        return str(getattr(self.play, "__qualname__", None) or type(self.play).__qualname__)
