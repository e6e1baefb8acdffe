"""What a worker process does: it plays the episodes it is sent, until the connection ends."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

import cloudpickle

from oracles.rl._environment import register, said
from oracles.rl._episodes import Player
from oracles.rl._players import player

__all__ = ["main"]

PATIENCE = 0.5
"""Seconds between looks at whether the parent is alive."""

_STATM = Path("/proc/self/statm")


def main(fd: int, parent: int) -> None:
    """Serve one end of a pipe.

    Args:
        fd: Its file descriptor.
        parent: Number of the process at the other end.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    os.set_inheritable(fd, False)  # programs that an environment starts have nothing to do with it
    with Connection(fd) as connection, contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        _serve(connection)  # until the parent is done, or gone


def _die_with(parent: int) -> None:
    """A parent that is killed cannot end its workers and what they have started; they notice, also in mid-episode."""
    while os.getppid() == parent:
        time.sleep(PATIENCE)
    os.killpg(0, signal.SIGKILL)


def _serve(connection: Connection) -> None:
    specs, setup = connection.recv_bytes(), connection.recv_bytes()
    try:
        with contextlib.suppress(Exception):  # a library's that this process cannot import
            register(cloudpickle.loads(specs))
        arguments, growth = cloudpickle.loads(setup)
        made = player(*arguments)
    except Exception as error:
        connection.send(("broken", said(error)))
        return
    connection.send(("ready", None))
    with contextlib.closing(made):
        _play(connection, made, growth)


def _play(connection: Connection, player: Player, growth: float) -> None:
    base = 0.0
    while True:
        task = connection.recv()
        try:
            episodes = player.play_all(task.x, task.seen, task.seeds, task.horizon)
        except Exception as error:  # whatever the environment raises, it costs these episodes only
            connection.send(("failed", said(error)))
            continue
        memory = _memory()
        base = base or memory  # the first episode loads what is loaded once
        connection.send(("played", (episodes, memory - base > growth)))


def _memory() -> float:
    """Memory in use, in MiB. Where that is not known the most ever used, which begins at what the parent used."""
    try:
        return int(_STATM.read_text().split()[1]) * resource.getpagesize() / (1 << 20)
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << (20 if sys.platform == "darwin" else 10))
