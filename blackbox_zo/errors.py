"""The errors of the package, each with a sentence that names the argument, the value and the mend."""

from __future__ import annotations

__all__ = [
    "BudgetExhausted",
    "FeedbackError",
    "JournalError",
    "JournalLocked",
    "MeasureError",
    "OracleError",
    "Rewind",
    "TellError",
    "WorkerError",
]


class TellError(ValueError):
    """`Search.tell` was given a proposal, ids or answers that do not belong together."""


class FeedbackError(TypeError):
    """An estimator needs another kind of feedback than the oracle gives."""


class BudgetExhausted(RuntimeError):
    """`Search.ask` was called after the last query of the budget had been handed out."""


class OracleError(RuntimeError):
    """An oracle cannot go on, for example because every query failed."""


class MeasureError(RuntimeError):
    """A measure raised an exception, or gave no number."""


class WorkerError(RuntimeError):
    """Worker processes, or an executor, cannot do their work; or what a worker raised cannot be sent as it was."""


class JournalError(ValueError):
    """A journal is damaged, or belongs to another problem or version."""


class JournalLocked(JournalError):
    """Another process or search is writing to this journal."""


class Rewind(Exception):
    """An oracle takes back what it answered from a step on, for example because a person undid an answer.

    `Search.run` begins again from where it began, asks for the same steps, and goes on from there; the oracle must
    answer the steps before as it did the first time. Where the step is of an earlier `run`, this is raised to the
    caller: a search made anew goes through all steps again.

    Attributes:
        step: The first step that is to be asked again.
    """

    def __init__(self, step: int) -> None:
        super().__init__(f"The answer to step {step} was taken back.")
        self.step = step
