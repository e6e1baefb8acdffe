"""Numbers and durations as people read them."""

from __future__ import annotations

import re

__all__ = ["figure", "span"]


def figure(value: float) -> str:
    """A short number: 0.001, 25, 1e-5."""
    text = f"{value:.6g}"
    return re.sub(r"e([+-])0*(\d+)", lambda m: "e" + m.group(1).replace("+", "") + m.group(2), text)


def span(seconds: float) -> str:
    """A duration in the unit that suits it."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
