"""Rules that differ in their learning rates, or in how long a schedule lasts, told from their descriptions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from blackbox_zo._describe import describe
from blackbox_zo._methods import recorded
from blackbox_zo._replay import known_as
from blackbox_zo.rules import Rule

__all__ = ["horizon", "recorded_horizon", "recorded_rule", "without_rates"]

_LASTING = ("Cosine", "Linear")
"""Schedules whose `steps` says where they end."""


def without_rates(description: Any) -> Any:
    """The description of a rule without its learning rates."""
    return _mapped(description, lambda d: {k: v for k, v in d.items() if k != "learning_rate"})


def _without_horizon(description: Any) -> Any:
    return _mapped(description, lambda d: {**d, "steps": None} if d.get("name") in _LASTING else d)


def _mapped(description: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """A description, changed from the outermost entry inwards."""
    if isinstance(description, list):
        return [_mapped(part, change) for part in description]
    if isinstance(description, dict):
        return {key: _mapped(part, change) for key, part in change(description).items()}
    return description


def horizon(description: Any) -> int | None:
    """The move at which the schedule of a rule ends; None if it has none that ends."""
    if isinstance(description, list):
        return next((found for part in description if (found := horizon(part)) is not None), None)
    if not isinstance(description, dict):
        return None
    if description.get("name") in _LASTING:
        return int(description["steps"])
    return horizon(list(description.values()))


def recorded_rule(path: Path, rule: Rule) -> Rule:
    """The rule by which a journal's run goes, if a given one differs only in where its schedule ends; else that one.

    Args:
        path: The journal.
        rule: The given rule.
    """
    then, mine = recorded(path), describe(rule)
    if then is None or then.last[1] == mine or _without_horizon(then.last[1]) != _without_horizon(mine):
        return rule
    found: Rule = known_as(then.last[1])
    return found


def recorded_horizon(path: Path) -> int | None:
    """The move at which the schedule of a journal's run ends, if it was rescheduled; else None."""
    then = recorded(path)
    return horizon(then.last[1]) if then is not None and then.changed else None
