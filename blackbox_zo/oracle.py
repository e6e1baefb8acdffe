"""The abstract `Oracle`: whatever can be asked about a proposal."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Protocol

import numpy as np

from blackbox_zo._state import pack, unpack
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

    **An oracle that learns** keeps nothing itself. Like an estimator's, its state is made by `start`, is read by
    answers with `proposal.state(self)`, does not change within a step, and becomes `absorb(state, evidence)` when the
    step ends; `evidence` is what the answers gave to `proposal.learn(self, query, evidence)`. The search owns the state
    and the journal records the evidence, so a run that was killed goes on with both. The proposal carries them through
    wrappers of any kind.

    Attributes:
        not_replayable: Why seeds, answers and evidence do not tell all that a run with this oracle did, as the end of a
            sentence; empty where they do. A search with a journal refuses such an oracle when it asks for its state.

    Example:
        >>> import blackbox_zo as bz, numpy as np
        >>> class Centred(bz.Oracle):
        ...     "f minus the mean of all values of the steps before."
        ...     def start(self):
        ...         return 0, 0.0
        ...     def answer(self, proposal):
        ...         n, total = proposal.state(self)
        ...         values = (proposal.points**2).sum(axis=1)
        ...         for i, value in zip(proposal.ids, values.tolist()):
        ...             proposal.learn(self, i, value)
        ...         return bz.Values(values - total / max(n, 1))
        ...     def absorb(self, state, evidence):
        ...         return state[0] + len(evidence), state[1] + sum(evidence.values())
        >>> search = bz.Search(np.ones(2), bz.RandomVector(0.1, 2), seed=0)
        >>> oracle = Centred()
        >>> for report in search.run(oracle, steps=3):
        ...     pass
        >>> search.state_of(oracle)[0]
        12
    """

    not_replayable: ClassVar[str] = ""

    @abstractmethod
    def answer(self, proposal: Proposal) -> Feedback:
        """Answer all queries of the proposal, in the order of `proposal.ids`."""

    def parts(self, proposal: Proposal) -> Iterator[Part]:
        """Yield the answers as they become known, each with its ids. By default one part: `answer`.

        Oracles whose queries take long override this, so that a journal keeps every answer the moment it is there.
        """
        yield proposal.ids, self.answer(proposal)

    def start(self) -> Any:
        """The state before the first step: numbers, text, arrays, and (named) tuples of them. By default `()`."""
        return ()

    def absorb(self, state: Any, evidence: Mapping[int, Any]) -> Any:
        """The state after a step; a pure function of its arguments.

        Args:
            state: As `start` or `absorb` gave it; not changed.
            evidence: What the step's answers gave to `proposal.learn`, by the id of the query, in the order of the ids.
                It may have been through JSON.
        """
        del evidence
        return state

    def save(self, state: Any) -> dict[str, Any]:
        """A state as arrays and numbers by name, for a checkpoint."""
        return pack("state", state)

    def load(self, saved: Mapping[str, Any]) -> Any:
        """What `save` was given.

        Raises:
            ValueError: It is of another oracle.
        """
        return unpack("state", self.start(), saved)

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
