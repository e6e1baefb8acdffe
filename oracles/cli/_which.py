"""The record of a run that a command line names, and its kind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from blackbox_zo.journal import JournalReader, read_journal
from oracles.kind import Kind
from oracles.options import BadInput

__all__ = ["opened"]


def opened(name: str, kinds: Sequence[Kind]) -> tuple[Kind, JournalReader]:
    """The kind of a run, and a reader of its record: a journal, or what a kind keeps instead.

    Args:
        name: A path, or what a kind takes instead.
        kinds: All kinds.

    Raises:
        BadInput: No kind recognises it.
        JournalError: It is not a journal.
        OSError: It cannot be read.
    """
    for kind in kinds:
        reader = kind.reader(name)
        if reader is not None:
            return kind, reader
    reader = read_journal(Path(name))
    found = next((kind for kind in kinds if kind.recognises(reader.header)), None)
    if found is None:
        problem = reader.header.get("problem") or {}
        known = ", ".join(kind.name for kind in kinds if kind.name)
        raise BadInput(
            f"'{name}' holds a run of unknown kind {problem.get('kind')!r}; known kinds: {known}. Use the program that "
            "started it."
        )
    return found, reader
