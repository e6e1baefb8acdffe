"""Sections of a report that several kinds of runs share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from blackbox_zo._describe import spell
from blackbox_zo.journal import Measured
from oracles.page import Chart, Layer, Section, Table
from oracles.words import figure

__all__ = ["failures", "library", "measures", "method", "of_total", "spelt"]

_MOST = 25
"""Most reasons in a table of failures."""


def of_total(done: int, total: Any) -> str:
    """How much of a run is done: "20 of 100"; without a total if that is unknown or reached."""
    return f"{done:,}" + (f" of {total:,}" if isinstance(total, int) and total > done else "")


def measures(found: Iterable[Measured]) -> list[Section]:
    """A chart for each number that was measured between steps."""
    series: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for m in found:
        for name, value in m.values.items():
            series.setdefault((m.name, name), []).append((m.step, value))
    charts = []
    for (measure, name), points in series.items():
        x, y = np.array(points, dtype=np.float64).T
        title = name if measure == name else f"{measure}: {name}"
        charts.append(Chart("step", name, [Layer(x, y, name)], title=title, compared=name))
    return [Section("Measured between steps", charts)] if charts else []


def failures(reasons: Sequence[tuple[str, int, int]], unit: str) -> Table:
    """Why queries failed; see `Recorded.reasons`."""
    rows = [(reason, f"{count:,}", f"{latest:,}") for reason, count, latest in reasons[:_MOST]]
    rows += [(f"and {len(reasons) - _MOST:,} more reasons", "", "")] * (len(reasons) > _MOST)
    return Table(rows, ("reason", unit, "latest"), text=(0,))


def method(header: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The estimator and the rule, as they would be typed, and the seed."""
    rule = header.get("rule")
    links = rule["rules"] if isinstance(rule, dict) and rule.get("name") == "Chain" else [rule]
    named = [("estimator", spell(header.get("estimator"))), ("rule", ", ".join(map(spell, links)))]
    return [*named, ("seed", str(header.get("seed")))]


def library(header: Mapping[str, Any]) -> tuple[str, str]:
    """The versions that wrote a journal."""
    return "library", f"blackbox_zo {header.get('library')}, numpy {header.get('numpy')}"


def spelt(value: Any) -> str:
    """An entry of a header as text."""
    if isinstance(value, list):
        return ", ".join(map(spelt, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return figure(value) if isinstance(value, float) else str(value)
