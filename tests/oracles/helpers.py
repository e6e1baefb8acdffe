"""What several test files share: asking about chosen points, real programs, and the command line as a process."""

from __future__ import annotations

import os
import pty
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import blackbox_zo as bz
from blackbox_zo.learning import Learning, Moment

ROOT = Path(__file__).parents[2]


def proposal_of(points: Any, step: int = 0, first_id: int = 0, learning: Learning | None = None) -> bz.Proposal:
    """A proposal about exactly these points, shape (n, d); `learning` is what oracles have learnt before."""
    rows = np.array(points, dtype=np.float64)
    variable = bz.Vector(np.zeros(rows.shape[1]))
    queries = bz.Queries(
        bz.Dense(variable.blocks, rows), np.arange(len(rows)), np.ones(len(rows)), np.zeros(rows.shape[1])
    )
    ids = np.arange(first_id, first_id + len(rows))
    return bz.Proposal(step, ids, queries, variable, Moment(learning))


def ended(proposal: bz.Proposal) -> None:
    """What a search does when all of a step is told: what oracles learnt from it is absorbed."""
    proposal.moment.learning.absorb(proposal.moment.of(proposal.ids) or {})


def script(folder: Path, text: str, name: str = "program.py") -> Path:
    """A Python program in a file."""
    path = folder / name
    path.write_text(text)
    return path


def arguments(*given: str | Path) -> list[str]:
    """The command line as a program of its own."""
    return [sys.executable, "-m", "oracles.cli.main", *map(str, given)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}


def cli(*given: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    return subprocess.run(
        arguments(*given), capture_output=True, text=True, cwd=cwd, env=environment(), timeout=120, check=False
    )


def wait_for(true: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait until something is so, or fail."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


@contextmanager
def free_port() -> Iterator[int]:
    """A port of this machine for a program that has to be told one; on Linux no other program is given it meanwhile."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # who names it may have it, for this never listens
        holder.bind(("127.0.0.1", 0))
        port = int(holder.getsockname()[1])
        if sys.platform != "linux":
            holder.close()
        yield port


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be collected does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return not Path("/proc/self").exists()


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


class Scripted(bz.Oracle):
    """Answers what it is told to, one part a query, and counts."""

    def __init__(self, answer: Callable[[int, Any], float | tuple[float, dict[str, Any]]]) -> None:
        self.reply = answer
        self.calls = 0
        self.closed = 0
        self.asked: list[int] = []

    def answer(self, proposal: bz.Proposal) -> bz.Feedback:
        raise AssertionError("the parts are asked for instead")

    def parts(self, proposal: bz.Proposal) -> Iterator[tuple[Any, bz.Feedback]]:
        for i in self.order(proposal.n):
            self.calls += 1
            self.asked.append(int(proposal.ids[i]))
            reply = self.reply(int(proposal.ids[i]), proposal.points[i])
            value, info = reply if isinstance(reply, tuple) else (reply, None)
            yield proposal.ids[i : i + 1], bz.Values([value], info=[info])

    def order(self, n: int) -> Sequence[int]:
        return range(n)

    def close(self) -> None:
        self.closed += 1


def in_a_terminal(given: list[str], env: dict[str, str], cwd: Path | None = None) -> tuple[int, bytes, str]:
    """Run a command whose errors go to a terminal: its status, what it printed, and what the terminal showed."""
    ours, theirs = pty.openpty()
    env = {**env, "TERM": "xterm-256color"}
    process = subprocess.Popen(given, env=env, cwd=cwd, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 4096):
            shown += piece
    except OSError:  # the terminal's other end is closed
        pass
    finally:
        os.close(ours)
    out, _ = process.communicate(timeout=30)
    return process.returncode, out, shown.decode()
