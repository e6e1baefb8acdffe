"""Moves that wait until the weights they belong to are next in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from blackbox_zo.directions import Block
from blackbox_zo.modules._devices import full_precision
from blackbox_zo.modules._moves import Moved, Mover
from blackbox_zo.steps import Step

__all__ = ["Pending"]


class Pending:
    """The moves of a variable that some weights still lack.

    Args:
        blocks: All blocks of the variable.

    Attributes:
        chains: A digest of the last move before each version, from 0: it tells the weights of one run from another's.
    """

    def __init__(self, blocks: Sequence[Block], first: int = 0) -> None:
        self.blocks, self.first = blocks, first
        self.movers: list[tuple[Step, Mover]] = []
        self.chains = [b"\0" * 16] * (first + 1)

    @property
    def version(self) -> int:
        """The number of moves made."""
        return self.first + len(self.movers)

    def add(self, step: Step, mover: Mover) -> None:
        """Append a move."""
        self.movers.append((step, mover))
        probe = next((b for b in self.blocks if step.directions.touches(b)), None)
        part = b"" if probe is None or not step.w.size else step.directions.part(probe, 0, 0, 64).tobytes()
        told = np.ascontiguousarray(step.w, dtype=np.float64).tobytes() + repr(float(step.shrink)).encode() + part
        self.chains.append(hashlib.blake2b(told, digest_size=16).digest())

    def apply(self, since: int, items: Callable[[Step], list[Moved]]) -> int:
        """Make the moves from a version on; how many there were.

        Args:
            since: The version of the weights.
            items: From a step to the parameters that it moves.
        """
        with full_precision():
            for step, mover in self.movers[since - self.first :]:
                if moved := items(step):
                    mover.make(moved)
        return self.version - since

    def apply_last(self, items: list[Moved]) -> None:
        """Make the newest move of some parameters."""
        with full_precision():
            self.movers[-1][1].make(items)

    def forget(self, before: int) -> None:
        """Drop moves that all weights have."""
        n = max(0, min(before, self.version) - self.first)
        del self.movers[:n]
        self.first += n
