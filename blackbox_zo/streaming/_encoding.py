"""Weights in fewer bits while they are stored and travel; they are decoded where they arrive."""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import accumulate, pairwise

import torch

from blackbox_zo._typing import override
from blackbox_zo.modules._rounding import Halves, halves_of, random_bits, round_into_
from blackbox_zo.streaming._units import Entry

__all__ = ["ENCODINGS", "Encoding"]

GROUP = 64
"""Numbers that share a scale."""

CHUNK = 1 << 18
"""Numbers with random bits of their own, a multiple of `GROUP`."""


class Encoding(ABC):
    """A way to hold weights in fewer bits.

    Attributes:
        name: As the user calls it.
        group: Numbers that are encoded together.
        size: Bytes that they take.
    """

    name: str
    group = GROUP
    size: int

    @abstractmethod
    def encode(self, exact: torch.Tensor, codes: torch.Tensor, halves: Halves | None) -> None:
        """Encode numbers.

        Args:
            exact: fp32, flat.
            codes: uint8, flat, for whole groups.
            halves: What random bits of each chunk follow from, which make the result right on average; none rounds to
                nearest.
        """

    @abstractmethod
    def decode(self, codes: torch.Tensor, out: torch.Tensor) -> None:
        """Decode to a flat tensor, whose last group may lack its end."""

    def bytes_for(self, numbers: int) -> int:
        """Bytes of so many numbers."""
        return -(-numbers // self.group) * self.size

    def nbytes(self, entry: Entry) -> int:
        """Bytes of an entry."""
        return sum(self.bytes_for(p.numel()) for p in entry.parameters)

    def parts(self, entry: Entry, codes: torch.Tensor) -> list[torch.Tensor]:
        """The codes of each parameter of an entry."""
        ends = list(accumulate(self.bytes_for(p.numel()) for p in entry.parameters))
        return [codes[a:b] for a, b in pairwise([0, *ends])]

    def restore(self, entry: Entry, codes: torch.Tensor, memory: torch.Tensor) -> None:
        """Decode an entry."""
        step = _step(memory)
        for tensor, part in zip(entry.tensors(memory), self.parts(entry, codes), strict=True):
            flat = tensor.view(-1)
            for a in range(0, flat.numel(), step):
                out = flat[a : a + step]
                self.decode(part[self.bytes_for(a) : self.bytes_for(a + out.numel())], out)

    def encode_(
        self, entry: Entry, memory: torch.Tensor, version: int | None, lost: list[float] | None = None
    ) -> torch.Tensor:
        """Encode an entry, and decode it where it is.

        Args:
            entry: The entry.
            memory: Its weights; afterwards, what is left of them.
            version: The number of moves in them, which random bits follow from; none rounds to nearest.
            lost: If given, the sum of the squares of the errors is added to the first, and that of the weights to the
                second.

        Returns:
            The codes.
        """
        codes, step = torch.empty(self.nbytes(entry), dtype=torch.uint8, device=memory.device), _step(memory)
        tensors, parts = entry.tensors(memory), self.parts(entry, codes)
        for name, tensor, part in zip(entry.names, tensors, parts, strict=True):
            flat = tensor.view(-1)
            for a in range(0, flat.numel(), step):
                out = flat[a : a + step]
                exact = out.float().clone()
                chunks = range(a, a + len(exact), CHUNK)
                halves = None if version is None else halves_of([(version, f"{name}|transfer", c) for c in chunks])
                there = part[self.bytes_for(a) : self.bytes_for(a + len(exact))]
                self.encode(exact, there, halves)
                self.decode(there, out)
                if lost is not None:
                    lost[0] += float((out.float() - exact).square().sum())
                    lost[1] += float(exact.square().sum())
        return codes


def _step(memory: torch.Tensor) -> int:
    """Numbers that are decoded, or encoded, at once."""
    return CHUNK if memory.device.type == "cpu" else 16 * CHUNK


class _BFloat16(Encoding):
    name, group, size = "bf16", 1, 2

    @override
    def encode(self, exact: torch.Tensor, codes: torch.Tensor, halves: Halves | None) -> None:
        round_into_(codes.view(torch.bfloat16), exact, halves, min(len(exact), CHUNK))

    @override
    def decode(self, codes: torch.Tensor, out: torch.Tensor) -> None:
        out.copy_(codes.view(torch.bfloat16)[: out.numel()])


class _Scaled(Encoding):
    """A scale in fp32 and a byte for each number of a group; the largest is the largest code."""

    size = 4 + GROUP
    top: float

    @override
    def encode(self, exact: torch.Tensor, codes: torch.Tensor, halves: Halves | None) -> None:
        groups = self._grouped(exact)
        scale = groups.abs().amax(1, keepdim=True) / self.top
        y = torch.where(scale > 0, groups / scale, 0.0).clamp_(-self.top, self.top)
        u = None
        if halves is not None:
            bits = random_bits(halves, min(len(exact), CHUNK), exact)[: len(exact)].to(torch.int32) & 0xFFFF
            u = self._grouped((bits.float() + 0.5) / 65536.0)
        table = codes.view(-1, self.size)
        table[:, :4] = scale.view(torch.uint8)
        table[:, 4:] = self._bytes(y, u)

    @override
    def decode(self, codes: torch.Tensor, out: torch.Tensor) -> None:
        table = codes.view(-1, self.size)
        found = self._numbers(table[:, 4:]) * table[:, :4].contiguous().view(torch.float32)
        out.copy_(found.view(-1)[: out.numel()])

    @staticmethod
    def _grouped(flat: torch.Tensor) -> torch.Tensor:
        rest = -flat.numel() % GROUP
        return (torch.cat([flat, flat.new_zeros(rest)]) if rest else flat).view(-1, GROUP)

    @abstractmethod
    def _bytes(self, y: torch.Tensor, u: torch.Tensor | None) -> torch.Tensor:
        """Codes of numbers between -top and top; u is uniform in (0, 1)."""

    @abstractmethod
    def _numbers(self, codes: torch.Tensor) -> torch.Tensor: ...


class _Int8(_Scaled):
    name, top = "int8", 127.0

    @override
    def _bytes(self, y: torch.Tensor, u: torch.Tensor | None) -> torch.Tensor:
        whole = y.round() if u is None else (y + u).floor_().clamp_(-self.top, self.top)
        return whole.to(torch.int8).view(torch.uint8)

    @override
    def _numbers(self, codes: torch.Tensor) -> torch.Tensor:
        return codes.view(torch.int8).float()


class _Float8(_Scaled):
    name, top = "fp8", 448.0

    @override
    def _bytes(self, y: torch.Tensor, u: torch.Tensor | None) -> torch.Tensor:
        if u is not None:  # e4m3 has 3 bits after the first, and below 2^-6 steps of 2^-9
            fine = (y * 512.0 + u).floor_() / 512.0
            kept = (y.view(torch.int32) + (u * 2.0**20).to(torch.int32)) & ~0xFFFFF
            y = torch.where(y.abs() < 2.0**-6, fine, kept.view(torch.float32)).clamp_(-self.top, self.top)
        return y.to(torch.float8_e4m3fn).view(torch.uint8)

    @override
    def _numbers(self, codes: torch.Tensor) -> torch.Tensor:
        return codes.contiguous().view(torch.float8_e4m3fn).float()


ENCODINGS: dict[str, Encoding] = {encoding.name: encoding for encoding in (_BFloat16(), _Float8(), _Int8())}
