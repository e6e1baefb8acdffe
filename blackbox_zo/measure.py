"""`Measure`: a function that is evaluated between the steps of a run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from blackbox_zo._checks import check_at_least
from blackbox_zo._number import number
from blackbox_zo.errors import MeasureError, RankError
from blackbox_zo.journal import Measured

__all__ = ["Measure"]

log = logging.getLogger(__name__)


@final
@dataclass(frozen=True)
class Measure:
    """A function of the search that is evaluated every few steps: a validation loss, a mean return, f at the centre.

    Args:
        name: Name in the journal and on displays.
        function: Takes the search, returns a number or a dict of numbers. A string under the key "error" says why a
            number is missing; other JSON-able entries are recorded as they are. It must not move the search.
        every: Number of moves between two evaluations; 0 to evaluate only at the start and at the end.
        first: Whether to evaluate before the first move.
        last: Whether to evaluate after the last move.

    Raises:
        ValueError: `every` is negative, or `name` is empty.
        TypeError: `function` cannot be called.
    """

    name: str
    function: Callable[[Any], float | Mapping[str, Any]]
    every: int = 1
    first: bool = True
    last: bool = True

    def __post_init__(self) -> None:
        check_at_least("Measure", 0, every=self.every)
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"`Measure(name=...)` must be a text, got {self.name!r:.60}.")
        if not callable(self.function):
            raise TypeError(f"`Measure(function=...)` must be a function of the search, got {self.function!r:.60}.")

    def due(self, moves: int, last: bool) -> bool:
        """Whether to evaluate after this many moves.

        Args:
            moves: Number of moves made so far.
            last: Whether the run ends now.
        """
        regular = self.every > 0 and moves > 0 and moves % self.every == 0
        return regular or (self.first and moves == 0) or (self.last and last)

    def take(self, search: Any, moves: int, seconds: float, *, forgiving: bool) -> Measured:
        """Evaluate the function.

        Args:
            search: The search.
            moves: Number of moves made so far.
            seconds: Running time so far.
            forgiving: Whether an exception is recorded and logged rather than raised; true once the measure has worked.

        Raises:
            MeasureError: The function raised an exception, or returned no number.
        """
        try:
            found = self.function(search)
        except RankError:  # the run is over, not the measure wrong
            raise
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            if not forgiving:
                raise MeasureError(f"The measure {self.name!r} raised {what}") from error
            log.warning("The measure %r raised %s after %d moves; the run continues.", self.name, what, moves)
            return Measured(self.name, moves, {}, what, seconds)
        given = found if isinstance(found, Mapping) else {self.name: found}
        values, more = dict[str, float](), dict[str, Any]()
        for name, value in given.items():
            try:
                if isinstance(value, bool | np.bool_ | None):
                    raise TypeError
                values[str(name)] = number(value)
            except TypeError:
                more[str(name)] = value
        reason = str(more.pop("error", ""))
        if not values and not reason:
            raise MeasureError(
                f"The measure {self.name!r} must return a number or a dict of numbers; it returned {found!r:.80}."
            )
        return Measured(self.name, moves, values, reason, seconds, more)
