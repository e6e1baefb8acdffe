"""What raters said, round by round, and what it adds up to as evidence of how far they can be relied on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, TypeAlias, final

import numpy as np

from blackbox_zo._typing import Floats, Ints
from blackbox_zo.feedback import Ranking
from oracles.ranking.raters._belief import GRID, duplicates
from oracles.ranking.raters._kendall import Duplicate, adjacent, tally, tally_of
from oracles.ranking.raters._models import wins_of
from oracles.ranking.raters._prediction import predicted, scores

__all__ = ["Evidence", "Round", "Source"]

Source: TypeAlias = Literal["known", "retest", "foreseen", "shown"]
"""With what a rater's answers are compared: known answers, earlier ones, predictions, the order on the screen."""

SOURCES: tuple[Source, ...] = ("known", "retest", "foreseen", "shown")

HISTORY = 200
"""Predictions rest on the rounds with at most this many candidates in all, the newest."""

PREDICTABLE = 100
"""Most dimensions in which answers are predicted."""


@final
@dataclass(frozen=True)
class Round:
    """One round.

    Attributes:
        answers: Who answered what.
        seconds: How long each took, NaN where unknown, shape (raters,).
        check: Whether the answer was known beforehand.
        points: The candidates, shape (n, d); None if they predict nothing, or are no longer needed.
    """

    answers: Mapping[str, Ranking]
    seconds: Floats
    check: bool = False
    points: Floats | None = None

    @property
    def raters(self) -> tuple[str, ...]:
        """Who answered."""
        return tuple(self.answers)

    @cached_property
    def sides(self) -> tuple[Floats, Floats]:
        """For each of the pairs i < j, how often each rater put i first, and j, shape (raters, pairs)."""
        i, j = np.triu_indices(max((ranking.n for ranking in self.answers.values()), default=0), 1)
        wins = [wins_of(ranking) for ranking in self.answers.values()]
        first, second = (np.array([w[side] for w in wins]).reshape(len(wins), len(i)) for side in ((i, j), (j, i)))
        return first, second

    @cached_property
    def scores(self) -> Mapping[str, Floats]:
        """The scores of each answer, shape (n,)."""
        return {name: scores(_places(ranking)) for name, ranking in self.answers.items()}

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON."""
        said = [
            [name, r.levels.tolist(), None if r.weights is None else r.weights.tolist()]
            for name, r in self.answers.items()
        ]
        points = None if self.points is None else self.points.tolist()
        seconds = [None if np.isnan(s) else s for s in self.seconds.tolist()]
        return {"answers": said, "seconds": seconds, "check": self.check, "points": points}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Round:
        """What `to_json` gave."""
        said = {str(name): Ranking.from_levels(np.array(levels, np.intp), w) for name, levels, w in data["answers"]}
        points = None if data["points"] is None else np.array(data["points"], dtype=np.float64)
        return cls(said, np.array(data["seconds"], dtype=np.float64), bool(data["check"]), points)


@final
@dataclass(frozen=True)
class Evidence:
    """What the rounds so far say of each rater, as sums.

    Attributes:
        raters: In the order of their first answers.
        mutual: Sums of `tally` of two raters' answers, the first two entries, shape (raters, raters, 2); each round
            counts 4 / (R + 2) of it, R the number of its raters, as all of them rest on the same truth.
        sums: Sums of `tally` by source, shape (raters, SOURCES, 5).
        twins: Log likelihood from duplicates, shape (raters, GRID).
        checks: Checks passed and asked, shape (raters, 2).
        answered: Rounds answered with at least one comparison, and all, shape (raters, 2).
    """

    raters: tuple[str, ...]
    mutual: Floats
    sums: Floats
    twins: Floats
    checks: Floats
    answered: Floats

    @classmethod
    def none(cls) -> Evidence:
        """Before the first round."""
        shapes = ((0, 0, 2), (0, len(SOURCES), 5), (0, len(GRID)), (0, 2), (0, 2))
        return cls((), *map(np.zeros, shapes))

    def of(self, rater: str, source: Source) -> Floats:
        """The sum of tallies of one rater, shape (5,).

        Raises:
            KeyError: The rater never answered.
        """
        return np.asarray(self.sums[self.index(rater), SOURCES.index(source)])

    def index(self, rater: str) -> int:
        """The row of a rater.

        Raises:
            KeyError: The rater never answered.
        """
        if rater not in self.raters:
            raise KeyError(
                f"There is no answer of {rater!r}; those who answered are {', '.join(self.raters) or 'none'}."
            )
        return self.raters.index(rater)

    def plus(
        self,
        now: Round,
        before: tuple[Round, ...],
        check: Ranking | Duplicate | None,
        repeats: Mapping[str, Ranking],
        shown: Mapping[str, Ints],
    ) -> Evidence:
        """With one more round."""
        new = self._with(now.raters)
        row = {name: new.raters.index(name) for name in now.raters}
        for name, said in now.answers.items():
            r = row[name]
            new.answered[r] += said.n_edges > 0, 1
            if isinstance(check, Duplicate):
                passed, chance = adjacent(said, check)
                new.twins[r] += duplicates(passed, chance)
                new.checks[r] += passed and chance < 1, 1
            elif check is not None:
                told = tally_of(said, check)
                new.sums[r, 0] += told
                new.checks[r] += told[0] > 0 and told[1] == 0, 1
            if name in repeats:
                new.sums[r, 1] += tally_of(said, repeats[name])
            if name in shown:
                place = np.empty(said.n, dtype=np.intp)
                place[shown[name]] = np.arange(said.n)
                new.sums[r, 3] += tally(_places(said), place)
        if check is None:
            new._meet(now, row)
            if not repeats and now.points is not None:
                new._foresee(now, before, row)
        return new

    def _with(self, names: tuple[str, ...]) -> Evidence:
        """A copy with a row for each of some more raters."""
        raters = tuple(dict.fromkeys((*self.raters, *names)))
        more = len(raters) - len(self.raters)

        def longer(array: Floats, axes: int = 1) -> Floats:
            return np.pad(array, [(0, more if axis < axes else 0) for axis in range(array.ndim)])

        rest = (self.sums, self.twins, self.checks, self.answered)
        return Evidence(raters, longer(self.mutual, 2), *map(longer, rest))

    def _meet(self, now: Round, row: Mapping[str, int]) -> None:
        share = 4 / (len(now.answers) + 2)
        said = list(now.answers.items())
        for at, (one, a) in enumerate(said):
            for other, b in said[at + 1 :]:
                told = share * tally_of(a, b)[:2]
                self.mutual[row[one], row[other]] += told
                self.mutual[row[other], row[one]] += told

    def _foresee(self, now: Round, before: tuple[Round, ...], row: Mapping[str, int]) -> None:
        """Those who answered the same earlier rounds are predicted together."""
        together: dict[tuple[int, ...], list[str]] = {}
        for name in now.answers:
            known = tuple(t for t, told in enumerate(before) if told.points is not None and name in told.answers)
            together.setdefault(known, []).append(name)
        for known, names in together.items():
            if not known or now.points is None:
                continue
            points = [p for t in known if (p := before[t].points) is not None]
            told = [np.stack([before[t].scores[name] for name in names], axis=1) for t in known]
            for name, expected in zip(names, predicted(points, told, now.points).T, strict=True):
                _, order = np.unique(-expected, return_inverse=True)
                self.sums[row[name], 2] += tally(_places(now.answers[name]), order.reshape(-1))

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON, to the last bit."""
        arrays = {name: getattr(self, name).tolist() for name in ("mutual", "sums", "twins", "checks", "answered")}
        return {"raters": list(self.raters), **arrays}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Evidence:
        """What `to_json` gave."""
        n = len(data["raters"])
        shapes = {"mutual": (n, n, 2), "sums": (n, len(SOURCES), 5), "twins": (n, len(GRID))}
        shapes |= {"checks": (n, 2), "answered": (n, 2)}
        arrays = {name: np.array(data[name], dtype=np.float64).reshape(shape) for name, shape in shapes.items()}
        return cls(tuple(map(str, data["raters"])), **arrays)


def forget(rounds: tuple[Round, ...]) -> tuple[Round, ...]:
    """Without the points of rounds that are too old to predict from."""
    kept, held = list(rounds), 0
    for t in range(len(kept) - 1, -1, -1):
        points = kept[t].points
        if points is None:
            continue
        held += len(points)
        if held > HISTORY:
            kept[t] = replace(kept[t], points=None)
    return tuple(kept)


def check_round(
    n: int,
    answers: Mapping[str, Ranking],
    check: Ranking | Duplicate | None,
    repeats: Mapping[str, Ranking],
    shown: Mapping[str, Ints],
    points: Floats | None,
) -> None:
    """Refuse a round whose parts do not fit together.

    Raises:
        ValueError: As for `RaterModel.update`.
    """
    sizes = {f"answers[{name!r}]": ranking.n for name, ranking in answers.items()}
    sizes |= {f"repeats[{name!r}]": ranking.n for name, ranking in repeats.items()}
    if isinstance(check, Ranking):
        sizes["check"] = check.n
    for name, size in sizes.items():
        if answers and size != n:
            raise ValueError(f"`RaterModel.update({name})` is about {size} candidates, but the round has {n}.")
    if (
        isinstance(check, Duplicate)
        and answers
        and not (check.first != check.second and 0 <= min(check) <= max(check) < n)
    ):
        raise ValueError(f"`RaterModel.update(check=...)` needs two positions from 0 to {n - 1}, got {check}.")
    for name, order in shown.items():
        if sorted(order.tolist()) != list(range(n)):
            raise ValueError(
                f"`RaterModel.update(shown[{name!r}])` must name each of the positions 0 to {n - 1} once, got "
                f"{order.tolist()}."
            )
    if points is not None and answers and (points.ndim != 2 or len(points) != n or not np.isfinite(points).all()):
        raise ValueError(f"`RaterModel.update(points=...)` needs finite numbers of shape ({n}, d), got {points.shape}.")


def _places(ranking: Ranking) -> Ints:
    """The place of each candidate in the whole answer; equal ones tie."""
    level = ranking.merged().levels[0]
    return np.asarray(np.where(level < 0, level.max(initial=0) + 1, level))
