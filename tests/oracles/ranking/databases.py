"""A real PostgreSQL, started for the purpose."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.oracles.helpers import free_port

__all__ = ["PROGRAMS", "Control", "postgresql"]


def _programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or (
        [Path(p)] if (p := shutil.which("initdb")) else []
    )
    return found[-1].parent if found else None


PROGRAMS = _programs()
"""Where its programs are; None where it is not installed."""

Control = Callable[[str], None]
"""Starts and stops the server: "start", and "stop", at once."""


@contextmanager
def postgresql() -> Iterator[tuple[str, Control]]:
    """A server of its own, and what starts and stops it."""
    assert PROGRAMS is not None
    who: dict[str, Any] = {"user": "postgres"} if os.getuid() == 0 else {}  # PostgreSQL refuses to run as root
    folder = tempfile.mkdtemp(prefix="pg", dir="/tmp")
    if who:
        shutil.chown(folder, "postgres")
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/"}
    make = [str(PROGRAMS / "initdb"), "-D", f"{folder}/data", "-A", "trust", "-U", "postgres", "--no-sync"]
    subprocess.run(make, check=True, **quiet, **who)
    with free_port() as port:
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
        control = [str(PROGRAMS / "pg_ctl"), "-D", f"{folder}/data", "-w", "-o", options]

        def told(word: str) -> None:
            at_once = ["-m", "immediate"] if word == "stop" else []
            subprocess.run([*control, *at_once, word], check=True, **quiet, **who)

        told("start")
        try:
            yield f"postgresql://postgres@127.0.0.1:{port}", told
        finally:
            told("stop")
    shutil.rmtree(folder)
