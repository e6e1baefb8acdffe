"""A study as plain tables, and what their columns mean."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from typing import Any

import numpy as np

from oracles.ranking.raters._reliability import RaterModel
from oracles.ranking.study._record import FINAL, SEARCH, Record, Round
from oracles.ranking.study._store import Store
from oracles.ranking.study._study import Study
from oracles.ranking.study._vote import votes_of
from oracles.ranking.study._weights import doubts, model_of

__all__ = ["CODEBOOK", "as_csv", "document_of", "rows_of"]

CODEBOOK = {
    "answers": {
        "step": "step of the search, from 0; of practice rounds and checks, their number; of a repeated round, the "
        "step of the round that it repeats",
        "round": "number of the round, which a step has anew after an undo",
        "purpose": "search: the search was given the answer; practice; check: its answer is known; repeat: shows an "
        "earlier round again; final: the winner against the start",
        "of": "number of the round that is repeated",
        "rater": "number of the rater",
        "name": "name that the rater gave",
        "code": "completion code that the rater was shown",
        "weight": "weight of the rater's comparisons after the last round, at least 0, with mean 1; null if unknown",
        "kind": "rank; undecided: cannot tell; none: none is acceptable; skip",
        "order": "positions of the ranked candidates, best first, ties together",
        "right": "of a check or practice round: the share of its comparisons that are right; null elsewhere",
        "shown": "positions in the order of the screen",
        "time": "when the answer was stored, UTC, ISO 8601",
        "ms": "how long the person took, in milliseconds",
        "status": "counts; skipped; withdrawn by its rater; void, since its round rested on a withdrawn answer",
        "points": "the candidates by position, a list of numbers for each; null where they were not kept",
    },
    "raters": {
        "rater, name, code, weight": "as in the answers",
        "reliability": "posterior mean of rho = 1 - 2 e, e the share of comparisons that are wrong: 0 is chance",
        "checks_passed, checks_asked": "rounds with a known answer",
        "retest": "Kendall's tau-b of repeated rounds with the earlier answers, its standard error, and their number",
        "counts, skipped, withdrawn, void": "number of answers by status",
    },
    "rounds": {
        "round, step, purpose, of": "as in the answers",
        "question": "what was asked instead of the study's question",
        "candidates, ranked": "number of candidates; how many places were asked for, null for all",
        "status": "closed: the search was given its answers; open; void; asked: of a round that is not the search's",
        "points": "as in the answers",
    },
}
"""What each column holds."""


def rows_of(store: Store) -> list[dict[str, Any]]:
    """One row for each answer, in order; see `CODEBOOK`."""
    return _rows(store, model_of(Study(store, 1)))


def _rows(store: Store, model: RaterModel) -> list[dict[str, Any]]:
    names, weights = store.people.names(), model.weights
    with store.record() as record:
        found = [(a, record.rounds[a.round_id], record.status(a)) for a in record.answers()]
    points = {round_.id: _points(store, round_) for round_ in {r.id: r for _, r, _ in found}.values()}
    return [
        {
            "step": round_.step,
            "round": round_.id,
            "purpose": round_.purpose,
            "of": round_.of,
            "rater": a.rater,
            "name": names.get(a.rater or 0, ""),
            "code": store.code(a.rater or 0),
            "weight": weights.get(str(a.rater)),
            "kind": a.kind,
            "order": a.payload["groups"],
            "right": _right(round_, a.payload["groups"]),
            "shown": a.shown_order,
            "time": datetime.fromtimestamp(a.created_at, UTC).isoformat(timespec="milliseconds"),
            "ms": a.ms_spent,
            "status": status,
            "points": points[round_.id],
        }
        for a, round_, status in found
    ]


def _points(store: Store, round_: Round) -> list[Any] | None:
    found = store.rounds.points(round_)
    return None if found is None else found.tolist()


def _right(round_: Round, groups: list[list[int]]) -> float | None:
    """The share of comparisons that are right where position is order."""
    if round_.purpose in (SEARCH, FINAL) or round_.of is not None or not groups:
        return None
    level = np.full(round_.n, len(groups))
    for place, group in enumerate(groups):
        level[group] = place
    i, j = np.triu_indices(round_.n, 1)
    said = level[i] != level[j]
    return float((level[i] < level[j])[said].mean()) if said.any() else None


def document_of(store: Store) -> dict[str, Any]:
    """All of a study: the codebook, what it was about, its raters, rounds, answers and final vote."""
    model = model_of(Study(store, 1))
    rows = _rows(store, model)
    names = store.people.names()
    with store.record() as record:
        rounds = [(r, _status(record, r)) for r in record.rounds.values()]
        votes = votes_of(record)
    return {
        "codebook": CODEBOOK,
        "study": store.about,
        "state": store.state,
        "warnings": doubts(model, names),
        "final_vote": None if votes is None else {**votes._asdict(), "p_value": votes.p_value},
        "raters": [_rater(store, model, i, name, rows) for i, name in names.items()],
        "rounds": [
            {
                "round": r.id,
                "step": r.step,
                "purpose": r.purpose,
                "of": r.of,
                "question": r.question,
                "candidates": r.n,
                "ranked": r.n_ranked,
                "status": status,
                "points": _points(store, r),
            }
            for r, status in rounds
        ],
        "answers": rows,
    }


def _status(record: Record, round_: Round) -> str:
    if round_.purpose != SEARCH:
        return "asked"
    return "void" if round_.id in record.void else "open" if record.close(round_.id) is None else "closed"


def _rater(store: Store, model: RaterModel, rater: int, name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    told: dict[str, Any] = {"rater": rater, "name": name, "code": store.code(rater), "weight": None}
    if str(rater) in model.raters:
        passed, asked = model.checks(str(rater))
        told |= {"weight": model.weights[str(rater)], "reliability": model.standings[str(rater)].reliability}
        told |= {"checks_passed": passed, "checks_asked": asked}
        retest = model.retest(str(rater))
        told["retest"] = None if not retest.n else retest._asdict()
    mine = [row["status"] for row in rows if row["rater"] == rater]
    return told | {status: mine.count(status) for status in ("counts", "skipped", "withdrawn", "void")}


def as_csv(rows: list[dict[str, Any]]) -> str:
    """The rows as CSV; lists as JSON."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]) if rows else ["step"], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(value) for name, value in row.items()})
    return out.getvalue()


def _cell(value: Any) -> Any:
    """A value as a cell. A text that a spreadsheet would run as a formula gets an apostrophe."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@")):
        return f"'{value}"
    return json.dumps(value) if isinstance(value, list | dict) else value
