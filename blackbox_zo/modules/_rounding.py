"""Rounding to 16-bit floats so that moves smaller than the spacing of the floats are right on average."""

from __future__ import annotations

import numpy as np
import torch

from blackbox_zo.randomness import Key, words

__all__ = ["round_into_"]


def round_into_(out: torch.Tensor, exact: torch.Tensor, address: tuple[int, str, int] | None) -> None:
    """Write `exact` to `out`, which has another floating-point type.

    Rounded up with probability (exact - below) / (above - below), so the mean is exact (stochastic rounding).

    Args:
        out: Flat; bf16, fp16, or any type, the others being rounded to nearest.
        exact: Flat fp32, same size.
        address: Move, block name and start, which determine the random bits; None rounds to nearest.
    """
    if address is None or out.element_size() != 2:
        out.copy_(exact)
        return
    version, name, start = address
    packed = words(Key(version, start), f"{name}|rounding", 1, -(-exact.numel() // 4))[0]
    bits16 = torch.from_numpy(packed.astype("<u8", copy=False).view(np.int16)).to(exact.device)[: exact.numel()]
    if out.dtype is torch.bfloat16:  # the upper half of an fp32: add 16 random bits below, cut them off
        noise = bits16.to(torch.int32) & 0xFFFF
        total = exact.view(torch.int32) + noise
        rounded = (total >> 16).to(torch.int16).view(torch.bfloat16)
        out.copy_(torch.where(exact.isfinite(), rounded, exact.to(torch.bfloat16)))
        return
    nearest = exact.to(out.dtype)
    error = exact - nearest.float()
    away = (error > 0) == (nearest.float() >= 0)  # the other neighbour has the larger magnitude
    other = (nearest.view(torch.int16) + torch.where(away, 1, -1).to(torch.int16)).view(out.dtype)
    other = torch.where(nearest == 0, torch.copysign(torch.full_like(nearest, 2.0**-24), error.to(out.dtype)), other)
    gap = (other.float() - nearest.float()).abs()
    chance = error.abs() / gap
    u = ((bits16.to(torch.int32) & 0xFFFF).float() + 0.5) / 65536.0
    usable = (error != 0) & other.isfinite() & nearest.isfinite()
    out.copy_(torch.where(usable & (u < chance), other, nearest))
