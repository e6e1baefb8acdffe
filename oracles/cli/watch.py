"""`blackbox-zo watch`: follow a run live."""

from __future__ import annotations

import argparse
import os
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blackbox_zo._stop import Stop
from oracles.cli._which import opened
from oracles.kind import Kind
from oracles.options import count, named

__all__ = ["add"]

_WAIT, _LOOK = 0.25, 2.0
"""Seconds between reads of the file, and between checks for a process that writes it."""


def add(commands: Any, kinds: Sequence[Kind]) -> None:
    """Add the command's arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "watch",
        help="follow a run live",
        description="Follow a run through its journal, without writing to it. Prints a line for each answer or step "
        "and for each measure. Stops when the run ends, or on Ctrl-C.",
        allow_abbrev=False,
    )
    parser.set_defaults(command=lambda given: _run(given, kinds))
    parser.add_argument("journal", type=named, metavar="FILE", help="the journal, or a study's store")
    parser.add_argument(
        "--last", type=count, default=10, metavar="N", help="number of earlier lines to show first; default %(default)s"
    )


def _run(given: argparse.Namespace, kinds: Sequence[Kind]) -> int:
    with Stop() as stop:
        try:
            _follow(given.journal, given.last, kinds)
        except KeyboardInterrupt:
            return 0 if stop.number == 2 else 128 + stop.number
    return 0


def _follow(name: str, last: int, kinds: Sequence[Kind]) -> None:
    if not _begun(name):
        print("The journal is empty, and no process is writing to it.")
        return
    kind, reader = opened(name, kinds)
    tally = kind.tally(reader.header)
    before: deque[str] | None = deque(maxlen=last)  # the lines from before `watch` started
    looked = quiet_since = time.monotonic()
    over = False
    for line in reader.follow(_WAIT):
        if line is not None:
            quiet_since = time.monotonic()
            for text in tally.told(line):
                if before is None:
                    print(text, flush=True)
                else:
                    before.append(text)
            continue
        if before is not None:
            for text in before:
                print(text, flush=True)
        if over:  # the writer had closed the file before it was read to its end
            for text in tally.rest():
                print(text, flush=True)
            complete = tally.total is not None and tally.done >= tally.total
            print(
                "The run has ended."
                if complete
                else "No process is writing to this journal: the run has ended or was interrupted.",
                flush=True,
            )
            return
        now = time.monotonic()
        if before is not None or now - looked >= _LOOK:
            looked, writer = now, written_to(name, os.getpid())
            complete = tally.total is not None and tally.done >= tally.total
            over = writer is False or (writer is None and complete and now - quiet_since >= 2 * _LOOK)
        before = None


def _begun(name: str) -> bool:
    """Wait until a file has a header; False if no process is writing it."""
    while "://" not in name and not Path(name).stat().st_size:
        if not written_to(name):
            return False
        time.sleep(_WAIT)
    return True


def written_to(name: str, besides: int | None = None) -> bool | None:
    """Whether a process on this machine has the file open for writing; None if the system does not tell.

    Looks in `/proc` and takes no lock: even a lock held for an instant could keep a run from starting.

    Args:
        name: The file; of a URL the system tells nothing.
        besides: A process that does not count.
    """
    if "://" in name:
        return None
    target = Path(name).stat()
    if not Path("/proc/self/fd").exists() or (target.st_uid != os.getuid() and os.getuid() != 0):
        return None
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or process.name == str(besides):
            continue
        try:
            if process.stat().st_uid != target.st_uid and os.getuid() != 0:
                continue
            for link in (process / "fd").iterdir():
                if link.lstat().st_mode & 0o200 and os.path.samestat(link.stat(), target):
                    return True
        except OSError:  # the process has ended or belongs to another user
            continue
    return False
