"""What a worker process does: it plays the episodes it is sent, until the connection ends."""

from __future__ import annotations

import resource
import signal
import sys
from multiprocessing.connection import Connection

import cloudpickle

from oracles.rl._environment import Player

__all__ = ["main"]


def main(fd: int) -> None:
    """Serve one end of a pipe.

    Args:
        fd: Its file descriptor.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    with Connection(fd) as connection:
        try:
            _serve(connection)
        except (EOFError, BrokenPipeError, ConnectionResetError):  # the parent is done, or gone
            return


def _serve(connection: Connection) -> None:
    arguments, growth = cloudpickle.loads(connection.recv_bytes())
    try:
        player = Player(*arguments)
    except Exception as error:
        connection.send(("broken", _said(error)))
        return
    connection.send(("ready", None))
    base = 0.0
    while True:
        task = connection.recv()
        try:
            episode = player.play(task.x, task.seen, task.seed)
        except Exception as error:  # whatever the environment raises, it costs this episode only
            connection.send(("failed", _said(error)))
            continue
        peak = _peak()
        base = base or peak  # the first episode loads what is loaded once
        connection.send(("played", (episode, peak - base > growth)))


def _peak() -> float:
    """Most memory ever resident, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << (20 if sys.platform == "darwin" else 10))


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
