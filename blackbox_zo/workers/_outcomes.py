"""What else than a result can come of a task that another process is given."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Lost", "Raised"]


class Raised(NamedTuple):
    """A task's function raised.

    Attributes:
        error: The exception, with the worker's traceback as a note.
    """

    error: BaseException


class Lost(NamedTuple):
    """A task has no result.

    Attributes:
        reason: Why not.
    """

    reason: str
