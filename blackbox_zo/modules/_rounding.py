"""Rounding to 16-bit floats so that moves smaller than the spacing of the floats are right on average."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import torch

from blackbox_zo import randomness
from blackbox_zo._typing import Ints
from blackbox_zo.modules._devices import sent
from blackbox_zo.modules._signs import words_on_device
from blackbox_zo.modules._tensors import CHUNK, GPU_CHUNK, GRAIN
from blackbox_zo.randomness import GOLDEN, Key, words_at, words_of

__all__ = ["Noise", "halves_of", "random_bits", "random_bits_at", "round_into_", "rounded", "together"]

Address: TypeAlias = tuple[int, str, int]
"""Move, block name and first row of a chunk: its random bits are a function of these."""

Halves: TypeAlias = np.ndarray[Any, np.dtype[np.uint64]]
"""The two halves of the digest of each chunk's address, shape (chunks, 2)."""


def together(chunks: list[tuple[int, int]], p: torch.Tensor) -> list[list[tuple[int, int]]]:
    """Chunks of a parameter that are rounded in one go: one on a CPU, a few on any other device."""
    many = 1 if p.device.type == "cpu" else GPU_CHUNK // CHUNK
    return [chunks[i : i + many] for i in range(0, len(chunks), many)]


def halves_of(addresses: Sequence[Address]) -> Halves:
    """What the random bits of chunks follow from."""
    return randomness.halves_of([Key(v, a).digest(f"{name}|rounding", size=16) for v, name, a in addresses])


class Noise:
    """The random bits of one move: what they follow from, sent to a device at once.

    Args:
        version: The number of the move.
        starts: For each block name the first rows of its chunks.
    """

    def __init__(self, version: int, starts: Mapping[str, Sequence[int]]) -> None:
        self.halves = halves_of([(version, name, a) for name, rows in starts.items() for a in rows])
        self.first: dict[str, int] = {}
        self.sent: dict[torch.device, torch.Tensor] = {}
        place = 0
        for name, rows in starts.items():
            self.first[name], place = place, place + len(rows)

    def of(self, name: str, i: int, j: int, device: torch.device) -> Halves | torch.Tensor:
        """Those of chunks i … j of a block."""
        rows = slice(self.first[name] + i, self.first[name] + j)
        if device.type == "cpu":
            return self.halves[rows]
        if device not in self.sent:
            self.sent[device] = _on(self.halves, device)
        return self.sent[device][rows]

    def grains(self, names: Sequence[str], spans: Sequence[tuple[int, int]], device: torch.device) -> Any:
        """Those of blocks of one chunk each, for every 64 elements of memory in which each has a span.

        Word c of a chunk is a function of `k0 + c golden`, so what begins at word c follows from that in place of k0.
        """
        counts = np.array([(b - a) // GRAIN for a, b in spans])
        found = self.halves[[self.first[name] for name in names]].repeat(counts, axis=0)
        within = np.arange(len(found)) - np.repeat(np.cumsum(counts) - counts, counts)
        found[:, 0] += within.astype(np.uint64) * np.uint64(GRAIN // 4) * np.uint64(GOLDEN)
        return found if device.type == "cpu" else _on(found, device)


def random_bits(halves: Halves | torch.Tensor, each: int, like: torch.Tensor) -> torch.Tensor:
    """16 random bits for each element of some chunks, int16, at least as many as `like` has.

    On a CPU numpy makes them, on any other device torch does, to the same bits.

    Args:
        halves: Of the chunks, (chunks, 2).
        each: Elements of each chunk, a multiple of 4 if there are several; the last may have fewer.
        like: Where they are needed.
    """
    count = -(-each // 4)
    if isinstance(halves, np.ndarray) and like.device.type == "cpu":  # numpy is faster there
        return torch.from_numpy(words_of(halves, count).astype("<u8", copy=False).view(np.int16).reshape(-1))
    return _bits_in_torch(_on(halves, like.device), count)


def random_bits_at(halves: Halves, places: Ints) -> Any:
    """The same for some elements of one chunk, an array of int16."""
    (words,) = words_at(halves, (places >> 2).astype(np.uint64))
    return (words >> (16 * (places & 3)).astype(np.uint64)).astype(np.uint16).view(np.int16)


def _bits_in_torch(halves: torch.Tensor, count: int) -> torch.Tensor:
    """Made on a device: those of a large model are slow to make and to send."""
    return words_on_device(halves, count).view(torch.int16).reshape(-1)


def _on(halves: Halves | torch.Tensor, device: torch.device) -> torch.Tensor:
    """The same as int64 on a device."""
    return sent(halves.view(np.int64), device) if isinstance(halves, np.ndarray) else halves


def round_into_(
    out: torch.Tensor, exact: torch.Tensor, halves: Halves | torch.Tensor | None, each: int | None = None
) -> None:
    """Write `exact` to `out`, which has another floating-point type.

    Rounded up with probability (exact - below) / (above - below), so the mean is exact (stochastic rounding).

    Args:
        out: Flat; bf16, fp16, or any type, the others being rounded to nearest.
        exact: Flat fp32, same size.
        halves: Of the chunks that `exact` consists of; none rounds to nearest.
        each: Elements of each chunk but the last; none means that there is one.
    """
    if halves is None or out.element_size() != 2:
        out.copy_(exact)
        return
    if exact.is_cuda and _fused(out, exact, halves, each or exact.numel()):
        return
    out.copy_(rounded(exact, out.dtype, random_bits(halves, each or exact.numel(), exact)[: exact.numel()]))


def rounded(exact: torch.Tensor, dtype: torch.dtype, bits16: torch.Tensor) -> torch.Tensor:
    """fp32 as bf16 or fp16, up or down by 16 random bits each, as `round_into_` does."""
    if dtype is torch.bfloat16:  # the upper half of an fp32: add 16 random bits below, cut them off
        noise = bits16.to(torch.int32) & 0xFFFF
        total = exact.view(torch.int32) + noise
        cut = (total >> 16).to(torch.int16).view(torch.bfloat16)
        return torch.where(exact.isfinite(), cut, exact.to(torch.bfloat16))
    nearest = exact.to(dtype)
    error = exact - nearest.float()
    away = (error > 0) == (nearest.float() >= 0)  # the other neighbour has the larger magnitude
    other = (nearest.view(torch.int16) + torch.where(away, 1, -1).to(torch.int16)).view(dtype)
    other = torch.where(nearest == 0, torch.copysign(torch.full_like(nearest, 2.0**-24), error.to(dtype)), other)
    gap = (other.float() - nearest.float()).abs()
    chance = error.abs() / gap
    u = ((bits16.to(torch.int32) & 0xFFFF).float() + 0.5) / 65536.0
    usable = (error != 0) & other.isfinite() & nearest.isfinite()
    return torch.where(usable & (u < chance), other, nearest)


@cache
def _kernel() -> list[Callable[..., None]]:
    """`fused_round_into_`, or nothing if there is no Triton; emptied if it fails."""
    try:
        from blackbox_zo.modules._fused import fused_round_into_
    except ImportError:
        return []
    return [fused_round_into_]


def _fused(out: torch.Tensor, exact: torch.Tensor, halves: Halves | torch.Tensor, each: int) -> bool:
    """Round in one pass over memory instead of dozens, if Triton can; whether it did."""
    kernel = _kernel()
    if not kernel:
        return False
    try:
        kernel[0](out, exact, _on(halves, exact.device), each)
    except Exception as error:  # most often there is no C compiler, which Triton needs
        if isinstance(error, torch.OutOfMemoryError):
            raise
        kernel.clear()
        warnings.warn(f"Triton failed, so moves of 16-bit weights are slower: {error!r:.200}", stacklevel=2)
    return bool(kernel)
