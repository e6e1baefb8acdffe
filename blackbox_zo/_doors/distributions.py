"""What scikit-learn calls parameter distributions, as dimensions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from blackbox_zo._doors.space import Dimension, Options, Space
from blackbox_zo.parameters import Choice, Float, Integer, parse_range

__all__ = ["Quantile", "space_of"]

TAIL = 1e-3
"""Share of an unbounded distribution that is left out at each end."""


@final
@dataclass(frozen=True, eq=False)
class Quantile:
    """A frozen distribution of scipy: u is the share of it that lies below.

    Args:
        distribution: With `ppf`, `cdf` and `support`.
    """

    distribution: Any

    def decode(self, u: float) -> Any:
        """The quantile."""
        low, high = self.distribution.support()
        u = max(u, 0.0 if np.isfinite(low) else TAIL)
        value = float(self.distribution.ppf(min(u, 1.0 if np.isfinite(high) else 1 - TAIL)))
        value = min(max(value, low), high)
        return int(value) if hasattr(self.distribution, "pmf") else float(value)

    def encode(self, value: Any) -> float:
        """The share below a value."""
        low, high = self.distribution.support()
        if not low <= value <= high:
            raise ValueError(f"{value!r} is not between {low!r} and {high!r}.")
        return float(self.distribution.cdf(value))


def space_of(given: Any) -> Space:
    """The space of `param_distributions`.

    Args:
        given: Names, each with a list of values, a distribution of scipy, a range as text, or a parameter.

    Raises:
        ValueError: It is no such mapping, it is empty, or an entry is none of these.
    """
    if not isinstance(given, Mapping) or not given:
        raise ValueError(f"`param_distributions` must be one dict of names and their values, got {given!r:.80}.")
    return Space({name: _dimension(name, entry) for name, entry in given.items()})


def _dimension(name: str, entry: Any) -> Dimension:
    if isinstance(entry, Float | Integer | Choice):
        return entry
    if isinstance(entry, str):
        try:
            return parse_range(entry)
        except ValueError as error:
            raise ValueError(f"`param_distributions[{name!r}]`: {error}") from None
    if all(hasattr(entry, wanted) for wanted in ("ppf", "cdf", "support")):
        if getattr(getattr(entry, "dist", None), "name", "") == "randint":
            low, high = entry.support()
            return Integer(int(low), int(high))
        return Quantile(entry)
    if isinstance(entry, list | tuple | range | np.ndarray) and len(entry):
        return Options(tuple(entry))
    raise ValueError(
        f"`param_distributions[{name!r}]` must be a list of values, a frozen distribution of scipy.stats, or text such "
        f'as "1e-4:1:log", got {entry!r:.60}.'
    )
