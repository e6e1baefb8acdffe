"""The exceptions of the package. Each message names the argument, its value and what to do."""

from __future__ import annotations

__all__ = [
    "BudgetExhausted",
    "FeedbackError",
    "JournalError",
    "JournalLocked",
    "MeasureError",
    "OracleError",
    "RankError",
    "Rewind",
    "StopRun",
    "TellError",
    "WorkerError",
]


class TellError(ValueError):
    """The proposal, ids and answers given to `Search.tell` do not match."""


class FeedbackError(TypeError):
    """The estimator cannot use the kind of feedback that the oracle gives."""


class BudgetExhausted(RuntimeError):
    """`Search.ask` was called after the whole budget had been asked."""


class OracleError(RuntimeError):
    """A run cannot continue, for example because every query of many steps failed."""


class RankError(OracleError):
    """One of several processes that run a search together differs from the others, has stopped or has died.

    Attributes:
        elsewhere: Whether rank 0 says the same.
    """

    elsewhere: bool = False


class MeasureError(RuntimeError):
    """A measure raised an exception, or gave no number."""


class WorkerError(RuntimeError):
    """Worker processes, or an executor, cannot do their work; or what a worker raised cannot be sent as it was."""


class JournalError(ValueError):
    """A journal is damaged, or belongs to another problem or version."""


class JournalLocked(JournalError):
    """Another process or search is writing to this journal."""


class Rewind(Exception):
    """Raised by an oracle to withdraw its answers from a step on, for example because a person undid one.

    The run goes back to where it began and asks the same steps again; the oracle must answer those before `step` as it
    did the first time. If the step belongs to an earlier run of the search, the exception passes to the caller, who can
    start over with a new search.

    Attributes:
        step: The first step to ask again.
    """

    def __init__(self, step: int) -> None:
        super().__init__(f"The answer to step {step} was withdrawn.")
        self.step = step


class StopRun(Exception):
    """Raised by an oracle to end the run, for example because a person has seen enough. What was answered is kept."""
