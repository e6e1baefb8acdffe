"""Conversations, and pairs of prompt and completion, as examples for `Completion`; the columns are those of trl."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Literal

from blackbox_zo._checks import check_choice
from oracles.llm._examples import UNSCORED, Examples
from oracles.llm._messages import Rendered, messages_of, of_conversation
from oracles.llm._rows import RowError, is_nothing
from oracles.llm._tables import rows_of
from oracles.llm._tokens import continuation, fitting, pad_token, tokens_of, with_start

__all__ = ["asked", "chat", "ended", "prompt_completion", "prompt_of"]

_SHORTEN = "shorten its text, or leave the row out"

Spans = list[tuple[int, int]]


def chat(
    rows: Any,
    tokenizer: Any,
    field: str = "messages",
    turns: Literal["all", "last"] = "all",
    max_length: int | None = None,
) -> Examples:
    """Examples for `Completion`: conversations in the tokenizer's chat template; the assistant's turns are scored.

    A turn is scored from its first word to the mark of its end, so that the model learns to stop. Headers, the turns of
    others, and a first turn with nothing before it are not scored. What follows the assistant's last turn is left out.

    Args:
        rows: The rows. The field is a list of messages with `role` and `content` (or `from` and `value`, as ShareGPT
            has them), or JSON of one. Fields `tools` and `chat_template_kwargs` go to the template, as in trl.
        tokenizer: The model's tokenizer, with a chat template.
        field: The field with the conversation.
        turns: Score "all" turns of the assistant, or the "last" only.
        max_length: Maximum number of tokens of a conversation; None takes the tokenizer's own limit.

    Raises:
        ValueError: The tokenizer has no chat template; or a row lacks the field, has something else in it, has no turn
            of the assistant or an empty one, is refused by the template, or is too long.
    """
    check_choice("chat", ("all", "last"), turns=turns)
    tokens, labels = [], []
    for i, row in enumerate(rows_of(rows)):
        messages = _spoken(row, field, i)
        render = Rendered(tokenizer, row, i)
        text = render(messages)
        spans = _spans(render, messages, text, turns)
        found, target = _scored(tokenizer, text, spans)
        if not render.ends(messages, spans[-1][0], text):
            _end(tokenizer, found, target)
        tokens.append(found)
        labels.append(target)
    return Examples(fitting(tokens, tokenizer, max_length, _SHORTEN), pad_token(tokenizer), labels=labels)


def asked(rows: Any, tokenizer: Any, field: str = "messages", max_length: int | None = None) -> Examples:
    """Examples for `Generation`: what comes before the assistant's last turn or the completion, which is the reference.

    Args:
        rows: As in `chat`, or as in `prompt_completion`.
        tokenizer: The model's tokenizer.
        field: The field with the conversation, or "prompt".
        max_length: Maximum number of tokens of the prompt; None takes the tokenizer's own limit.
    """
    tokens, references = [], []
    for i, row in enumerate(rows_of(rows)):
        if field == "prompt":
            prompt, said = _pair(row, i)
            before, last = (messages_of(prompt, "prompt", i), said[-1]) if isinstance(prompt, list) else (None, said)
        else:
            *before, last = _spoken(row, field, i)
        if before is None:
            tokens += with_start(tokenizer, [prompt])
        elif not before:
            raise RowError(i, ": nothing comes before the assistant's turn; leave the row out.")
        else:
            tokens.append(tokens_of(tokenizer, Rendered(tokenizer, row, i)(before, asking=True)))
        references.append((last if isinstance(last, str) else last.get("content") or "").strip())
    return Examples(fitting(tokens, tokenizer, max_length, _SHORTEN), pad_token(tokenizer), reference=references)


def prompt_of(row: Mapping[str, Any], tokenizer: Any, index: int) -> tuple[str, list[int]]:
    """The prompt of a row by trl's columns, and its tokens: `prompt`, a text or messages, or the messages of a chat.

    Turns of the assistant at the end of a chat are left out; the model is to write them.
    """
    name = next((name for name in ("prompt", "messages", "conversations") if name in row), None)
    if name is None:
        raise RowError(
            index, f": it has no field 'prompt' or 'messages' to be answered, only {', '.join(map(repr, row))}."
        )
    value = of_conversation(_field(row, name, index))
    if name == "prompt" and isinstance(value, str | int | float):
        return str(value), with_start(tokenizer, [str(value)])[0]
    messages = messages_of(value, name, index)
    while messages and messages[-1]["role"] == "assistant":
        messages.pop()
    if not messages:
        raise RowError(index, ": nothing comes before the assistant's turn; leave the row out.")
    text = Rendered(tokenizer, row, index)(messages, asking=True)
    return text, tokens_of(tokenizer, text)


def prompt_completion(rows: Any, tokenizer: Any, max_length: int | None = None, eos: bool = True) -> Examples:
    """Examples for `Completion`: the fields `prompt`, which is not scored, and `completion`, which is.

    Both are texts, or both are lists of messages, written down by the tokenizer's chat template. A text is continued as
    it is, without a space in between.

    Args:
        rows: The rows.
        tokenizer: The model's tokenizer.
        max_length: Maximum number of tokens of both together; None takes the tokenizer's own limit.
        eos: Whether a text ends with the end-of-text token, so that the model learns to stop. Chat templates have marks
            of their own.

    Raises:
        ValueError: A row lacks a field, has an empty one or one of another type, or is too long; or a conversation
            needs a chat template that the tokenizer does not have.
    """
    tokens, labels = [], []
    for i, row in enumerate(rows_of(rows)):
        prompt, said = _pair(row, i)
        if isinstance(prompt, list):
            before = messages_of(prompt, "prompt", i)
            render, messages = Rendered(tokenizer, row, i), before + said
            text = render(messages)
            found, target = _scored(tokenizer, text, [(render.answer_from(messages, len(before), text), len(text))])
        else:
            start, answer = with_start(tokenizer, [prompt])[0], continuation(tokenizer, prompt, said)
            answer = ended(tokenizer, answer) if eos else answer
            found, target = start + answer, [UNSCORED] * len(start) + answer
        tokens.append(found)
        labels.append(target)
    return Examples(fitting(tokens, tokenizer, max_length, _SHORTEN), pad_token(tokenizer), labels=labels)


def ended(tokenizer: Any, tokens: list[int]) -> list[int]:
    """The tokens of an answer with the end-of-text token, unless they end with it already."""
    end = tokenizer.eos_token_id
    if end is None:
        warnings.warn(
            "The tokenizer has no end-of-text token, so the model does not learn to stop; set `tokenizer.eos_token`.",
            stacklevel=3,
        )
        return tokens
    return tokens if tokens[-1:] == [end] else [*tokens, int(end)]


def _end(tokenizer: Any, tokens: list[int], labels: list[int]) -> None:
    more = ended(tokenizer, tokens)[len(tokens) :]
    tokens += more
    labels += more


def _field(row: Mapping[str, Any], name: str, index: int) -> Any:
    value = row.get(name)
    if name not in row:
        raise RowError(index, f": field {name!r} is missing; the row has {', '.join(map(repr, row))}.")
    if isinstance(value, str | float | None) and (trouble := is_nothing(value)):
        raise RowError(index, f": field {name!r} {trouble}.")
    return value


def _pair(row: Mapping[str, Any], index: int) -> tuple[Any, Any]:
    """The prompt and the completion of a row: both texts, or both messages."""
    prompt, said = (of_conversation(_field(row, name, index)) for name in ("prompt", "completion"))
    if not isinstance(prompt, list):
        return _plain(prompt, "prompt", index), _plain(said, "completion", index)
    said = [{"role": "assistant", "content": said}] if isinstance(said, str) else said
    return prompt, messages_of(said, "completion", index)


def _plain(value: Any, name: str, index: int) -> str:
    if isinstance(value, str | int | float):
        return str(value)
    raise RowError(index, f": field {name!r} must be a text, as the other field is, got {value!r:.80}.")


def _spoken(row: Mapping[str, Any], field: str, index: int) -> list[dict[str, Any]]:
    """The messages up to the assistant's last turn."""
    messages = messages_of(_field(row, field, index), field, index)
    turns = [i for i, one in enumerate(messages) if one["role"] == "assistant"]
    if not turns:
        roles = ", ".join(dict.fromkeys(one["role"] for one in messages))
        raise RowError(index, f": the conversation has no assistant's turn to learn, only {roles}; leave it out.")
    for i in turns:
        if not (messages[i].get("content") or "").strip() and not messages[i].get("tool_calls"):
            raise RowError(index, f": message {i}, of the assistant, is empty; leave the row out.")
    return messages[: turns[-1] + 1]


def _spans(render: Rendered, messages: list[dict[str, Any]], text: str, turns: str) -> Spans:
    """Where the scored turns begin and end in the text."""
    last = len(messages) - 1
    which = [i for i, one in enumerate(messages) if i == last or (turns == "all" and i and one["role"] == "assistant")]
    if which == [0]:
        raise RowError(render.index, ": nothing comes before the assistant's turn; leave the row out.")
    spans: Spans = []
    for i in which:
        start = render.answer_from(messages, i, text)
        spans.append((start, len(text) if i == last else render.answer_to(messages, i, start, text)))
    return spans


def _scored(tokenizer: Any, text: str, spans: Spans) -> tuple[list[int], list[int]]:
    """The tokens of a text, and their labels: those of the spans are scored."""
    if tokenizer.is_fast:
        found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        places = found["offset_mapping"]
        if not any(a < cut < b for a, b in places for span in spans for cut in span):
            tokens = list(found["input_ids"])
            inside = [any(start <= a and b <= end and a < b for start, end in spans) for a, b in places]
            return tokens, [t if scored else UNSCORED for t, scored in zip(tokens, inside, strict=True)]
    tokens, labels, at = list[int](), list[int](), 0  # a token spans a border, or places are not known
    for start, end in [*spans, (len(text), len(text))]:
        for upto, scored in ((start, False), (end, True)):
            part = continuation(tokenizer, text[:at], text[at:upto]) if upto > at else []
            tokens += part
            labels += part if scored else [UNSCORED] * len(part)
            at = max(at, upto)
    return tokens, labels
