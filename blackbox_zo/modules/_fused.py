"""`round_into_` as one kernel of Triton, which torch for CUDA brings along; to the same bits."""
# mypy: ignore-errors

import torch
import triton
import triton.language as tl

__all__ = ["fused_round_into_"]

_GOLDEN = tl.constexpr(0x9E3779B97F4A7C15)
_MIX1 = tl.constexpr(0xBF58476D1CE4E5B9)
_MIX2 = tl.constexpr(0x94D049BB133111EB)

WORDS = 512
"""Words of 64 bits that one program draws, for four elements each."""


@triton.jit
def _mixed(z):
    z ^= z >> 30
    z *= _MIX1
    z ^= z >> 27
    z *= _MIX2
    return z ^ (z >> 31)


@triton.jit
def _bf16(x, bits):
    i = x.to(tl.int32, bitcast=True)
    finite = (i & 0x7F800000) != 0x7F800000
    nearest = x.to(tl.bfloat16).to(tl.int16, bitcast=True)
    return tl.where(finite, ((i + bits) >> 16).to(tl.int16), nearest)


@triton.jit
def _fp16(x, bits):
    nearest = x.to(tl.float16)
    near, code = nearest.to(tl.float32), nearest.to(tl.int16, bitcast=True)
    error = x - near
    away = (error > 0) == (near >= 0)  # the other neighbour has the larger magnitude
    beside = code + tl.where(away, 1, -1).to(tl.int16)
    beside = tl.where(near == 0, tl.where(error < 0, -32767, 1).to(tl.int16), beside)
    other = beside.to(tl.float16, bitcast=True).to(tl.float32)
    usable = (error != 0) & (tl.abs(other) < float("inf")) & (tl.abs(near) < float("inf"))
    u = (bits.to(tl.float32) + 0.5) / 65536.0
    return tl.where(usable & (u * tl.abs(other - near) < tl.abs(error)), beside, code)


@triton.jit
def _round(out, exact, halves, size, each, IS_BF16: tl.constexpr, WORDS: tl.constexpr):
    word = tl.program_id(0) * WORDS + tl.arange(0, WORDS)
    chunk = 4 * word // each
    there = 4 * word < size
    k0 = tl.load(halves + 2 * chunk, mask=there, other=0).to(tl.uint64, bitcast=True)
    k1 = tl.load(halves + 2 * chunk + 1, mask=there, other=0).to(tl.uint64, bitcast=True)
    counter = (word - chunk * (each // 4)).to(tl.uint64)
    z = _mixed(_mixed(counter * _GOLDEN + k0) ^ k1)
    lane = tl.arange(0, 4)[None, :]
    bits = ((z[:, None] >> (16 * lane).to(tl.uint64)) & 0xFFFF).to(tl.int32)
    e = 4 * word[:, None] + lane
    x = tl.load(exact + e, mask=e < size, other=0.0)
    rounded = _bf16(x, bits) if IS_BF16 else _fp16(x, bits)
    tl.store(out + e, rounded, mask=e < size)


def fused_round_into_(out: torch.Tensor, exact: torch.Tensor, halves: torch.Tensor, each: int) -> None:
    """Write `exact` to `out` as `round_into_` does.

    Args:
        out: Flat, bf16 or fp16, contiguous.
        exact: Flat fp32, same size, at most 2^31 - 1, contiguous.
        halves: Of the chunks, (chunks, 2), int64, on the same device.
        each: Elements of each chunk but the last; a multiple of 4 if there are several.
    """
    size = exact.numel()
    each = each if len(halves) > 1 else 4 * (-(-size // 4))
    with torch.cuda.device_of(out):
        grid = (triton.cdiv(size, 4 * WORDS),)
        _round[grid](out.view(torch.int16), exact, halves, size, each, out.dtype is torch.bfloat16, WORDS)
