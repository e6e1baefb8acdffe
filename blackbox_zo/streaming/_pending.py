"""Moves that wait until the weights they belong to are next in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from blackbox_zo.directions import Block
from blackbox_zo.modules._devices import full_precision
from blackbox_zo.modules._moves import Moved, Mover, move
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
        self.movers: list[tuple[Step, int | None, list[Mover]]] = []
        self.chains = [b"\0" * 16] * (first + 1)

    @property
    def version(self) -> int:
        """The number of moves made."""
        return self.first + len(self.movers)

    def add(self, step: Step, version: int | None) -> None:
        """Append a move; its version is what rounding depends on, as in `move`."""
        self.movers.append((step, version, []))
        probe = next((b for b in self.blocks if step.directions.touches(b)), None)
        part = b"" if probe is None or not step.w.size else step.directions.part(probe, 0, 0, 64).tobytes()
        told = np.ascontiguousarray(step.w, dtype=np.float64).tobytes() + repr(float(step.shrink)).encode() + part
        self.chains.append(hashlib.blake2b(told, digest_size=16).digest())

    def apply(
        self, since: int, until: int, items: Callable[[Step], list[Moved]], every: Callable[[Step], list[Moved]]
    ) -> None:
        """Make the moves from one version to another.

        Args:
            since: The version of the weights, at least `first`.
            until: The version that they shall have.
            items: From a step to the parameters that it moves here.
            every: From a step to all that it will be asked to move; what they share is made once.
        """
        assert since >= self.first
        with full_precision():
            for step, version, made in self.movers[since - self.first : until - self.first]:
                if moved := items(step):
                    if not made:
                        made.append(Mover(step, every(step), version))
                    made[0].make(moved)

    def apply_last(self, items: list[Moved]) -> None:
        """Make the newest move of some parameters."""
        step, version, _ = self.movers[-1]
        move(step, items, version)

    def forget(self, before: int) -> None:
        """Drop moves that all weights have."""
        n = max(0, min(before, self.version) - self.first)
        del self.movers[:n]
        self.first += n
