"""Wrappers: oracles around an oracle."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, final

import numpy as np

from blackbox_zo._checks import check_at_least
from blackbox_zo._typing import Floats, Ints, override
from blackbox_zo.errors import FeedbackError
from blackbox_zo.feedback import Feedback, Ranking, Values
from blackbox_zo.oracle import Answered, Answers, Oracle, Part, gather, parts_of, stream_of
from blackbox_zo.proposal import Proposal

__all__ = ["Cache", "RankOnly", "Repeat"]


class Wrapper(Oracle):
    """An oracle around another oracle, which it also closes."""

    def __init__(self, oracle: Answers) -> None:
        if not callable(getattr(oracle, "answer", None)):
            raise TypeError(
                f"`{type(self).__name__}(oracle)` needs an oracle, got {oracle!r:.60}; see `FunctionOracle`."
            )
        self.oracle = oracle

    @property
    def calls(self) -> int:
        """Number of calls of the wrapped oracle.

        Raises:
            AttributeError: The wrapped oracle does not count its calls.
        """
        return int(self.oracle.calls)  # type: ignore[attr-defined]

    @override
    def close(self) -> None:
        """Close the wrapped oracle."""
        if isinstance(self.oracle, Oracle):
            self.oracle.close()

    def _values(self, part: Feedback) -> Values:
        if not isinstance(part, Values):
            raise FeedbackError(
                f"Cannot use `{type(self).__name__}` with this oracle: it needs the value of each query, but the "
                f"oracle answered `{type(part).__name__}`."
            )
        return part


@final
class Repeat(Wrapper):
    """Asks each query `n` times and answers the mean.

    A failed repetition is left out of the mean; if all fail, the query fails. The standard error of the mean is
    estimated from the repetitions. The budget of a search counts queries, each of which takes `n` calls. The oracle
    must draw new noise each time: if its noise follows from the query's id, it gives the same answer n times.

    Args:
        oracle: An oracle that answers values.
        n: Number of repetitions.
    """

    def __init__(self, oracle: Answers, n: int) -> None:
        super().__init__(oracle)
        check_at_least("Repeat", 1, n=n)
        self.n = int(n)

    @override
    def answer(self, proposal: Proposal) -> Values:
        return gather(proposal, self.parts(proposal))

    @override
    def parts(self, proposal: Proposal) -> Iterator[Part]:
        # The whole proposal n times over, so that workers stay busy; the means follow in the last round
        found = defaultdict[int, list[tuple[float, Any]]](list)
        for _ in range(self.n):
            for ids, part in parts_of(self.oracle, proposal):
                yield from self._full(found, ids, part)

    @override
    def stream(self, ask: Callable[[], Proposal | None]) -> Iterator[Answered]:
        # Each proposal n times in a row
        found = defaultdict[int, list[tuple[float, Any]]](list)
        copies = (proposal for proposal in iter(ask, None) for _ in range(self.n))
        for proposal, ids, part in stream_of(self.oracle, lambda: next(copies, None)):
            for full, mean in self._full(found, ids, part):
                yield proposal, full, mean

    def _full(self, found: dict[int, list[tuple[float, Any]]], ids: Ints, part: Feedback) -> Iterator[Part]:
        """Add answers to those found; the means of the queries that now have all."""
        values = self._values(part)
        for i, value, info in zip(ids.tolist(), values.values, values.info or [None] * part.n, strict=True):
            found[i].append((float(value), info))
        full = np.array([i for i in ids.tolist() if len(found[i]) == self.n], dtype=np.intp)
        if full.size:
            yield full, self._mean([found.pop(i) for i in full.tolist()])

    def _mean(self, found: list[list[tuple[float, Any]]]) -> Values:
        means, errors, notes = [], [], []
        for answers in found:
            good = np.array([value for value, _ in answers if np.isfinite(value)])
            bad = [info for value, info in answers if not np.isfinite(value)]
            means.append(good.mean() if good.size else np.nan)
            errors.append(good.std(ddof=1) / np.sqrt(good.size) if good.size > 1 else np.nan)
            note = next((info for value, info in answers if np.isfinite(value) or not good.size), None)
            notes.append({**(note or {}), "failed_repetitions": len(bad)} if bad and good.size else note)
        return Values(means, errors, notes if any(notes) else None)


@final
class RankOnly(Wrapper):
    """Turns values into a ranking, best first; failed queries are unranked, even if all failed.

    A ranking compares all queries of a step, so it is answered in one part, after the last value.

    Args:
        oracle: Any oracle.
        n_ranked: Rank only this many of the best; None for all.
    """

    def __init__(self, oracle: Answers, n_ranked: int | None = None) -> None:
        super().__init__(oracle)
        if n_ranked is not None:
            check_at_least("RankOnly", 1, n_ranked=n_ranked)
        self.n_ranked = None if n_ranked is None else int(n_ranked)

    @override
    def answer(self, proposal: Proposal) -> Ranking:
        answer = self.oracle.answer(proposal)
        ranking = answer.ranking(self.n_ranked)
        if isinstance(answer, Values) and answer.n_failed == answer.n:  # no place says more than a tie of all
            ranking = Ranking.from_levels(np.full(answer.n, -1, dtype=np.intp))
        ranking.info = answer.info
        return ranking


class _Known(NamedTuple):
    """The points that a `Cache` has seen: the first `n` entries of a table that only grows."""

    table: dict[bytes, tuple[int, float, float, Any]]
    n: int

    def get(self, key: bytes) -> tuple[float, float, Any] | None:
        entry = self.table.get(key)
        return entry[1:] if entry is not None and entry[0] < self.n else None


@final
class Cache(Wrapper):
    """Asks each point only once, within a proposal and across steps; points are compared bit for bit.

    Failures are remembered too. The cache is part of the search's state, so a resumed run has it. It takes about 200
    bytes per point.

    Args:
        oracle: An oracle that answers values.
    """

    @override
    def answer(self, proposal: Proposal) -> Values:
        return gather(proposal, self.parts(proposal))

    @override
    def parts(self, proposal: Proposal) -> Iterator[Part]:
        # First what is known, then the rest as it arrives, each with all queries of its point
        known: _Known = proposal.state(self)
        where: dict[bytes, list[int]] = {}
        for i in range(proposal.n):
            where.setdefault(_digest(proposal.points[i]), []).append(i)
        old = {key: found for key in where if (found := known.get(key)) is not None}
        if old:
            yield self._part(proposal, where, old)
        fresh = {int(proposal.ids[where[key][0]]): key for key in where if key not in old}
        if not fresh:
            return
        rest = proposal.take(np.array([where[key][0] for key in fresh.values()], dtype=np.intp))
        for ids, part in parts_of(self.oracle, rest):
            values = self._values(part)
            stderr = [np.nan] * part.n if values.stderr is None else values.stderr.tolist()
            rows = zip(values.values.tolist(), stderr, values.info or [None] * part.n, strict=True)
            new = {}
            for i, row in zip(np.asarray(ids).tolist(), rows, strict=True):
                new[fresh[i]] = row
                proposal.learn(self, i, [fresh[i].hex(), *(None if v != v else v for v in row[:2]), row[2]])
            yield self._part(proposal, where, new)

    def _part(
        self, proposal: Proposal, where: dict[bytes, list[int]], found: Mapping[bytes, tuple[float, float, Any]]
    ) -> Part:
        positions = np.array([i for key in found for i in where[key]], dtype=np.intp)
        rows = [row for key, row in found.items() for _ in where[key]]
        values, stderr, info = zip(*rows, strict=True)
        known = None if np.isnan(stderr).all() else stderr
        return proposal.ids[positions], Values(values, known, info if any(info) else None)

    @override
    def start(self) -> _Known:
        return _Known({}, 0)

    @override
    def absorb(self, state: _Known, evidence: Mapping[int, Any]) -> _Known:
        # All states share one table; each knows how many of its first entries are its own
        table = state.table
        if len(table) > state.n:  # a step was withdrawn, and the table holds entries from after it
            table = {key: entry for key, entry in table.items() if entry[0] < state.n}
        for key, value, stderr, info in evidence.values():
            numbers = (np.nan if v is None else float(v) for v in (value, stderr))
            table.setdefault(bytes.fromhex(key), (len(table), *numbers, info))
        return _Known(table, len(table))

    @override
    def save(self, state: _Known) -> dict[str, Any]:
        entries = [(key.hex(), *entry[1:]) for key, entry in state.table.items() if entry[0] < state.n]
        return {"known": np.array(json.dumps(entries))}

    @override
    def load(self, saved: Mapping[str, Any]) -> _Known:
        if "known" not in saved:
            raise ValueError("The state was not saved by a `Cache`.")
        entries = json.loads(str(saved["known"]))
        return _Known({bytes.fromhex(k): (i, v, e, info) for i, (k, v, e, info) in enumerate(entries)}, len(entries))


def _digest(point: Floats) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(point).tobytes(), digest_size=16).digest()
