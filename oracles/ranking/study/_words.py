"""What people type, made fit to be stored and shown."""

from __future__ import annotations

import unicodedata

__all__ = ["cleaned"]


def cleaned(text: str) -> str:
    """A line of text without what cannot be stored or seen: surrogates, control characters, marks of direction."""
    kept = (c if unicodedata.category(c) not in ("Cc", "Cs", "Cf", "Co", "Cn") or c == "\u200d" else " " for c in text)
    return " ".join("".join(kept).split()).strip("\u200d ")
