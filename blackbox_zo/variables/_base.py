"""The abstract `Variable`, which holds x."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from blackbox_zo._arrays import Array, StoredArrays, array_of
from blackbox_zo.directions import Block
from blackbox_zo.steps import Step

__all__ = ["Variable"]


class Variable(ABC):
    """Holds x as named blocks, and moves it.

    Attributes:
        blocks: The named tensors of x, in order.
        version: Number of moves made, pending ones included.
    """

    blocks: tuple[Block, ...]
    version: int
    dense: ClassVar[bool] = False
    """Whether x and the points asked about are arrays that can be written out."""

    durable: bool = False
    """Whether its moves are kept elsewhere as they are made, so that a resume needs no snapshot of it."""

    @property
    def size(self) -> int:
        """The dimension d."""
        return sum(block.size for block in self.blocks)

    @property
    @abstractmethod
    def origin(self) -> Any:
        """What points sampled now start from: z, where it is an array; else the number of moves made."""

    @property
    @abstractmethod
    def x(self) -> Any:
        """The present x, in the structure of x0."""

    @abstractmethod
    def add_(self, step: Step) -> None:
        """`x <- (1 - step.shrink) x + step.w U`. The work may be deferred to `settle`."""

    @abstractmethod
    def settle(self) -> None:
        """Carry out deferred moves."""

    @abstractmethod
    def fingerprint(self) -> str:
        """A short digest of the start and its structure, by which a journal tells two problems apart."""

    def digest(self) -> str:
        """A short digest of what moves, as it is now, by which copies of x are compared: by default `fingerprint`."""
        return self.fingerprint()

    def describe(self) -> dict[str, Any] | None:
        """A short description as JSON, for the header of a journal; None if it would be long."""
        return None

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """X as arrays by name, for a checkpoint."""

    @abstractmethod
    def load(self, state: Mapping[str, Any], version: int) -> None:
        """Set x from `state()`, and the number of moves.

        Raises:
            ValueError: The state is of another variable.
        """

    def arrays(self) -> Mapping[str, Array]:
        """X as the arrays of a snapshot, each made when it is written: by default those of `state`."""
        return {name: array_of(array) for name, array in self.state().items()}

    def read(self, stored: StoredArrays, version: int) -> None:
        """Set x from the arrays of a snapshot, and the number of moves.

        Raises:
            ValueError: The snapshot is of another variable.
        """
        self.load({name: stored[name] for name in self.state()}, version)
