"""Outcomes, other than a result, of a task in another process."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Lost", "Raised"]


class Raised(NamedTuple):
    """The function of a task raised an exception.

    Attributes:
        error: The exception, with the worker's traceback as a note.
    """

    error: BaseException


class Lost(NamedTuple):
    """A task has no result.

    Attributes:
        reason: Why it has none.
    """

    reason: str
