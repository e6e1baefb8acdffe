"""The kinds of lines in a journal: how each is written and read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from blackbox_zo.errors import OracleError
from blackbox_zo.feedback import Feedback, Ranking, Values
from blackbox_zo.journal._events import Changed, Known, event_of

__all__ = [
    "FORMAT",
    "READABLE",
    "Answers",
    "Line",
    "Measured",
    "answer_lines",
    "answers_of",
    "measured_line",
    "parse_line",
    "with_asked",
]

FORMAT = 2
"""Version of the file format. 2 added the lines of measures, known values and changes, and the key "learnt"."""

READABLE = (1, 2)
"""Versions that can be read. A run can only be resumed by the version that started it."""

Learnt: TypeAlias = Mapping[str, Mapping[int, Any]]
"""Evidence from queries, by the name of the oracle and the id of the query."""


class Answers(NamedTuple):
    """The answers in one line: to one query, to all queries of a step, or one ranking of several queries.

    Attributes:
        step: Number of the step, from 0.
        at: Number of moves made when the step was asked.
        ids: Ids of the queries, unique within the run.
        values: The value of each query, NaN for a failure; None for a ranking.
        stderr: Standard errors of the values, NaN where unknown; None if none is known.
        levels: For a ranking, the place of each query in each part, -1 where it is absent; else None.
        weights: For a ranking, the weight of each part; None if each is 1.
        info: Info recorded about each query, or None.
        learnt: What oracles learnt from each query: by oracle name, one entry per query; or None.
        number: Number of the line in the file, from 1.
        ended: Number of steps that were complete when the step was asked; None if equal to `at`: each had moved x.
        asked: Other steps asked since the previous line, without an answer yet: number, `at` and `ended` of each.
    """

    step: int
    at: int
    ids: Sequence[int]
    values: list[float] | None
    stderr: list[float] | None = None
    levels: list[list[int]] | None = None
    weights: list[float] | None = None
    info: list[Mapping[str, Any] | None] | None = None
    learnt: Mapping[str, list[Any]] | None = None
    number: int = 0
    ended: int | None = None
    asked: Sequence[tuple[int, int, int]] = ()

    @property
    def feedback(self) -> Feedback:
        """The feedback that the search was told."""
        if self.values is not None:
            return Values(self.values, self.stderr, self.info)
        ranking = Ranking.from_levels(np.array(self.levels, dtype=np.intp), self.weights)
        ranking.info = self.info
        return ranking


class Measured(NamedTuple):
    """A measure, taken between two steps.

    Attributes:
        name: Name of the measure.
        step: Number of moves made before it.
        values: Numbers by name; NaN where not finite.
        error: Why a number is missing; empty if none is.
        seconds: Seconds since the run started or resumed.
        more: Other recorded entries.
        number: Number of the line in the file, from 1.
    """

    name: str
    step: int
    values: Mapping[str, float]
    error: str = ""
    seconds: float = math.nan
    more: Mapping[str, Any] = {}
    number: int = 0


Line: TypeAlias = Answers | Measured | Known | Changed


def answers_of(step: int, at: int, ids: Any, feedback: Feedback) -> Answers:
    """Answers as a journal would return them, without what oracles learnt from them."""
    numbers, info = np.asarray(ids).tolist(), None if feedback.info is None else list(feedback.info)
    if isinstance(feedback, Ranking):
        weights = None if feedback.weights is None else feedback.weights.tolist()
        return Answers(step, at, numbers, None, None, feedback.levels.tolist(), weights, info)
    stderr = None if feedback.stderr is None else feedback.stderr.tolist()
    return Answers(step, at, numbers, feedback.values.tolist(), stderr, info=info)


def answer_lines(
    step: int,
    at: int,
    ended: int,
    ids: Sequence[int],
    feedback: Feedback,
    learnt: Learnt | None = None,
    *,
    whole: bool = False,
) -> str:
    """The lines for some answers: one per value, one for a ranking, or one for a whole step of bare values.

    Args:
        step: Number of the step.
        at: Number of moves made when the step was asked; left out for a whole step if equal to `step`.
        ended: Number of steps that were complete then; left out if equal to `at`.
        ids: Ids of the answered queries.
        feedback: The answers.
        learnt: What oracles learnt from them.
        whole: Whether they are all queries of the step, in order.

    Raises:
        OracleError: An info or what was learnt is not JSON-able.
    """
    if isinstance(feedback, Ranking):
        entry: dict[str, Any] = {"step": step, "at": at, "ids": list(ids), "levels": feedback.levels.tolist()}
        if ended != at:
            entry["ended"] = ended
        if feedback.weights is not None:
            entry["weights"] = feedback.weights.tolist()
        more = ""
        if feedback.info is not None:
            more += ', "info": ' + _listed_text(dict(zip(entry["ids"], feedback.info, strict=True)), entry["ids"])
        if learnt:
            lists = (f"{json.dumps(name)}: {_listed_text(found, entry['ids'])}" for name, found in learnt.items())
            more += ', "learnt": {' + ", ".join(lists) + "}"
        return json.dumps(entry)[:-1] + more + "}\n"
    more = "" if ended == at else f'"ended": {ended}, '
    values = feedback.values.tolist()
    bare = feedback.stderr is None and feedback.info is None and not learnt
    if bare and whole and len(ids) > 1:
        listed = ", ".join(["null" if value != value else repr(value) for value in values])
        asked = "" if at == step else f'"at": {at}, '
        return f'{{"step": {step}, {asked}{more}"id": {ids[0]}, "values": [{listed}]}}\n'
    head, out = f'{{"step": {step}, "at": {at}, {more}"id": ', []
    for query, value in zip(ids, values, strict=True):
        number = "null" if value != value else repr(value)
        out.append(f'{head}{query}, "value": {number}')
    if not bare:
        out = [line + _noted(i, query, feedback, learnt) for i, (line, query) in enumerate(zip(out, ids, strict=True))]
    return "}\n".join(out) + "}\n"


def _noted(i: int, query: int, feedback: Values, learnt: Learnt | None) -> str:
    """The entries of the line of query i, other than its value."""
    text = ""
    if feedback.stderr is not None and np.isfinite(feedback.stderr[i]):
        text += f', "stderr": {float(feedback.stderr[i])!r}'
    if feedback.info is not None and feedback.info[i]:
        text += f', "info": {_text(feedback.info[i], query)}'
    if learnt:
        mine = {name: found[query] for name, found in learnt.items() if query in found}
        text += f', "learnt": {_text(mine, query)}' if mine else ""
    return text


def with_asked(lines: str, asked: Sequence[tuple[int, int, int]]) -> str:
    """The lines of some answers; the first also records other steps, see `Answers.asked`."""
    return f'{{"asked": {json.dumps(asked)}, {lines[1:]}' if asked else lines


def _text(found: Any, query: int) -> str:
    try:
        return json.dumps(found)
    except (TypeError, ValueError) as error:
        raise OracleError(
            f"What was recorded about query {query}, or learnt from it, cannot be written to the journal ({error}): "
            f"{found!r:.80}. Give `Values(info=...)` and `proposal.learn` numbers, text, and lists and dicts of them."
        ) from None


def _listed_text(found: Mapping[int, Any], ids: Sequence[int]) -> str:
    return "[" + ", ".join(_text(found.get(i), i) for i in ids) + "]"


def measured_line(measured: Measured) -> str:
    """The line of a measure."""
    entry: dict[str, Any] = {"measure": measured.name, "step": measured.step}
    entry["values"] = {name: value if math.isfinite(value) else None for name, value in measured.values.items()}
    if measured.error:
        entry["error"] = measured.error
    if math.isfinite(measured.seconds):
        entry["seconds"] = round(measured.seconds, 3)
    return json.dumps({**entry, **measured.more}) + "\n"


def parse_line(entry: Mapping[str, Any], number: int) -> Line:
    """A line, from its JSON object.

    Raises:
        KeyError: A key is missing.
        TypeError: A value is of another type.
        ValueError: The line is of an unknown kind.
    """
    if "measure" in entry:
        return _measured(entry, number)
    if (event := event_of(entry, number)) is not None:
        return event
    step, learnt, ended = int(entry["step"]), entry.get("learnt"), entry.get("ended")
    asked = [(int(s), int(at), int(done)) for s, at, done in entry["asked"]] if "asked" in entry else ()
    if "levels" in entry:
        return Answers(
            step, entry["at"], list(entry["ids"]), None, None, entry["levels"], entry.get("weights"),
            _listed(entry.get("info")), learnt, number, ended, asked,
        )  # fmt: skip
    if "values" in entry:
        found, first = entry["values"], entry["id"]
        return Answers(
            step,
            entry.get("at", step),
            range(first, first + len(found)),
            _numbers(found),
            None,
            None,
            None,
            None,
            None,
            number,
            ended,
            asked,
        )
    if "value" not in entry:
        raise ValueError("it is of no known kind")
    value, stderr, info = entry["value"], entry.get("stderr"), entry.get("info")
    return Answers(
        step, entry["at"], [entry["id"]], [math.nan if value is None else float(value)],
        None if stderr is None else [float(stderr)], None, None,
        None if info is None else [info],
        None if learnt is None else {name: [found] for name, found in learnt.items()}, number, ended, asked,
    )  # fmt: skip


def _measured(entry: Mapping[str, Any], number: int) -> Measured:
    known = ("measure", "step", "values", "error", "seconds")
    values = {name: math.nan if v is None else float(v) for name, v in entry["values"].items()}
    seconds = entry.get("seconds")
    more = {name: value for name, value in entry.items() if name not in known}
    return Measured(
        str(entry["measure"]), int(entry["step"]), values, str(entry.get("error", "")),
        math.nan if seconds is None else float(seconds), more, number,
    )  # fmt: skip


def _numbers(found: Sequence[float | None]) -> list[float]:
    return [math.nan if v is None else v for v in found] if None in found else list(found)  # type: ignore[arg-type]


def _listed(info: Any) -> list[Mapping[str, Any] | None] | None:
    return None if info is None else list(info)
