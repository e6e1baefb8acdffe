"""The lock of a journal: one writer at a time, until it closes the file or ends.

Within a process a search that is not at work gives way to a later one, so that the cell of a notebook can be run
again. It writes no more from then on.
"""

from __future__ import annotations

import threading
from pathlib import Path

from blackbox_zo.errors import JournalLocked

__all__ = ["Use", "lock"]

try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

    def _locked(fd: int) -> None:
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
else:

    def _locked(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def lock(fd: int, path: Path) -> None:
    """Lock an open file.

    Raises:
        JournalLocked: Another process or search holds it.
        OSError: The file system has no locks.
    """
    try:
        _locked(fd)
    except (BlockingIOError, PermissionError):  # Linux and macOS; Windows
        raise JournalLocked(
            f"Journal '{path}' is being written by another search. Wait for it, or use another file."
        ) from None
    except OSError as error:
        raise OSError(
            error.errno, f"Journal '{path}' cannot be locked ({error.strerror}). Keep it on a disk of this machine."
        ) from None


class Use:
    """Who uses a journal in this process.

    Attributes:
        turn: Changes when another search takes the file over.
        running: Whether a run is at work: not while it waits for its caller.
        kept: Whether its search is in a `with` block, which will close the file.
    """

    def __init__(self) -> None:
        self.turn, self.running, self.kept = 0, False, False
        self.here()

    def here(self) -> None:
        """Note the thread that uses the journal."""
        self._thread = threading.get_ident()

    def why(self) -> str:
        """Why a later search may not take the file over; empty if it may."""
        if self.running:
            return "whose run is at work; wait for its end"
        if self.kept:
            return "in a `with` block; leave the block first"
        other = next((thread.name for thread in threading.enumerate() if thread.ident == self._thread), "")
        if other and self._thread != threading.get_ident():
            return f"in thread {other!r}; close it there first, with `search.close()`"
        return ""
