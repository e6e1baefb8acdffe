"""The words and tables of a report, as plain text; whoever shows them escapes them."""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from blackbox_zo._describe import spell
from oracles.cli._history import Axis, History
from oracles.cli._scale import number

__all__ = ["Failure", "Summary", "summary_of"]

_MOST_FAILURES, _MOST_VALUES = 25, 40


@dataclass(frozen=True)
class Failure:
    """A failed query.

    Attributes:
        query: Its number.
        error: Why it failed.
        values: Its parameters.
        tail: The last lines of the program.
    """

    query: int
    error: str
    values: str
    tail: str


@dataclass(frozen=True)
class Summary:
    """What a report says.

    Attributes:
        title: The journal's name.
        command: What was run; empty for a Python function.
        tiles: Large figures, each with its label.
        best: Parameters of the best query.
        best_command: How to run it again; empty if unknown.
        columns: Of the table of the best ten.
        rows: Of that table.
        kinds: How many queries failed for each reason, the most frequent first.
        failures: The latest failed queries, newest first, at most 25.
        facts: Settings of the run.
        note: What a reader should know first; may be empty.
    """

    title: str
    command: str
    tiles: list[tuple[str, str]]
    best: list[tuple[str, str]]
    best_command: str
    columns: list[str]
    rows: list[list[str]]
    kinds: list[tuple[str, int]]
    failures: list[Failure]
    facts: list[tuple[str, str]]
    note: str


def summary_of(history: History) -> Summary:
    """Put a run into words."""
    header, order = history.header, history.order
    problem = header.get("problem") if isinstance(header.get("problem"), dict) else {}
    assert isinstance(problem, dict)
    settings = header.get("settings") or {}
    run = problem.get("run", "")
    budget = settings.get("budget")
    seconds = np.array([info["seconds"] for info in history.infos if "seconds" in info], dtype=np.float64)
    tiles = [
        ("best" if not history.maximize else "best (highest)", number(history.values[order[0]]) if order.size else "–"),
        ("queries", f"{history.n:,}" + (f" of {budget:,}" if budget and budget >= history.n else "")),
        ("failed", f"{len(history.failed):,}"),
    ]
    if seconds.size:
        tiles.append(("median run", span(float(np.median(seconds)))))
    top = int(order[0]) if order.size else -1
    columns = ["query", "value"] + [axis.name for axis in history.drawn]
    return Summary(
        title=history.path.name,
        command=run if isinstance(run, str) else shlex.join(run),
        tiles=tiles,
        best=_values(history, top) if top >= 0 else [],
        best_command=_command(history, top),
        columns=columns if order.size else [],
        rows=[_row(history, int(row)) for row in order[:10]],
        kinds=Counter(_error(history, int(row)) for row in history.failed).most_common(),
        failures=[_failure(history, int(row)) for row in history.failed[::-1][:_MOST_FAILURES]],
        facts=_facts(history, seconds),
        note=_note(history),
    )


def span(seconds: float) -> str:
    """A duration in the unit that suits it."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _note(history: History) -> str:
    if not history.n:
        return "No answer has been recorded yet."
    if history.ranked:
        return "The answers are rankings, so there is no value to draw; colours run from the first query to the last."
    if len(history.failed) == history.n:
        return "Every query failed. See the reasons below."
    return ""


def _shown(axis: Axis, row: int) -> str:
    value = axis.values[row]
    if np.isnan(value):
        return ""
    return axis.options[int(value)] if axis.options else number(value)


def _values(history: History, row: int) -> list[tuple[str, str]]:
    given = history.infos[row].get("params")
    if isinstance(given, dict):
        return [(str(name), str(value)) for name, value in given.items()]
    more = len(history.axes) - _MOST_VALUES
    return [(axis.name, _shown(axis, row)) for axis in history.axes[:_MOST_VALUES]] + [(f"and {more:,} more", "")] * (
        more > 0
    )


def _row(history: History, row: int) -> list[str]:
    return [str(history.ids[row]), number(history.values[row])] + [_shown(axis, row) for axis in history.drawn]


def _command(history: History, row: int) -> str:
    given = history.infos[row].get("params") if row >= 0 else None
    oracle = history.oracle() if given else None
    if oracle is None or not isinstance(given, dict):
        return ""
    try:
        return shlex.join(oracle.filled(given, int(history.ids[row])))
    except (ValueError, KeyError):
        return ""


def _error(history: History, row: int) -> str:
    return str(history.infos[row].get("error", "NaN or infinite"))


def _failure(history: History, row: int) -> Failure:
    values = ", ".join(f"{name} = {value}" for name, value in _values(history, row))
    return Failure(int(history.ids[row]), _error(history, row), values, str(history.infos[row].get("tail", "")))


def _facts(history: History, seconds: Any) -> list[tuple[str, str]]:
    header, settings = history.header, history.header.get("settings") or {}
    facts = [
        ("estimator", spell(header.get("estimator"))),
        ("rule", spell(header.get("rule"))),
        ("seed", str(header.get("seed"))),
        ("dimension", f"{header.get('dimension'):,}"),
    ]
    if isinstance(header.get("problem"), dict) and "read" in header["problem"]:
        facts.append(("number read from", str(header["problem"]["read"])))
    facts += [(name, str(settings[name])) for name in ("workers", "timeout") if settings.get(name) is not None]
    if seconds.size:
        facts.append(("program time", f"{span(float(seconds.sum()))} in all, longest run {span(float(seconds.max()))}"))
    facts.append(("library", f"blackbox_zo {header.get('library')}, numpy {header.get('numpy')}"))
    return facts
