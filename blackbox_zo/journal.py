"""The journal: append-only JSON lines. A run is its header plus its answers, and replaying them is resuming it."""

from __future__ import annotations

import json
import os
import threading
import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from blackbox_zo._describe import describe, spell
from blackbox_zo._version import __version__
from blackbox_zo.errors import JournalError, JournalLocked

__all__ = ["FORMAT", "Journal", "read"]

FORMAT = 1
"""Version of the file format."""

_GATHER = 0.1
"""Seconds for which a flush waits for more to flush: one costs as much CPU as a short step."""


class Journal:
    """One file, one run.

    The first line is the header: format and library version, estimator, rule, seed, dimension and start. Then comes
    one line per answer. Every line is handed to the operating system before the search goes on, so a killed process
    loses nothing that was answered. At the end of each step the file is also flushed to the disk (`fsync`), in a thread
    of its own and within 0.1 s (steps that follow each other faster share a flush), so a power cut loses at most the
    step under way and what was answered in the 0.1 s before.

    Args:
        path: The file; made if missing.
        problem: What is being minimised, JSON-able. Part of the run's identity: another problem is refused.
        settings: Anything worth keeping that may change between resumes, such as budget and workers.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        problem: dict[str, Any] | None = None,
        settings: dict[str, Any] | None = None,
    ) -> None:
        self.path = Path(path)
        self.problem, self.settings = problem, settings
        self._fd = -1
        self._syncing: Future[None] | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._lock, self._closing = threading.Lock(), threading.Event()
        self._dirty = self._flushing = False

    def open(self, header: dict[str, Any]) -> list[dict[str, Any]]:
        """Lock the file, check or write its header, mend a torn last line.

        Args:
            header: What tells this run from others.

        Returns:
            The records already there.

        Raises:
            JournalLocked: Another process or search is writing to it.
            JournalError: It is damaged, or of another problem or version.
            OSError: It cannot be opened.
        """
        if self._fd >= 0:
            raise JournalLocked(f"Journal '{self.path}' is already in use by another search of this process.")
        header = {
            "journal": "blackbox_zo",
            "format": FORMAT,
            "library": __version__,
            **header,
            **({"problem": describe(self.problem)} if self.problem is not None else {}),
        }
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o644)
        try:
            _lock(fd, self.path)
            raw = self.path.read_bytes()
            found, records, good = _parse(raw, self.path)
            if good < len(raw):
                os.ftruncate(fd, good)
            if found is not None:
                _compare(found, header, self.path)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        _open_journals.add(self)
        if found is None:
            self.write(json.dumps({**header, **({"settings": self.settings} if self.settings else {})}) + "\n")
            os.fsync(fd)
        return records

    def write(self, lines: str) -> None:
        """Append complete lines.

        Raises:
            OSError: The disk is full or gone. What was written of a line is dropped again.
        """
        data = lines.encode()
        written = os.write(self._fd, data)
        if written < len(data):
            os.ftruncate(self._fd, os.fstat(self._fd).st_size - written)
            raise OSError(f"Journal '{self.path}' took only {written} of {len(data)} bytes; is the disk full?")

    def sync(self) -> None:
        """Have what was written flushed to the disk soon.

        Raises:
            OSError: An earlier flush failed.
        """
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        if self._syncing is not None and self._syncing.done():
            self._syncing.result()
        with self._lock:
            self._dirty = True
            if self._flushing:
                return
            self._flushing = True
        self._syncing = self._thread.submit(self._flush)

    def _flush(self) -> None:
        while True:
            with self._lock:
                if not self._dirty:
                    self._flushing = False
                    return
            self._closing.wait(_GATHER)
            self._dirty = False  # before the flush: what is written during it needs another
            try:
                os.fsync(self._fd)
            except OSError:
                self._flushing = False
                raise

    def close(self) -> None:
        """Flush everything to the disk and unlock the file."""
        if self._fd < 0:
            return
        try:
            self._closing.set()
            if self._thread is not None:
                self._thread.shutdown()
            os.fsync(self._fd)
        finally:
            os.close(self._fd)
            self._fd, self._thread, self._syncing = -1, None, None
            self._dirty = self._flushing = False
            self._closing.clear()
            _open_journals.discard(self)

    def __del__(self) -> None:
        self.close()


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Read a journal without locking or changing it.

    Returns:
        Its header and its records.

    Raises:
        JournalError: It is empty, damaged, or no journal.
        OSError: It cannot be read.
    """
    header, records, _ = _parse(Path(path).read_bytes(), Path(path))
    if header is None:
        raise JournalError(f"'{path}' is empty; no run has been recorded in it.")
    return header, records


def _parse(raw: bytes, path: Path) -> tuple[dict[str, Any] | None, list[dict[str, Any]], int]:
    """Header (None for an empty file), records, and how many bytes are good. A torn last line is left out."""
    good = 0
    parsed: list[dict[str, Any]] = []
    lines = raw.split(b"\n")
    for number, line in enumerate(lines):
        last = number >= len(lines) - 2  # the last complete line, or the piece after it
        if number == len(lines) - 1:
            break  # what follows the last newline: nothing, or a torn line
        try:
            entry = json.loads(line)
            if not isinstance(entry, dict):
                raise ValueError
        except ValueError:
            if last and parsed and len(lines[-1]) == 0:
                break
            raise JournalError(
                f"'{path}' is damaged at line {number + 1}: {line[:60]!r} is not a JSON object. "
                "If that line is yours, remove it; otherwise start a new journal."
            ) from None
        if not parsed and entry.get("journal") != "blackbox_zo":
            raise JournalError(f"'{path}' is not a journal of blackbox_zo; choose another file for `journal`.")
        parsed.extend(_single(entry))
        good += len(line) + 1
    if not parsed:
        if raw and not raw.startswith(b'{"journal"'[: len(raw)]):
            raise JournalError(f"'{path}' is not a journal of blackbox_zo; choose another file for `journal`.")
        return None, [], 0
    return parsed[0], parsed[1:], good


def _single(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """A line that holds a whole step, as one record per value; any other line as it is."""
    if "values" not in entry or "id" not in entry:
        return [entry]
    step, first = entry["step"], entry["id"]
    at = entry.get("at", step)
    return [{"step": step, "at": at, "id": first + i, "value": value} for i, value in enumerate(entry["values"])]


def _compare(found: dict[str, Any], mine: dict[str, Any], path: Path) -> None:
    """Refuse a header of another run, by the name of what differs."""
    found, mine = dict(found), dict(mine)
    for name in ("library",):  # patch releases never change a number
        found[name], mine[name] = (".".join(str(h.get(name)).split(".")[:2]) for h in (found, mine))
    for name in ("format", "library", "estimator", "rule", "seed", "dimension", "problem", "start", "max_staleness"):
        theirs, ours = found.get(name), mine.get(name)
        if theirs == ours:
            continue
        if name in ("format", "library"):
            raise JournalError(
                f"Journal '{path}' was written by {name} version {theirs}, this is {ours}. "
                f"Resume it with that version, or use another file."
            )
        if name == "start":
            for part in ("select", "mask", "unit", "no_decay", "rounding", "x0", "lower", "upper"):
                a, b = (h.get("variable", {}).get(part) for h in (found, mine))
                if a != b:
                    name, theirs, ours = f"variable's {part}", a, b
                    break
        raise JournalError(
            f"Journal '{path}' belongs to another run: "
            f"its {name} is {spell(theirs):.200}, here it is {spell(ours):.200}. "
            "Use another file, or the same arguments as before."
        )


_open_journals: weakref.WeakSet[Journal] = weakref.WeakSet()


def _forget_in_child() -> None:
    """A forked worker must not hold the lock of a parent that dies."""
    for journal in list(_open_journals):
        os.close(journal._fd)
        journal._fd = -1
        journal._thread = journal._syncing = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)


try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

    def _lock(fd: int, path: Path) -> None:
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        except OSError:
            raise JournalLocked(_busy(path)) from None
else:

    def _lock(fd: int, path: Path) -> None:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise JournalLocked(_busy(path)) from None


def _busy(path: Path) -> str:
    return f"Journal '{path}' is being written by another search. Wait for it, or use another file."
