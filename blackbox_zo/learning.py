"""What oracles learn: state that the search owns, constant within a step and updated when it ends."""

from __future__ import annotations

import json
import weakref
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import numpy as np

from blackbox_zo._typing import Ints
from blackbox_zo.errors import JournalError, OracleError

__all__ = ["Learner", "Learning", "Moment", "packed", "unpacked"]

States = Mapping[str, Any]
"""The state of each oracle, by its name. Replaced when a step ends, never changed."""

_UNKNOWN: Any = object()


class Learner(Protocol):
    """The interface of an oracle to the search that owns its state; see `Oracle`."""

    not_replayable: ClassVar[str]

    def start(self) -> Any:
        """See `Oracle.start`."""
        ...

    def absorb(self, state: Any, evidence: Mapping[int, Any]) -> Any:
        """See `Oracle.absorb`."""
        ...

    def save(self, state: Any) -> dict[str, Any]:
        """See `Oracle.save`."""
        ...

    def load(self, saved: Mapping[str, Any]) -> Any:
        """See `Oracle.load`."""
        ...


class Learning:
    """The states of the oracles that answer a search.

    Args:
        journaled: Whether the run has a journal, and so must be replayable.

    Attributes:
        states: The states after all complete steps. A journal or a checkpoint is read before the search knows the
            oracle, so a state may be a `_Deferred`, which is computed when its oracle first answers.
    """

    def __init__(self, journaled: bool = False) -> None:
        self.journaled = journaled
        self.states: States = {}
        self.oracles: dict[str, Learner] = {}

    def of(self, oracle: Learner, states: States | None = None) -> Any:
        """An oracle's state in `states`, by default after all complete steps; its start state if it learnt nothing.

        Raises:
            JournalError: The run is recorded, and what this oracle does cannot be replayed.
            ValueError: The state was saved by an oracle of another kind.
        """
        name = self.admit(oracle)
        state = (self.states if states is None else states).get(name, _UNKNOWN)
        if isinstance(state, _Deferred):
            return state.resolved(oracle)
        return oracle.start() if state is _UNKNOWN else state

    def admit(self, oracle: Learner) -> str:
        """Register an oracle; return the name under which its state is kept.

        Raises:
            JournalError: The run is recorded, and what this oracle does cannot be replayed.
        """
        if self.journaled and oracle.not_replayable:
            raise JournalError(
                f"A journal cannot replay a run with `{type(oracle).__name__}`: {oracle.not_replayable}. Search "
                "without a journal."
            )
        name = name_of(oracle)
        self.oracles[name] = oracle
        return name

    def absorb(self, learnt: Mapping[str, Mapping[int, Any]]) -> None:
        """Absorb the evidence of a complete step, by the name of the oracle and the id of the query."""
        for name, evidence in learnt.items():
            ordered = dict(sorted(evidence.items()))
            oracle = self.oracles.get(name)
            if oracle is None:
                state: Any = _Deferred(self.states.get(name, _UNKNOWN), ordered)
            else:
                state = oracle.absorb(self.of(oracle), ordered)
            self.states = {**self.states, name: state}

    # ------------------------------------------------------------------------------------------------- saving

    def save(self, prefix: str, states: States) -> dict[str, Any]:
        """States as a flat dictionary of arrays and numbers.

        Raises:
            ValueError: What has been learnt is not JSON-able.
        """
        out: dict[str, Any] = {}
        for name, state in states.items():
            saved, evidence = state.parts() if isinstance(state, _Deferred) else (_UNKNOWN, [])
            if not isinstance(state, _Deferred):
                saved = self.oracles[name].save(state)
            elif saved is not _UNKNOWN and not isinstance(saved, _Saved):
                saved = self.oracles[name].save(saved)
            out[f"{prefix}/{name}/evidence"] = packed(dict(enumerate(evidence)))
            if saved is not _UNKNOWN:
                out |= {f"{prefix}/{name}/saved/{key}": value for key, value in saved.items()}
        return out

    @staticmethod
    def load(prefix: str, flat: Mapping[str, Any]) -> States:
        """The states that `save` was given."""
        states: dict[str, Any] = {}
        for key in flat:
            if key.startswith(f"{prefix}/") and key.endswith("/evidence"):
                name = key.removeprefix(f"{prefix}/").removesuffix("/evidence")
                head = f"{prefix}/{name}/saved/"
                saved = _Saved({k.removeprefix(head): v for k, v in flat.items() if k.startswith(head)})
                state: Any = _Deferred(saved if saved else _UNKNOWN, None)
                for evidence in unpacked(flat[key]).values():
                    state = _Deferred(state, evidence)
                states[name] = state
        return states


class Moment:
    """The states of oracles when a step was asked, and the evidence that they record in it.

    Args:
        learning: Learning of the search; None for a proposal outside a search, which oracles answer from their start
            state.

    Attributes:
        told: The evidence of the queries that were told so far, by oracle name and query id.
    """

    __slots__ = ("_by", "_evidence", "_lost", "learning", "states", "told", "withdrawable")

    def __init__(self, learning: Learning | None = None) -> None:
        self.learning = Learning() if learning is None else learning
        self.states = self.learning.states
        self._evidence: dict[str, dict[int, Any]] | None = None
        self._by: dict[str, weakref.ref[Any]] = {}
        self.told: dict[str, dict[int, Any]] = {}
        self._lost = self.withdrawable = False

    def state(self, oracle: Learner) -> Any:
        """See `Proposal.state`."""
        return self.learning.of(oracle, self.states)

    def learn(self, oracle: Learner, query: int, evidence: Any) -> None:
        """See `Proposal.learn`."""
        if self._lost:
            raise OracleError(
                f"`{type(oracle).__name__}` learns from its answers, but this proposal was sent to another "
                "process, where what it learns would be lost. Answer in the process of the search, and send only the "
                "points elsewhere."
            )
        if evidence is None:
            raise OracleError(
                f"`{type(oracle).__name__}` learns None from query {query}, which in a journal means nothing learnt. "
                "Leave out `proposal.learn` where there is nothing to learn."
            )
        if self._evidence is None:
            self._evidence = {}
        name, query = self.learning.admit(oracle), int(query)
        known = self._evidence.setdefault(name, {})
        by = self._by[name]() if name in self._by else None
        if query in known and by is not None and by is not oracle and known[query] != evidence:
            raise OracleError(
                f"Two oracles named `{name}` learn from query {query}, so what they learn cannot be told apart. Give "
                "one of them a class of its own."
            )
        self._by[name], known[query] = weakref.ref(oracle), evidence

    def told_of(self, oracle: Learner) -> dict[int, Any]:
        """The evidence of an oracle from those queries of this step that were told, before a resume too, by id."""
        return self.told.get(name_of(oracle), {})

    def of(self, positions: Ints, first_id: int = 0) -> dict[str, dict[int, Any]] | None:
        """The evidence of the queries `first_id + positions`, by oracle name and query id; None if there is none.

        Args:
            positions: Positions of the queries in their step.
            first_id: Id of the first query of the step.
        """
        if not self._evidence:
            return None
        wanted = (positions + first_id).tolist()
        found = {n: {i: known[i] for i in wanted if i in known} for n, known in list(self._evidence.items())}
        return {name: some for name, some in found.items() if some} or None

    def __reduce__(self) -> tuple[Any, ...]:
        known = {name: state for name, state in self.states.items() if not isinstance(state, _Deferred)}
        return _elsewhere, (known,)


def _elsewhere(states: States) -> Moment:
    """A moment in a process other than the search's."""
    moment = Moment()
    moment.states, moment._lost = states, True
    return moment


def name_of(oracle: Learner) -> str:
    """The name under which a search keeps an oracle's state: that of its class."""
    return type(oracle).__name__


def packed(evidence: Mapping[Any, Mapping[int, Any]]) -> Any:
    """Evidence, by oracle name and query id, as an array of text, for a checkpoint.

    Raises:
        ValueError: It is not JSON-able.
    """
    try:
        return np.array(json.dumps(evidence))
    except TypeError as error:
        raise ValueError(
            f"What an oracle has learnt in an open step cannot be saved ({error}). Tell the rest of the step first."
        ) from None


def unpacked(text: Any) -> dict[str, dict[int, Any]]:
    """The evidence that `packed` was given."""
    return {name: {int(i): e for i, e in evidence.items()} for name, evidence in json.loads(str(text)).items()}


class _Saved(dict[str, Any]):
    """A state as it was saved, which only its oracle can load."""


class _Deferred:
    """A state not computed yet: an earlier state and later evidence, or a saved state."""

    __slots__ = ("before", "evidence", "found")

    def __init__(self, before: Any, evidence: dict[int, Any] | None) -> None:
        self.before, self.evidence, self.found = before, evidence, _UNKNOWN

    def _chain(self) -> tuple[list[_Deferred], Any]:
        """The deferred states that lead here, newest first, and the known state before them."""
        chain: list[_Deferred] = []
        node: Any = self
        while isinstance(node, _Deferred) and node.found is _UNKNOWN:
            chain.append(node)
            node = node.before
        return chain, node.found if isinstance(node, _Deferred) else node

    def parts(self) -> tuple[Any, list[dict[int, Any]]]:
        """A known or saved state, or `_UNKNOWN` for the start state; and the evidence since then."""
        chain, known = self._chain()
        return known, [node.evidence for node in reversed(chain) if node.evidence is not None]

    def resolved(self, oracle: Learner) -> Any:
        """The state, computed by its oracle."""
        chain, state = self._chain()
        if isinstance(state, _Saved):
            state = oracle.load(state)
        elif state is _UNKNOWN:
            state = oracle.start()
        for node in reversed(chain):
            state = state if node.evidence is None else oracle.absorb(state, node.evidence)
            node.found, node.before, node.evidence = state, None, None
        return self.found
