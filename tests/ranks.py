"""Programs that run as several ranks: real processes, started as `torchrun` starts them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.oracles.helpers import ROOT, free_port

__all__ = ["Said", "done", "launched", "run"]

SECONDS = 150
"""Far more than any run takes, for a machine that is busy."""


class Said(NamedTuple):
    """What a rank left: its exit code, and what it printed."""

    code: int
    out: str
    err: str


@contextmanager
def launched(commands: Sequence[Sequence[str | Path]], cwd: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """A process for each command, with the variables of `torchrun`; killed at the end if they are still there."""
    with free_port() as port:
        ranks = []
        for rank, command in enumerate(commands):
            place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": len(commands), "MASTER_PORT": port}
            env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"}
            ranks.append(
                subprocess.Popen(
                    [sys.executable, "-m", *map(str, command)],
                    cwd=cwd,
                    env={**env, **{name: str(value) for name, value in place.items()}},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        try:
            yield ranks
        finally:
            for process in ranks:
                process.kill()
                process.communicate()


def done(ranks: Sequence[subprocess.Popen[str]]) -> list[Said]:
    """Wait for all ranks."""
    out = []
    for process in ranks:
        text, err = process.communicate(timeout=SECONDS)
        out.append(Said(process.returncode, text, err))
    return out


def run(*commands: Sequence[str | Path], cwd: Path) -> list[Said]:
    """Run a command on each rank to its end."""
    with launched(commands, cwd) as ranks:
        return done(ranks)
