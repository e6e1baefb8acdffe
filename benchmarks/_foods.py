"""The task of the language-model benchmarks: is a food review "great" or not, said by SmolLM2-135M."""

from __future__ import annotations

import torch
import transformers
from data import foods, smollm2

from oracles.llm import Examples, LabelWords, classification, label_tokens, load_model

__all__ = ["LABELS", "TEMPLATE", "VALUES", "model", "reviews", "words"]

TEMPLATE = "{text:57t} All in all, it was"
LABELS = ["great", "terrible"]
VALUES = ["great", "other"]
LENGTH = 57


def model() -> tuple[torch.nn.Module, transformers.PreTrainedTokenizerBase]:
    """The model and its tokenizer."""
    return load_model(str(smollm2()))


def words(tokenizer: transformers.PreTrainedTokenizerBase, over: str = "vocabulary") -> LabelWords:
    """The loss."""
    return LabelWords(label_tokens(tokenizer, LABELS, TEMPLATE), over)


def reviews(tokenizer: transformers.PreTrainedTokenizerBase, test: int | None = 400) -> tuple[Examples, Examples]:
    """2,300 examples to train on and the first `test` of 576 to test on: reviews of at least 57 tokens, cut there."""

    def of(rows: list[dict[str, str]]) -> Examples:
        long = [row for row in rows if len(tokenizer(row["text"], add_special_tokens=False)["input_ids"]) >= LENGTH]
        return classification(long, tokenizer, TEMPLATE, LABELS, values=VALUES)

    to_train, to_test = (of(rows) for rows in foods())
    return to_train, to_test if test is None else to_test.take(test)
