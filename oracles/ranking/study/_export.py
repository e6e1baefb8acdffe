"""A study as plain rows."""

from __future__ import annotations

from typing import Any

from oracles.ranking.study._store import Store
from oracles.ranking.study._study import KINDS

__all__ = ["rows_of"]


def rows_of(store: Store) -> list[dict[str, Any]]:
    """One row per answer, in order.

    Columns: "step" of the search; "round", which is new for a step after an undo; "rater"; "kind"; "order", the
    positions of the ranked candidates, best first, ties together; "shown", the positions in the order on the screen;
    "time" in seconds since 1970; "ms" that the person took; "undone", whether the answer was withdrawn; "points", a
    list for each candidate, if they were stored.
    """
    rows = store.rows()
    undone = {a.payload["answer"] for a in rows if a.kind == "undo"}
    steps = store.steps()
    points = {i: None if (p := store.points(i)) is None else p.tolist() for i in {a.round_id for a in rows}}
    return [
        {
            "step": steps[a.round_id],
            "round": a.round_id,
            "rater": a.rater,
            "kind": a.kind,
            "order": a.payload["groups"],
            "shown": a.shown_order,
            "time": a.created_at,
            "ms": a.ms_spent,
            "undone": a.id in undone,
            "points": points[a.round_id],
        }
        for a in rows
        if a.kind in KINDS
    ]
