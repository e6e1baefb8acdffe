"""`AcrossRanks`: each rank answers some of a step's queries."""

from __future__ import annotations

from typing import Any, final

import numpy as np

from blackbox_zo._typing import Floats, Ints, override
from blackbox_zo.errors import OracleError
from blackbox_zo.feedback import Values
from blackbox_zo.oracle import Answers
from blackbox_zo.proposal import Proposal
from blackbox_zo.ranks._ranks import Ranks
from blackbox_zo.wrappers import Wrapper

__all__ = ["AcrossRanks"]


@final
class AcrossRanks(Wrapper):
    """Shares the queries of each step among ranks: each answers its slice, and all learn all values.

    The run is that of one process, bit for bit, if an answer depends on the query alone. A step takes as long as its
    slowest slice, so the number of queries should be a multiple of the number of ranks. For a language model give the
    ranks to `LossOracle`, which also shares the examples of a batch.

    Args:
        oracle: An oracle that answers values and learns nothing.
        ranks: The ranks.
    """

    def __init__(self, oracle: Answers, ranks: Ranks) -> None:
        super().__init__(oracle)
        if getattr(oracle, "ranks", None) is not None:
            raise ValueError(
                f"`AcrossRanks(oracle)`: this `{type(oracle).__name__}` has ranks of its own. Use it as it is."
            )
        self.ranks = ranks

    @override
    def answer(self, proposal: Proposal) -> Values:
        ranks, parts = self.ranks, np.array_split(np.arange(proposal.n), self.ranks.size)
        mine = self._mine(proposal, parts[ranks.rank])
        notes = {"stderr": _known(mine.stderr), "info": mine.info}
        found, said = ranks.gather(
            proposal, _padded(mine.values, len(parts[0])), notes if any(n is not None for n in notes.values()) else None
        )
        values = np.concatenate([row[: len(part)] for row, part in zip(found, parts, strict=True)])
        if said is None:
            return Values(values)
        stderr, info = list[float](), list[Any]()
        for note, part in zip(said, parts, strict=True):
            more = note or {}
            stderr += [np.nan if e is None else e for e in more.get("stderr") or [None] * len(part)]
            info += more.get("info") or [None] * len(part)
        return Values(values, stderr, info if any(info) else None)

    def _mine(self, proposal: Proposal, which: Ints) -> Values:
        """The answers of this rank."""
        if not len(which):
            return Values([])
        part = proposal.take(which)
        values = self._values(self.oracle.answer(part))
        if self.ranks.size > 1 and part.moment.of(part.ids):
            raise OracleError(
                f"Cannot use `AcrossRanks` with `{type(self.oracle).__name__}`, which learns from its answers: "
                "each rank would learn from its own. Put what learns outside: `Cache(AcrossRanks(oracle, ranks))`."
            )
        return values


def _padded(values: Floats, size: int) -> Floats:
    return np.concatenate([values, np.zeros(size - len(values))])


def _known(stderr: Floats | None) -> list[Any] | None:
    return None if stderr is None else [None if e != e else e for e in stderr.tolist()]
