"""The header that identifies a run, and the replay of its answers, which restores it from its journal."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any, NamedTuple

import numpy as np

from blackbox_zo import estimators, rules
from blackbox_zo._describe import describe, rebuild
from blackbox_zo._engine import Engine
from blackbox_zo._typing import Floats, Ints
from blackbox_zo.distinct import Distinct
from blackbox_zo.errors import JournalError
from blackbox_zo.estimators import Estimator, Portfolio, Spent
from blackbox_zo.feedback import Feedback, Values
from blackbox_zo.journal import Answers, Changed, JournalReader, Known, Line
from blackbox_zo.rules import Rule
from blackbox_zo.variables import SMALL, Starts, Vector
from blackbox_zo.variables._cells import Cells
from blackbox_zo.variables._tree import flatten

__all__ = ["engine_of", "find_public", "header_of", "points_of", "replay", "replayed", "restore", "trace_of"]


def header_of(engine: Engine) -> dict[str, Any]:
    """The entries that identify this run."""
    v = engine.variable
    out: dict[str, Any] = {
        "estimator": describe(engine.estimator),
        "rule": describe(engine.rule),
        "seed": engine.seed,
        "dimension": v.size,
        "start": v.fingerprint(),
        "max_staleness": engine.max_staleness,
        "numpy": np.__version__,
    }
    described = v.describe()
    if described is not None:
        out["variable"] = described
    return out


_Asked = tuple[int, int]
"""When a step was asked: the numbers of moves and of complete steps before it; not every step moves x.

The states of oracles depend on both, since oracles also learn from steps that do not move x.
"""


class _Told(NamedTuple):
    """Consecutive answers in a journal to queries of one step."""

    step: int
    asked: _Asked
    ids: Ints
    feedback: Feedback
    learnt: dict[str, dict[int, Any]]
    besides: list[tuple[int, int, int]]
    lines: list[Answers]


def replay(
    engine: Engine,
    lines: Iterable[Line],
    *,
    moves: int | None = None,
    rebuilt: Callable[[Any], Any] | None = None,
    see: Callable[[Answers, Floats], None] | None = None,
) -> None:
    """Feed recorded answers to an engine, asking each step after as many moves as when it was first asked.

    Args:
        engine: A fresh engine, as at the start of the journal, or one that stands after some of its lines.
        lines: The other lines of the journal, in order; measures are skipped.
        moves: Stop after this many moves; None replays all.
        rebuilt: From the description of an estimator or a rule to it, for changes of method; None for `known_as`.
        see: Called with each line and the points it answers, shape (m, d), before it is told.

    Raises:
        JournalError: A line does not fit the run.
    """
    told = list(_together(lines, keep=see is not None))
    answered = engine.nfev + sum(len(t.ids) for t in told if isinstance(t, _Told))
    if engine.budget is not None and answered > engine.budget:
        raise JournalError(
            f"The journal holds {answered} answers, more than budget={engine.budget}. Give a larger budget."
        )
    first = engine.steps
    asked_at = _asked_at(told, first)
    events = deque(t for t in told if not isinstance(t, _Told))
    for t in told:
        if moves is not None and engine.variable.version >= moves:
            return
        until = events[0].steps if events else first + len(asked_at)  # later steps were asked after the next event
        while engine.steps < min(until, first + len(asked_at)):
            at, ended = asked_at[engine.steps - first]
            if at > engine.variable.version or ended > engine.steps - len(engine.open):
                break
            engine.begin()
        if not isinstance(t, _Told):
            _happened(engine, events.popleft(), rebuilt or known_as)
            continue
        pending = engine.open.get(t.step)
        if pending is None or pending.version != t.asked[0]:
            raise JournalError(
                f"Line {t.lines[0].number} of the journal answers step {t.step}, which was not open then."
            )
        positions = t.ids - pending.first_id
        outside = (positions < 0) | (positions >= pending.queries.n)
        wrong = outside | ~pending.waiting[np.where(outside, 0, positions)]
        if wrong.any() or np.unique(positions).size < positions.size:
            raise JournalError(
                f"Line {_line_of(t, wrong)} of the journal answers a query twice, or one that was not asked."
            )
        if see is not None and isinstance(engine.variable, Vector):
            points = engine.variable.points(pending.queries.take(positions))
            for a, line in zip(np.cumsum([0, *(len(x.ids) for x in t.lines)]).tolist(), t.lines, strict=False):
                see(line, points[a : a + len(line.ids)])
        for name, found in t.learnt.items():
            pending.learnt.setdefault(name, {}).update(found)
        whole = positions.size == pending.queries.n and bool((positions == pending.every).all())
        engine.take(t.step, pending, pending.every if whole else positions, t.feedback)


def _happened(engine: Engine, line: Known | Changed, rebuilt: Callable[[Any], Any]) -> None:
    """Repeat what happened between two answers."""
    try:
        if engine.steps != line.steps:
            raise ValueError(f"it came after {line.steps} steps, not {engine.steps}")
        if isinstance(line, Changed) and line.keeps:
            engine.reschedule(rebuilt(line.rule))
        elif isinstance(line, Changed):
            engine.go_on(engine.ready(rebuilt(line.estimator), rebuilt(line.rule)))
        else:
            engine.inform(np.array(line.points), np.array(line.values))
    except (ValueError, TypeError) as error:
        raise JournalError(f"Line {line.number} of the journal does not fit the run: {error}.") from None


def known_as(description: Any) -> Any:
    """The estimator or rule of a description, from a header or a change.

    Raises:
        ValueError: It is not part of this package.
    """
    return rebuild(description, find_public)


def _together(lines: Iterable[Line], keep: bool) -> Iterator[_Told | Known | Changed]:
    """Group consecutive answers of one step: within a step, their order does not matter."""
    held: list[Answers] = []
    for line in lines:
        if isinstance(line, Known | Changed):
            if held:
                yield _told(held, keep)
                held = []
            yield line
        if not isinstance(line, Answers):
            continue
        if held and (line.step != held[0].step or line.values is None or line.at != held[0].at):
            yield _told(held, keep)
            held = []
        held.append(line)
        if line.values is None:
            yield _told(held, keep)
            held = []
    if held:
        yield _told(held, keep)


def _told(lines: list[Answers], keep: bool) -> _Told:
    first = lines[0]
    learnt: dict[str, dict[int, Any]] = {}
    for line in lines:
        for name, found in (line.learnt or {}).items():
            known = learnt.setdefault(name, {})
            known.update((i, e) for i, e in zip(line.ids, found, strict=True) if e is not None)
    ids: Ints = np.array([i for line in lines for i in line.ids] if len(lines) > 1 else first.ids, dtype=np.intp)
    feedback: Feedback = first.feedback
    if len(lines) > 1:
        values = [v for line in lines for v in line.values or ()]
        stderr = None
        if any(line.stderr is not None for line in lines):
            stderr = [e for line in lines for e in line.stderr or [np.nan] * len(line.ids)]
        feedback = Values(values, stderr)
    short = [line._replace(values=None, info=None, learnt=None) for line in (first, lines[-1])]
    asked = first.at, first.at if first.ended is None else first.ended
    besides = [other for line in lines if line.asked for other in line.asked]
    return _Told(first.step, asked, ids, feedback, learnt, besides, lines if keep else short)


def _line_of(t: _Told, wrong: Any) -> int:
    """The number of the faulty line, or of the first line that may be."""
    first = t.lines[0]
    return first.number + (int(np.argmax(wrong)) if wrong.any() and len(first.ids) == 1 else 0)


def _asked_at(told: list[_Told | Known | Changed], first: int) -> list[_Asked]:
    """When each step from the first on was asked; a step without a record takes the time of the next."""
    found: dict[int, _Asked] = {}
    for t in told:
        if isinstance(t, _Told):
            found.setdefault(t.step, t.asked)
        for step, at, ended in t.besides if isinstance(t, _Told) else t.asked:
            found.setdefault(step, (at, ended))
    later: _Asked = -1, -1
    out = [later] * (max(found, default=-1) + 1 - first)
    for i in range(len(out) - 1, -1, -1):
        later = out[i] = found.get(first + i, later)
    return out


def points_of(reader: JournalReader) -> Iterator[tuple[Answers, Floats]]:
    """Each line of answers with the points it answers, shape (m, d), found by replaying the run.

    Raises:
        ValueError: The run cannot be rebuilt from its header; see `restore`.
        JournalError: A line does not fit the run.
    """
    return iter(replayed(reader)[0])


def replayed(reader: JournalReader) -> tuple[list[tuple[Answers, Floats]], list[Spent]]:
    """What `points_of` gives, and what `trace_of` gives, from one replay."""
    seen: list[tuple[Answers, Floats]] = []
    engine = engine_of(reader.header)
    replay(engine, reader, see=lambda line, points: seen.append((line, points)))
    return seen, _trace(engine)


def trace_of(reader: JournalReader) -> list[Spent]:
    """What each method of a portfolio has spent and gained; empty for another estimator.

    Raises:
        ValueError: The run cannot be rebuilt from its header; see `restore`.
        JournalError: A line does not fit the run.
    """
    engine = engine_of(reader.header)
    replay(engine, reader)
    return _trace(engine)


def _trace(engine: Engine) -> list[Spent]:
    """What each method has spent; answers to a step that was cut short, as by a budget, count for the last one."""
    if not isinstance(engine.estimator, Portfolio):
        return []
    out = engine.estimator.trace(engine.state)
    cut = sum(pending.queries.n - pending.left for pending in engine.open.values())
    if out and cut:
        out[-1] = out[-1]._replace(queries=out[-1].queries + cut)
    return out


def engine_of(header: Mapping[str, Any]) -> Engine:
    """A fresh engine, built from a header.

    Raises:
        ValueError: The run cannot be rebuilt from its header; see `restore`.
    """
    variable, estimator, rule = restore(header)
    return Engine(variable, estimator, rule, header["seed"], None, header["max_staleness"])


def restore(header: Mapping[str, Any]) -> tuple[Vector, Estimator, Rule]:
    """Variable, estimator and rule, built from a header.

    Raises:
        ValueError: The start is too large for the header, or the variable, estimator or rule cannot be rebuilt from it.
    """
    if "variable" not in header:
        raise ValueError(f"Journals record the start up to dimension {SMALL}; this run has {header['dimension']}.")
    v = header["variable"]
    if "x0" not in v:
        raise ValueError("The run searches the parameters of a model, which are not in its journal.")
    bounds = None
    if v["lower"] is not None:
        bounds = list(zip(v["lower"], v["upper"], strict=True))
    x0 = v["x0"]
    if "starts" in v:
        _, tree = flatten(x0)
        x0 = Starts([tree.unflatten(np.array(start)) for start in v["starts"]])
    return Vector(x0, bounds, v["unit"]), known_as(header["estimator"]), known_as(header["rule"])


_MORE = {"Distinct": Distinct, "Cells": Cells}


def find_public(name: str) -> Any:
    """The estimator, rule or schedule with this name.

    Raises:
        ValueError: `blackbox_zo` has none.
    """
    found = _MORE.get(name) or getattr(estimators, name, None) or getattr(rules, name, None)
    if not (isinstance(found, type) and is_dataclass(found)):
        raise ValueError(f"`{name}` is not part of blackbox_zo, so the run cannot be rebuilt from its journal.")
    return found
