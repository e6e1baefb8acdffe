"""Ends what a process has started once that process is gone, however it went. A script of its own.

A process that is killed cannot end its children, and a child that hangs in C code, or that is not written in Python,
does not notice. This one does nothing else. It is told on its standard input: "+123" for a process group to end, "-123"
for one that has ended.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time

PATIENCE = 0.5
"""Seconds between looks at whether the parent is alive: a fork of it may hold the other end of the pipe."""

GRACE = 0.5
"""Seconds between asking and forcing."""


def main(parent: int) -> None:
    """Watch until the process with this number is gone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.set_blocking(0, False)
    groups: set[int] = set()
    said, open_ = b"", True
    while open_:
        there = os.getppid() == parent
        select.select([0], [], [], PATIENCE if there else 0.0)
        open_ = there
        with contextlib.suppress(BlockingIOError):
            while True:
                data = os.read(0, 1 << 16)
                if not data:
                    open_ = False
                    break
                said += data
        *lines, said = said.split(b"\n")
        for line in lines:
            (groups.add if line[:1] == b"+" else groups.discard)(int(line[1:]))
    for number in (signal.SIGTERM, signal.SIGKILL):
        for group in groups:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, number)
        if groups and number == signal.SIGTERM:
            time.sleep(GRACE)


if __name__ == "__main__":
    main(int(sys.argv[1]))
