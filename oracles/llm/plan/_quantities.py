"""Sizes and speeds as people write them, and back."""

from __future__ import annotations

import argparse
import re

__all__ = ["operations", "said", "size", "speed", "speed_said", "tera"]

_UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "p": 1e15,
          "ki": 2.0**10, "mi": 2.0**20, "gi": 2.0**30, "ti": 2.0**40}  # fmt: skip


def _found(text: str, unit: str, example: str) -> float:
    found = re.fullmatch(rf"\s*(\d+(?:\.\d*)?(?:e\d+)?)\s*([kmgtp]i?)?(?:{unit})\s*", text, re.IGNORECASE)
    if not found or not 0 < float(found[1]) < float("inf"):
        raise argparse.ArgumentTypeError(f"must be {example}, got {text!r}")
    return float(found[1]) * _UNITS[(found[2] or "").lower()]


def size(text: str) -> int:
    """Bytes, such as 18GiB or 500MB."""
    return int(_found(text, "b?", "a size such as 18GiB or 500MB"))


def speed(text: str) -> float:
    """Bytes a second, such as 3GB/s."""
    return _found(text, r"b/s", "a speed such as 3GB/s or 500MB/s")


def operations(text: str) -> float:
    """Operations a second, such as 150TFLOPS."""
    return _found(text, r"flops?(?:/s)?", "a speed such as 150TFLOPS or 80GFLOPS")


def said(nbytes: float) -> str:
    """A number of bytes, in units of 1,024."""
    for unit, name in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB")):
        if nbytes >= unit:
            return f"{nbytes / unit:,.4g} {name}" if nbytes < 1000 * unit else f"{nbytes / unit:,.0f} {name}"
    return f"{nbytes / 1024:,.3g} KiB"


def speed_said(rate: float) -> str:
    """Bytes a second, in units of 1,000."""
    unit, name = next(((u, n) for u, n in ((1e12, "TB/s"), (1e9, "GB/s")) if rate >= u), (1e6, "MB/s"))
    return f"{rate / unit:.3g} {name}"


def tera(rate: float) -> str:
    """Operations a second."""
    return f"{rate / 1e12:.3g} TFLOPS" if rate >= 1e12 else f"{rate / 1e9:.3g} GFLOPS"
