"""`Journal`: the one writer of a journal file."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal

from blackbox_zo._checks import check_at_least
from blackbox_zo._describe import describe
from blackbox_zo._paths import expanded
from blackbox_zo._version import __version__
from blackbox_zo.errors import JournalError, JournalLocked
from blackbox_zo.journal._header import compare
from blackbox_zo.journal._lock import Use, lock
from blackbox_zo.journal._reader import JournalReader, parsed_header
from blackbox_zo.journal._snapshots import Mark, Prefix, Snapshots, flush_folder
from blackbox_zo.journal.lines import FORMAT, Line

__all__ = ["Journal"]

_GATHER = 0.1
"""Seconds that a flush waits for more data: one flush costs as much CPU time as a short step."""


class Journal:
    """The journal of one run, in one file.

    The first line is the header: format and library version, estimator, rule, seed, dimension and start. Then comes
    one line per answer, or per step, and one per measure, set of known values and change of method. Every line is
    handed to the operating system before the search continues, so a killed process loses no answer. At the end of each
    step the file is also flushed to disk (`fsync`), in a separate thread and within 0.1 s (faster steps share a flush),
    so a power cut loses at most the current step and the answers of the 0.1 s before it.

    If a line cannot be written or a flush fails, `OSError` is raised and the search has not moved. After a failed
    write, free some space and tell the same answers again. After a failed flush nothing more is written, since the
    system may have dropped the data: resume from the file. The same holds if another program has deleted, replaced or
    shortened the file, which is checked at each flush.

    Args:
        path: The file; created if missing. `~` is the home folder, as in every path of this package.
        problem: What is minimised, JSON-able. Part of the run's identity: a journal of another problem is refused.
        settings: Anything worth recording that may change between resumes, such as budget and workers.
        see: Called with each line already in the file when a search opens it.
        names: The user's names for entries of `problem` or of the header, such as command-line options; used in the
            message that says how a run differs.
        see_last: How many lines before a snapshot `see` needs, besides the measures, if a search begins from one; None
            for all.
        snapshot_every: Moves between two snapshots of the search beside the file, from which a resume and an export
            start instead of replaying every move; the last two are kept. "auto" takes one whenever the replay since the
            last would take ten seconds, and twenty times as long as writing one, if the disk has room for four. 0 takes
            none. A snapshot takes as much disk as x, so all take up to three times that while one is written.

    Raises:
        ValueError: `snapshot_every` is neither "auto" nor a whole number of at least 0.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        problem: dict[str, Any] | None = None,
        settings: dict[str, Any] | None = None,
        see: Callable[[Line], object] | None = None,
        names: Mapping[str, str] | None = None,
        *,
        see_last: int | None = None,
        snapshot_every: int | Literal["auto"] = "auto",
    ) -> None:
        self._fd = -1  # set first: `__del__` reads it even if the path is invalid
        if not isinstance(path, str | os.PathLike):
            raise TypeError(f"`journal` must be the path of a file, got {path!r:.60}.")
        self.path = expanded(path)
        self.problem, self.settings, self.names = problem, settings, names or {}
        self.see, self.see_last = see, see_last
        if snapshot_every != "auto":
            check_at_least("Journal", 0, snapshot_every=snapshot_every)
        self.snapshot_every: int | Literal["auto"] = snapshot_every
        self._size, self._torn = 0, False
        self._absolute = self.path.absolute()
        self._prefix, self.snapshots = Prefix(self._absolute), Snapshots(self._absolute)
        self._failed: OSError | None = None
        self._syncing: Future[None] | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._lock, self._closing = threading.Lock(), threading.Event()
        self._dirty = self._flushing = False
        self.use = Use()

    def open(self, header: dict[str, Any]) -> Iterator[Line]:
        """Lock the file, check or write its header, read its lines and repair a torn last line.

        Args:
            header: The entries that identify this run.

        Returns:
            The lines already in the file, read lazily. Read them all before the first `write`.

        Raises:
            JournalLocked: Another process or search is writing to it.
            JournalError: The file is damaged, or of another problem or version.
            OSError: The file cannot be opened.
        """
        header = {
            "journal": "blackbox_zo",
            "format": FORMAT,
            "library": __version__,
            **header,
            **({"problem": describe(self.problem)} if self.problem is not None else {}),
        }
        if self._fd >= 0:
            self._give_way(header)
        new, self._absolute = not self.path.exists(), self.path.absolute()
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o644)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):  # a device or a pipe keeps nothing
                raise JournalError(f"'{self.path}' is not a regular file; choose another for `journal`.")
            try:
                lock(fd, self.path)
            except JournalLocked:
                mine = os.fstat(fd)
                holder = next((j for j in list(_open_journals) if os.path.samestat(os.fstat(j._fd), mine)), None)
                if holder is None:
                    raise
                holder._give_way(header)
                lock(fd, self.path)
            with self.path.open("rb") as file:
                found = parsed_header(file.readline(), self.path)
            if found is not None:
                compare(found, header, self.path, self.names)
            else:
                os.ftruncate(fd, 0)
        except BaseException:
            os.close(fd)
            raise
        self._fd, self._failed = fd, None
        self._prefix, self.snapshots = Prefix(self._absolute), Snapshots(self._absolute)
        self.snapshots.tidy()
        self.use.here()
        _open_journals.add(self)
        if found is not None:
            return self.read()
        try:
            self._size = 0
            self.write(json.dumps({**header, **({"settings": self.settings} if self.settings else {})}) + "\n")
            self._flush()
            if self._failed is not None:
                raise self._failed
            if new:
                flush_folder(self._absolute.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                self.close()
            raise
        return iter(())

    def _give_way(self, header: dict[str, Any]) -> None:
        """Close the file for a later search of this process, unless that is of another run or this one is at work."""
        with self.path.open("rb") as file:
            found = parsed_header(file.readline(), self.path)
        if found is not None:
            compare(found, header, self.path, self.names)
        why = self.use.why()
        if why:
            raise JournalLocked(f"Journal '{self.path}' is being written by another search of this process, {why}.")
        self.use.turn += 1
        with contextlib.suppress(OSError):
            self.close()

    def check(self, turn: int) -> None:
        """Check that no later search has taken the file over.

        Raises:
            JournalLocked: One has.
        """
        if turn != self.use.turn:
            raise JournalLocked(
                f"Journal '{self.path}' was taken over by a later search of this process. Continue with that one; to "
                "go back, make a new search on the file."
            )
        self.use.here()

    def read(self, after: Mark | None = None) -> Iterator[Line]:
        """The lines already in the file, as `open` returns them.

        Args:
            after: Leave out the answers before this place. `see` is called with them all the same, see `see_last`.
        """
        reader = JournalReader(self.path)
        yield from reader.after(after, self.see, self.see_last)
        self._size = reader.good
        if os.fstat(self._fd).st_size > self._size:
            os.ftruncate(self._fd, self._size)

    def write(self, lines: str) -> None:
        """Append complete lines.

        Raises:
            OSError: The disk is full or gone, or an earlier flush failed. A partly written line is removed.
        """
        if self._failed is not None:
            raise self._failed
        data = lines.encode()
        if self._torn:
            os.ftruncate(self._fd, self._size)
        self._torn = True  # until the write is known to be complete, even if Ctrl-C comes before the next statement
        try:
            written = os.write(self._fd, data)
        except OSError as error:
            raise OSError(error.errno, f"Journal '{self.path}' cannot be written: {error.strerror}") from None
        if written < len(data):
            with contextlib.suppress(OSError):  # if this fails too, the next write retries it first
                os.ftruncate(self._fd, self._size)
            raise OSError(
                errno.ENOSPC, f"Journal '{self.path}' took only {written} of {len(data)} bytes; is the disk full?"
            )
        self._size += written
        self._torn = False

    def sync(self) -> None:
        """Schedule a flush to disk; a failed flush is reported by the next `write`."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        with self._lock:
            self._dirty = True
            if self._flushing:
                return
            self._flushing = True
        self._syncing = self._thread.submit(self._flush_dirty)

    def mark(self) -> Mark:
        """The present end of the file, which is on the disk up to there.

        Raises:
            OSError: The file could not be flushed, now or earlier.
        """
        if self._failed is None:
            self._flush()
        if self._failed is not None:
            raise self._failed
        found = self._prefix.upto(self._size)
        if found is None:
            raise self._refusal(errno.ENOENT, "another program has shortened it")
        return found

    def _flush_dirty(self) -> None:
        while True:
            with self._lock:
                if not self._dirty or self._failed is not None:
                    self._flushing = False
                    return
            self._closing.wait(_GATHER)
            self._dirty = False  # before the flush: lines written during it need another one
            self._flush()

    def _flush(self) -> None:
        """Flush to disk now; on failure, record why no more can be written."""
        size = self._size
        try:
            os.fsync(self._fd)
            mine = os.fstat(self._fd)
        except OSError as error:
            why = f"it could not be flushed to disk ({error.strerror}), so its last answers may be lost"
            self._failed = self._refusal(error.errno, why)
            return
        try:
            there = os.path.samestat(self._absolute.stat(), mine)
        except OSError:
            there = False
        if not there or mine.st_size < size:
            why = "another program has shortened it" if there else "it was deleted, moved or replaced"
            self._failed = self._refusal(errno.ENOENT, why)

    def _refusal(self, number: int | None, why: str) -> OSError:
        return OSError(number, f"Journal '{self.path}' accepts no more answers: {why}. Resume the run from the file.")

    def close(self) -> None:
        """Flush everything to disk and unlock the file.

        Raises:
            OSError: The file could not be flushed, now or earlier.
        """
        if self._fd < 0:
            return
        try:
            self._closing.set()
            if self._thread is not None:
                self._thread.shutdown()
            if self._failed is None:
                self._flush()
            if self._failed is not None:
                raise self._failed
        finally:
            os.close(self._fd)
            self._fd, self._thread, self._syncing = -1, None, None
            self._dirty = self._flushing = False
            self._closing.clear()
            _open_journals.discard(self)

    def __del__(self) -> None:
        with contextlib.suppress(OSError):
            self.close()


_open_journals: weakref.WeakSet[Journal] = weakref.WeakSet()


def _forget_in_child() -> None:
    """A forked worker must not hold the lock of a parent that dies."""
    for journal in list(_open_journals):
        os.close(journal._fd)
        journal._fd = -1
        journal._thread = journal._syncing = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
