"""Episodes of all candidates at once, played by a user's function, for example on an accelerator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from blackbox_zo._typing import Floats
from oracles.rl._statistics import Statistics

__all__ = ["Played", "Rollouts"]


class Played(NamedTuple):
    """The results of k episodes.

    Attributes:
        returns: The return of each, shape (k,).
        steps: Number of steps of each, shape (k,); None counts one step per episode.
        mean: Mean of the observations of each, shape (k, o); needed only if the policy normalises.
        variance: Biased variance of the observations of each (divided by n, not n - 1), shape (k, o).
    """

    returns: Any
    steps: Any = None
    mean: Any = None
    variance: Any = None


@dataclass(frozen=True)
class Rollouts:
    """A function that plays the episodes of many candidates at once, in place of an environment.

    Args:
        play: A function of the parameters, float64 (k, size), the episodes' seeds, int64 (k,) below 2³¹, and the
            `Statistics` to normalise by, or None. It returns the returns, shape (k,), or `Played`. It must depend on
            its arguments alone. k is the number of all episodes of a step, so a compiled function is compiled once.
    """

    play: Callable[[Floats, Any, Statistics | None], Any]

    @property
    def id(self) -> str:
        """The name of the function in messages and journals."""
        return str(getattr(self.play, "__qualname__", None) or type(self.play).__qualname__)
