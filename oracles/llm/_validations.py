"""The validations of a fine-tuning run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from blackbox_zo.journal import Measured

__all__ = ["PLAIN", "VALIDATION", "best_step", "deciding", "in_words", "shown", "validations"]

VALIDATION = "validation"
"""The name of the measure of the validation examples."""

PLAIN = ("loss", "reward")
"""Numbers that are no shares, and are not shown in per cent."""


def validations(measured: Iterable[Measured]) -> list[Measured]:
    """The validations that gave numbers, in the order of their steps."""
    return [m for m in measured if m.name == VALIDATION and m.values]


def deciding(found: Sequence[Measured]) -> str:
    """The name of the number that decides which weights are best: the last one, an accuracy if there is one."""
    return list(found[-1].values)[-1] if found else ""


def best_step(found: Sequence[Measured], name: str) -> int:
    """The step after which a number was best: lowest for a loss, highest for any other; -1 if it was never finite.

    Ties go to the lowest loss, then to the earliest step.
    """
    sign = 1 if name == "loss" else -1
    known = [m for m in found if math.isfinite(m.values.get(name, math.nan))]
    best = min(known, key=lambda m: (sign * m.values[name], m.values.get("loss", 0.0), m.step), default=None)
    return -1 if best is None else best.step


def in_words(values: Mapping[str, float]) -> str:
    """The numbers, in one line."""
    return ", ".join(f"{name} {value:.4f}" for name, value in values.items())


def shown(name: str, value: float) -> str:
    """A number as a report shows it: a loss or a reward as it is, others in per cent."""
    if not math.isfinite(value):
        return "–"
    return f"{value:.4f}" if name in PLAIN else f"{100 * value:.1f}\u00a0%"
