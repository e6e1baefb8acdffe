"""The abstract `Oracle`: whatever answers proposals."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, Protocol

import numpy as np

from blackbox_zo._state import pack, unpack
from blackbox_zo._typing import Ints
from blackbox_zo.errors import OracleError
from blackbox_zo.feedback import Feedback, Values
from blackbox_zo.proposal import Proposal

__all__ = ["Answered", "Answers", "Oracle", "Part", "gather", "parts_of", "queries_of", "stream_of"]

Part = tuple[Ints, Feedback]
"""Ids of some queries of a proposal, and their answers."""

Answered = tuple[Proposal, Ints, Feedback]
"""A proposal, ids of some of its queries, and their answers."""


class Answers(Protocol):
    """The minimal oracle: an object with `answer`."""

    def answer(self, proposal: Proposal) -> Feedback:
        """Answer all queries of the proposal."""
        ...


class Oracle(ABC):
    """Answers proposals. Asked twice about a step, it gives the same answers.

    A failed query is NaN in `Values` and unranked in `Ranking`, never an exception.

    **An oracle that learns** keeps nothing in `self`. `start` makes its state, `answer` reads it by
    `proposal.state(self)` and records what it learnt by `proposal.learn(self, query, evidence)`, and when the step ends
    the state becomes `absorb(state, evidence)`. Within a step the state is constant. The search owns the state and the
    journal records the evidence, so a resumed run has both. The proposal carries them through any wrapper.

    Attributes:
        not_replayable: Why a run with this oracle does not follow from seed, answers and evidence; empty if it does. A
            search with a journal refuses such an oracle when it asks for its state.

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
        """The answers to all queries of the proposal, in the order of `proposal.ids`."""

    def parts(self, proposal: Proposal) -> Iterator[Part]:
        """Yield the answers as they arrive, each with its ids. By default one part, from `answer`.

        Override this if queries are slow, so that each answer is recorded as soon as it arrives.
        """
        yield proposal.ids, self.answer(proposal)

    def stream(self, ask: Callable[[], Proposal | None]) -> Iterator[Answered]:
        """Yield answers as they arrive, asking for another proposal whenever a query could be taken on at once.

        Override this if queries are answered in parallel, so that no worker waits while another is at its query: see
        `Run(asynchronous=True)`. Queries that were handed out are answered even after `ask` has returned None.

        Args:
            ask: The next proposal; None once there are no more.

        Raises:
            OracleError: This oracle answers one step after another.
        """
        raise OracleError(
            f"`{type(self).__name__}` cannot answer asynchronously: it answers one step after another. Leave "
            "`asynchronous` out, or use an oracle with `stream`, such as `FunctionOracle(fun, workers=8)`."
        )

    def start(self) -> Any:
        """The state before the first step: numbers, text, arrays, and (named) tuples of them. By default `()`."""
        return ()

    def absorb(self, state: Any, evidence: Mapping[int, Any]) -> Any:
        """The state after a step; a pure function of its arguments.

        Args:
            state: A state from `start` or `absorb`; it must not be modified.
            evidence: What `proposal.learn` was given in the step, by query id, in the order of the ids. It may have
                been through JSON.
        """
        del evidence
        return state

    def save(self, state: Any) -> dict[str, Any]:
        """A state as a dict of arrays and numbers, for a checkpoint."""
        return pack("state", state)

    def load(self, saved: Mapping[str, Any]) -> Any:
        """The state that `save` was given.

        Raises:
            ValueError: It was saved by another kind of oracle.
        """
        return unpack("state", self.start(), saved)

    def close(self) -> None:  # noqa: B027 - most oracles hold nothing
        """Release processes and files. Called when the oracle is no longer needed."""


def parts_of(oracle: Answers, proposal: Proposal) -> Iterator[Part]:
    """The parts of any object with `answer`."""
    if isinstance(oracle, Oracle):
        return oracle.parts(proposal)
    return iter([(proposal.ids, oracle.answer(proposal))])


def stream_of(oracle: Answers, ask: Callable[[], Proposal | None]) -> Iterator[Answered]:
    """The answers of any object with `answer` to a stream of proposals; see `Oracle.stream`."""
    return oracle.stream(ask) if isinstance(oracle, Oracle) else Oracle.stream(oracle, ask)  # type: ignore[arg-type]


def queries_of(ask: Callable[[], Proposal | None]) -> Iterator[tuple[Proposal, int]]:
    """Each query of a stream of proposals, by its position, asking for a proposal when its first query is wanted."""
    while (proposal := ask()) is not None:
        for i in range(proposal.n):
            yield proposal, i


def gather(proposal: Proposal, parts: Iterable[Part]) -> Values:
    """Join parts that are `Values` into the `Values` of the whole proposal; what no part answers is NaN."""
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
