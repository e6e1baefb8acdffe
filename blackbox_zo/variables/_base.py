"""The abstract `Variable`: where x lives."""

from __future__ import annotations

from abc import ABC, abstractmethod

from blackbox_zo.directions import Block
from blackbox_zo.steps import Step

__all__ = ["Variable"]


class Variable(ABC):
    """Where x lives: blocks by name, and one way to move.

    Attributes:
        blocks: The named tensors of x, in order.
        version: How many moves have been added, pending ones included.
    """

    blocks: tuple[Block, ...]
    version: int

    @property
    def size(self) -> int:
        """The dimension d."""
        return sum(block.size for block in self.blocks)

    @abstractmethod
    def add_(self, step: Step) -> None:
        """`x <- (1 - step.shrink) x + step.w U`. The work may be put off until `settle`."""

    @abstractmethod
    def settle(self) -> None:
        """Carry out whatever `add_` has put off."""
