"""Write files and folders atomically: they appear complete or not at all."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

if sys.platform != "win32":
    import fcntl

from blackbox_zo._paths import expanded

__all__ = ["appearing", "appearing_folder", "trial_folder", "write"]


@contextlib.contextmanager
def appearing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a new, empty file next to `path` to write to; at the end of the block it replaces `path`.

    It is on the disk (`fsync`) before it does, so that nobody ever meets half a file, even after a power cut. If the
    block raises, or the disk fails, the new file is deleted and an older file is as it was. A new file has the
    permissions of any new file, one that replaces another has the other's. A link stays a link; a pipe or a device,
    such as /dev/stdout, is itself given to be written to. What a killed writer of the same file has left is deleted.

    Args:
        path: Path of the file; its folder must exist.

    Raises:
        OSError: The file cannot be written; the message names `path`.
    """
    path = expanded(path)
    if path.exists() and not path.is_file():
        yield path
        return
    whole = Path(os.path.realpath(path))
    with _naming(path, whole):
        old = whole.stat() if whole.exists() else None
        if old is not None and not os.access(whole, os.W_OK):
            raise PermissionError(errno.EACCES, "")
        with _partial(whole) as partial:
            yield partial
            if old is not None:
                partial.chmod(stat.S_IMODE(old.st_mode))
            _flush(partial)
            partial.replace(whole)
    with contextlib.suppress(OSError):  # some file systems cannot; and the file is there
        _flush(whole.parent)


@contextlib.contextmanager
def appearing_folder(path: str | os.PathLike[str], last: str | None = None) -> Iterator[Path]:
    """Yield a new, empty folder next to `path` to fill; at the end of the block it becomes `path`.

    All that it holds is on the disk before it does. If the block raises, or the disk fails, it is deleted, and an older
    folder is as it was. What a killed writer of the same folder has left is deleted.

    Args:
        path: Path of the folder; its parent must exist.
        last: An older folder is replaced file by file, each atomically, with the file of this name last; its other
            files stay. None does not replace an older folder.

    Raises:
        OSError: The folder cannot be written, or exists, is not empty, and may not be replaced; the message names
            `path`.
    """
    path = expanded(path)
    whole = Path(os.path.realpath(path))
    with _naming(path, whole), _partial(whole, folder=True) as partial:
        yield partial
        for folder, _, names in os.walk(partial):
            for name in names:
                _flush(Path(folder, name))
            _flush(Path(folder))
        if last is None or not whole.exists():
            partial.rename(whole)
        else:
            for file in sorted(partial.iterdir(), key=lambda file: file.name == last):
                file.replace(whole / file.name)
            _flush(whole)
    with contextlib.suppress(OSError):
        _flush(whole.parent)


@contextlib.contextmanager
def trial_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a new, empty folder next to `path`, deleted at the end: to try what will be written there.

    Raises:
        OSError: Nothing can be written there; the message names `path`.
    """
    path = expanded(path)
    whole = Path(os.path.realpath(path))
    with _naming(path, whole), _partial(whole, folder=True) as partial:
        if whole.exists() and not os.access(whole, os.W_OK):
            raise PermissionError(errno.EACCES, "")
        yield partial


def write(path: str | os.PathLike[str], data: str | bytes) -> None:
    """Write a whole file atomically; see `appearing`. Text is encoded as UTF-8."""
    with appearing(path) as partial:
        partial.write_bytes(data.encode() if isinstance(data, str) else data)


@contextlib.contextmanager
def _naming(path: str | os.PathLike[str], whole: Path) -> Iterator[None]:
    """Name the file that the user knows where the system names none, or a partial one."""
    try:
        yield
    except OSError as error:
        named = error.filename
        unknown = named is None or os.fsdecode(named).startswith(str(whole.with_name(_mark(whole))))
        if error.errno is None or not unknown:
            raise
        said = f"{os.fspath(path)!r} cannot be written: {os.strerror(error.errno)}"
        raise OSError(error.errno, said) from error


def _mark(whole: Path) -> str:
    """What the names of its partial files begin with. Its own name may be too long to be in them."""
    return f".partial-{hashlib.blake2b(os.fsencode(whole.name), digest_size=4).hexdigest()}-"


@contextlib.contextmanager
def _partial(whole: Path, *, folder: bool = False) -> Iterator[Path]:
    """A new, empty file or folder beside `whole`, deleted at the end unless it has been renamed.

    It is locked until then, which tells it from what a killed writer has left; that is deleted here. It has the suffix
    of `whole`, by which some writers know the format.
    """
    while True:
        partial = whole.with_name(f"{_mark(whole)}{secrets.token_hex(8)}{whole.suffix}")
        if folder:
            partial.mkdir()
        else:
            os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        lock = _locked(partial, wait=True)
        if partial.exists():
            break
        _close(lock)  # before it was locked, another took it for left behind
    try:
        for left in whole.parent.glob(glob.escape(_mark(whole)) + "*"):
            if (found := _locked(left)) is not None:
                _delete(left)
                _close(found)
        yield partial
    finally:
        _delete(partial)
        _close(lock)


def _locked(path: Path, wait: bool = False) -> int | None:
    """Lock a file or folder until this is closed; None if another has locked it, or there are no locks there."""
    if sys.platform == "win32":
        return None
    number = None
    try:
        number = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)  # NFS locks only what may be written
        fcntl.flock(number, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        _close(number)
        return None
    return number


def _close(number: int | None) -> None:
    if number is not None:
        os.close(number)


def _delete(path: Path) -> None:
    with contextlib.suppress(OSError):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _flush(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
