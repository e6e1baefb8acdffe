"""The progress of a study, as its page shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from oracles.ranking.study._answers import winner
from oracles.ranking.study._gallery import Candidate
from oracles.ranking.study._record import Round
from oracles.ranking.study._study import Study

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
        self._told: tuple[Any, dict[str, Any]] = None, {}

    def now(self) -> dict[str, Any]:
        """Numbers under "progress", and the winner of each of the last rounds under "history"."""
        with self.study.store.record() as record:
            mark = record.mark, self.agreement
            closes = [(r, close.id) for r in record.holding() if (close := record.close(r.id)) is not None]
        if mark != self._told[0]:  # pages ask four times a second
            self._told = mark, self._found(closes)
        return self._told[1]

    def _found(self, closes: Sequence[tuple[Round, int]]) -> dict[str, Any]:
        store = self.study.store
        for r, close in closes:
            if close not in self._past and (closed := self.study.closed(r)) is not None:
                ranking = closed.ranking
                found = store.gallery.at(r, winner(ranking))
                entry = None if found is None else {"kind": found.kind, "url": url_of(found)}
                self._past[close] = _Past(float(ranking.n_edges), entry, list(closed.seconds.values()))
        past = [(r, self._past[close]) for r, close in closes if close in self._past]
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
    """Where a candidate's bytes are."""
    return f"media/{candidate.id}"


def shown(candidate: Candidate | None, texts: Mapping[str, str]) -> dict[str, Any] | None:
    """The data that the page gets about a candidate; None until it is rendered."""
    if candidate is None:
        return None
    out: dict[str, Any] = {"id": candidate.id, "kind": candidate.kind, "note": candidate.note}
    if candidate.kind in ("text", "error"):
        return out | {"text": texts[candidate.id]}
    return out | {"url": url_of(candidate)}
