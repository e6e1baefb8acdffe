"""What each rater is asked beside the search's rounds, how much, and when they rest."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

from blackbox_zo._checks import check_at_least, check_positive
from oracles.ranking.raters._plan import Planned, plan

__all__ = ["StudyDesign"]

LEAST_EVERY = 5
"""A repeated round is at least three rounds old."""


@final
@dataclass(frozen=True)
class StudyDesign:
    """What each rater is asked beside the search's rounds, how much, and when they rest.

    Args:
        practice: Number of practice rounds that a rater begins with. Their answers are known, and are shown to the
            rater; the search is not given them.
        check_every: Of each `check_every` rounds of a rater, one is a check, whose answer is known, and one repeats an
            earlier round of theirs in another order; where is drawn for each rater, see `plan`. At least 5; 0 for
            neither. They tell `RaterModel` how far to rely on the rater.
        known: Rounds for practice and checks: of each, the candidates in the structure of x0, best first. None for
            numbers of two digits, of which the largest is best.
        rounds_each: Maximum rounds of the search that one rater answers; None for no limit.
        break_every: Rounds after which a rater rests; None for never.
        break_seconds: For how long, at least.
        most_raters: Maximum number of raters who have a link; None for no limit.

    Raises:
        ValueError: An argument is out of its range.

    Example:
        >>> from oracles.ranking import StudyDesign
        >>> design = StudyDesign(practice=2, check_every=8, rounds_each=40, break_every=20)
        >>> design.check(raters=3, rounds=20)
    """

    practice: int = 0
    check_every: int = 0
    known: Sequence[Sequence[Any]] | None = None
    rounds_each: int | None = None
    break_every: int | None = None
    break_seconds: float = 60
    most_raters: int | None = None

    def __post_init__(self) -> None:
        check_at_least("StudyDesign", 0, practice=self.practice)
        if self.check_every:
            check_at_least("StudyDesign", LEAST_EVERY, check_every=self.check_every)
        check_positive("StudyDesign", break_seconds=self.break_seconds)
        for name in ("rounds_each", "break_every", "most_raters"):
            if getattr(self, name) is not None:
                check_at_least("StudyDesign", 1, **{name: getattr(self, name)})
        if self.known is not None and (not len(self.known) or any(len(round_) < 2 for round_ in self.known)):
            raise ValueError("`StudyDesign(known=...)` needs at least one round, and two candidates in each.")

    def check(self, raters: int, rounds: int | None) -> None:
        """Refuse limits within which the study cannot end.

        Args:
            raters: How many people answer each round.
            rounds: Planned rounds, where known.

        Raises:
            ValueError: Too few raters may take part, or each may answer too little.
        """
        most, each = self.most_raters, self.rounds_each
        if most is not None and most < raters:
            raise ValueError(f"At most {most} raters may take part, but each round needs the answers of {raters}.")
        if most is not None and each is not None and rounds is not None and most * each < raters * rounds:
            raise ValueError(
                f"{rounds} rounds of {raters} answers need {raters * rounds} answers, but {most} raters of at most "
                f"{each} rounds give {most * each}."
            )

    def turn(self, secret: str, rater: int, number: int) -> Planned:
        """What round `number` of a rater, from 0, is for, in a study of a secret."""
        if not self.check_every:
            return Planned("normal")
        return _turn(self.check_every, secret, rater, number)


@functools.lru_cache(maxsize=4096)
def _turn(every: int, secret: str, rater: int, number: int) -> Planned:
    seed = int.from_bytes(hashlib.sha256(f"{secret}/plan/{rater}".encode()).digest()[:4], "big")
    return plan(number, seed, every=every)
