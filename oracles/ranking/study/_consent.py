"""The researcher's text that people read before they begin."""

from __future__ import annotations

from pathlib import Path

from blackbox_zo._paths import expanded

__all__ = ["consent_of"]


def consent_of(path: str | Path) -> str:
    """A file as HTML: Markdown (.md) is converted, HTML (.html) is taken as it is, and other text becomes paragraphs.

    Raises:
        ValueError: It cannot be read, or is empty.
    """
    path = expanded(path)
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ValueError(f"`consent` {str(path)!r} cannot be read: {reason}.") from error
    if not text.strip():
        raise ValueError(f"`consent` {str(path)!r} is empty.")
    if path.suffix.lower() in (".html", ".htm"):
        return text
    from markdown_it import MarkdownIt

    return str(MarkdownIt("js-default").render(text))
