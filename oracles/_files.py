"""Write files and folders atomically: they appear complete or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

__all__ = ["appearing", "appearing_folder", "write"]


@contextlib.contextmanager
def appearing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a new, empty file next to `path` to write to; at the end of the block it replaces `path`.

    It is flushed to the disk (`fsync`) first, so nobody ever sees half a file, even after a power cut. If the block
    raises or the disk fails, the new file is deleted and an older file is unchanged. A new file has default
    permissions; one that replaces another keeps the other's. A link stays a link; a pipe or a device, such as
    /dev/stdout, is yielded itself.

    Args:
        path: Path of the file; its folder must exist.

    Raises:
        OSError: The file cannot be written; the message names `path`.
    """
    if Path(path).exists() and not Path(path).is_file():
        yield Path(path)
        return
    whole = Path(os.path.realpath(path))
    partial = _beside(whole)
    with _naming(path, partial):
        old = whole.stat() if whole.exists() else None
        if old is not None and not os.access(whole, os.W_OK):
            raise PermissionError(errno.EACCES, "")
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        try:
            yield partial
            if old is not None:
                partial.chmod(stat.S_IMODE(old.st_mode))
            _flush(partial)
            partial.replace(whole)
        finally:
            partial.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # some file systems cannot do this, and the file is in place
        _flush(whole.parent)


@contextlib.contextmanager
def appearing_folder(path: str | os.PathLike[str], last: str | None = None) -> Iterator[Path]:
    """Yield a new, empty folder next to `path` to fill; at the end of the block it becomes `path`.

    All its contents are flushed to the disk first. If the block raises or the disk fails, it is deleted, and an older
    folder is unchanged.

    Args:
        path: Path of the folder; its parent must exist.
        last: An older folder is replaced file by file, each atomically, with the file of this name last; its other
            files stay. None does not replace an older folder.

    Raises:
        OSError: The folder cannot be written, or exists, is not empty, and may not be replaced; the message names
            `path`.
    """
    whole = Path(os.path.realpath(path))
    partial = _beside(whole)
    with _naming(path, partial):
        partial.mkdir()
        try:
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
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    with contextlib.suppress(OSError):
        _flush(whole.parent)


def write(path: str | os.PathLike[str], data: str | bytes) -> None:
    """Write a whole file atomically; see `appearing`. Text is encoded as UTF-8."""
    with appearing(path) as partial:
        partial.write_bytes(data.encode() if isinstance(data, str) else data)


@contextlib.contextmanager
def _naming(path: str | os.PathLike[str], partial: Path) -> Iterator[None]:
    """Name the user's file in errors where the system names none, or `partial`."""
    try:
        yield
    except OSError as error:
        unknown = error.filename is None or Path(os.fsdecode(error.filename)).is_relative_to(partial)
        if error.errno is None or not unknown:
            raise
        said = f"{os.fspath(path)!r} cannot be written: {os.strerror(error.errno)}"
        raise OSError(error.errno, said) from error


def _beside(whole: Path) -> Path:
    """A unique path with the same suffix, from which some writers infer the format."""
    return whole.with_name(f".partial-{secrets.token_hex(8)}{whole.suffix}")


def _flush(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
