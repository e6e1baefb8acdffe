"""The stacked batch: marks that follow it, values that depend on the query alone, and memory for large results."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, TypeAlias

import numpy as np
import torch

from blackbox_zo._buffers import empty

__all__ = [
    "CERTAIN", "GUESSED", "PICKED", "Family", "Place", "Unstackable", "cat", "is_marked", "joined", "leased", "mark",
    "mark_all", "take_rows",
]  # fmt: skip

LARGE = 1 << 21
"""Elements from which memory is leased; smaller blocks the allocator itself uses again."""


class Unstackable(RuntimeError):
    """A model cannot answer several queries in one run; by scratch it can."""


class Family(torch.Tensor):
    """n tensors in place of one, where a value depends on the query but not on the batch: `1 + weight`, say.

    It looks like its first member; `Batched` sees every operation on it and does that n times.
    """

    members: list[torch.Tensor]

    @classmethod
    def of(cls, members: list[torch.Tensor]) -> Family:
        """Wrap the n members."""
        out = torch.Tensor._make_subclass(cls, members[0])
        out.members = members
        return out


_SEQUENCES = (tuple, list)

PICKED, GUESSED, CERTAIN = 0, 1, 2
"""How well it is known that a tensor's first axis is the stacked batch: its rows were picked by their contents; an
operation may have moved the axis, which the shapes decide; it certainly is."""


def mark(t: torch.Tensor, certain: int = CERTAIN) -> torch.Tensor:
    """Note that a tensor was made from the stacked batch, and how well its first axis is known."""
    t._zo_stacked = certain  # type: ignore[attr-defined]
    return t


def is_marked(t: torch.Tensor) -> bool:
    """Whether a tensor was made from the stacked batch."""
    return hasattr(t, "_zo_stacked")


def mark_all(out: Any, certain: int = CERTAIN) -> None:
    """Mark all tensors that an operation gave."""
    if isinstance(out, torch.Tensor):
        mark(out, certain)
    elif isinstance(out, _SEQUENCES):
        for t in out:
            mark_all(t, certain)


Place: TypeAlias = tuple[Any, ...]
"""Where a tensor or list is in a batch: keys and numbers, from the outside in."""


def take_rows(
    batch: Any,
    which: torch.Tensor,
    size: int,
    then: Callable[[torch.Tensor], torch.Tensor],
    shared: Collection[Place] = (),
) -> Any:
    """Rows `which` of every tensor and list of a batch that has `size`; each tensor taken goes through `then`.

    What is `shared` has no row for each example, whatever its size, and stays whole.
    """

    def one(value: Any, place: Place) -> Any:
        if place in shared:
            return value
        if isinstance(value, torch.Tensor):
            return then(value[which.to(value.device)]) if value.dim() and value.shape[0] == size else value
        inner = getattr(value, "data", None)
        if isinstance(inner, dict) and not isinstance(value, dict):  # transformers' BatchEncoding
            return type(value)({k: one(v, (*place, k)) for k, v in inner.items()})
        if isinstance(value, dict):
            return {k: one(v, (*place, k)) for k, v in value.items()}
        if isinstance(value, list) and len(value) == size and not any(isinstance(v, torch.Tensor) for v in value):
            return [value[i] for i in which.tolist()]
        if isinstance(value, tuple | list):
            parts = [one(v, (*place, i)) for i, v in enumerate(value)]
            return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
        return value

    return one(batch, ())


def leased(rows: int, columns: int, like: torch.Tensor) -> torch.Tensor:
    """An empty matrix whose memory goes back to a pool; fresh memory of that size would cost a fault per page."""
    if like.device.type != "cpu" or like.dtype is not torch.float32 or rows * columns < LARGE:
        return torch.empty(rows, columns, dtype=like.dtype, device=like.device)
    size = rows * columns
    return torch.from_numpy(empty((-(-size // 2),)).view(np.float32)[:size]).view(rows, columns)


def cat(outs: list[torch.Tensor]) -> torch.Tensor:
    """The queries' rows below one another."""
    return mark(torch.cat(outs))


def joined(outs: list[Any], join: Callable[[list[torch.Tensor]], Any]) -> Any:
    """Join the outputs of one operation for n queries, tensor by tensor."""
    first = outs[0]
    if isinstance(first, torch.Tensor):
        return join(outs)
    if isinstance(first, tuple | list):
        parts = [joined(list(part), join) for part in zip(*outs, strict=True)]
        return type(first)(*parts) if hasattr(first, "_fields") else type(first)(parts)
    if not all(np.array_equal(out, first) for out in outs):
        raise Unstackable("The model takes a number out of a tensor that depends on the query. Use sweep='scratch'.")
    return first
