"""The abstract `Oracle`: whatever can be asked about a proposal."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np

from blackbox_zo._typing import Ints
from blackbox_zo.feedback import Feedback, Values
from blackbox_zo.proposal import Proposal

__all__ = ["Answers", "Oracle", "Part", "gather", "parts_of"]

Part = tuple[Ints, Feedback]
"""The ids of some queries of a proposal, and the answer to them."""


class Answers(Protocol):
    """The least an oracle must have."""

    def answer(self, proposal: Proposal) -> Feedback:
        """Answer all queries of the proposal."""
        ...


class Oracle(ABC):
    """Answers proposals. Blocking, and idempotent in `proposal.step`: asked twice about a step, it answers the same.

    A failed query is NaN in `Values` and unranked in `Ranking`, never an exception.

    Attributes:
        replayable: Whether seeds and answers tell all that a run moved. `Search.run` writes no journal where not.
        rewinds: Whether `answer` may raise `Rewind`. Such an oracle keeps its answers itself.
    """

    replayable: ClassVar[bool] = True
    rewinds: ClassVar[bool] = False

    @abstractmethod
    def answer(self, proposal: Proposal) -> Feedback:
        """Answer all queries of the proposal, in the order of `proposal.ids`."""

    def parts(self, proposal: Proposal) -> Iterator[Part]:
        """Yield the answers as they become known, each with its ids. By default one part: `answer`.

        Oracles whose queries take long override this, so that a journal keeps every answer the moment it is there.
        """
        yield proposal.ids, self.answer(proposal)

    def prepare(self, proposal: Proposal) -> None:  # noqa: B027 - most oracles have nothing to prepare
        """Get ready for a proposal that will be asked later; see `Search.run(ahead=...)`."""

    def recall(self, records: Sequence[Mapping[str, Any]]) -> None:  # noqa: B027 - most oracles remember nothing
        """Be told, before a resumed run goes on, of what was answered: the journal's records, oldest first.

        A record of a value has its "step", "id" and "value", and the "info" that was answered with it; one of a ranking
        has "ids", and "info" for each of them.
        """

    def close(self) -> None:  # noqa: B027 - most oracles hold nothing
        """Give back processes and files. Called once the oracle is no longer needed."""


def parts_of(oracle: Answers, proposal: Proposal) -> Iterator[Part]:
    """The parts of any object with `answer`."""
    if isinstance(oracle, Oracle):
        return oracle.parts(proposal)
    return iter([(proposal.ids, oracle.answer(proposal))])


def gather(proposal: Proposal, parts: Iterable[Part]) -> Values:
    """One `Values` for the whole proposal from parts that are values themselves."""
    values, stderr = np.full(proposal.n, np.nan), np.full(proposal.n, np.nan)
    info: list[object] = [None] * proposal.n
    first = {int(i): position for position, i in enumerate(proposal.ids)}
    for ids, part in parts:
        assert isinstance(part, Values)
        where = [first[int(i)] for i in ids]
        values[where] = part.values
        if part.stderr is not None:
            stderr[where] = part.stderr
        for position, entry in zip(where, part.info or [None] * part.n, strict=True):
            info[position] = entry
    known = None if np.isnan(stderr).all() else stderr
    return Values(values, known, info if any(info) else None)  # type: ignore[arg-type]
