"""Tokens with `{name}` in them, filled without a shell: a value is never split, quoted or expanded."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Template", "did_you_mean"]

_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


class Template:
    """Some tokens, each with any number of placeholders; `{{` and `}}` are braces.

    Args:
        tokens: The tokens.
        known: Names that may stand in braces.
        owner: What to call the tokens in an error.

    Attributes:
        names: The names that are used.

    Raises:
        ValueError: A name is unknown, or a brace is unmatched.
    """

    def __init__(self, tokens: Sequence[str], known: Iterable[str], owner: str) -> None:
        self.names: set[str] = set()
        self._tokens = [self._parse(token, list(known), owner) for token in tokens]

    def _parse(self, token: str, known: list[str], owner: str) -> list[tuple[str, str]]:
        """A token as pieces of plain text, each with the name that follows it, or ""."""
        pieces, text, at = [], "", 0
        for match in _PIECE.finditer(token):
            text, at = text + token[at : match.start()], match.end()
            found, name = match.group(), match.group(1)
            if found in ("{{", "}}"):
                text += found[0]
            elif name is None:
                raise ValueError(f"{owner} has a single {found!r} in {token!r}; write {found * 2!r} for a brace.")
            elif name not in known:
                raise ValueError(
                    f"{owner} has {found} in it, but there is no parameter {name!r}"
                    f"{did_you_mean(name, known)}; write {{{{ and }}}} for braces."
                )
            else:
                self.names.add(name)
                pieces.append((text, name))
                text = ""
        return [*pieces, (text + token[at:], "")]

    def fill(self, values: Mapping[str, object]) -> list[str]:
        """The tokens with `str(value)` in place of each name."""
        return ["".join(text + (str(values[name]) if name else "") for text, name in pieces) for pieces in self._tokens]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint at the known name that looks most like this one; empty if none does."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
