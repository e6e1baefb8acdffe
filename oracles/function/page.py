"""The report of a run over numbers: values, or rankings, of points with named coordinates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from blackbox_zo._typing import Floats
from oracles.function.history import Axis, History
from oracles.function.known import best_known, changes, known
from oracles.page import Chart, Commands, Facts, Failure, Layer, Page, Part, Section, Table
from oracles.sections import failures, library, measures, method, of_total
from oracles.words import figure, span

__all__ = ["page_of"]

_MOST_FAILURES, _MOST_VALUES, _MOST_RUNS = 25, 40, 12


def page_of(
    history: History,
    subject: str = "",
    again: Callable[[int], str] = lambda row: "",
    facts: Sequence[tuple[str, str]] = (),
) -> Page:
    """The report of a run.

    Args:
        history: The run.
        subject: What was minimised; empty for a Python function.
        again: Returns the command that repeats the query of a row; empty if there is none.
        facts: Facts in addition to those from the header.
    """
    sections = [
        *(best_known(history) if history.known_best else _best(history, again)),
        *_convergence(history),
        *measures(history.measured),
        *_parameters(history),
        *_table(history),
        *known(history),
        *_methods(history),
        *_failures(history),
        Section("The run", [Facts([*_facts(history), *facts])]),
    ]
    return Page(history.path.name, subject, _tiles(history), sections, _note(history))


def _tiles(history: History) -> list[tuple[str, str]]:
    order, seconds = history.best_first, history.seconds
    best = figure(history.values[order[0]]) if order.size else "–"
    if history.known_best:
        best = f"{figure(history.known_first[0][1])} (known)"
    tiles = [
        ("best (highest)" if history.maximize else "best", best),
        ("queries", of_total(history.n, history.settings.get("budget"))),
        ("failed", f"{len(history.failed):,}"),
    ]
    if stopped := sum(bool(info.get("stopped")) for info in history.infos):
        tiles.append(("stopped early", f"{stopped:,}"))
    return tiles + ([("median run", span(float(np.median(seconds))))] if seconds.size else [])


def _note(history: History) -> str:
    if not history.n:
        return "No answer has been recorded yet."
    if history.ranked:
        return "The answers are rankings, so there is no value to draw; colours run from the first query to the last."
    if len(history.failed) == history.n:
        return "Every query failed. See the reasons below."
    return ""


def _best(history: History, again: Callable[[int], str]) -> list[Section]:
    if not history.best_first.size:
        return []
    top = int(history.best_first[0])
    table, command = Table(_values(history, top)), again(top)
    if not command:
        return [Section("Best parameters", [table])]
    return [Section("Best parameters, and the command to run them", [table, Commands([("", command)])])]


def _convergence(history: History) -> list[Section]:
    if not history.n or history.ranked:
        return []
    layers = [
        Layer(history.ids.astype(float), history.values, "", "dots", "time"),
        Layer(history.ids[history.failed].astype(float), np.empty(0), "failed", "crosses", "bad"),
        Layer(history.ids.astype(float), history.best_so_far, "best so far", "step", "ink"),
    ]
    if history.best_first.size:
        top = history.best_first[:1]
        layers.append(Layer(history.ids[top].astype(float), history.values[top], "best", "ring", "ink"))
    y = "value" + (" (higher is better)" if history.maximize else "")
    chart = Chart("query", y, layers, maximize=history.maximize, compared="best so far")
    return [Section("Convergence", [chart])]


def _parameters(history: History) -> list[Section]:
    if history.no_axes:
        return [Section("Parameters", [], f"They cannot be drawn. {history.no_axes}")]
    if not history.axes:
        return []
    more = len(history.axes) - len(history.drawn)
    note = f"The {len(history.drawn)} of {len(history.axes):,} that vary most." if more else ""
    title = f"Parameters {'over the run' if history.ranked else 'against the value'}"
    charts: list[Part] = [(_over_run if history.ranked else _against)(history, axis) for axis in history.drawn]
    return [Section(title, charts, note)]


def _against(history: History, axis: Axis) -> Chart:
    """A parameter against the value."""
    known = ~np.isnan(axis.values)
    x = axis.values + (_jitter(len(axis.values)) if axis.options else 0.0)
    rows = np.flatnonzero(known & ~np.isnan(history.values))
    failed = history.failed[known[history.failed]]
    layers = [
        Layer(x[rows], history.values[rows], "", "dots", "time"),
        Layer(x[failed], np.empty(0), "failed", "crosses", "bad"),
    ]
    top = next((row for row in history.best_first if known[row]), None)
    if top is not None:
        layers.append(Layer(x[[top]], history.values[[top]], "best", "ring", "ink"))
    return Chart("", "", layers, title=axis.name, maximize=history.maximize, log_x=axis.log, options=axis.options)


def _over_run(history: History, axis: Axis) -> Chart:
    """A parameter of ranked queries over the run; the best of each step stands out."""
    rows = np.flatnonzero(~np.isnan(axis.values))
    first = rows[history.place[rows] == 0]
    layers = [
        Layer(history.ids[rows].astype(float), axis.values[rows], "", "dots", "muted"),
        Layer(history.ids[first].astype(float), axis.values[first], "best of its step", "dots", "time"),
    ]
    return Chart("query", "", layers, title=axis.name, log_x=axis.log, options=axis.options, swapped=True)


def _table(history: History) -> list[Section]:
    order = history.best_first
    if not order.size:
        return []
    head = ["query", "value"] + [axis.name for axis in history.drawn]
    rows = [
        [str(history.ids[row]), figure(history.values[row])] + [_shown(axis, int(row)) for axis in history.drawn]
        for row in order[:10]
    ]
    return [Section(f"Best {len(rows)}", [Table(rows, head)])]


def _methods(history: History) -> list[Section]:
    """What each method of a portfolio has spent and gained: the first runs, and all runs together."""
    if not history.trace:
        return []
    sign = -1.0 if history.maximize else 1.0
    head = ["method", "queries", "best before", "best after", "why it ended"]
    rows = [
        [run.member, f"{run.queries:,}", figure(sign * run.before), figure(sign * run.after), run.ended or "it runs"]
        for run in history.trace[:_MOST_RUNS]
    ]
    counts = Counter[str]()
    for run in history.trace:
        counts[run.member] += run.queries
    note = "In all: " + ", ".join(f"{name} {n:,}" for name, n in counts.most_common()) + " queries."
    if len(history.trace) > _MOST_RUNS:
        note = f"The first {_MOST_RUNS} of {len(history.trace):,} runs. {note}"
    return [Section("Methods", [Table(rows, head)], note)]


def _failures(history: History) -> list[Section]:
    failed = history.failed
    if not failed.size:
        return []
    shown: list[Part] = []
    for row in failed[::-1][:_MOST_FAILURES].tolist():
        values = ", ".join(f"{name} = {value}" for name, value in _values(history, row))
        reason, output = history.reason(row), str(history.infos[row].get("tail", ""))
        shown.append(Failure(int(history.ids[row]), reason, values, output))
    note = "" if len(shown) == failed.size else f"The latest {len(shown)} of {failed.size:,} are shown."
    return [Section("Failures", [failures(history.reasons(), "queries"), *shown], note)]


def _facts(history: History) -> list[tuple[str, str]]:
    seconds = history.seconds
    total = f"{span(float(seconds.sum()))} in all, longest run {span(float(seconds.max()))}" if seconds.size else ""
    timed = [("program time", total)] * bool(total)
    dimension = ("dimension", f"{history.header.get('dimension'):,}")
    return [*method(history.header), *changes(history), dimension, *timed, library(history.header)]


def _shown(axis: Axis, row: int) -> str:
    value = axis.values[row]
    if np.isnan(value):
        return ""
    return axis.options[int(value)] if axis.options else figure(value)


def _values(history: History, row: int) -> list[tuple[str, str]]:
    given = history.infos[row].get("params")
    if isinstance(given, dict):
        return [(str(name), str(value)) for name, value in given.items()]
    more = len(history.axes) - _MOST_VALUES
    rest = [(f"and {more:,} more", "")] * (more > 0)
    return [(axis.name, _shown(axis, row)) for axis in history.axes[:_MOST_VALUES]] + rest


def _jitter(n: int) -> Floats:
    """Small fixed offsets that keep the dots of an option apart."""
    return np.asarray((np.arange(n) * 0.6180339887498949 % 1.0 - 0.5) * 0.5, dtype=np.float64)
