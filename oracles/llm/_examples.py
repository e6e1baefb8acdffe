"""Tokenised examples, and left-padded batches of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import torch

from blackbox_zo._checks import check_at_least
from blackbox_zo.randomness import Key

__all__ = ["UNSCORED", "Examples", "Shuffled"]

UNSCORED = -100
"""The label of a token that the loss ignores."""


@final
@dataclass(frozen=True)
class Examples:
    """Tokenised examples of any length, with their targets.

    Args:
        tokens: The tokens of each example.
        pad: The padding token.
        label: The class of each example, for `LabelWords`.
        labels: The target tokens of each example, for `Completion`: one per token, -100 where the loss ignores it.
        reference: The reference of each example, for `Generation`.
        prompt: The text of each example, for `Reward`.
        row: The row of each example, for `Reward`.

    Raises:
        ValueError: There is not one target for each example, or not one of `labels` for each token.
    """

    tokens: Sequence[Sequence[int]]
    pad: int
    label: Sequence[int] | None = None
    labels: Sequence[Sequence[int]] | None = None
    reference: Sequence[Any] | None = None
    prompt: Sequence[str] | None = None
    row: Sequence[Any] | None = None

    def __post_init__(self) -> None:
        for name in ("label", "labels", "reference"):
            column = getattr(self, name)
            if column is not None and len(column) != len(self.tokens):
                raise ValueError(f"`Examples({name}=...)` has {len(column)} entries for {len(self.tokens)} examples.")
        for i, (tokens, labels) in enumerate(zip(self.tokens, self.labels or (), strict=False)):
            if len(tokens) != len(labels):
                raise ValueError(
                    f"`Examples(labels=...)` has {len(labels)} for the {len(tokens)} tokens of example {i}."
                )

    def __len__(self) -> int:
        return len(self.tokens)

    def batch(self, indices: Iterable[int]) -> dict[str, Any]:
        """Some of the examples, padded on the left to the longest of them.

        Returns:
            `input_ids` and `attention_mask`, (B, T), and `example_id`, (B,); where the examples have them, also
            `label`, (B,), `labels`, (B, T), and `reference`, `prompt` and `row`, lists of B.
        """
        chosen = [int(i) for i in indices]
        tokens = [self.tokens[i] for i in chosen]
        batch: dict[str, Any] = {
            "input_ids": _left(tokens, self.pad),
            "attention_mask": _left([[1] * len(t) for t in tokens], 0),
            "example_id": torch.tensor(chosen),
        }
        if self.label is not None:
            batch["label"] = torch.tensor([self.label[i] for i in chosen])
        if self.labels is not None:
            batch["labels"] = _left([self.labels[i] for i in chosen], UNSCORED)
        for name in ("reference", "prompt", "row"):
            if (column := getattr(self, name)) is not None:
                batch[name] = [column[i] for i in chosen]
        return batch

    def batches(self, batch_size: int) -> list[dict[str, Any]]:
        """All examples in order; the last batch may be smaller."""
        check_at_least("batches", 1, batch_size=batch_size)
        return [self.batch(range(a, min(a + batch_size, len(self)))) for a in range(0, len(self), batch_size)]

    def shuffled(self, batch_size: int, seed: int = 0) -> Shuffled:
        """A function from the step number to its batch; see `Shuffled`."""
        return Shuffled(self, batch_size, seed)

    def pick(self, indices: Iterable[int]) -> Examples:
        """The examples at these indices, as a new object."""
        chosen = [int(i) for i in indices]
        columns = ("tokens", "label", "labels", "reference", "prompt", "row")
        parts: dict[str, Any] = {c: [v[i] for i in chosen] for c in columns if (v := getattr(self, c)) is not None}
        return replace(self, **parts)

    def take(self, n: int) -> Examples:
        """The first n examples, or all if there are fewer than n."""
        check_at_least("take", 1, n=n)
        return self.pick(range(min(n, len(self))))


@final
@dataclass(frozen=True)
class Shuffled:
    """The batch of a step, a function of the seed and the step alone.

    Each epoch visits the examples in a new order and drops the last incomplete batch. If there are fewer examples than
    `batch_size`, each batch holds all of them.

    Args:
        examples: The examples.
        batch_size: Examples per step.
        seed: Seed of the orders.

    Raises:
        ValueError: There are no examples, or `batch_size` is not positive.
    """

    examples: Examples
    batch_size: int
    seed: int = 0

    def __post_init__(self) -> None:
        check_at_least("shuffled", 1, batch_size=self.batch_size)
        if not len(self.examples):
            raise ValueError("`shuffled` needs at least one example, but there are none.")

    def __call__(self, step: int) -> dict[str, Any]:
        """The batch of a step, from 0."""
        count = len(self.examples)
        size = min(self.batch_size, count)
        epoch, i = divmod(step, count // size)
        order = Key(self.seed, epoch).generator("batches").permutation(count)
        return self.examples.batch(order[i * size : (i + 1) * size])


def _left(rows: list[Sequence[int]], pad: int) -> torch.Tensor:
    """Rows of any length as a left-padded matrix, (B, T)."""
    width = max(map(len, rows), default=0)
    return torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows], dtype=torch.int64)
