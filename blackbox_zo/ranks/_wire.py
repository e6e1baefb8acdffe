"""What goes over the wire between ranks: numbers, JSON and files, by collectives of torch.distributed over gloo."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist

from blackbox_zo.errors import RankError

__all__ = ["Traffic", "Wire"]

Numbers = np.ndarray[Any, Any]

PATIENCE = timedelta(days=365)
"""How long a rank waits for the others. A rank that dies is noticed at once, and one may validate for hours."""

CHUNK = 1 << 26
"""Bytes of a file sent at once."""

ROLL_CALL = 2.0
"""Seconds to find out which rank has died, once a connection is lost."""

LINGER = 1.0
"""Seconds that a rank stays when another has died, so that it is not taken for dead itself."""


class Traffic(NamedTuple):
    """What a rank has handed to collectives and received from them, in bytes, its own part left out.

    Attributes:
        calls: Number of collectives.
        sent: Bytes of its own contributions.
        received: Bytes of the others' contributions.
    """

    calls: int = 0
    sent: int = 0
    received: int = 0


class Wire:
    """The connection of this process to the other ranks.

    Args:
        rank: Number of this process.
        size: Number of processes.

    Attributes:
        traffic: What went over the wire so far.
        inside: Whether a collective is under way.
    """

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size, self.traffic, self.inside = rank, size, Traffic(), False
        self._group: Any = None
        self._own = not dist.is_initialized()
        if self._own:
            dist.init_process_group("gloo")
        self._group = dist.new_group(backend="gloo", timeout=PATIENCE)
        self._peers: list[tuple[str, int]] = [(host, pid) for host, pid in self.things([_place(), os.getpid()])]

    @property
    def open(self) -> bool:
        """Whether the others can be reached."""
        return self._group is not None

    def host(self, rank: int) -> str:
        """The machine of a rank."""
        return self._peers[rank][0].partition(" ")[0]

    def numbers(self, mine: Numbers) -> Numbers:
        """The numbers of all ranks, shape (ranks, m): the same bits on each.

        Args:
            mine: Whole numbers or floats of 8 bytes, shape (m,), the same m on all ranks.
        """
        found = self._gather(torch.from_numpy(np.ascontiguousarray(mine).view(np.int64)))  # bits, of NaN too
        return np.stack([part.numpy() for part in found]).view(mine.dtype)

    def things(self, mine: Any) -> list[Any]:
        """What each rank gives, as JSON."""
        data = np.frombuffer(json.dumps(mine).encode(), dtype=np.uint8).copy()
        sizes = [int(part.item()) for part in self._gather(torch.tensor([data.size]))]
        padded = np.zeros(max(sizes), dtype=np.uint8)
        padded[: data.size] = data
        found = self._gather(torch.from_numpy(padded))
        return [json.loads(part.numpy()[:size].tobytes()) for part, size in zip(found, sizes, strict=True)]

    def file(self, path: Path, to: Path) -> None:
        """Send a file of rank 0 to all others.

        Args:
            path: The file, on rank 0.
            to: Where the others put it.
        """
        if self.rank == 0:
            with path.open("rb") as file:
                while data := file.read(CHUNK):
                    self._from_first(torch.tensor([len(data)]))
                    self._from_first(torch.frombuffer(bytearray(data), dtype=torch.uint8))
            self._from_first(torch.tensor([0]))
            return
        with to.open("wb") as file:
            while size := int(self._from_first(torch.zeros(1, dtype=torch.int64)).item()):
                file.write(self._from_first(torch.empty(size, dtype=torch.uint8)).numpy().tobytes())

    def _gather(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        found = [torch.empty_like(tensor) for _ in range(self.size)]
        self._counted(lambda: dist.all_gather(found, tensor, group=self._group), tensor.nbytes, self.size - 1)
        return found

    def _from_first(self, tensor: torch.Tensor) -> torch.Tensor:
        sent, received = (tensor.nbytes, 0) if self.rank == 0 else (0, 1)
        self._counted(lambda: dist.broadcast(tensor, 0, group=self._group), sent, received, tensor.nbytes)
        return tensor

    def _counted(self, collective: Callable[[], Any], sent: int, times: int, size: int | None = None) -> None:
        if self._group is None:
            raise RankError("This process has left the other ranks; start all of them again.")
        calls, out, back = self.traffic
        self.traffic = Traffic(calls + 1, out + sent, back + times * (sent if size is None else size))
        self.inside = True
        try:
            collective()
        except RuntimeError as error:
            self._lost(error)
        self.inside = False

    def _lost(self, error: RuntimeError) -> None:
        """Another rank cannot be reached: say which."""
        self.close()  # so that the ranks that wait for this one notice, too
        end = time.monotonic() + ROLL_CALL
        while not (dead := self._dead()) and time.monotonic() < end:
            time.sleep(0.02)
        time.sleep(LINGER)
        if dead:
            who = _ranks(dead) + (" has" if len(dead) == 1 else " have") + " died"
        else:
            away = [r for r in range(self.size) if r != self.rank and self._peers[r][0] != self._peers[self.rank][0]]
            where = ", ".join(sorted({self.host(r) for r in away}))
            who = f"The connection to {_ranks(away)} on {where} is lost" if away else "Another rank has left"
        lost = RankError(
            f"{who}, so the run of all {self.size} ends here. If it has a journal, this has every answer so far; "
            "continue from it with any number of ranks."
        )
        lost.elsewhere = self.rank > 0 and bool(dead) and 0 not in dead
        raise lost from error

    def _dead(self) -> list[int]:
        """The ranks on this machine whose process is gone."""
        here = self._peers[self.rank][0]
        return [r for r, (place, pid) in enumerate(self._peers) if place == here and not _alive(pid)]

    def close(self) -> None:
        """Close the connections."""
        group, self._group = self._group, None
        if group is None:
            return
        try:
            dist.destroy_process_group(group)
            if self._own:
                dist.destroy_process_group()
        except (RuntimeError, ValueError):  # what is lost needs no end
            pass


def _ranks(which: list[int]) -> str:
    return f"Rank {which[0]}" if len(which) == 1 else f"Ranks {', '.join(map(str, which))}"


def _place() -> str:
    """This machine, or container: where process ids mean the same."""
    try:
        space = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        space = ""
    return f"{socket.gethostname()} {space}"


def _alive(pid: int) -> bool:
    """Whether a process of this machine runs; one that is dead but not yet waited for does not."""
    try:
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
            return False
    except (OSError, IndexError):
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
