"""What is checked of a batch before anything runs on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from oracles.llm._examples import UNSCORED

__all__ = ["NOTHING_SCORED", "check_same", "scores_something"]

NOTHING_SCORED = (
    f"no token of the batch is scored: all its `labels` are {UNSCORED}. Were the answers cut off, or empty? Allow more "
    "tokens, cut the prompts instead, or leave such rows out"
)


def scores_something(batch: Any) -> bool:
    """Whether a batch with `labels`, (B, T), has one that is scored. Which losses skip the first column is theirs."""
    labels = batch.get("labels") if isinstance(batch, Mapping) else None
    if not isinstance(labels, torch.Tensor) or labels.dim() != 2 or labels.is_floating_point():
        return True
    return bool((labels != UNSCORED).any())


def check_same(fields: Mapping[str, torch.Tensor]) -> None:
    """Refuse fields of one batch, (B, T) or (B,), that differ in the number of examples or of tokens.

    Raises:
        ValueError: They differ.
    """
    names = list(fields)
    for axis, what in ((0, "examples"), (1, "tokens")):
        sizes = {name: fields[name].shape[axis] for name in names if fields[name].dim() > axis}
        if len(set(sizes.values())) > 1:
            said = ", ".join(f"{name!r} has {size}" for name, size in sizes.items())
            raise ValueError(f"The fields of a batch must have as many {what} each, but {said}.")
