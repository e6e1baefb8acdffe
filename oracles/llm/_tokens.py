"""Tokenisation of texts: start tokens, continuations, and the length limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from oracles.llm._rows import RowError, Template

__all__ = ["continuation", "fitting", "label_tokens", "pad_token", "template_of", "tokens_of", "with_start"]

_COMMON = ("great", "terrible", "good", "bad", "yes", "no", "true", "false", "positive", "negative")


def label_tokens(tokenizer: Any, labels: Sequence[str], template: Template | str = "") -> tuple[int, ...]:
    """The single token of each label word, as it follows the template.

    Args:
        tokenizer: The model's tokenizer.
        labels: A word for each class. A space is added before it unless it begins with one or the template ends in one.
        template: The text before the words.

    Raises:
        ValueError: A word is not a single token, or two words are the same token.

    Example:
        `label_tokens(tokenizer, ["great", "terrible"])`
    """
    tail = template_of(template).tail
    tokens = [_label_token(tokenizer, word, tail) for word in labels]
    for i, token in enumerate(tokens):
        if token in tokens[:i]:
            raise ValueError(
                f"Labels {labels[tokens.index(token)]!r} and {labels[i]!r} are the same token; change one."
            )
    return tuple(tokens)


def _label_token(tokenizer: Any, word: str, tail: str) -> int:
    ids = _word(tokenizer, word, tail)
    if len(ids) == 1 and ids[0] != tokenizer.unk_token_id:
        return ids[0]
    trouble = "is not in the tokenizer's vocabulary"
    if len(ids) > 1:
        trouble = f"is {len(ids)} tokens ({', '.join(repr(tokenizer.decode([i])) for i in ids)})"
    known = [w for w in _COMMON if len(c := _word(tokenizer, w, tail)) == 1 and c[0] != tokenizer.unk_token_id]
    hint = f", such as {', '.join(map(repr, known))}" if known else ""
    raise ValueError(f"Label {word!r} {trouble}, but it must be one; choose another word{hint}.")


def _word(tokenizer: Any, word: str, tail: str) -> list[int]:
    if not word.strip():
        return []
    if tail[-1:].isspace():
        return tokens_of(tokenizer, word.lstrip())
    return continuation(tokenizer, tail or ".", word if word[:1].isspace() else " " + word)


def tokens_of(tokenizer: Any, text: str) -> list[int]:
    """The tokens of a text, without special start or end tokens."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def continuation(tokenizer: Any, before: str, after: str) -> list[int]:
    """The tokens of `after` as it follows `before`, whose own tokens must not change."""
    start, both = tokens_of(tokenizer, before), tokens_of(tokenizer, before + after)
    return both[len(start) :] if both[: len(start)] == start else tokens_of(tokenizer, after)


def with_start(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """The tokens of each text, with the tokenizer's start tokens but without its end tokens."""
    if not texts:
        return []
    start = _start(tokenizer)
    return [start + list(ids) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]]


def _start(tokenizer: Any) -> list[int]:
    bare, full = tokens_of(tokenizer, "a"), list(tokenizer("a")["input_ids"])
    return next((full[:i] for i in range(len(full)) if full[i : i + len(bare)] == bare), [])


def fitting(
    tokens: list[list[int]],
    tokenizer: Any,
    max_length: int | None,
    advice: str = "cut its field in the template, as `{text:57t}` does after 57 tokens",
) -> list[list[int]]:
    """Return `tokens` if no list is longer than `max_length` (default: the tokenizer's own limit).

    Raises:
        ValueError: A list is too long or empty.
    """
    most = tokenizer.model_max_length if max_length is None else max_length
    for i, ids in enumerate(tokens):
        if len(ids) > most:
            raise RowError(
                i,
                f" has {len(ids)} tokens, more than the limit of {most} (`max_length`); {advice}.",
            )
        if not ids:
            raise RowError(i, " has no tokens; leave it out.")
    return tokens


def pad_token(tokenizer: Any) -> int:
    """The padding token: the tokenizer's own, else its end-of-text token, else 0."""
    token = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    return 0 if token is None else int(token)


def template_of(template: Template | str) -> Template:
    """The template itself, or a `Template` of the text."""
    return Template(template) if isinstance(template, str) else template
