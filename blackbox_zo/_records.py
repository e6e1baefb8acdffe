"""The records of a run: how it ended, what each step did, which query failed first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Any, NamedTuple, Protocol

from blackbox_zo._best import Best
from blackbox_zo._engine import Snapshot
from blackbox_zo.estimators import Estimator
from blackbox_zo.feedback import Feedback
from blackbox_zo.journal import Journal, Measured
from blackbox_zo.proposal import Proposal
from blackbox_zo.rules import Rule
from blackbox_zo.variables import Variable

__all__ = ["Ended", "Failure", "Report", "Searched"]


class Ended(IntEnum):
    """How a run ended. The number is `OptimizeResult.status`."""

    BUDGET = 0
    """Every query of the budget was answered."""
    STOPPED = 1
    """A callback or another observer asked to stop, or the caller left the loop."""
    TIME = 2
    """The time limit was reached."""
    INTERRUPTED = 3
    """Ctrl-C or another signal."""
    RAISED = 4
    """The oracle, a measure or an observer raised an exception."""
    FAILED = 5
    """Every query failed."""
    TARGET = 6
    """A value at or below the target was found."""
    STEPS = 7
    """All steps were done."""
    BARREN = 8
    """`patience` consecutive steps had no usable answer."""


class Report(NamedTuple):
    """What one step of a run did.

    Attributes:
        step: Number of the step.
        nfev: Queries answered so far, failures included.
        value: Mean of the step's values; NaN for rankings, or where all failed.
        best: Best value so far.
        failed: Failed queries so far.
        seconds: Seconds since this run began or was resumed.
        measured: The measures taken after the step, by name.
    """

    step: int
    nfev: int
    value: float
    best: float
    failed: int
    seconds: float = 0.0
    measured: Mapping[str, Measured] = {}


class Failure(NamedTuple):
    """The first query of a run that failed.

    Attributes:
        query: Id of the query.
        reason: Why it failed; empty if the oracle gave no reason.
        info: Info that the oracle recorded about it.
    """

    query: int
    reason: str
    info: Mapping[str, Any]


class Searched(Protocol):
    """What a run needs from a search; `Search` provides it."""

    @property
    def variable(self) -> Variable: ...
    @property
    def estimator(self) -> Estimator: ...
    @property
    def rule(self) -> Rule: ...
    @property
    def state(self) -> Any: ...
    @property
    def seed(self) -> int: ...
    @property
    def budget(self) -> int | None: ...
    @property
    def nfev(self) -> int: ...
    @property
    def retried(self) -> int: ...
    @property
    def failed(self) -> int: ...
    @property
    def steps(self) -> int: ...
    @property
    def moves(self) -> int: ...
    @property
    def barren(self) -> int: ...
    @property
    def barren_steps(self) -> int: ...
    @property
    def best(self) -> Best: ...
    @property
    def exhausted(self) -> bool: ...
    @property
    def waiting(self) -> list[int]: ...
    @property
    def journal(self) -> Journal | None: ...
    @property
    def measured(self) -> Sequence[Measured]: ...

    def ask(self) -> Proposal: ...
    def give_back(self, proposals: Iterable[Proposal]) -> None: ...
    def tell(self, proposal: Proposal, feedback: Feedback, ids: Any = None) -> None: ...
    def record(self, measured: Measured) -> None: ...
    def snapshot(self) -> Snapshot: ...
    def restore(self, then: Snapshot) -> None: ...
