"""`PairwiseOracle`: pairwise comparisons of a step's candidates, and designs that choose the pairs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Protocol, TypeAlias, final

import numpy as np

from blackbox_zo._checks import check_at_least
from blackbox_zo._typing import Ints, override
from blackbox_zo.feedback import Ranking
from blackbox_zo.oracle import Answers, Oracle
from blackbox_zo.proposal import Proposal
from blackbox_zo.randomness import Key
from oracles.ranking.raters._raters import SimulatedRater

__all__ = ["AllPairs", "Pairs", "PairwiseOracle", "RandomPairs", "Swiss"]

Pair: TypeAlias = tuple[int, int]


class Pairs(ABC):
    """Which pairs of n candidates are compared."""

    @abstractmethod
    def next(self, n: int, batch: int, asked: list[Pair], losses: Ints, key: Key) -> list[Pair]:
        """The pairs to compare next; an empty list ends the step.

        Args:
            n: Number of candidates.
            batch: Number of earlier calls in this step.
            asked: The pairs compared so far in this step.
            losses: Net losses of each candidate, losses minus wins, shape (n,).
            key: The only source of randomness.
        """


@final
@dataclass(frozen=True)
class AllPairs(Pairs):
    """Every pair once: n (n - 1) / 2 pairs."""

    @override
    def next(self, n: int, batch: int, asked: list[Pair], losses: Ints, key: Key) -> list[Pair]:
        return [] if batch else list(combinations(range(n), 2))


@final
@dataclass(frozen=True)
class RandomPairs(Pairs):
    """`n_pairs` pairs chosen in advance: neighbours on a random circle, then candidates two apart, and so on.

    With at least n - 1 pairs all candidates are connected, and their numbers of pairs differ by at most two.

    Args:
        n_pairs: At least 1; more than n (n - 1) / 2 takes all pairs.

    Raises:
        ValueError: `n_pairs` is not positive.
    """

    n_pairs: int

    def __post_init__(self) -> None:
        check_at_least("RandomPairs", 1, n_pairs=self.n_pairs)

    @override
    def next(self, n: int, batch: int, asked: list[Pair], losses: Ints, key: Key) -> list[Pair]:
        if batch:
            return []
        circle = key.generator("pairs").permutation(n).tolist()
        pairs = {frozenset((circle[i], circle[(i + far) % n])): None for far in range(1, n // 2 + 1) for i in range(n)}
        return [(min(pair), max(pair)) for pair in pairs][: self.n_pairs]


@final
@dataclass(frozen=True)
class Swiss(Pairs):
    """A Swiss tournament: in each round a candidate meets the next one in the current order that it has not met.

    Most comparisons go where the order is undecided: n / 2 pairs per round, or slightly fewer if the remaining
    candidates have all met.

    Args:
        rounds: At least 1; about log2(n) rounds find the best.

    Raises:
        ValueError: `rounds` is not positive.
    """

    rounds: int

    def __post_init__(self) -> None:
        check_at_least("Swiss", 1, rounds=self.rounds)

    @override
    def next(self, n: int, batch: int, asked: list[Pair], losses: Ints, key: Key) -> list[Pair]:
        if batch >= self.rounds:
            return []
        met = set(asked)
        order = key.generator(f"swiss|{batch}").permutation(n)
        waiting = order[np.argsort(losses[order], kind="stable")].tolist()
        pairs = []
        while len(waiting) > 1:
            i = waiting.pop(0)
            j = next((j for j in waiting if (min(i, j), max(i, j)) not in met), None)
            if j is not None:
                waiting.remove(j)
                pairs.append((min(i, j), max(i, j)))
        return pairs


class Comparer(Protocol):
    """Compares positions of one proposal."""

    def pair(self, i: int, j: int, repeat: int) -> int:
        """-1 if i is better, 1 if j is, 0 for a tie."""
        ...


class _Asked:
    """Compares by a function of two points, passed in random order."""

    def __init__(self, oracle: PairwiseOracle, is_better: Callable[[Any, Any], Any], proposal: Proposal) -> None:
        self.oracle, self.is_better, self.proposal = oracle, is_better, proposal
        self.key = Key(oracle.seed, proposal.step)

    def pair(self, i: int, j: int, repeat: int) -> int:
        """The answer of `is_better` as -1, 0 or 1."""
        i_id, j_id = (int(self.proposal.ids[p]) for p in (i, j))
        turned = bool(self.key.digest(f"first|{repeat}", i_id, j_id, size=1)[0] & 1)
        if turned:
            i, j = j, i
        answer = self.is_better(self.proposal.tree(i), self.proposal.tree(j))
        if answer is None:
            return 0
        return 1 if bool(answer) == turned else -1


@final
class PairwiseOracle(Oracle):
    """Compares the candidates of a step in pairs, and answers with one `Ranking` of all comparisons.

    Comparisons may contradict each other; `Ranking.net_losses` counts losses minus wins. A tie adds no edge.

    Args:
        compare: A `SimulatedRater`; a function `is_better(a, b)` of two points, in the structure of x0,
            that returns whether the first is better, or None for a tie; or an oracle that answers values, which are
            compared without error.
        pairs: The design: `AllPairs()`, `RandomPairs(n_pairs)` or `Swiss(rounds)`.
        repeats: Number of times that each pair is asked; each answer counts.
        seed: Seed of the choice of pairs.

    Attributes:
        comparisons: Number of comparisons so far.

    Raises:
        ValueError: `repeats` is not positive.
        TypeError: `compare` is neither a function nor an oracle.

    Example:
        >>> import blackbox_zo as bz, numpy as np
        >>> oracle = PairwiseOracle(lambda a, b: abs(a - 2) < abs(b - 2), Swiss(3))
        >>> search = bz.Search(0.0, bz.RankBased(0.1, 6))
        >>> for _ in search.run(oracle, steps=100):
        ...     pass
        >>> abs(search.x - 2) < 0.2, oracle.comparisons <= 900
        (True, True)
    """

    def __init__(
        self,
        compare: Answers | Callable[[Any, Any], Any],
        pairs: Pairs | None = None,
        *,
        repeats: int = 1,
        seed: int = 0,
    ) -> None:
        check_at_least("PairwiseOracle", 1, repeats=repeats)
        self.rater: SimulatedRater | None = None
        self.is_better: Callable[[Any, Any], Any] | None = None
        if isinstance(compare, SimulatedRater):
            self.rater = compare
        elif callable(getattr(compare, "answer", None)):
            self.rater = SimulatedRater(compare)  # type: ignore[arg-type]
        elif callable(compare):
            self.is_better = compare
        else:
            raise TypeError(
                f"`PairwiseOracle(compare)` needs a function of two points or an oracle, got {compare!r:.60}."
            )
        self.pairs = AllPairs() if pairs is None else pairs
        self.repeats, self.seed, self.comparisons = int(repeats), seed, 0

    def _comparer(self, proposal: Proposal) -> Comparer:
        if self.rater is not None:
            return self.rater.look(proposal)
        assert self.is_better is not None
        return _Asked(self, self.is_better, proposal)

    @override
    def answer(self, proposal: Proposal) -> Ranking:
        comparer, key, n = self._comparer(proposal), Key(self.seed, proposal.step), proposal.n
        asked: list[Pair] = []
        better: list[int] = []
        worse: list[int] = []
        losses, batch = np.zeros(n, dtype=np.intp), 0
        while pairs := self.pairs.next(n, batch, asked, losses, key):
            for i, j in pairs:
                for repeat in range(self.repeats):
                    said = comparer.pair(i, j, repeat)
                    self.comparisons += 1
                    if said:
                        first, second = (i, j) if said < 0 else (j, i)
                        better.append(first)
                        worse.append(second)
                        losses[first] -= 1
                        losses[second] += 1
            asked += pairs
            batch += 1
        return Ranking.pairs(better, worse, n)

    @override
    def close(self) -> None:
        """Close the wrapped oracle, if there is one."""
        if self.rater is not None:
            self.rater.close()
