"""Bad input: told in a sentence, without a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["BadInput", "told"]


class BadInput(Exception):
    """What the user gave cannot be used; the message names it and the mend."""


@contextmanager
def told() -> Iterator[None]:
    """Inside this block a ValueError or TypeError is the user's input, not a fault of ours."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise BadInput(str(error)) from error
