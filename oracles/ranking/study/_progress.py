"""The progress of a study, as its page shows it."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any, NamedTuple

from oracles.ranking.study._gallery import Candidate
from oracles.ranking.study._study import Study, winner

__all__ = ["Progress", "shown", "url_of"]

STRIP = 24
"""Number of last rounds whose winners the page shows."""


class _Past(NamedTuple):
    """What the page shows of a closed round."""

    comparisons: float
    best: dict[str, str] | None
    times: list[float]


class Progress:
    """Summarises the closed rounds, reading each of them once.

    Args:
        study: The study.
        rounds: Number of planned rounds; None if unknown.

    Attributes:
        agreement: Share of recent comparisons in which the raters agreed; None if unknown.
    """

    def __init__(self, study: Study, rounds: int | None) -> None:
        self.study, self.rounds = study, rounds
        self.agreement: float | None = None
        self._past: dict[int, _Past] = {}
        self._undone = 0
        self._told: tuple[Any, dict[str, Any]] = None, {}

    def now(self) -> dict[str, Any]:
        """Figures under "progress", and the winners of the last rounds under "history"."""
        store = self.study.store
        with store.engine.connect() as c:
            mark = store.mark(c), self.agreement
        if mark != self._told[0]:  # each page polls four times a second
            self._told = mark, self._found()
        return self._told[1]

    def _found(self) -> dict[str, Any]:
        store = self.study.store
        newest = store.newest("undo")
        if newest != self._undone:
            self._undone, self._past = newest, {}
        rounds = store.rounds()
        for r in rounds:
            if r.id not in self._past and (closed := self.study.closed(r)) is not None:
                ranking = closed.ranking
                best = winner(ranking)
                found = next((c for c in store.gallery.candidates(r.id) if c.position == best), None)
                entry = None if found is None else {"kind": found.kind, "url": url_of(found)}
                self._past[r.id] = _Past(float(ranking.n_edges), entry, list(closed.seconds.values()))
        past = [(r, self._past[r.id]) for r in rounds if r.id in self._past]
        times = [t for _, p in past for t in p.times]
        return {
            "progress": {
                "done": len(past),
                "rounds": self.rounds,
                "seconds_left": None if self.rounds is None or not times else median(times) * (self.rounds - len(past)),
                "agreement": self.agreement,
                "comparisons": sum(p.comparisons for _, p in past),
            },
            "history": [{"step": r.step, "best": p.best} for r, p in past[-STRIP:]],
        }


def url_of(candidate: Candidate) -> str:
    """The URL of a candidate's bytes."""
    return f"/media/{candidate.id}"


def shown(candidate: Candidate | None, texts: Mapping[str, str]) -> dict[str, Any] | None:
    """The data that the page gets about a candidate; None until it is rendered."""
    if candidate is None:
        return None
    out: dict[str, Any] = {"id": candidate.id, "kind": candidate.kind, "note": candidate.note}
    if candidate.kind in ("text", "error"):
        return out | {"text": texts[candidate.id]}
    return out | {"url": url_of(candidate)}
