"""`RaterModel`: the reliability of several raters, estimated from their agreement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, final

import numpy as np

from blackbox_zo._checks import check_positive
from blackbox_zo._typing import Floats
from blackbox_zo.feedback import Ranking
from oracles.ranking.raters._models import wins_of

__all__ = ["Fatigue", "RaterModel", "Trend"]

_LEAST = 1e-3
"""Raters with a smaller weight are left out of a merged ranking; error rates are at least this."""


class Trend(NamedTuple):
    """A linear trend over rounds: the slope per round, and its standard error.

    Both are NaN with fewer than three rounds.
    """

    slope: float
    stderr: float


class Fatigue(NamedTuple):
    """Whether a rater becomes slower or less careful.

    Attributes:
        seconds: Trend of the logarithm of the time an answer took: 0.01 is 1 % slower with each round.
        agreement: Trend of the share of comparisons in which the rater agrees with the others.
    """

    seconds: Trend
    agreement: Trend


class _Round(NamedTuple):
    """One round: the raters, and for each pair i < j how often each rater put i first and how often j."""

    raters: tuple[str, ...]
    first: Floats
    second: Floats
    seconds: Floats


@final
@dataclass(frozen=True)
class RaterModel:
    """Error rates of several raters, by expectation maximisation (Dawid & Skene 1979, the one-coin model).

    Which of two candidates is better is latent. With `e_r` the share of comparisons that rater r gets wrong, and
    `s_r` = 1 or -1 if r says that i, or j, is better,

    - E: `P(i is better) = 1 / (1 + exp(-sum_r s_r lambda_r))`, `lambda_r = log((1 - e_r) / e_r)`,
    - M: `e_r = (wrong + expected number of r's wrong comparisons) / (wrong + right + number of r's comparisons)`,

    over the pairs of all rounds so far. `lambda_r` is the optimal weight in a vote of all raters. A rater who answers
    at random has e = 1/2 and weight 0, and so does one who is wrong more often. A rater who always rates alone keeps
    the weight of the prior.

    Args:
        wrong: Prior count of wrong comparisons of each rater, positive.
        right: Prior count of right comparisons, positive.
        rounds: The rounds passed to `update` so far.
        errors: `e_r` by rater, from `update`.

    Raises:
        ValueError: An argument is not positive.

    Example:
        >>> model = RaterModel()
        >>> for _ in range(20):
        ...     answers = {"ann": Ranking([0, 1, 2], 3), "bob": Ranking([0, 1, 2], 3), "eve": Ranking([2, 1, 0], 3)}
        ...     model = model.update(answers)
        >>> model.weights["eve"], model.merge(answers).groups()
        (0.0, [[0], [1]])
    """

    wrong: float = 1.0
    right: float = 4.0
    rounds: tuple[_Round, ...] = ()
    errors: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        check_positive("RaterModel", wrong=self.wrong, right=self.right)

    def update(self, answers: Mapping[str, Ranking], seconds: Mapping[str, float] | None = None) -> RaterModel:
        """The model after one more round.

        Args:
            answers: The answer of each rater who answered, all about the same candidates.
            seconds: Time that each took, where known.
        """
        n = max((ranking.n for ranking in answers.values()), default=0)
        i, j = np.triu_indices(n, 1)
        wins = [wins_of(ranking) for ranking in answers.values()]
        told = _Round(
            tuple(answers),
            np.array([w[i, j] for w in wins]).reshape(len(wins), -1),
            np.array([w[j, i] for w in wins]).reshape(len(wins), -1),
            np.array([(seconds or {}).get(name, np.nan) for name in answers], dtype=np.float64),
        )
        model = replace(self, rounds=(*self.rounds, told))
        names = model.raters
        before, first, second = dict(self.errors), *model._votes(names)
        e = np.array([before.get(name, self.wrong / (self.wrong + self.right)) for name in names])
        lead, chosen, asked = first - second, first.sum(axis=1), (first + second).sum(axis=1)
        for _ in range(500):
            q = _sigmoid(_log_odds(e) @ lead)  # P(i is better than j)
            missed = chosen - lead @ q  # sum first (1 - q) + second q
            new = (self.wrong + missed) / (self.wrong + self.right + asked)
            done = float(np.abs(new - e).max(initial=0.0)) < 1e-9
            e = new
            if done:
                break
        return replace(model, errors=tuple(zip(names, e.tolist(), strict=True)))

    def to_json(self) -> dict[str, Any]:
        """The model as JSON data, exact to the last bit."""
        rounds = [[list(r.raters), r.first.tolist(), r.second.tolist(), r.seconds.tolist()] for r in self.rounds]
        return {"wrong": self.wrong, "right": self.right, "rounds": rounds, "errors": [list(e) for e in self.errors]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RaterModel:
        """What `to_json` gave."""
        rounds = []
        for names, first, second, seconds in data["rounds"]:
            shape = (len(names), -1)
            a, b = (np.array(part, dtype=np.float64).reshape(shape) for part in (first, second))
            rounds.append(_Round(tuple(names), a, b, np.array(seconds, dtype=np.float64)))
        errors = tuple((str(name), float(e)) for name, e in data["errors"])
        return cls(data["wrong"], data["right"], tuple(rounds), errors)

    @property
    def raters(self) -> tuple[str, ...]:
        """All raters who have answered, in the order of their first answers."""
        return tuple(dict.fromkeys(name for told in self.rounds for name in told.raters))

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each rater's comparisons: `lambda_r`, at least 0, with mean 1."""
        found = {name: max(0.0, float(_log_odds(np.array(e)))) for name, e in self.errors}
        mean = sum(found.values()) / max(len(found), 1)
        return {name: weight / mean if mean else 1.0 for name, weight in found.items()}

    def merge(self, answers: Mapping[str, Ranking]) -> Ranking:
        """The answers of one round as one weighted ranking. Raters with zero weight are left out, unless all have it.

        Raises:
            ValueError: `answers` is empty.
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

    @property
    def disagreement(self) -> Floats:
        """For each round, the share of contradictions among pairs that two raters both ordered.

        Shape (rounds,); NaN where no two raters compared the same pair.
        """
        out = np.full(len(self.rounds), np.nan)
        for number, told in enumerate(self.rounds):
            said = np.sign(told.first - told.second)
            up, down = (said > 0).sum(axis=0), (said < 0).sum(axis=0)
            both = (up + down) * (up + down - 1) / 2
            if both.sum() > 0:
                out[number] = (up * down).sum() / both.sum()
        return out

    def agreement(self, rater: str) -> Floats:
        """For each round, the share of the rater's comparisons that agree with the weighted vote of the others.

        Shape (rounds,); NaN in rounds with nothing to compare.
        """
        odds = {name: float(_log_odds(np.array(e))) for name, e in self.errors}
        out = np.full(len(self.rounds), np.nan)
        for number, told in enumerate(self.rounds):
            if rater not in told.raters:
                continue
            lam = np.array([0.0 if name == rater else max(odds[name], _LEAST) for name in told.raters])
            vote = np.sign(lam @ (told.first - told.second))
            first, second = (side[told.raters.index(rater)] for side in (told.first, told.second))
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
        return Fatigue(_trend(np.log(np.where(times > 0, times, np.nan))), _trend(self.agreement(rater)))

    def _votes(self, names: tuple[str, ...]) -> tuple[Floats, Floats]:
        """`first` and `second` of all rounds side by side, shape (raters, pairs)."""
        total = sum(told.first.shape[1] for told in self.rounds)
        first, second, start = np.zeros((len(names), total)), np.zeros((len(names), total)), 0
        for told in self.rounds:
            rows, stop = [names.index(name) for name in told.raters], start + told.first.shape[1]
            first[rows, start:stop], second[rows, start:stop] = told.first, told.second
            start = stop
        return first, second


def _log_odds(e: Floats) -> Floats:
    e = np.clip(e, _LEAST, 1 - _LEAST)
    return np.asarray(np.log((1 - e) / e))


def _sigmoid(z: Floats) -> Floats:
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * z))


def _trend(y: Floats) -> Trend:
    """Least-squares fit over the rounds in which y is known."""
    t = np.flatnonzero(np.isfinite(y)).astype(np.float64)
    if len(t) < 3:
        return Trend(np.nan, np.nan)
    y, x = y[np.isfinite(y)], t - t.mean()
    slope = float(x @ y / (x @ x))
    rest = y - y.mean() - slope * x
    return Trend(slope, float(np.sqrt(rest @ rest / (len(t) - 2) / (x @ x))))
