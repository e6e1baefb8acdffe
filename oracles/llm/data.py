"""Tokenise rows of text into examples for the losses of `oracles.llm.losses`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from oracles.llm._chat import chat as chat
from oracles.llm._chat import ended, prompt_of
from oracles.llm._chat import prompt_completion as prompt_completion
from oracles.llm._examples import UNSCORED
from oracles.llm._examples import Examples as Examples
from oracles.llm._examples import Shuffled as Shuffled
from oracles.llm._rows import RowError, is_nothing
from oracles.llm._rows import Template as Template
from oracles.llm._rows import read_rows as read_rows
from oracles.llm._tables import rows_of
from oracles.llm._tokens import continuation, fitting, pad_token, template_of, with_start
from oracles.llm._tokens import label_tokens as label_tokens

__all__ = [
    "Examples",
    "Shuffled",
    "Template",
    "chat",
    "classification",
    "completion",
    "label_tokens",
    "prompt_completion",
    "prompts",
    "read_rows",
    "text",
    "tokenised",
]

Rows = Sequence[Mapping[str, Any]]
"""Rows: a list of mappings, a `datasets.Dataset`, or a `pandas.DataFrame`."""


def classification(
    rows: Rows,
    tokenizer: Any,
    template: Template | str,
    labels: Sequence[str],
    label_field: str = "label",
    max_length: int | None = None,
    values: Sequence[Any] | None = None,
) -> Examples:
    """Examples for `LabelWords`: the filled template and the class.

    Args:
        rows: The rows, for instance from `read_rows`; also a `datasets.Dataset` or a `pandas.DataFrame`.
        tokenizer: The model's tokenizer.
        template: The text, with fields of the row in it.
        labels: A word for each class, as in `label_tokens`.
        label_field: The field with the class.
        max_length: Maximum number of tokens; None takes the tokenizer's own limit.
        values: The value of the field for each class, if that is not the word itself.

    Raises:
        ValueError: A row lacks a field, has an unknown class, or is too long; or `values` does not match `labels`.
    """
    names = [str(v).strip() for v in (labels if values is None else values)]
    if len(names) != len(labels) or len(set(names)) < len(names):
        raise ValueError(f"There must be one value for each of {list(labels)}, all different, got {names} (`values`).")
    rows, classes = rows_of(rows), []
    for i, row in enumerate(rows):
        value = _required(row, label_field, i)
        if trouble := is_nothing(value):
            raise RowError(i, f": field {label_field!r} {trouble}.")
        if isinstance(value, float) and value.is_integer():  # whole numbers beside nulls in a table
            value = int(value)
        if str(value).strip() not in names:
            raise RowError(
                i,
                f": field {label_field!r} is {value!r:.80}, which is none of {names}; "
                "give the values in the data (`values`), in the order of the labels.",
            )
        classes.append(names.index(str(value).strip()))
    return Examples(_prompt_tokens(rows, tokenizer, template, max_length), pad_token(tokenizer), label=classes)


def completion(
    rows: Rows,
    tokenizer: Any,
    template: Template | str,
    answer_template: Template | str = " {answer}",
    max_length: int | None = None,
    eos: bool = True,
) -> Examples:
    """Examples for `Completion`: the filled template, which is not scored, and an answer, which is.

    Args:
        rows: The rows.
        tokenizer: The model's tokenizer.
        template: The text before the answer.
        answer_template: The answer.
        max_length: Maximum number of tokens of both together; None takes the tokenizer's own limit.
        eos: Whether the answer ends with the end-of-text token, so that the model learns to stop. One that is there
            already is not doubled, and an answer that a limit such as `{answer:9t}` has cut off gets none.

    Raises:
        ValueError: A row lacks a field, is too long, or has an empty answer.
    """
    rows, filled = rows_of(rows), template_of(answer_template)
    before, after = _texts(rows, tokenizer, template), _texts(rows, tokenizer, filled)
    asked_all, tokens, labels = with_start(tokenizer, before), [], []
    for i, (asked, answer) in enumerate(zip(asked_all, after, strict=True)):
        said = continuation(tokenizer, before[i], answer)
        if not said or not asked:
            what = "answer" if asked else "text before the answer"
            raise RowError(i, f": the {what} is empty; leave the row out.")
        if eos and filled.uncut(rows[i]) == answer:
            said = ended(tokenizer, said)
        tokens.append(asked + said)
        labels.append([UNSCORED] * len(asked) + said)
    return Examples(fitting(tokens, tokenizer, max_length), pad_token(tokenizer), labels=labels)


def text(rows: Rows, tokenizer: Any, field: str = "text", max_length: int | None = None, eos: bool = True) -> Examples:
    """Examples for `Completion`: a whole text; all tokens but the first are scored.

    Args:
        rows: The rows.
        tokenizer: The model's tokenizer.
        field: The field with the text; "text:200t" takes its first 200 tokens.
        max_length: Maximum number of tokens; None takes the tokenizer's own limit.
        eos: Whether the end-of-text token follows, as in `completion`.

    Raises:
        ValueError: A row lacks the field, is too long, or has fewer than two tokens.
    """
    rows, whole = rows_of(rows), Template(f"{{{field}}}")
    texts = _texts(rows, tokenizer, whole)
    tokens = with_start(tokenizer, texts)
    for i, found in enumerate(tokens):
        if len(found) < 2:
            raise RowError(i, f": field {field!r} has {len(found)} tokens; two are needed, so leave it out.")
        if eos and whole.uncut(rows[i]) == texts[i]:
            tokens[i] = ended(tokenizer, found)
    tokens = fitting(tokens, tokenizer, max_length)
    return Examples(tokens, pad_token(tokenizer), labels=[[UNSCORED, *found[1:]] for found in tokens])


def prompts(
    rows: Rows,
    tokenizer: Any,
    template: Template | str | None,
    reference_field: str | None = "answer",
    max_length: int | None = None,
) -> Examples:
    """Examples for `Generation` and `Reward`: the filled template, the row, and a reference for the generated text.

    Args:
        rows: The rows.
        tokenizer: The model's tokenizer.
        template: The prompt; None takes it from the row as trl has it: `prompt`, a text or messages, or else `messages`
            before the assistant's last turn, written down by the tokenizer's chat template.
        reference_field: The field with the reference, of any type that the score accepts; None for no reference, which
            a `Reward` does not need.
        max_length: Maximum number of tokens of the prompt; None takes the tokenizer's own limit.

    Raises:
        ValueError: A row lacks a field or is too long.
    """
    rows = rows_of(rows)
    references = None
    if reference_field is not None:
        references = [_required(row, reference_field, i) for i, row in enumerate(rows)]
    if template is None:
        found = [prompt_of(row, tokenizer, i) for i, row in enumerate(rows)]
        filled, tokens = [said for said, _ in found], [ids for _, ids in found]
    else:
        filled = _texts(rows, tokenizer, template)
        tokens = with_start(tokenizer, filled)
    tokens = fitting(tokens, tokenizer, max_length)
    return Examples(tokens, pad_token(tokenizer), reference=references, prompt=filled, row=list(rows))


def tokenised(rows: Rows, tokenizer: Any, max_length: int | None = None) -> Examples:
    """Examples for `Completion`: rows that are tokenised already, such as a dataset that was prepared for a Trainer.

    Args:
        rows: The rows: `input_ids`; also `attention_mask`, of which places with 0 are left out; and what is scored:
            `labels`, -100 where not, else the places where all of `completion_mask` and `assistant_masks` are 1, else
            all.
        tokenizer: The model's tokenizer, for the padding token.
        max_length: Maximum number of tokens; None takes the tokenizer's own limit.

    Raises:
        ValueError: A row lacks `input_ids`, is too long, has columns that differ in length, or has no scored token.
    """
    rows, tokens, labels = rows_of(rows), [], []
    for i, row in enumerate(rows):
        ids = [int(t) for t in _required(row, "input_ids", i)]
        masks = [list(row[name]) for name in ("completion_mask", "assistant_masks") if row.get(name) is not None]
        wanted = row.get("labels")
        targets = [t if all(mask[j : j + 1] == [1] for mask in masks) else UNSCORED for j, t in enumerate(ids)]
        targets = targets if wanted is None else [int(t) for t in wanted]
        kept = [int(on) for on in row["attention_mask"]] if row.get("attention_mask") is not None else [1] * len(ids)
        if any(len(column) != len(ids) for column in (targets, kept, *masks)):
            raise RowError(i, f" has {len(ids)} `input_ids`, but another number of labels or of places in a mask.")
        ids, targets = ([x for x, on in zip(column, kept, strict=True) if on] for column in (ids, targets))
        if all(t == UNSCORED for t in targets[1:]):
            raise RowError(
                i,
                f": no token is scored, as its labels are {UNSCORED} after the first. Was its answer cut off? "
                "Allow more tokens when tokenising, or leave the row out.",
            )
        tokens.append(ids)
        labels.append(targets)
    return Examples(
        fitting(tokens, tokenizer, max_length, "cut it when tokenising, or leave it out"),
        pad_token(tokenizer),
        labels=labels,
    )


def _texts(rows: Rows, tokenizer: Any, template: Template | str) -> list[str]:
    filled = template_of(template)
    return [filled.fill(row, tokenizer, i) for i, row in enumerate(rows)]


def _prompt_tokens(rows: Rows, tokenizer: Any, template: Template | str, max_length: int | None) -> list[list[int]]:
    return fitting(with_start(tokenizer, _texts(rows, tokenizer, template)), tokenizer, max_length)


def _required(row: Mapping[str, Any], name: str, index: int) -> Any:
    if name not in row:
        raise RowError(index, f": field {name!r} is missing; the row has {', '.join(map(repr, row))}.")
    return row[name]
