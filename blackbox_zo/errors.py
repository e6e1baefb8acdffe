"""The errors of the package, each with a sentence that names the argument, the value and the mend."""

from __future__ import annotations

__all__ = [
    "BudgetExhausted",
    "FeedbackError",
    "JournalError",
    "JournalLocked",
    "OracleError",
    "TellError",
]


class TellError(ValueError):
    """`Search.tell` was given a proposal, ids or answers that do not belong together."""


class FeedbackError(TypeError):
    """An estimator needs another kind of feedback than the oracle gives."""


class BudgetExhausted(RuntimeError):
    """`Search.ask` was called after the last query of the budget had been handed out."""


class OracleError(RuntimeError):
    """An oracle cannot go on, for example because every query failed."""


class JournalError(ValueError):
    """A journal is damaged, or belongs to another problem or version."""


class JournalLocked(JournalError):
    """Another process or search is writing to this journal."""
