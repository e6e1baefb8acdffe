"""The loss of a transformers model, one value per example."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import torch
from torch.nn import functional as F

from oracles.llm._examples import UNSCORED

__all__ = ["ModelLoss"]


@final
class ModelLoss:
    """The model's own loss: cross-entropy summed over the labels of an example (tokens or a class), or squared error.

    Divided by the number of labels other than -100, the sum over a batch is the loss that the model computes itself:
    the mean over tokens, not over examples. A causal model predicts each token from the tokens before it.

    Args:
        model: A transformers model, optionally with a peft adapter.
    """

    def __init__(self, model: Any) -> None:
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        config = getattr(base, "config", None)
        self.encodes = bool(getattr(config, "is_encoder_decoder", False))
        self.shifts = not self.encodes and getattr(base, "loss_type", "") not in _IN_PLACE
        problem = getattr(config, "problem_type", None)
        self.regression = problem == "regression" or (problem is None and getattr(config, "num_labels", 2) == 1)

    def __call__(self, model: Any, inputs: Mapping[str, Any]) -> torch.Tensor:
        """The values, (B,).

        Raises:
            ValueError: There are no labels, or the logits do not match them.
        """
        labels = _labels(inputs)
        logits: torch.Tensor = model(**{k: v for k, v in inputs.items() if k != "labels" or self.encodes}).logits
        z = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if self._scores_classes(labels):
            return self._cross_entropy(z, labels)
        if z.numel() != labels.numel():
            raise ValueError(_no_fit(z, labels))
        z, y = z.reshape(len(labels), -1), labels.reshape(len(labels), -1).to(z.dtype)
        distance = F.mse_loss if self.regression else F.binary_cross_entropy_with_logits
        losses: torch.Tensor = distance(z, y, reduction="none")
        return losses.mean(1)

    def _scores_classes(self, labels: torch.Tensor) -> bool:
        return not labels.is_floating_point() and not (self.regression and labels.numel() == len(labels))

    def _cross_entropy(self, z: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if labels.dim() == 2:
            z = z[:, -labels.shape[1] :]  # an adapter may put tokens before the text
            if self.shifts:
                z, labels = z[:, :-1], labels[:, 1:]
        if z.shape[:-1] != labels.shape:
            raise ValueError(_no_fit(z, labels))
        losses: torch.Tensor = F.cross_entropy(
            z.flatten(0, -2), labels.flatten(), reduction="none", ignore_index=UNSCORED
        )
        return losses.view(len(labels), -1).sum(1)

    def counts(self, inputs: Mapping[str, Any]) -> bool:
        """Whether the loss is a mean over the labels that are scored, not over examples."""
        return self._scores_classes(_labels(inputs))

    def weight(self, inputs: Mapping[str, Any]) -> float:
        """The number of labels that are scored."""
        labels = _labels(inputs)
        if not self._scores_classes(labels):
            return len(labels)
        if labels.dim() == 2 and self.shifts:
            labels = labels[:, 1:]
        return int((labels != UNSCORED).sum())


_IN_PLACE = ("ForMaskedLM", "ForTokenClassification")
"""Model classes whose label at t is for position t, not for t + 1."""


def _labels(inputs: Mapping[str, Any]) -> torch.Tensor:
    labels = inputs.get("labels")
    if not isinstance(labels, torch.Tensor):
        raise ValueError(
            f"The batch has no tensor 'labels'; it has {', '.join(map(repr, inputs))}. Add labels to the data, or give "
            "`ZOTrainer(compute_per_example_loss=...)` a loss without them."
        )
    return labels


def _no_fit(z: torch.Tensor, labels: torch.Tensor) -> str:
    return (
        f"Logits of shape {tuple(z.shape)} do not match labels of shape {tuple(labels.shape)}. "
        "Give `ZOTrainer(compute_per_example_loss=...)` a function of (model, inputs)."
    )
