"""The lock of a journal: one writer at a time, until it closes the file or ends."""

from __future__ import annotations

from pathlib import Path

from blackbox_zo.errors import JournalLocked

__all__ = ["lock"]

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
