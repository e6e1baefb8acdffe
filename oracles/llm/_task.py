"""Rows, examples and losses of `blackbox-zo finetune`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from blackbox_zo.randomness import Key
from oracles.llm._chat import asked
from oracles.llm._evaluate import Measures
from oracles.llm._rows import RowError
from oracles.llm._settings import Settings
from oracles.llm.data import (
    Examples,
    Template,
    chat,
    classification,
    completion,
    label_tokens,
    prompt_completion,
    prompts,
    read_rows,
    text,
)
from oracles.llm.losses import Accuracy, Completion, Generation, LabelWords, Reward, exact_match, f1
from oracles.options import BadInput

__all__ = ["Task", "fingerprint", "task_of"]

Loss = Callable[[torch.nn.Module, Any], torch.Tensor]

_SHARE, _MOST = 10, 400
"""One row in `_SHARE` is held out for validation, at most `_MOST`."""

_OFF_TASK_ROWS = 64
"""Maximum number of rows of the off-task check."""

_REFERENCE = ""
"""Name of a field that no data file has."""


@dataclass(frozen=True)
class Task:
    """The examples and the loss of a run.

    Attributes:
        train: Training examples.
        validation: Validation examples.
        loss: The objective, which is minimised.
        measures: The validation measures: maps a model and a batch to values by name.
        score: The measure, higher is better, that is one minus the loss; empty if there is none.
        notes: What to say about the data before the run.
        off_task: Texts of the off-task check, if it was asked for.
        words: The words of the classes, where there are any.
    """

    train: Examples
    validation: Examples
    loss: Loss
    measures: Measures
    score: str
    notes: tuple[str, ...] = ()
    off_task: Examples | None = None
    words: LabelWords | None = None

    def numbers(self, measured: Mapping[str, float]) -> dict[str, float]:
        """The measures to show."""
        return {**measured, self.score: 1.0 - measured["loss"]} if self.score else dict(measured)


def task_of(settings: Settings, tokenizer: Any, context: int) -> Task:
    """Read the data.

    Args:
        settings: Settings of the run.
        tokenizer: The model's.
        context: Maximum number of tokens that the model can read.

    Raises:
        BadInput: The data does not fit the settings or the model.
    """
    given = settings.given
    most = context - settings.max_new_tokens
    if given.chat_template is not None:
        with _about(given.chat_template):
            tokenizer.chat_template = _read(given.chat_template)
    with _about(given.data):
        if settings.learns == "labels":
            words = label_tokens(tokenizer, settings.labels, given.template)
        everything = _examples(settings, read_rows(given.data), tokenizer, most)
    if given.validation is not None:
        with _about(given.validation):
            train, validation = everything, _examples(settings, read_rows(given.validation), tokenizer, most)
    else:
        train, validation = _held_out(everything, given.seed, given.data)
    notes = tuple(_classes(settings, train, validation)) if settings.learns == "labels" else ()
    off_task = _off_task(given, tokenizer, context)
    if settings.learns == "reward":
        assert settings.reward is not None
        reward = Reward(
            settings.reward, tokenizer, settings.max_new_tokens, given.stop, settings.samples, settings.temperature,
            given.seed, given.group_relative,
        )  # fmt: skip
        return Task(train, validation, reward, reward.measures, "", (), off_task)
    if settings.generates:
        score = exact_match if given.objective == "exact-match" else f1
        loss: Loss = Generation(tokenizer, score, settings.max_new_tokens, given.stop)
        name = "accuracy" if given.objective == "exact-match" else "f1"
        return Task(train, validation, loss, {"loss": loss}, name, (), off_task)
    if settings.learns != "labels":
        return Task(train, validation, Completion(), {"loss": Completion()}, "", (), off_task)
    over = LabelWords(words, "labels" if given.objective == "labels" else "vocabulary")
    loss = Accuracy(over) if given.objective == "accuracy" else over
    return Task(train, validation, loss, over.measures, "", notes, off_task, over)


def _classes(settings: Settings, train: Examples, validation: Examples) -> Iterator[str]:
    """Notes on classes without rows.

    Raises:
        BadInput: All rows to learn from have one class.
    """
    field, names = settings.given.label_field or "label", settings.values or settings.labels
    for rows, where, examples in (
        (len(train), "to learn from", train),
        (len(validation), "to validate on", validation),
    ):
        missing = sorted(set(range(len(names))) - set(examples.label or ()))
        if len(missing) == len(names) - 1:
            only = next(name for i, name in enumerate(names) if i not in missing)
            said = f"All {rows} rows {where} have one class: field {field!r} is {only!r}"
            if examples is train:
                raise BadInput(f"{said}. There is nothing to tell apart; add rows of the others, or check --values.")
            yield f"{said}; their accuracy says little."
        elif missing:
            yield f"No row {where} has the class {', '.join(repr(names[i]) for i in missing)}."


def _off_task(given: Any, tokenizer: Any, context: int) -> Examples | None:
    if given.off_task is None:
        return None
    with _about(given.off_task):
        return text(read_rows(given.off_task)[:_OFF_TASK_ROWS], tokenizer, given.off_task_field or "text", context)


def fingerprint(examples: Examples) -> str:
    """A short digest of examples, as the model sees them, in order."""
    h = hashlib.blake2b(digest_size=8)
    columns = [c for c in (examples.label, examples.labels, examples.reference) if c is not None]
    columns += [examples.row] if examples.row is not None and not columns else []  # all that a reward sees
    for row in zip(examples.tokens, *columns, strict=True):
        h.update(json.dumps(row, default=str).encode())
    return h.hexdigest()


def _examples(settings: Settings, rows: list[dict[str, Any]], tokenizer: Any, most: int) -> Examples:
    given = settings.given
    eos = not given.no_eos
    if settings.learns in ("messages", "prompt") and settings.generates:
        return asked(rows, tokenizer, settings.field, most)
    if settings.learns == "messages":
        return chat(rows, tokenizer, settings.field, given.turns or "all", most)
    if settings.learns == "prompt":
        return prompt_completion(rows, tokenizer, most, eos)
    if settings.learns == "text":
        return text(rows, tokenizer, given.text, most, eos)
    if settings.learns == "labels":
        field, values = given.label_field or "label", settings.values or settings.labels
        return classification(rows, tokenizer, given.template, settings.labels, field, most, values)
    if settings.learns == "reward":
        return prompts(rows, tokenizer, given.template, None, most)
    if not settings.generates:
        return completion(rows, tokenizer, given.template, given.answer, most, eos)
    answer = Template(given.answer)
    wanted = [{**row, _REFERENCE: _reference(answer, row, tokenizer, i)} for i, row in enumerate(rows)]
    return prompts(wanted, tokenizer, given.template, _REFERENCE, most)


def _reference(answer: Template, row: Mapping[str, Any], tokenizer: Any, index: int) -> str | list[str]:
    """The reference for generated text: all answers of a list, or the text without special tokens."""
    if len(answer.names) == 1 and isinstance(several := row.get(answer.names[0]), list):
        return [str(one) for one in several]
    said = answer.fill(row, tokenizer, index)
    for token in tokenizer.all_special_tokens:
        said = said.replace(token, "")
    return said.strip()


def _held_out(examples: Examples, seed: int, path: Path) -> tuple[Examples, Examples]:
    """The first nine tenths and the last tenth of the shuffled examples."""
    n = len(examples)
    if n < 2:
        raise BadInput(f"{str(path)!r} has one row; add rows to hold one out for validation, or give --validation.")
    order = Key(seed, 0).generator("validation").permutation(n).tolist()
    first = n - min(_MOST, max(1, n // _SHARE))
    return examples.pick(order[:first]), examples.pick(order[first:])


def _read(path: Path) -> str:
    if not path.is_file():
        raise BadInput(f"--chat-template {str(path)!r} does not exist; check the path.")
    return path.read_text(encoding="utf-8")


@contextmanager
def _about(path: Path) -> Iterator[None]:
    """Inside this block, turn a ValueError about the user's data into `BadInput`."""
    try:
        yield
    except RowError as error:
        raise BadInput(f"Row {error.row + 1} of {str(path)!r}{error.trouble}") from error
    except (ValueError, FileNotFoundError, ModuleNotFoundError) as error:
        raise BadInput(str(error)) from error
