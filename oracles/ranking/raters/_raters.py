"""`SimulatedRater`: simulates a person who ranks, from a function and a noise model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import numpy as np

from blackbox_zo._checks import check_at_least, check_share
from blackbox_zo._typing import Floats, override
from blackbox_zo.feedback import Ranking
from blackbox_zo.function import FunctionOracle
from blackbox_zo.oracle import Answers
from blackbox_zo.proposal import Proposal
from blackbox_zo.randomness import Key
from blackbox_zo.wrappers import Wrapper
from oracles.ranking.raters._noise import Exact, Noise

__all__ = ["Look", "SimulatedRater"]


@final
class SimulatedRater(Wrapper):
    """Ranks as a person would who prefers low f, and makes errors.

    All randomness depends on seed, step and query ids alone, so asking about a step again gives the same answer.
    Candidates are ranked by binary insertion among the best so far, and every comparison is counted. A failed query is
    never ranked.

    Args:
        oracle: An oracle that answers values, or f itself: a function of one point as in `FunctionOracle`.
        model: The noise model of a comparison.
        n_ranked: Rank only this many of the best (more if the last place is tied); None ranks all.
        tie: Values that differ by less than this are a tie, in units of f.
        lapse: Probability that an answer is random: a whole ranking, or one pair of `PairwiseOracle`.
        drift: The rater's taste drifts: in step t, f has an extra term `drift b_t v'x`, with v a fixed direction of
            length 1 and `b_t` a random walk of standard normal moves. In units of f by units of x.
        seed: Seed of all randomness.

    Attributes:
        comparisons: Number of comparisons so far.

    Raises:
        ValueError: An argument is out of its range.
        TypeError: `oracle` is neither an oracle nor a function.

    Example:
        >>> import blackbox_zo as bz, numpy as np
        >>> from oracles.ranking import FixedFlip
        >>> rater = SimulatedRater(lambda x: x @ x, FixedFlip(0.2), n_ranked=3)
        >>> search = bz.Search(np.ones(5), bz.RankBased(0.1, 8))
        >>> for _ in search.run(rater, steps=200):
        ...     pass
        >>> bool(search.x @ search.x < 0.1)
        True
    """

    def __init__(
        self,
        oracle: Answers | Callable[[Any], Any],
        model: Noise | None = None,
        *,
        n_ranked: int | None = None,
        tie: float = 0.0,
        lapse: float = 0.0,
        drift: float = 0.0,
        seed: int = 0,
    ) -> None:
        if n_ranked is not None:
            check_at_least("SimulatedRater", 1, n_ranked=n_ranked)
        for name, value in (("tie", tie), ("drift", drift)):
            if not (value >= 0 and np.isfinite(value)):
                raise ValueError(f"`SimulatedRater({name}=...)` must not be negative, got {value!r}.")
        check_share("SimulatedRater", lapse=lapse)
        super().__init__(as_oracle("SimulatedRater", oracle))
        self.model = Exact() if model is None else model
        self.n_ranked, self.tie, self.lapse, self.drift, self.seed = n_ranked, tie, lapse, drift, seed
        self.comparisons = 0

    def look(self, proposal: Proposal) -> Look:
        """The proposal as this rater sees it, to be compared in pairs."""
        return Look(self, proposal, self.values(proposal))

    def values(self, proposal: Proposal) -> Floats:
        """The values of the candidates to the rater's current taste, shape (n,); lower is better, NaN is a failure."""
        values = self._values(self.oracle.answer(proposal)).values
        if not self.drift:
            return values
        v = Key(self.seed, 0).generator("taste").standard_normal(proposal.points.shape[1])
        walked = sum(float(Key(self.seed, t).generator("walk").standard_normal()) for t in range(proposal.step + 1))
        out: Floats = values + self.drift * walked * (proposal.points @ (v / np.sqrt(v @ v)))
        return out

    @override
    def answer(self, proposal: Proposal) -> Ranking:
        look = self.look(proposal)
        shown = np.flatnonzero(np.isfinite(look.values)).tolist()
        k = len(shown) if self.n_ranked is None else self.n_ranked
        if self.lapse and look.uniform("lapse", -1, -1) < self.lapse:
            order = Key(self.seed, proposal.step).generator(f"random|{proposal.ids[0]}").permutation(shown)
            return Ranking(order[:k].tolist(), proposal.n)
        return Ranking(in_order(shown, look.compare, k), proposal.n)


class Look:
    """One proposal, as a rater sees it.

    Args:
        rater: The rater.
        proposal: The proposal.
        values: The true values, shape (n,).
    """

    def __init__(self, rater: SimulatedRater, proposal: Proposal, values: Floats) -> None:
        self.rater, self.values, self.ids = rater, values, proposal.ids.tolist()
        self.key = Key(rater.seed, proposal.step)
        self._heard: dict[int, Floats] = {}

    def uniform(self, name: str, i: int, j: int) -> float:
        """The uniform number in (0, 1) of two queries."""
        return (int.from_bytes(self.key.digest(name, i, j, size=8), "little") + 0.5) / 2.0**64

    def heard(self, repeat: int) -> Floats:
        """The values that one answer compares, shape (n,)."""
        if repeat not in self._heard:
            uniforms = np.array([self.uniform(f"heard|{repeat}", i, 0) for i in self.ids])
            self._heard[repeat] = self.rater.model.heard(self.values, uniforms)
        return self._heard[repeat]

    def compare(self, i: int, j: int, repeat: int = 0) -> int:
        """-1 if the rater prefers position i to position j, 1 if the reverse, 0 for a tie."""
        self.rater.comparisons += 1
        heard = self.heard(repeat)
        failed = np.isnan(heard[[i, j]])
        if failed.any():
            return int(failed[0]) - int(failed[1])
        gap = float(heard[i] - heard[j])
        if gap == 0.0 or abs(gap) < self.rater.tie:
            return 0
        first, second = sorted((self.ids[i], self.ids[j]))
        right = self.uniform(f"flip|{repeat}", first, second) < self.rater.model.chance(abs(gap))
        return int(np.sign(gap)) * (1 if right else -1)

    def pair(self, i: int, j: int, repeat: int) -> int:
        """`compare` as an answer of its own, with lapses."""
        first, second = sorted((self.ids[i], self.ids[j]))
        if self.rater.lapse and self.uniform(f"lapse|{repeat}", first, second) < self.rater.lapse:
            self.rater.comparisons += 1
            heads = self.uniform(f"coin|{repeat}", first, second) < 0.5
            return -1 if heads == (self.ids[i] == first) else 1
        return self.compare(i, j, repeat)


def in_order(shown: list[int], compare: Callable[[int, int], int], k: int) -> list[list[int]]:
    """The k best of `shown` in groups of ties, best first, by binary insertion."""
    groups: list[list[int]] = []
    for i in shown:
        low, high = 0, len(groups)
        while low < high:
            middle = (low + high) // 2
            said = compare(i, groups[middle][0])
            if said == 0:
                groups[middle].append(i)
                break
            low, high = (low, middle) if said < 0 else (middle + 1, high)
        else:
            groups.insert(low, [i])
        while sum(map(len, groups[:-1])) >= k:
            groups.pop()
    return groups


def as_oracle(owner: str, oracle: Answers | Callable[[Any], Any]) -> Answers:
    """The oracle itself, or a `FunctionOracle` of a function.

    Raises:
        TypeError: `oracle` is neither.
    """
    if callable(getattr(oracle, "answer", None)):
        return oracle  # type: ignore[return-value]
    if not callable(oracle):
        raise TypeError(f"`{owner}(oracle)` needs an oracle that answers values, or a function, got {oracle!r:.60}.")
    return FunctionOracle(oracle)
