"""The methods of a recorded run: the one that it began with, and the one that it goes by now."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from blackbox_zo._describe import describe, spell
from blackbox_zo._replay import known_as
from blackbox_zo.errors import JournalError
from blackbox_zo.estimators import Estimator
from blackbox_zo.journal import read_header
from blackbox_zo.rules import Rule

__all__ = ["Given", "Recorded", "recorded"]

Description = tuple[Any, Any]
"""Of an estimator and a rule."""


class Recorded(NamedTuple):
    """What a journal says of its methods.

    Attributes:
        header: Its header.
        first: The method that the run began with.
        last: The method that it goes by now.
        changed: Whether it was ever changed.
    """

    header: dict[str, Any]
    first: Description
    last: Description
    changed: bool


def recorded(path: Path) -> Recorded | None:
    """What the journal in a file says of its methods; None if there is no journal yet.

    Raises:
        JournalError: The file is not a journal.
        OSError: It cannot be read.
    """
    if not path.is_file() or not path.stat().st_size:
        return None
    try:
        header = read_header(path)
    except JournalError:
        if path.read_bytes().strip(b"\0") and b"\n" in path.read_bytes():
            raise
        return None  # a torn header, which is written again
    first = last = header.get("estimator"), header.get("rule")
    changes = 0
    with path.open("rb") as file:
        for line in file:
            if line.startswith(b'{"change": '):
                with suppress(ValueError, KeyError, TypeError):  # whoever reads all lines says what is wrong with it
                    found = json.loads(line)["change"]
                    last, changes = (found["estimator"], found["rule"]), changes + 1
    return Recorded(header, first, last, changes > 0)


class Given:
    """The method that a search was given, and how it meets that of its journal.

    Args:
        estimator: The estimator.
        rule: The rule.
        then: What the journal says; None without a run in it.
        change: Whether the run may go on with another method than before.
        path: The journal, for messages.

    Attributes:
        first: The estimator and the rule that the run began with.
        changes: Whether the run is to be changed to the given method.

    Raises:
        JournalError: The run goes by another method, and `change` is false; or its methods cannot be rebuilt.
    """

    def __init__(self, estimator: Estimator, rule: Rule, then: Recorded | None, change: bool, path: Any) -> None:
        self.method = estimator, rule
        self._described = describe(estimator), describe(rule)
        self.first, self.changes, self._path = self.method, False, path
        if then is None or (not then.changed and not change):
            return  # the header is compared when the journal is opened
        self.changes = then.last != self._described
        if self.changes and not change:
            raise JournalError(
                f"Journal '{path}' goes by another method: its is {spell(then.last[0])[:200]}, here it is "
                f"{spell(self._described[0])[:200]}. Give that method, or say `change=True` to change it again. "
                "`blackbox-zo resume FILE` goes on with it."
            )
        self.first = self.rebuilt(then.first[0]), self.rebuilt(then.first[1])

    def rebuilt(self, description: Any) -> Any:
        """An estimator or rule of the run: the given one, if it is that, else a new one.

        Raises:
            JournalError: It is not part of this package.
        """
        for mine, described in zip(self.method, self._described, strict=True):
            if described == description:
                return mine
        try:
            return known_as(description)
        except (ValueError, TypeError) as error:
            raise JournalError(
                f"Journal '{self._path}' was begun with a method that cannot be made again: {error} Give the search "
                "that method, and call `Search.change`."
            ) from None
