"""What an oracle answers: a value for each query, or a ranking of the queries."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from blackbox_zo._checks import all_finite, all_true
from blackbox_zo._number import floats
from blackbox_zo._typing import Counts, Floats, Ints
from blackbox_zo.errors import TellError

__all__ = ["Feedback", "Ranking", "Values"]


class Values:
    """One number per query; lower is better. A query that failed is NaN.

    Args:
        values: Shape (n,). Infinities are taken as failures too.
        stderr: Standard error of each value, shape (n,), NaN where unknown; None if none is known. So a journal has it.
        info: For each query None or a small JSON-able dict for the journal (why it failed, how long it took).

    Attributes:
        n_failed: Number of failed queries.

    Raises:
        TellError: `values` is not a flat array of numbers, or `stderr` or `info` has another length.
    """

    __slots__ = ("info", "n_failed", "stderr", "values")

    def __init__(
        self,
        values: Any,
        stderr: Any = None,
        info: Sequence[Mapping[str, Any] | None] | None = None,
    ) -> None:
        try:
            array = floats(values)
        except (TypeError, ValueError):
            raise TellError(f"`Values(values)` needs one real number per query, got {values!r:.80}.") from None
        if array.ndim != 1:
            raise TellError(f"`Values(values)` needs shape (n,), one number per query; got shape {array.shape}.")
        finite = np.isfinite(array)
        self.n_failed = array.size - int(np.count_nonzero(finite))
        if self.n_failed:
            array[~finite] = np.nan
        self.values: Floats = array
        self.stderr: Floats | None = None if stderr is None else floats(stderr)
        self.info = None if info is None else tuple(info)
        for name, other in (("stderr", self.stderr), ("info", self.info)):
            if other is not None and len(other) != len(array):
                raise TellError(f"`Values` has {len(array)} values but {len(other)} entries in `{name}`.")
        if self.stderr is not None:
            known = np.isfinite(self.stderr)
            self.stderr = np.where(known, self.stderr, np.nan) if known.any() else None

    @classmethod
    def checked(cls, values: Floats, n_failed: int, stderr: Floats | None = None) -> Values:
        """Without a look at them: fresh floats of shape (n,), NaN where a query failed, and how many failed."""
        self = cls.__new__(cls)
        self.values, self.n_failed, self.stderr, self.info = values, n_failed, stderr, None
        return self

    @classmethod
    def of(cls, values: list[float]) -> Values:
        """The same from a list of floats, in a fifth of the time."""
        array = np.array(values)
        return cls.checked(array, 0) if all_finite(array) else cls(array)

    @property
    def n(self) -> int:
        """Number of queries answered."""
        return len(self.values)

    def ranking(self, n_ranked: int | None = None) -> Ranking:
        """The order of the values, as a `Ranking`. Equal values tie; failures are not ranked.

        Args:
            n_ranked: Rank only this many of the best (more if the last place is shared); None for all.
        """
        order = np.argsort(self.values, kind="stable")  # NaNs come last
        ordered, n = self.values[order], len(order)
        rises = ordered[1:] > ordered[:-1]
        level = np.empty(n, dtype=np.intp)
        if n_ranked is None and n and not self.n_failed and all_true(rises):  # the graph is known in closed form
            level[order] = np.arange(n)
            ranking = Ranking.from_levels(level)
            ranking.__dict__["graph"] = (2 * level - (n - 1), n * (n - 1) // 2)
            return ranking
        above = np.zeros(n, dtype=np.intp)
        np.cumsum(rises, out=above[1:])
        level[order] = above
        if self.n_failed:
            level[np.isnan(self.values)] = above[-1] + 1
        if n_ranked is not None and n_ranked < len(level):
            level = np.minimum(level, np.sort(level)[n_ranked - 1] + 1)
        return Ranking.from_levels(level)

    def __repr__(self) -> str:
        return f"Values({self.values!r})"


class Ranking:
    """Some queries in order, best first; the others are only known to be worse.

    A ranking is a directed graph: an edge i -> j says that i is better than j. There is no edge between tied queries,
    nor between two that are not ranked. A ranking may have several parts, such as pairs or the answers of several
    people. The edges of all parts add up, each with the weight of its part; parts may contradict each other.

    Args:
        groups: Positions of queries, best first. A tuple or list inside is a group of ties.
        n: Number of queries shown. Those that `groups` leaves out are worse than all ranked ones.

    Attributes:
        levels: The place of each query in each part, shape (parts, n): lower is better, -1 is absent.
        weights: Weight of the edges of each part, shape (parts,), positive; None if all are 1.
        info: As in `Values`: notes for the journal about each query.

    Raises:
        TellError: A position is repeated, negative, not below `n`, or not an integer.

    Example:
        >>> Ranking([2, (0, 3)], n=5).net_losses()
        array([-1,  3, -4, -1,  3])
        >>> Ranking.pairs([0, 0, 2], [1, 1, 0], n=3, weights=[1.0, 1.0, 0.5]).net_losses()
        array([-1.5,  2. , -0.5])
    """

    __slots__ = ("__dict__", "levels", "weights")
    info: Sequence[Mapping[str, Any] | None] | None = None

    def __init__(self, groups: Iterable[int | Sequence[int]], n: int) -> None:
        level = np.full(n, -1, dtype=np.intp)
        place = 0
        for group in groups:
            members = tuple(group) if isinstance(group, Sequence | np.ndarray) else (group,)
            for i in members:
                if isinstance(i, bool) or not isinstance(i, int | np.integer) or not 0 <= i < n:
                    raise TellError(
                        f"`Ranking(groups)` names {i!r}, but the positions of {n} queries run from 0 to {n - 1}."
                    )
                if level[i] >= 0:
                    raise TellError(f"`Ranking(groups)` names position {int(i)} twice; each query has one place.")
                level[i] = place
            place += bool(members)
        level[level < 0] = place
        self.levels: Ints = level[None, :]
        self.weights: Floats | None = None

    @classmethod
    def from_levels(cls, levels: Ints, weights: Any = None) -> Ranking:
        """A ranking from the place of each query: lower is better, equal is a tie, -1 is absent.

        Args:
            levels: Shape (n,) or (parts, n).
            weights: Weight of the edges of each part, shape (parts,), positive and finite; None for 1 each.

        Raises:
            TellError: `weights` has another shape, or is not positive and finite.
        """
        self = cls.__new__(cls)
        levels = np.asarray(levels)
        self.levels = levels[None] if levels.ndim == 1 else np.atleast_2d(levels)  # the first in half the time
        if not len(self.levels):  # one part that says nothing, so that n is kept wherever it goes
            self.levels, weights = np.full((1, self.n), -1, dtype=np.intp), None
        elif weights is not None:
            weights = _weights(weights, len(self.levels))
        self.weights = None if weights is None or (weights == 1.0).all() else weights
        return self

    @classmethod
    def pairs(cls, better: Any, worse: Any, n: int, weights: Any = None) -> Ranking:
        """A ranking from comparisons of pairs, each a part of its own. Pairs may repeat and contradict each other.

        Args:
            better: The position of the better query of each pair, shape (pairs,).
            worse: The position of the worse one, shape (pairs,).
            n: Number of queries; nothing is known of those in no pair.
            weights: Weight of each comparison, shape (pairs,), positive and finite; None for 1 each.

        Raises:
            TellError: Shapes differ, a position is not one of `n`, or a query is compared with itself; see also
                `from_levels`.
        """
        i, j = (np.asarray(side, dtype=np.intp).reshape(-1) for side in (better, worse))
        if len(i) != len(j):
            raise TellError(f"`Ranking.pairs` got {len(i)} better and {len(j)} worse ones; give one each per pair.")
        if len(i) and not (0 <= min(i.min(), j.min()) and max(i.max(), j.max()) < n and (i != j).all()):
            raise TellError(f"`Ranking.pairs` needs two different positions from 0 to {n - 1} in each pair.")
        levels = np.full((len(i), n), -1, dtype=np.intp)
        rows = np.arange(len(i))
        levels[rows, i], levels[rows, j] = 0, 1
        return cls.from_levels(levels, weights)

    @classmethod
    def join(cls, parts: Iterable[tuple[Ints, Ranking]], n: int) -> Ranking:
        """One ranking of `n` queries from rankings at some of their positions, with the edges of all."""
        rows, weights = [], []
        for positions, ranking in parts:
            for level in ranking.levels:
                row = np.full(n, -1, dtype=np.intp)
                row[positions] = level
                rows.append(row)
            weights.append(np.ones(len(ranking.levels)) if ranking.weights is None else ranking.weights)
        return cls.from_levels(np.array(rows, dtype=np.intp).reshape(-1, n), np.concatenate(weights) if rows else None)

    @property
    def n(self) -> int:
        """Number of queries shown."""
        return self.levels.shape[1]

    @cached_property
    def graph(self) -> tuple[Counts, float]:
        """For each query its indegree minus its outdegree, shape (n,); and `|E|`, the number of known comparisons.

        Whole numbers without weights, else sums of the weights of the edges.
        """
        weights = [1] * len(self.levels) if self.weights is None else self.weights.tolist()
        net: Counts = np.zeros(self.n, dtype=np.intp if self.weights is None else np.float64)
        edges = []
        for level, weight in zip(self.levels, weights, strict=True):
            inside = slice(None) if level.size == 0 or level.min() >= 0 else level >= 0
            place = level[inside]
            counts = np.bincount(place)
            worse_or_level = np.cumsum(counts[::-1])[::-1]  # queries at this place or below
            net[inside] += weight * (place.size + counts - 2 * worse_or_level)[place]
            edges.append(weight * ((place.size**2 - int(counts @ counts)) // 2))
        return net, sum(edges) if self.weights is None else math.fsum(edges)

    @property
    def n_edges(self) -> float:
        """`|E|`, the number of known comparisons, or the sum of their weights."""
        return self.graph[1]

    def net_losses(self) -> Counts:
        """Losses minus wins of each query (indegree minus outdegree), shape (n,). They sum to 0.

        With several parts this is their Borda count: contradictions cancel.
        """
        net = self.graph[0]
        net.flags.writeable = False  # it is kept
        return net

    def groups(self) -> list[list[int]]:
        """The tie groups of the first part, best first, without the last place (which may be the unranked rest)."""
        level = self.levels[0]
        return [np.flatnonzero(level == place).tolist() for place in range(int(level.max(initial=0)))]

    def ranking(self, n_ranked: int | None = None) -> Ranking:
        """The ranking itself, or each part cut to its `n_ranked` best places; `Values` has the same method.

        A part of two queries is never changed.
        """
        if n_ranked is None or n_ranked >= self.n:
            return self
        cut = self.levels.copy()
        for level in cut:
            places = np.sort(level[level >= 0])
            if n_ranked < len(places):
                np.minimum(level, places[n_ranked - 1] + 1, out=level)
        return Ranking.from_levels(cut, self.weights)

    def about(self, positions: Ints) -> Ranking:
        """The ranking of the queries at some positions: the edges among them."""
        return Ranking.from_levels(self.levels[:, positions], self.weights)

    def merged(self) -> Ranking:
        """All parts as one order without weights, by `net_losses`; equal ones tie."""
        return self if len(self.levels) == 1 and self.weights is None else Values(self.net_losses()).ranking()

    def __repr__(self) -> str:
        if len(self.levels) == 1 and self.weights is None:
            return f"Ranking({self.groups()}, n={self.n})"
        return f"<Ranking of {self.n} queries in {len(self.levels)} parts>"


def _weights(weights: Any, parts: int) -> Floats:
    array = np.array(weights, dtype=np.float64)
    if array.shape != (parts,):
        raise TellError(f"`Ranking` has {parts} parts, but weights of shape {array.shape}; give one per part.")
    if not (np.isfinite(array).all() and (array > 0).all()):
        raise TellError(f"The weights of a `Ranking` must be positive and finite, got {weights!r:.80}.")
    return array


Feedback: TypeAlias = Values | Ranking
