"""Reading a journal, without locking or changing it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from blackbox_zo._paths import expanded
from blackbox_zo.errors import JournalError
from blackbox_zo.journal._snapshots import Mark
from blackbox_zo.journal.lines import READABLE, Answers, Line, Measured, parse_line

__all__ = ["JournalReader", "parsed_header", "read_header", "read_journal"]

_CHUNK = 1 << 20
"""Bytes read at a time."""

_MEASURE = b'{"measure": '
"""How the line of a measure begins."""


class JournalReader:
    """Reads a journal line by line, even while a search writes to it.

    An incomplete last line is skipped: it is being written, or was torn by a power cut.

    Args:
        path: The file.

    Attributes:
        path: The file.
        header: Header of the run: the first line.
        good: Number of bytes read and parsed, from the start of the file.

    Raises:
        JournalError: The file is empty, damaged, not a journal, or of a format that this version cannot read.
        OSError: The file cannot be read.

    Example:
        >>> import blackbox_zo as bz, numpy as np, tempfile
        >>> path = tempfile.mkdtemp() + "/run.jsonl"
        >>> result = bz.minimize(lambda x: x @ x, np.ones(2), budget=20, journal=path)
        >>> journal = bz.read_journal(path)
        >>> journal.header["dimension"], sum(len(answers.ids) for answers in journal.answers())
        (2, 20)
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = expanded(path)
        with self.path.open("rb") as file:
            line = file.readline()
        header = parsed_header(line, self.path)
        if header is None:
            raise JournalError(f"'{path}' is empty; no run has been recorded in it.")
        self.header: dict[str, Any] = header
        self.good = self._begin = len(line)
        self._number = 1

    def __iter__(self) -> Iterator[Line]:
        """All complete lines after the header, from the first."""
        self.good, self._number = self._begin, 1
        with self.path.open("rb") as file:
            file.seek(self._begin)
            yield from self._lines(file)

    def after(
        self, place: Mark | None, see: Callable[[Line], object] | None = None, last: int | None = None
    ) -> Iterator[Line]:
        """The lines after a place, and the measures before it.

        Args:
            place: The place; None for the beginning.
            see: Called with each line, those before the place too.
            last: How many of those before the place `see` needs, besides the measures; None for all. Others are not
                parsed.
        """
        self.good, self._number = self._begin, 1
        with self.path.open("rb") as file:
            if place is not None:
                first = place.lines if see is None else 0 if last is None else place.lines - last
                for line in self._until(file, place.size, first):
                    if see is not None:
                        see(line)
                    if isinstance(line, Measured):
                        yield line
                self.good, self._number = place.size, place.lines
            file.seek(self.good)
            for line in self._lines(file):
                if see is not None:
                    see(line)
                yield line

    def _until(self, file: BinaryIO, size: int, first: int) -> Iterator[Line]:
        """The lines in the first so many bytes: the measures, and those beyond a number."""
        file.seek(self.good)
        for line in file:
            if self.good >= size:
                return
            self._number += 1
            if self._number > first or line.startswith(_MEASURE):
                parsed = self._parsed(line[:-1], file)
                if parsed is not None:
                    yield parsed
            self.good += len(line)

    def follow(self, seconds: float = 0.2) -> Iterator[Line | None]:
        """Yield every line, then new lines as they are appended; never ends by itself.

        Args:
            seconds: Seconds between two looks at the file.

        Yields:
            A line; or None when all have been read, before each wait.

        Raises:
            JournalError: A line is damaged, or the file has become shorter.
        """
        self.good, self._number = self._begin, 1
        with self.path.open("rb") as file:
            while True:
                if os.fstat(file.fileno()).st_size < self.good:
                    raise JournalError(f"'{self.path}' was shortened while it was being read.")
                file.seek(self.good)
                yield from self._lines(file)
                yield None
                time.sleep(seconds)

    def answers(self) -> Iterator[Answers]:
        """Only the answers."""
        return (line for line in self if isinstance(line, Answers))

    def measured(self) -> Iterator[Measured]:
        """Only the measures."""
        return (line for line in self if isinstance(line, Measured))

    def _lines(self, file: BinaryIO) -> Iterator[Line]:
        """The complete lines from here on; updates `good`."""
        rest = b""
        while chunk := file.read(_CHUNK):
            lines = (rest + chunk).split(b"\n")
            rest = lines.pop()
            for line in lines:
                self._number += 1
                parsed = self._parsed(line, file)
                if parsed is None:
                    self._number -= 1
                    return
                yield parsed
                self.good += len(line) + 1

    def _parsed(self, line: bytes, file: BinaryIO) -> Line | None:
        """One parsed line; None if it is the last one and torn."""
        try:
            return parse_line(json.loads(line), self._number)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if self.good + len(line) + 1 >= os.fstat(file.fileno()).st_size:
                return None
            raise JournalError(
                f"'{self.path}' is damaged at line {self._number}: {line[:60]!r} is not a line of a journal "
                f"({type(error).__name__}: {error}). If you added that line, remove it; otherwise start a new journal."
            ) from None


def read_journal(path: str | os.PathLike[str]) -> JournalReader:
    """Open a journal for reading; see `JournalReader`."""
    return JournalReader(path)


def read_header(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The header of a journal; the rest of the file is not read.

    Raises:
        JournalError: The file is empty, not a journal, or of a format that this version cannot read.
        OSError: The file cannot be read.
    """
    return JournalReader(path).header


def parsed_header(line: bytes, path: Path) -> dict[str, Any] | None:
    """The header from a file's first line; None if the line is empty or torn.

    Raises:
        JournalError: The line is not a header, or is of a format that this version cannot read.
    """
    if not line.endswith(b"\n") and (b'{"journal": "blackbox_zo"'.startswith(line[:25]) or not line.strip(b"\0")):
        return None
    try:
        header = json.loads(line)
    except ValueError:
        header = None
    if not isinstance(header, dict) or header.get("journal") != "blackbox_zo":
        raise JournalError(f"'{path}' is not a journal of blackbox_zo; choose another file for `journal`.")
    if header.get("format") not in READABLE:
        raise JournalError(
            f"Journal '{path}' was written by format version {header.get('format')}, of blackbox_zo "
            f"{header.get('library')}; this version reads {' and '.join(map(str, READABLE))}. Use that version."
        )
    return header
