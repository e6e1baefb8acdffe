"""What a search writes to its journal, and how it is read back. Replaying the answers is resuming the run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from blackbox_zo._describe import describe, rebuild
from blackbox_zo._typing import Floats, Ints
from blackbox_zo.errors import JournalError
from blackbox_zo.feedback import Feedback, Ranking, Values
from blackbox_zo.variables import SMALL, Vector

if TYPE_CHECKING:
    from blackbox_zo.search import Search

__all__ = ["find_public", "header", "history", "lines", "ranking_of", "replay", "restore"]


def header(search: Search) -> dict[str, Any]:
    """What tells this run from others."""
    v = search.variable
    out: dict[str, Any] = {
        "estimator": describe(search.estimator),
        "rule": describe(search.rule),
        "seed": search.seed,
        "dimension": v.size,
        "start": v.fingerprint(),
        "max_staleness": search.max_staleness,
        "numpy": np.__version__,
    }
    described = v.describe()
    if described is not None:
        out["variable"] = described
    return out


def lines(step: int, version: int, ids: Ints, feedback: Feedback, whole: bool = False) -> str:
    """One line per value, or one for a ranking, or one for a whole step of bare values.

    "at" is the number of moves made when the step was asked; a whole step leaves it out where it is the step's number.
    """
    if isinstance(feedback, Ranking):
        entry = {"step": step, "at": version, "ids": ids.tolist(), "levels": feedback.levels.tolist()}
        if feedback.weights is not None:
            entry["weights"] = feedback.weights.tolist()
        if feedback.info is not None:
            entry["info"] = list(feedback.info)
        return json.dumps(entry) + "\n"
    if whole and len(ids) > 1 and feedback.stderr is None and feedback.info is None:
        values = ", ".join("null" if v != v else repr(v) for v in feedback.values.tolist())
        at = "" if version == step else f'"at": {version}, '
        return f'{{"step": {step}, {at}"id": {ids[0]}, "values": [{values}]}}\n'
    head, out = f'{{"step": {step}, "at": {version}, "id": ', []
    for i, (query, value) in enumerate(zip(ids.tolist(), feedback.values.tolist(), strict=True)):
        line = f'{head}{query}, "value": {"null" if value != value else repr(value)}'
        if feedback.stderr is not None and np.isfinite(feedback.stderr[i]):
            line += f', "stderr": {float(feedback.stderr[i])!r}'
        if feedback.info is not None and feedback.info[i]:
            line += f', "info": {json.dumps(feedback.info[i])}'
        out.append(line + "}\n")
    return "".join(out)


def replay(
    search: Search,
    records: list[dict[str, Any]],
    see: Callable[[dict[str, Any], Floats], None] | None = None,
    moves: int | None = None,
) -> None:
    """Feed recorded answers to a fresh search, asking each step after as many moves as when it was first asked.

    Args:
        search: As it was when the journal was begun.
        records: From `journal.read`.
        see: Called with each record and the points it answers, shape (m, d), before it is told.
        moves: Stop after so many moves; none goes to the end.

    Raises:
        JournalError: A record does not fit the run.
    """
    answered = sum(len(r["ids"]) if "ids" in r else 1 for r in records)
    if search.budget is not None and answered > search.budget:
        raise JournalError(
            f"The journal holds {answered} answers, more than budget={search.budget}. Give a larger budget."
        )
    asked_at: dict[int, int] = {}
    for record in records:
        asked_at.setdefault(record["step"], record["at"])
    later = -1
    for step in range(max(asked_at, default=-1), -1, -1):  # a step without answers was asked no later than the next one
        later = asked_at.setdefault(step, later)
    for number, record in enumerate(records):
        if moves is not None and search.variable.version >= moves:
            return
        while asked_at.get(search._step, search.variable.version + 1) <= search.variable.version:
            search._begin()
        pending = search._open.get(record["step"])
        if pending is None or pending.version != record["at"]:
            raise JournalError(
                f"Line {number + 2} of the journal answers step {record['step']}, which was not open then."
            )
        ids = np.array(record["ids"] if "ids" in record else [record["id"]], dtype=np.intp) - pending.first_id
        if ids.min() < 0 or ids.max() >= pending.queries.n or not pending.waiting[ids].all():
            raise JournalError(f"Line {number + 2} of the journal answers a query twice, or one that was not asked.")
        if see is not None and isinstance(search.variable, Vector):
            see(record, search.variable.points(pending.queries.take(ids)))
        search._take(record["step"], pending, ids, _feedback(record))


def history(header: dict[str, Any], records: list[dict[str, Any]]) -> list[tuple[dict[str, Any], Floats]]:
    """Each record with the points it answers, shape (m, d), found by replaying the run.

    Raises:
        ValueError: The run cannot be rebuilt from its header; see `restore`.
        JournalError: A record does not fit the run.
    """
    from blackbox_zo.search import Search

    variable, estimator, rule = restore(header)
    search = Search(variable, estimator, rule, seed=header["seed"], max_staleness=header["max_staleness"])
    seen: list[tuple[dict[str, Any], Floats]] = []
    replay(search, records, lambda record, points: seen.append((record, points)))
    return seen


def ranking_of(record: Mapping[str, Any]) -> Ranking:
    """The ranking that a record holds, to the bit."""
    return Ranking.from_levels(np.array(record["levels"], dtype=np.intp), record.get("weights"))


def _feedback(record: dict[str, Any]) -> Feedback:
    if "levels" in record:
        return ranking_of(record)
    value, stderr = record["value"], record.get("stderr")
    return Values([np.nan if value is None else value], None if stderr is None else [stderr])


def restore(header: dict[str, Any]) -> tuple[Vector, Any, Any]:
    """Variable, estimator and rule as a header describes them.

    Raises:
        ValueError: The run is too large to be in the header, or uses an estimator or rule of the user's own.
    """
    if "variable" not in header:
        raise ValueError(f"The start is kept in journals up to dimension {SMALL}; this one has {header['dimension']}.")
    v = header["variable"]
    if "x0" not in v:
        raise ValueError("The run searches the parameters of a model, which are not in its journal.")
    bounds = None
    if v["lower"] is not None:
        bounds = list(zip(v["lower"], v["upper"], strict=True))
    vector = Vector(v["x0"], bounds, v["unit"])
    return vector, rebuild(header["estimator"], find_public), rebuild(header["rule"], find_public)


def find_public(name: str) -> Any:
    """The estimator, rule or schedule of a name in a header.

    Raises:
        ValueError: There is none.
    """
    import blackbox_zo

    found = getattr(blackbox_zo, name, None) or getattr(blackbox_zo.rules._base, name, None)
    if found is None:
        raise ValueError(f"`{name}` is not part of blackbox_zo, so the run cannot be rebuilt from its journal.")
    return found
