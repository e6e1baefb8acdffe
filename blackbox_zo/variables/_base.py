"""The abstract `Variable`: where x lives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

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
    dense: ClassVar[bool] = False
    """Whether x and the points asked about are arrays that can be written out."""

    @property
    def size(self) -> int:
        """The dimension d."""
        return sum(block.size for block in self.blocks)

    @property
    @abstractmethod
    def origin(self) -> Any:
        """What queries sampled now start from: z itself where it is an array, else the number of moves made."""

    @property
    @abstractmethod
    def x(self) -> Any:
        """X as the user knows it."""

    @abstractmethod
    def add_(self, step: Step) -> None:
        """`x <- (1 - step.shrink) x + step.w U`. The work may be put off until `settle`."""

    @abstractmethod
    def settle(self) -> None:
        """Carry out whatever `add_` has put off."""

    @abstractmethod
    def fingerprint(self) -> str:
        """A short digest of the start and all that belongs to it, which tells two problems apart in a journal."""

    def describe(self) -> dict[str, Any] | None:
        """What the header of a journal says of it as JSON, as far as that is short."""
        return None

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """X as arrays by name, for a checkpoint."""

    @abstractmethod
    def load(self, state: Mapping[str, Any], version: int) -> None:
        """Set x from `state()`, and the number of moves.

        Raises:
            ValueError: It is of another variable.
        """
