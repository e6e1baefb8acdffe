"""Names used in journals, and the best evaluation."""

from __future__ import annotations

import math
from collections.abc import Iterable

from blackbox_zo.journal import Measured

__all__ = ["KIND", "RETURN", "best_of"]

KIND = "train-policy"
"""The kind of run."""

RETURN = "return"
"""The measure of the current policy: its mean return over evaluation episodes."""


def best_of(measured: Iterable[Measured]) -> Measured | None:
    """The evaluation with the highest mean return, the first among equals; None if there is none."""
    known = [m for m in measured if m.name == RETURN and math.isfinite(m.values.get(RETURN, math.nan))]
    return max(known, key=lambda m: m.values[RETURN], default=None)
