"""`RaterModel`: how far raters can be relied on, from checks, repeated rounds, each other, and what is predictable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, final

import numpy as np

from blackbox_zo._checks import check_positive
from blackbox_zo._typing import Floats, Ints
from blackbox_zo.feedback import Ranking
from oracles.ranking.raters._belief import SURE, Standing, beliefs, prior, standings_of
from oracles.ranking.raters._kendall import Agreement, Duplicate, agreement_of
from oracles.ranking.raters._rounds import PREDICTABLE, Evidence, Round, check_round, forget
from oracles.ranking.raters._trends import Fatigue, Trend, trend
from oracles.ranking.raters._warnings import warnings_of

__all__ = ["Agreement", "Duplicate", "Fatigue", "RaterModel", "Standing", "Trend"]

VERSION = 2
"""Of the saved state."""

_LEAST = 1e-3
"""Raters of smaller weight are left out of a merged ranking; error rates are clipped to at least this."""


@final
@dataclass(frozen=True)
class RaterModel:
    """How far each of several raters can be relied on.

    Each comparison of rater r is wrong with probability `e_r` (Dawid & Skene 1979, the one-coin model). The posterior
    of `rho_r = 1 - 2 e_r` joins five kinds of evidence, for all raters together:

    - checks: comparisons whose answer is known agree with it to `tau = rho_r` on average,
    - repeated rounds: two answers of r to the same candidates agree to `rho_r²`,
    - each other: answers of r and s agree to `rho_r rho_s`,
    - predictions: r's answers agree with a Gaussian process of r's earlier ones to `gamma rho_r²`, where gamma is
      unknown and the same for all raters: answers at random follow from nothing,
    - the screen: careful answers have nothing to do with the order in which candidates are shown.

    A ranking counts as many independent comparisons as the variance of Kendall's tau says: 12 for 8 candidates, not
    28. `log((1 + rho_r) / (1 - rho_r))`, at the posterior mean of `rho_r`, is the weight of r in the vote; it is the
    optimal one if `rho_r` is known. Where the evidence cannot tell who is careful, the weights are nearly equal, and
    `warnings` says so.

    A model is never changed, and depends on what it was told, in that order, alone.

    Args:
        wrong: Prior count of wrong comparisons of each rater, positive.
        right: Prior count of right comparisons, positive.
        random: Prior probability that a rater answers at random.
        contrary: Prior probability that a rater mistakes worse for better.
        rounds: The rounds passed to `update` so far.

    Raises:
        ValueError: An argument is out of its range.

    Example:
        >>> model = RaterModel()
        >>> for _ in range(20):
        ...     answers = {"ann": Ranking([0, 1, 2], 3), "bob": Ranking([0, 1, 2], 3), "eve": Ranking([2, 1, 0], 3)}
        ...     model = model.update(answers)
        >>> model.weights["eve"], model.merge(answers).groups()
        (0.0, [[0], [1]])
        >>> [warning.partition(" (")[0] for warning in model.warnings()]
        ['eve: the answers run against those of the others']
    """

    wrong: float = 1.0
    right: float = 4.0
    random: float = 0.1
    contrary: float = 0.05
    rounds: tuple[Round, ...] = ()
    evidence: Evidence = field(default_factory=Evidence.none)

    def __post_init__(self) -> None:
        check_positive("RaterModel", wrong=self.wrong, right=self.right, random=self.random, contrary=self.contrary)
        if not self.random + self.contrary < 1:
            raise ValueError(
                f"`RaterModel(random=..., contrary=...)` must sum to less than 1, got {self.random!r} and "
                f"{self.contrary!r}."
            )

    def update(
        self,
        answers: Mapping[str, Ranking],
        seconds: Mapping[str, float] | None = None,
        *,
        check: Ranking | Duplicate | None = None,
        repeats: Mapping[str, Ranking] | None = None,
        points: Any = None,
        shown: Mapping[str, Sequence[int] | Ints] | None = None,
    ) -> RaterModel:
        """The model after one more round.

        Args:
            answers: The answer of each rater who answered, all about the same n candidates.
            seconds: How long each took, where known.
            check: What a careful rater must answer, if that is known: the comparisons of a ranking, or a `Duplicate`.
                Such a round counts in no other way.
            repeats: The raters' answers to an earlier round of the same candidates, numbered as in `answers`.
            points: The candidates, shape (n, d), so that answers can be predicted; ignored above 100 dimensions.
            shown: For each rater, where known, the candidates in the order on the screen: a permutation of 0 … n - 1.

        Raises:
            ValueError: An argument is about another number of candidates, or names a position that there is not.
        """
        repeats, shown = repeats or {}, shown or {}
        n = max((ranking.n for ranking in answers.values()), default=0)
        orders = {name: np.asarray(order, dtype=np.intp) for name, order in shown.items() if name in answers}
        x = None if points is None else np.asarray(points, dtype=np.float64)
        check_round(n, answers, check, repeats, orders, x)
        if x is not None and (check is not None or x.shape[1] > PREDICTABLE):
            x = None
        times = np.array([(seconds or {}).get(name, np.nan) for name in answers], dtype=np.float64)
        now = Round(dict(answers), times, check is not None, x)
        evidence = self.evidence.plus(now, self.rounds, check, repeats, orders)
        return replace(self, rounds=forget((*self.rounds, now)), evidence=evidence)

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON, to the last bit."""
        settings = {name: getattr(self, name) for name in ("wrong", "right", "random", "contrary")}
        rounds = [told.to_json() for told in self.rounds]
        return {"version": VERSION, **settings, "rounds": rounds, "evidence": self.evidence.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RaterModel:
        """What `to_json` gave, also in an earlier version.

        Raises:
            ValueError: It is from a later version.
        """
        version = data.get("version", 1)
        if version == 1:
            return _from_first(data)
        if version != VERSION:
            raise ValueError(
                f"`RaterModel.from_json` reads versions 1 and {VERSION}, got {version!r}: update blackbox-zo."
            )
        settings = {name: float(data[name]) for name in ("wrong", "right", "random", "contrary")}
        rounds = tuple(map(Round.from_json, data["rounds"]))
        return cls(**settings, rounds=rounds, evidence=Evidence.from_json(data["evidence"]))

    @property
    def raters(self) -> tuple[str, ...]:
        """All raters who have answered, in the order of their first answers."""
        return self.evidence.raters

    @cached_property
    def standings(self) -> dict[str, Standing]:
        """What is believed of each rater."""
        told = self.evidence
        if not told.raters:
            return {}
        before = prior(self.wrong, self.right, self.random, self.contrary)
        known, retest, foreseen, shown = (told.sums[:, source, :2] for source in range(4))
        p = beliefs(told.mutual, known, told.twins, retest, foreseen, shown, before)
        return dict(zip(told.raters, standings_of(p), strict=True))

    @property
    def errors(self) -> tuple[tuple[str, float], ...]:
        """`e_r` by rater, the posterior mean."""
        return tuple((name, (1 - standing.reliability) / 2) for name, standing in self.standings.items())

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each rater's comparisons, at least 0, with mean 1.

        While nobody is known to be careful, with 90 % probability, all who are not known to be careless weigh the same.
        """
        found = {name: max(0.0, float(_log_odds(np.array(e)))) for name, e in self.errors}
        careful = {name: standing.careful for name, standing in self.standings.items()}
        if max(careful.values(), default=1.0) < SURE:
            open_ = [name for name in found if careful[name] > 1 - SURE]
            found |= dict.fromkeys(open_, sum(found[name] for name in open_) / max(len(open_), 1))
        mean = sum(found.values()) / max(len(found), 1)
        return {name: weight / mean if mean else 1.0 for name, weight in found.items()}

    def merge(self, answers: Mapping[str, Ranking]) -> Ranking:
        """The answers of one round as one weighted ranking. Raters of zero weight are left out, unless all have it.

        Raises:
            ValueError: There is no answer.
        """
        if not answers:
            raise ValueError("`RaterModel.merge(answers)` needs at least one answer.")
        known = self.weights
        mine = {name: known.get(name, 1.0) for name in answers}
        kept = {name: w for name, w in mine.items() if w > _LEAST} or dict.fromkeys(answers, 1.0)
        levels, weights = [], []
        for name, weight in kept.items():
            part = answers[name].weights
            levels.append(answers[name].levels)
            weights.append(np.full(len(levels[-1]), weight) if part is None else weight * part)
        return Ranking.from_levels(np.concatenate(levels), np.concatenate(weights))

    def checks(self, rater: str) -> tuple[int, int]:
        """How many checks the rater passed, and how many there were.

        A check is passed if no comparison contradicts the known answer and one agrees with it, or if the duplicates
        are tied or next to each other.

        Raises:
            KeyError: The rater never answered; so with the next methods.
        """
        passed, asked = self.evidence.checks[self.evidence.index(rater)].tolist()
        return int(passed), int(asked)

    def retest(self, rater: str) -> Agreement:
        """How far the rater's answers to repeated rounds agree with the earlier ones."""
        return agreement_of(self.evidence.of(rater, "retest"))

    def foreseen(self, rater: str) -> Agreement:
        """How far the rater's answers agree with what their earlier ones predict."""
        return agreement_of(self.evidence.of(rater, "foreseen"))

    def shown(self, rater: str) -> Agreement:
        """How far the rater's answers agree with the order on the screen; 0 is right."""
        return agreement_of(self.evidence.of(rater, "shown"))

    def warnings(self) -> list[str]:
        """What a researcher should know, a sentence or two for each rater concerned, who is named first."""
        return warnings_of(self)

    @property
    def disagreement(self) -> Floats:
        """For each round, the share of contradictions among the pairs that two raters both ordered.

        Shape (rounds,); NaN where no two raters compared the same pair, and for checks.
        """
        out = np.full(len(self.rounds), np.nan)
        for number, told in enumerate(self.rounds):
            said = np.sign(np.subtract(*told.sides))
            up, down = (said > 0).sum(axis=0), (said < 0).sum(axis=0)
            both = (up + down) * (up + down - 1) / 2
            if both.sum() > 0 and not told.check:
                out[number] = (up * down).sum() / both.sum()
        return out

    def agreement(self, rater: str) -> Floats:
        """For each round, the share of the rater's comparisons that agree with the weighted vote of the others.

        Shape (rounds,); NaN in rounds with nothing to compare, and for checks.
        """
        odds = {name: float(_log_odds(np.array(e))) for name, e in self.errors}
        out = np.full(len(self.rounds), np.nan)
        for number, told in enumerate(self.rounds):
            if rater not in told.raters or told.check:
                continue
            lam = np.array([0.0 if name == rater else max(odds[name], _LEAST) for name in told.raters])
            vote = np.sign(lam @ np.subtract(*told.sides))
            first, second = (side[told.raters.index(rater)] for side in told.sides)
            agreed = float(first[vote > 0].sum() + second[vote < 0].sum())
            against = float(second[vote > 0].sum() + first[vote < 0].sum())
            if agreed + against > 0:
                out[number] = agreed / (agreed + against)
        return out

    def fatigue(self, rater: str) -> Fatigue:
        """How the rater's time and agreement change from round to round."""
        times = np.full(len(self.rounds), np.nan)
        for number, told in enumerate(self.rounds):
            if rater in told.raters:
                times[number] = told.seconds[told.raters.index(rater)]
        return Fatigue(trend(np.log(np.where(times > 0, times, np.nan))), trend(self.agreement(rater)))


def _from_first(data: Mapping[str, Any]) -> RaterModel:
    """From version 1, which knew counts of pairs alone: each answer is the order by losses."""
    model = RaterModel(data["wrong"], data["right"])
    for names, first, second, seconds in data["rounds"]:
        said = {}
        for name, a, b in zip(names, first, second, strict=True):
            n = round((1 + np.sqrt(1 + 8 * len(a))) / 2)
            i, j = np.triu_indices(n, 1)
            losses = np.bincount(j, a, n) + np.bincount(i, b, n)
            said[name] = Ranking.from_levels(np.unique(losses, return_inverse=True)[1])
        model = model.update(said, dict(zip(names, seconds, strict=True)))
    return model


def _log_odds(e: Floats) -> Floats:
    e = np.clip(e, _LEAST, 1 - _LEAST)
    return np.asarray(np.log((1 - e) / e))
