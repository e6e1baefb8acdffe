"""How a study stands, as its researcher sees it: on a page, and in a line."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from oracles.ranking._liking import Liking, liking_of
from oracles.ranking.study._answers import Closed, winner
from oracles.ranking.study._progress import url_of
from oracles.ranking.study._record import PRACTICE, Round
from oracles.ranking.study._site import Site
from oracles.ranking.study._study import Study
from oracles.ranking.study._vote import votes_of

__all__ = ["HERE", "Overview", "liking_in"]

HERE = 10.0
"""Seconds since a page asked last within which its rater is here."""


BRISK = 240
"""Candidates up to which the best so far is known within a tenth of a second or two."""


class Best(NamedTuple):
    """The winner of a round that is liked most.

    Attributes:
        step: Of the round.
        mean: Utility above that of the first winner, in units of an answer's noise.
        stderr: Its standard deviation.
        picture: "kind" and "url", as a page shows it; None where nothing was drawn.
    """

    step: int
    mean: float
    stderr: float
    picture: dict[str, str] | None


def liking_in(study: Study, known: Sequence[tuple[Round, Closed]]) -> Liking | None:
    """How the utility of the winners grew; None where the points were not kept, or see `liking_of`."""
    points = [study.store.rounds.points(r) for r, _ in known]
    kept = [p for p in points if p is not None]
    if len(kept) < len(points):
        return None
    rankings = [closed.ranking for _, closed in known]
    return liking_of(kept, rankings, [winner(ranking) for ranking in rankings])


class Overview:
    """Sums a study up.

    Args:
        site: The study as its visitors find it.
        seen: When each rater's page asked last, by this process's clock.

    Attributes:
        facts: What the search knows: each rater's weight, checks, repeated rounds, and warnings.
    """

    def __init__(self, site: Site, seen: Mapping[int, float]) -> None:
        self.site, self.study, self.store, self._seen = site, site.study, site.store, seen
        self.facts: Callable[[], dict[str, Any]] = dict
        self._busy = threading.Lock()
        self._over: tuple[Any, list[tuple[Round, Closed]]] = None, []
        self._liking: tuple[Any, Liking | None] = None, None

    def _known(self) -> list[tuple[Round, Closed]]:
        """The rounds that are over; read once for each."""
        with self.store.record() as record:
            closes = [close.id for r in record.holding() if (close := record.close(r.id)) is not None]
        if closes != self._over[0]:
            self._over = closes, self.study.over()
        return self._over[1]

    def _grown(self) -> tuple[list[tuple[Round, Closed]], Liking | None]:
        """The rounds that are over, and how liking grew; worked out once for each."""
        with self._busy:
            known = self._known()
            if known is not self._liking[0]:
                self._liking = known, liking_in(self.study, known)
            return known, self._liking[1]

    def liking(self) -> dict[str, Any] | None:
        """How the utility of the winners grew, as JSON; None while that is unknown."""
        known, found = self._grown()
        if found is None:
            return None
        rounds = [known[i][0].step + 1 for i in found.rounds]
        return {"rounds": rounds, "mean": found.mean.tolist(), "stderr": found.stderr.tolist()}

    def best(self) -> Best | None:
        """The winner that is liked most; None while that is unknown."""
        known, liking = self._grown()
        if liking is None:
            return None
        at = int(liking.mean.argmax())
        round_, closed = known[int(liking.rounds[at])]
        candidate = self.store.gallery.at(round_, winner(closed.ranking))
        picture = None if candidate is None else {"kind": candidate.kind, "url": url_of(candidate)}
        return Best(round_.step, float(liking.mean[at]), float(liking.stderr[at]), picture)

    def whole(self, brisk: bool = False) -> dict[str, Any]:
        """All that the researcher's page shows, as JSON.

        Args:
            brisk: Whether to leave out what takes long.
        """
        now, facts, known = time.monotonic(), self.facts(), self._known()
        best = None if brisk and sum(r.n for r, _ in known) > BRISK else self.best()
        agreed = [(r.step + 1, closed.agreement) for r, closed in known if np.isfinite(closed.agreement)]
        names, links = self.store.people.names(), self.store.people.links()
        with self.store.record() as record:
            status = Counter((a.rater, record.status(a)) for a in record.answers() if record.purpose(a) != PRACTICE)
            waiting = [(r, sorted(record.standing(r.id))) for r in record.open()]
            votes = votes_of(record)
        raters = [
            {
                "id": i,
                "name": name,
                "seen": None if i not in self._seen else now - self._seen[i],
                "link": links.get(i, "none"),
                "weight": facts.get("weights", {}).get(str(i)),
                "checks": facts.get("checks", {}).get(str(i)),
                "retest": facts.get("retest", {}).get(str(i)),
                "enough": self.study.turns.enough(i),
                **{s: status[i, s] for s in ("counts", "skipped", "withdrawn", "void")},
            }
            for i, name in names.items()
        ]
        asked = [
            {"step": r.step, "n": r.n, "ranked": r.n_ranked, "answered": [names[i] for i in given]}
            for r, given in waiting
        ]
        return {
            "state": self.site.state,
            "answers_per_round": self.study.raters,
            "raters": raters,
            "asked": asked,
            "warnings": [*filter(None, [self.study.turns.short()]), *facts.get("warnings", [])],
            "agreement": agreed,
            "best": None if best is None else best._asdict(),
            "votes": None if votes is None else str(votes),
            **self.site.progress.now(),
        }

    def line(self) -> str:
        """The same in a line."""
        found = self.whole(brisk=True)  # the next round waits for it
        here = sum(r["seen"] is not None and r["seen"] < HERE for r in found["raters"])
        told = [f"{here} of {len(found['raters'])} raters here"]
        if found["progress"]["agreement"] is not None:
            told.append(f"they agree in {100 * found['progress']['agreement']:.0f} % of comparisons")
        if found["best"] is not None:
            told.append(
                f"best of round {found['best']['step'] + 1} (utility {found['best']['mean']:.1f} ± "
                f"{found['best']['stderr']:.1f})"
            )
        if found["warnings"]:
            told.append("1 doubt" if len(found["warnings"]) == 1 else f"{len(found['warnings'])} doubts")
        return ", ".join(told)
