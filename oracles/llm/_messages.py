"""The messages of a conversation, and what the tokenizer's chat template makes of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from oracles.llm._rows import RowError

__all__ = ["Rendered", "common", "messages_of", "of_conversation"]

_SHAREGPT = {"human": "user", "gpt": "assistant"}
"""Roles of ShareGPT's files, whose messages have `from` and `value`."""


def of_conversation(value: Any) -> Any:
    """A field that may hold a conversation: a list, also from JSON in a text, as CSV has it; else as it is."""
    if isinstance(value, str) and value.lstrip().startswith("[{"):
        try:
            return json.loads(value)
        except ValueError:
            return value
    if hasattr(value, "tolist") and not isinstance(value, str):  # numpy's arrays, which pandas has in a column
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value


def messages_of(value: Any, name: str, index: int) -> list[dict[str, Any]]:
    """The messages of a field, each with `role` and `content`, or ShareGPT's `from` and `value`.

    Raises:
        RowError: The field holds something else, or nothing.
    """
    found = of_conversation(value)
    if not isinstance(found, list):
        raise RowError(
            index, f": field {name!r} must be a list of messages with 'role' and 'content', got {found!r:.80}."
        )
    if not found:
        raise RowError(index, f": field {name!r} is empty; leave the row out.")
    return [_message(one, f": message {i} of field {name!r}", index) for i, one in enumerate(found)]


def _message(one: Any, where: str, index: int) -> dict[str, Any]:
    if not isinstance(one, Mapping):
        raise RowError(index, f"{where} must have 'role' and 'content', got {one!r:.80}.")
    kept = {key: value for key, value in one.items() if value is not None}  # `datasets` fills every message's keys
    if "role" not in kept and "from" in kept:
        role = str(kept.pop("from"))
        kept = {"role": _SHAREGPT.get(role, role), "content": kept.pop("value", None), **kept}
    if not isinstance(kept.get("role"), str):
        raise RowError(index, f"{where} must have a 'role', such as 'user' or 'assistant'; it has {', '.join(kept)}.")
    content = kept.get("content")
    if isinstance(content, list):
        kept["content"] = content = _text_of(content, where, index)
    if content is None and not kept.get("tool_calls"):
        raise RowError(index, f"{where} has no 'content'; leave the row out.")
    if not isinstance(content, str | None):
        raise RowError(index, f"{where}: its 'content' must be text, got {content!r:.80}.")
    return kept


def _text_of(parts: Sequence[Any], where: str, index: int) -> str:
    """Content in parts as one text."""
    for part in parts:
        if not isinstance(part, Mapping) or not isinstance(part.get("text"), str):
            kind = part.get("type") if isinstance(part, Mapping) else part
            raise RowError(index, f"{where} has a part that is not text ({kind!r:.40}), which the model cannot read.")
    return "".join(part["text"] for part in parts)


@final
@dataclass(frozen=True)
class Rendered:
    """Renders the conversations of a row by the tokenizer's chat template, with the row's `tools`, as trl does.

    Args:
        tokenizer: The tokenizer.
        row: The row.
        index: Its index, for messages.

    Raises:
        ValueError: The tokenizer has no chat template.
    """

    tokenizer: Any
    row: Mapping[str, Any]
    index: int

    def __post_init__(self) -> None:
        if not self.tokenizer.chat_template:
            raise ValueError(
                "The tokenizer has no chat template, so it cannot write a conversation down. Take the model's chat "
                "(instruct) variant, or set `tokenizer.chat_template`; on the command line, --chat-template FILE."
            )

    def __call__(self, messages: list[dict[str, Any]], asking: bool = False) -> str:
        """The text of a conversation; if `asking`, up to where the assistant's next turn begins."""
        tools = self.row.get("tools")
        if _in_parts(self.tokenizer):
            messages = [_split(one) for one in messages]
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    messages,
                    tools=(json.loads(tools) if isinstance(tools, str) and tools else tools) or None,
                    tokenize=False,
                    add_generation_prompt=asking,
                    **(self.row.get("chat_template_kwargs") or {}),
                )
            )
        except ImportError:
            raise
        except Exception as error:  # whatever a template raises, such as that roles must alternate
            raise RowError(self.index, f": the chat template refuses the conversation: {error}") from error

    def answer_from(self, messages: list[dict[str, Any]], before: int, text: str) -> int:
        """Where the turns after the first `before` messages begin in the text of the whole conversation.

        That is where the text so far, with the prompt for the assistant, and the whole text part (trl's convention).
        """
        start = common(self(messages[:before], asking=True), text)
        content, so_far = _content(messages[before - 1]), self(messages[:before])
        if content and start < so_far.rfind(content) + len(content):  # they part in what was said before
            raise self.changing()
        return start

    def answer_to(self, messages: list[dict[str, Any]], which: int, start: int, text: str) -> int:
        """Where the message `which`, which begins at `start`, ends in the text of the whole conversation."""
        alone = self(messages[: which + 1])
        if text.startswith(alone):
            return len(alone)
        content = _content(messages[which])  # a template may drop the thoughts of earlier turns, as Qwen3's does
        end = end_of(content, text, start)
        if not end:
            raise self.changing()
        mark = end + common(alone[end_of(content, alone, start) :], text[end:])
        return max(end, self._whole_tokens(text, mark))

    def _whole_tokens(self, text: str, end: int) -> int:
        """The last place up to `end` that is not inside a token: two marks that differ may begin alike."""
        if not self.tokenizer.is_fast:
            return end
        places = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        return int(next((a for a, b in places if a < end < b), end))

    def ends(self, messages: list[dict[str, Any]], start: int, text: str) -> bool:
        """Whether the template marks the end of the last turn, which begins at `start`."""
        end = end_of(_content(messages[-1]), text, start)
        return not end or bool(text[end:].strip())

    def changing(self) -> RowError:
        """The error of a template under which the turns of the assistant cannot be told from the rest."""
        return RowError(
            self.index,
            ": the chat template writes earlier turns in another way once later ones follow, so the assistant's turns "
            "cannot be found; split the conversation, or learn its last turn only (`turns='last'`, --turns last).",
        )


def _split(message: dict[str, Any]) -> dict[str, Any]:
    """A message whose content is a list of one part."""
    content = message.get("content")
    return {**message, "content": [{"type": "text", "text": content}]} if isinstance(content, str) else message


def _in_parts(tokenizer: Any) -> bool:
    """Whether a chat template reads content in parts only, as those of models that also see do; others take a text."""
    template = str(tokenizer.chat_template)
    if template not in _known:
        _known[template] = not _tells(tokenizer, lambda one: one) and _tells(tokenizer, _split)
    return _known[template]


_known: dict[str, bool] = {}
"""What `_in_parts` has found, by template."""


def _tells(tokenizer: Any, form: Any) -> bool:
    """Whether what a template writes depends on what is said."""
    try:
        a, b = (
            tokenizer.apply_chat_template([form({"role": "user", "content": said})], tokenize=False) for said in "ab"
        )
    except Exception:
        return False
    return bool(a != b)


def common(a: str, b: str) -> int:
    """The length of the common beginning of two texts."""
    if b.startswith(a):
        return len(a)
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def end_of(content: str, text: str, start: int) -> int:
    """Where a content ends in a text, from `start` on; 0 if it is empty or not there."""
    found = text.find(content, start) if content else -1
    return found + len(content) if found >= 0 else 0


def _content(message: Mapping[str, Any]) -> str:
    return (message.get("content") or "").strip()
