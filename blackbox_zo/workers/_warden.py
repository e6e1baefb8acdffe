"""A separate script that ends the children of a process once that process is gone, for whatever reason.

A process that is killed cannot end its children, and a child that hangs in C code, or is not written in Python, does
not notice. This script does nothing else. It reads its standard input: "+123" for a process group to end, "-123" for
one that has ended. When the input ends, the process at its other end has ended.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

GRACE = 0.5
"""Seconds between asking processes to end and forcing them."""


def main() -> None:
    """Watch until the other end of standard input is closed."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    rest = b""
    while data := os.read(0, 1 << 16):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            (groups.add if line[:1] == b"+" else groups.discard)(int(line[1:]))
    for number in (signal.SIGTERM, signal.SIGKILL):
        for group in groups:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, number)
        if groups and number == signal.SIGTERM:
            time.sleep(GRACE)


if __name__ == "__main__":
    main()
