"""What an answer means: from what a page sends to positions, and from these to rankings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from blackbox_zo.feedback import Ranking
from oracles.ranking.study._gallery import Candidate
from oracles.ranking.study._record import CHECK, KINDS, Answer, Record, Round

__all__ = ["Closed", "Extra", "Invalid", "extra_of", "levels", "places", "right", "wanted", "winner"]


class Invalid(ValueError):
    """An answer does not fit its round; the message is for the person."""


@dataclass(frozen=True)
class Extra:
    """An answer to a check or a repeated round.

    Attributes:
        rater: Who gave it.
        said: The answer.
        seconds: How long they took, NaN where unknown.
        shown: The positions in the order of the screen.
        known: The right order, of a check.
        earlier: What they had answered to the round that is repeated.
    """

    rater: int
    said: Ranking
    seconds: float
    shown: list[int]
    known: Ranking | None
    earlier: Ranking | None


def extra_of(record: Record, answer: Answer) -> Extra | None:
    """An answer to a check or a repeated round, with what it is compared with; None if there is nothing."""
    round_, before = record.rounds[answer.round_id], record.earlier(answer)
    known = Ranking(list(range(round_.n)), round_.n) if round_.purpose == CHECK else None
    if answer.rater is None or (known is None and before is None):
        return None
    seconds = np.nan if not answer.ms_spent else answer.ms_spent / 1000
    earlier = None if before is None else _ranking(levels(before, round_.n))
    return Extra(answer.rater, _ranking(levels(answer, round_.n)), seconds, answer.shown_order, known, earlier)


def right(groups: Sequence[Sequence[int]]) -> bool:
    """Whether an order of positions is that of a round whose candidates are numbered best first."""
    return [[place] for place in range(len(groups))] == [list(group) for group in groups]


@dataclass(frozen=True)
class Closed:
    """The answers of a closed round.

    Attributes:
        n: Number of candidates.
        said: Each rater's ranking, by the rater's id, in the order in which they answered.
        seconds: How long they took, where known.
        shown: The positions in the order in which each saw them.
        extra: Answers to checks and repeated rounds since the round before.
    """

    n: int
    said: dict[int, Ranking]
    seconds: dict[int, float]
    shown: dict[int, list[int]]
    extra: list[Extra] = field(default_factory=list)

    @property
    def ranking(self) -> Ranking:
        """All answers in one ranking, with one part per rater."""
        everyone = np.arange(self.n)
        if not self.said:
            return Ranking.from_levels(np.zeros(self.n, dtype=np.intp))
        return Ranking.join([(everyone, ranking) for ranking in self.said.values()], self.n)

    @property
    def agreement(self) -> float:
        """In which share of the comparisons that two raters made both chose alike; NaN without any."""
        levels = np.array([ranking.levels[0] for ranking in self.said.values()])
        signs = np.sign(levels[:, :, None] - levels[:, None, :]) if self.said else levels
        products = [signs[i] * signs[j] for i in range(len(signs)) for j in range(i)]
        both = sum(int((p != 0).sum()) for p in products)
        return sum(int((p > 0).sum()) for p in products) / both if both else np.nan


def places(
    round_: Round, candidates: Sequence[Candidate], kind: str, groups: Sequence[Sequence[str]]
) -> list[list[int]]:
    """The positions in each tie group."""
    if kind not in KINDS:
        raise Invalid(f"An answer must be one of {', '.join(KINDS)}.")
    if kind != "rank":
        if groups:
            raise Invalid(f"An answer of kind {kind!r} has no order.")
        return []
    position = {c.id: c.position for c in candidates}
    if len(candidates) < round_.n:
        raise Invalid("Some candidates have not been drawn yet.")
    failed = {c.id for c in candidates if c.kind == "error"}
    seen: set[str] = set()
    for name in (name for group in groups for name in group):
        if name not in position:
            raise Invalid("The order names a candidate that is not in this round.")
        if name in seen:
            raise Invalid("The order names a candidate twice.")
        if name in failed:
            raise Invalid("A candidate that could not be drawn cannot be ranked.")
        seen.add(name)
    least = wanted(round_, candidates)
    if not all(groups) or len(seen) < least:
        raise Invalid(f"Rank at least {least}.")
    return [[position[name] for name in group] for group in groups]


def wanted(round_: Round, candidates: Iterable[Candidate]) -> int:
    """Number of candidates that an order must name: if all are to be ranked, the last one is implied."""
    shown = round_.n - sum(c.kind == "error" for c in candidates)
    return min(round_.n_ranked or shown, max(1, shown - 1))


def levels(answer: Answer, n: int, failed: Sequence[int] = (), best: int | None = None) -> list[int]:
    groups = answer.payload["groups"] if answer.kind == "rank" else []
    if answer.kind == "none" and best is not None:
        groups = [[best]]
    level = [len(groups)] * n
    for place, group in enumerate(groups):
        for i in group:
            level[i] = place
    for i in failed:
        level[i] = len(groups) + 1
    return level


def _ranking(found: Sequence[int]) -> Ranking:
    return Ranking.from_levels(np.array(found, dtype=np.intp))


def winner(ranking: Ranking) -> int | None:
    """The position of the best candidate of a round; None if nothing was compared."""
    net: Any = ranking.net_losses()
    return int(np.argmin(net)) if net.min() < 0 else None
