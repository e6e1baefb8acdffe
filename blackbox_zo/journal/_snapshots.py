"""Snapshots: the state of a run after some move, in files beside its journal. A resume replays only what came later."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from blackbox_zo._arrays import Array, StoredArrays, write_arrays

__all__ = ["FORMAT", "Mark", "Prefix", "Snapshots", "flush_folder"]

FORMAT = 1
"""Version of what a snapshot holds."""

KEPT = 2
"""Snapshots of a run that are kept."""

ROOM = 4
"""Without being asked, a snapshot is written where the disk has room for so many."""

_CHUNK = 1 << 20


class Mark(NamedTuple):
    """A place in a journal, after a whole line.

    Attributes:
        size: Number of bytes before it.
        lines: Number of lines before it, the header included.
        digest: Digest of the bytes before it, by which a snapshot knows its journal.
    """

    size: int
    lines: int
    digest: str


class Prefix:
    """Digests of the beginning of a file, longer and longer, read once.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._hash = path, hashlib.blake2b(digest_size=16)
        self._size = self._lines = 0

    def upto(self, size: int) -> Mark | None:
        """The place after so many bytes, at least as many as before; None if the file has fewer."""
        with self.path.open("rb") as file:
            file.seek(self._size)
            while self._size < size:
                chunk = file.read(min(_CHUNK, size - self._size))
                if not chunk:
                    return None
                self._hash.update(chunk)
                self._size, self._lines = self._size + len(chunk), self._lines + chunk.count(b"\n")
        return Mark(size, self._lines, self._hash.hexdigest())


class Snapshots:
    """The snapshots beside a journal: `run.jsonl.snapshot-1000.safetensors` is the state after move 1000.

    Args:
        path: The journal.

    Attributes:
        mine: Snapshots of the run in the journal, the newest last, by the number of moves.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.mine: dict[int, Path] = {}

    def found(self) -> dict[int, Path]:
        """All snapshots that are there, of whatever run, by the number of moves."""
        out = {}
        with contextlib.suppress(OSError):
            for path in self.path.parent.glob(glob.escape(f"{self.path.name}.snapshot-") + "*.safetensors"):
                if match := re.fullmatch(r"\.snapshot-(\d+)\.safetensors", path.name[len(self.path.name) :]):
                    out[int(match[1])] = path
        return dict(sorted(out.items()))

    def usable(self, most: int | None = None) -> Iterator[StoredArrays]:
        """Snapshots of the run in the journal that are whole, the newest first; of the others a warning says why.

        Args:
            most: Number of moves from which on they are passed over without a word; None for none.
        """
        self.mine = {}
        with contextlib.ExitStack() as stack:
            stored = list[StoredArrays]()
            for moves, path in self.found().items():
                if most is not None and moves > most:
                    continue
                try:
                    each = stack.enter_context(StoredArrays(path))
                except FileNotFoundError:  # a run at work has just deleted it
                    continue
                except (ValueError, OSError) as error:
                    self.doubt(path, f"is damaged ({error})")
                    continue
                if self._of_this_run(each):
                    stored.append(each)
                    self.mine[moves] = path
            for each in reversed(stored):
                try:
                    each.check()
                except (ValueError, OSError) as error:
                    self.doubt(each.path, f"is damaged ({error})")
                    continue
                yield each

    def _of_this_run(self, stored: StoredArrays) -> bool:
        """Whether the journal begins with the lines that a snapshot was taken after."""
        more = stored.more
        if more.get("snapshot") != FORMAT:
            self.doubt(stored.path, f"has format {more.get('snapshot')}, this version reads {FORMAT}")
        else:
            then = Mark(*more["journal"])
            found = Prefix(self.path).upto(then.size)
            if found == then:
                return True
            if found is None:
                self.doubt(stored.path, "is newer than the journal, which is an earlier copy or was shortened")
            else:
                self.doubt(stored.path, "is of another run: the journal holds other answers")
        return False

    def doubt(self, path: Path, why: str) -> None:
        """Warn of a snapshot that is not used."""
        warnings.warn(
            f"Snapshot '{path}' {why}. It is not used; the journal is replayed from an older one, or from its "
            "beginning. Delete it if you do not need it.",
            stacklevel=2,
        )

    # ------------------------------------------------------------------------------------------------- writing

    def room(self, size: int) -> bool:
        """Whether the disk has room enough for snapshots of so many bytes that nobody asked for."""
        try:
            return shutil.disk_usage(self.path.parent).free >= ROOM * size
        except OSError:
            return False

    def write(self, moves: int, arrays: Mapping[str, Array], more: Mapping[str, Any], at: Mark) -> None:
        """Write a snapshot, whole or not at all, and delete those of the run that are older than the last two.

        Args:
            moves: Number of moves made.
            arrays: Arrays by name.
            more: What else there is, as JSON.
            at: The place in the journal, which is on the disk up to there.

        Raises:
            OSError: It cannot be written; nothing of it is left.
        """
        whole = self.path.with_name(f"{self.path.name}.snapshot-{moves}.safetensors")
        partial = self.path.with_name(f"{self.path.name}.snapshot-partial")  # one writer: the journal is locked
        try:
            write_arrays(partial, arrays, {"snapshot": FORMAT, "moves": moves, "journal": list(at), **more})
            partial.replace(whole)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise
        flush_folder(whole.parent)
        self.mine[moves] = whole
        for old in sorted(self.mine)[:-KEPT]:
            with contextlib.suppress(OSError):
                self.mine.pop(old).unlink(missing_ok=True)

    def tidy(self) -> None:
        """Delete what a writer left that was killed."""
        with contextlib.suppress(OSError):
            self.path.with_name(f"{self.path.name}.snapshot-partial").unlink(missing_ok=True)


def flush_folder(folder: Path) -> None:
    """Make the name of a new file survive a power cut; where folders cannot be flushed, the system must do so."""
    with contextlib.suppress(OSError):
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
