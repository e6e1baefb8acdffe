"""Tables of signs as tensors: sent to another device as bits and unpacked there, once a step."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
import torch

from blackbox_zo.directions import Block, Directions
from blackbox_zo.modules._devices import full_precision, sent
from blackbox_zo.randomness import GOLDEN, MIX1, MIX2, SignTable

if TYPE_CHECKING:
    from blackbox_zo._typing import Words

__all__ = ["Small", "factors_of", "rows_of", "signs_of", "spread", "words_on_device"]

_SIGN = -(2**31)

_unpacked: WeakKeyDictionary[SignTable, dict[tuple[torch.device, torch.dtype], torch.Tensor]] = WeakKeyDictionary()


def words_on_device(halves: torch.Tensor, count: int, first: int = 0) -> torch.Tensor:
    """`randomness.words_of` to the same bits, as int64, shape (len(halves), count).

    Args:
        halves: Shape (…, 2), int64, on the device.
        count: How many words of each.
        first: The first of them.
    """
    counter = torch.arange(first, first + count, dtype=torch.int64, device=halves.device).mul_(_signed(GOLDEN))
    return _mixed_(_mixed_(counter + halves[:, :1]).bitwise_xor_(halves[:, 1:]))


def _mixed_(z: torch.Tensor) -> torch.Tensor:
    """`randomness._mix` in torch, whose 64-bit numbers have a sign: a product wraps, and a shift is masked."""
    for by, factor in ((30, MIX1), (27, MIX2), (31, None)):
        z ^= (z >> by).bitwise_and_((1 << (64 - by)) - 1)
        if factor is not None:
            z *= _signed(factor)
    return z


def _signed(word: int) -> int:
    return word - (1 << 64)


def spread(words: Words | torch.Tensor, out: torch.Tensor, scale: float) -> torch.Tensor:
    """`scale * sign` for each bit of `words`, written to the front of `out`; that front is returned.

    Args:
        words: 64 signs each, the lowest bit first; a 1 is -1. As a tensor they are int64.
        out: Flat fp32, at least 64 elements a word.
        scale: Any number.
    """
    if isinstance(words, torch.Tensor):
        packed = words.view(torch.int32)
    else:
        packed = sent(words.astype("<u8", copy=False).view(np.int32), out.device)
    front = out[: 64 * len(words)]
    ints = front.view(torch.int32).view(-1, 32)
    torch.bitwise_left_shift(packed[:, None], _shifts(out.device), out=ints)  # the wanted bit becomes the sign
    ints &= _SIGN
    ints ^= struct.unpack("<i", struct.pack("<f", scale))[0]
    return front


_shift_cache: dict[torch.device, torch.Tensor] = {}


def _shifts(device: torch.device) -> torch.Tensor:
    if device not in _shift_cache:
        _shift_cache[device] = torch.arange(31, -1, -1, dtype=torch.int32, device=device)
    return _shift_cache[device]


def signs_of(table: SignTable, device: torch.device, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """The signs of a table, shape (k, total). Kept as long as the table is."""
    kept, place = _unpacked.setdefault(table, {}), (device, dtype)
    if place not in kept:
        if dtype is not torch.float32:
            kept[place] = signs_of(table, device).to(dtype)
        elif device.type == "cpu":
            kept[place] = torch.from_numpy(table.signs)
        else:
            kept[place] = _unpack(table, device)
    return kept[place]


def _unpack(table: SignTable, device: torch.device) -> torch.Tensor:
    out = torch.empty(64 * table.words.size, dtype=torch.float32, device=device)
    return spread(table.words.reshape(-1), out, 1.0).view(len(table.words), -1)


def factors_of(
    directions: Directions, block: Block, device: torch.device, dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """`Directions.factors` as tensors, A (k, r, m) and B (k, r, n); A is still to be scaled by `factor_scale`."""
    place = directions.factor_table(block)
    if place is not None:
        table, a, b, rank = place
        signs = signs_of(table, device, dtype)
        shape = directions.k, rank
        return signs[:, a].view(*shape, block.shape[0]), signs[:, b].view(*shape, block.size // max(1, block.shape[0]))
    found = directions.factors(block)
    return None if found is None else (sent(found[0], device).to(dtype), sent(found[1], device).to(dtype))


def rows_of(directions: Directions, block: Block, device: torch.device) -> torch.Tensor:
    """All directions in a small block, shape (k, *block.shape), fp32."""
    rows = np.array([directions.part(block, j, 0, block.size) for j in range(directions.k)], dtype=np.float32)
    return sent(rows, device).reshape(directions.k, *block.shape)


class Small:
    """`weights @ u` in the small blocks that directions keep in a table, for one or several sets of weights.

    Args:
        directions: Any; without a table nothing is found.
        weights: Shape (n, k) or (k,), fp32, where the results are wanted.
        in_order: Whether one set is added up direction by direction, as `add_direction_` does, to the same bits.
    """

    def __init__(self, directions: Directions, weights: torch.Tensor, in_order: bool = False) -> None:
        table = directions.table
        self.starts = {} if table is None else table.starts
        self.sums: torch.Tensor | None = None
        if table is None:
            return
        signs = signs_of(table, weights.device)
        if in_order:
            self.sums = torch.zeros_like(signs[0])
            for row, w in zip(signs, weights.tolist(), strict=True):
                self.sums.add_(row, alpha=w)
        else:
            with full_precision():
                self.sums = weights @ signs

    def of(self, block: Block) -> torch.Tensor | None:
        """The sums in a block, shape (n, *block.shape) or its shape; None if it is not in the table."""
        start = self.starts.get(block.name)
        if start is None or self.sums is None:
            return None
        return self.sums[..., start : start + block.size].view((*self.sums.shape[:-1], *block.shape))
