"""A study as plain rows."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from typing import Any

from oracles.ranking.study._store import Store

__all__ = ["as_csv", "readable", "rows_of"]


def rows_of(store: Store) -> list[dict[str, Any]]:
    """One row for each answer, in order.

    Its columns: "step" of the search; "round", which a step has anew after an undo; "rater", a number; "name" of the
    rater; "code" that the rater is shown at the end; "kind"; "order", the positions of the ranked candidates, best
    first, ties together; "shown", the positions in the order of the screen; "time" since 1970 in seconds; "ms" that the
    person took; "status": "counts", "skipped", "withdrawn" by its rater, or "void", since an answer was withdrawn on
    which its round rested; "points" of the candidates, a list for each, where they were kept.
    """
    names = store.people.names()
    with store.record() as record:
        found = [(answer, record.rounds[answer.round_id].step, record.status(answer)) for answer in record.answers()]
    points = {i: None if (p := store.points(i)) is None else p.tolist() for i in {a.round_id for a, _, _ in found}}
    return [
        {
            "step": step,
            "round": a.round_id,
            "rater": a.rater,
            "name": names.get(a.rater or 0, ""),
            "code": store.code(a.rater or 0),
            "kind": a.kind,
            "order": a.payload["groups"],
            "shown": a.shown_order,
            "time": a.created_at,
            "ms": a.ms_spent,
            "status": status,
            "points": points[a.round_id],
        }
        for a, step, status in found
    ]


def as_csv(rows: list[dict[str, Any]]) -> str:
    """The rows as CSV; lists as JSON, times in ISO 8601."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]) if rows else ["step"], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(value) for name, value in readable(row).items()})
    return out.getvalue()


def readable(row: dict[str, Any]) -> dict[str, Any]:
    """A row with its time in ISO 8601."""
    return row | {"time": datetime.fromtimestamp(row["time"], UTC).isoformat(timespec="milliseconds")}


def _cell(value: Any) -> Any:
    """A value as a cell. A text that a spreadsheet would run as a formula gets an apostrophe."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@")):
        return f"'{value}"
    return json.dumps(value) if isinstance(value, list | dict) else value
