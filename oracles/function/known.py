"""What a report shows of values that were known, and of changes of method."""

from __future__ import annotations

from typing import Any

from blackbox_zo._describe import spell
from oracles.function.history import History
from oracles.page import Section, Table
from oracles.words import figure

__all__ = ["best_known", "changes", "known"]

_MOST_POINTS, _MOST_NAMES = 10, 12


def best_known(history: History) -> list[Section]:
    """The best point, where it was known."""
    point, _ = history.known_first[0]
    return [Section("Best parameters", [Table(_rows(point, 40))], "The value at this point was known, and not asked.")]


def known(history: History) -> list[Section]:
    """The best known points and their values."""
    if not history.known:
        return []
    points = history.known_first
    names = list(points[0][0])[:_MOST_NAMES]
    rows = [[_text(value), *(_text(point[name]) for name in names)] for point, value in points[:_MOST_POINTS]]
    more = f"The best {len(rows)} of {len(points):,}. " * (len(points) > len(rows))
    note = f"{more}They were told to the search, and cost no query."
    return [Section("Known values", [Table(rows, ["value", *names])], note)]


def changes(history: History) -> list[tuple[str, str]]:
    """The methods after the first, as facts."""
    return [(f"after {line.steps:,} steps", spell(line.estimator)) for line in history.changes]


def _rows(point: dict[str, Any], most: int) -> list[tuple[str, str]]:
    rows = [(name, _text(value)) for name, value in list(point.items())[:most]]
    return rows + [(f"and {len(point) - most:,} more", "")] * (len(point) > most)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return figure(value) if value == value else "failed"
    return str(value)
