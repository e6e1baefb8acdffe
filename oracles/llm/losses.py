"""Losses of a causal language model on a batch, one value per example: lower is better.

A batch is a dict of tensors and lists with the B examples along the first axis. Each value depends on its own example
only, so batches may be stacked, and examples padded on either side. Tensors on the CPU are moved to the model's device.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import torch

from blackbox_zo._checks import check_choice
from oracles.llm._batches import check_same
from oracles.llm._causal import check_causal
from oracles.llm._examples import UNSCORED
from oracles.llm._generation import Generation as Generation
from oracles.llm._generation import exact_match as exact_match
from oracles.llm._generation import f1 as f1
from oracles.llm._head import scores_of
from oracles.llm._passes import on_device_of
from oracles.llm._reward import Reward as Reward

__all__ = ["Accuracy", "Completion", "Generation", "LabelWords", "Reward", "exact_match", "f1"]


@final
@dataclass(frozen=True)
class LabelWords:
    """Classification with one word per class: cross-entropy of the right word as the next token after the text.

    `-log softmax(z)[right]`, z the logits of the next token. If the model allows it, only these logits are computed.

    A batch has `input_ids` and `attention_mask`, (B, T), and `label`, (B,), the index of the right class.

    Args:
        token_ids: The token of each class's word.
        over: The softmax is over the whole "vocabulary", or over the "labels" only; the other logits are then not
            computed, so a large vocabulary costs nothing.

    Raises:
        ValueError: There are fewer than two tokens, or two are the same.
    """

    token_ids: tuple[int, ...]
    over: str = "vocabulary"

    def __post_init__(self) -> None:
        check_choice("LabelWords", ("vocabulary", "labels"), over=self.over)
        object.__setattr__(self, "token_ids", tuple(int(token) for token in self.token_ids))
        if len(self.token_ids) < 2 or len(set(self.token_ids)) < len(self.token_ids) or min(self.token_ids) < 0:
            raise ValueError(f"`LabelWords(token_ids=...)` must be two or more distinct tokens, got {self.token_ids}.")

    def __call__(self, model: Any, batch: Mapping[str, Any]) -> torch.Tensor:
        """The losses, (B,).

        Raises:
            ValueError: A label is out of range, an example has no tokens, the batch lacks a field, or the model is no
                causal language model.
        """
        return self._loss_and_scores(model, batch)[0]

    def _loss_and_scores(self, model: Any, batch: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        batch = on_device_of(model, batch)
        label = _labels(batch, len(self.token_ids))
        if self.over == "labels":
            scores = self.scores(model, batch)
            return _cross_entropy(scores, label), scores
        z = _next_token(model, batch)
        words = torch.tensor(self.token_ids, device=z.device)
        return _cross_entropy(z, words[label]), z.index_select(-1, words)

    def measures(self, model: Any, batch: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """`loss` and `accuracy`, (B,) each. Accuracy is 1 or 0, or NaN if the loss is not finite."""
        batch = on_device_of(model, batch)
        loss, scores = self._loss_and_scores(model, batch)
        right = scores.argmax(-1) == batch["label"]
        return {"loss": loss, "accuracy": torch.where(loss.isfinite(), right.float(), torch.nan)}

    def last_tokens(self, model: Any, batch: Mapping[str, Any]) -> int | None:
        """Number of last columns of `input_ids` that contain the last token of every example; None if unknown."""
        if _places_itself(model):
            return None
        mask = _field(batch, "attention_mask")
        return mask.shape[1] - int(_ends(mask).min()) + 1

    def scores(self, model: Any, batch: Mapping[str, Any]) -> torch.Tensor:
        """The logits of the classes' words, (B, number of classes). `label` is not needed."""
        batch = on_device_of(model, batch)
        return scores_of(model, self.token_ids, lambda: _next_token(model, batch))

    def predict(self, model: Any, batch: Mapping[str, Any]) -> torch.Tensor:
        """The index of the most likely class, (B,). `label` is not needed."""
        return self.scores(model, batch).argmax(-1)


@final
@dataclass(frozen=True)
class Accuracy:
    """0 where `LabelWords` predicts the right class, 1 where it does not: its mean is 1 - accuracy.

    Args:
        words: The loss with the words of the classes.
    """

    words: LabelWords

    def __call__(self, model: Any, batch: Mapping[str, Any]) -> torch.Tensor:
        """The losses, (B,). Raises the same errors as `LabelWords`."""
        batch = on_device_of(model, batch)
        label = _labels(batch, len(self.words.token_ids))
        return (self.words.predict(model, batch) != label).float()

    def last_tokens(self, model: Any, batch: Mapping[str, Any]) -> int | None:
        """Number of last columns that the loss needs, as in `LabelWords.last_tokens`."""
        return self.words.last_tokens(model, batch)


@final
@dataclass(frozen=True)
class Completion:
    """Cross-entropy of chosen tokens, such as an answer, or of a whole text, averaged over the scored tokens.

    A batch has `input_ids`, `attention_mask` and `labels`, (B, T). The label at t is the token at t, predicted from the
    tokens before it, or -100 if it is not scored. The first token of a text is never scored. An example without a
    scored token counts as no loss: its value is 0, whatever the weights, and a warning says so.
    """

    def __call__(self, model: Any, batch: Mapping[str, Any]) -> torch.Tensor:
        """The losses, (B,).

        Raises:
            ValueError: The batch lacks a field, its fields differ in length, or the model is no causal language model.
        """
        ids, mask, labels = _fields(model, on_device_of(model, batch), "input_ids", "attention_mask", "labels")
        targets = labels[:, 1:]
        counted = (targets != UNSCORED) & (mask[:, :-1] == 1)
        first = _first(counted)
        z = _logits(model, ids[:, :-1], mask[:, :-1], counted.shape[1] - first)
        targets, counted = targets[:, first:], counted[:, first:]
        losses = _cross_entropy(z, targets.clamp(min=0))
        return torch.where(counted, losses, 0.0).sum(1) / counted.sum(1).clamp(min=1)


def next_tokens(model: Any, batch: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """The logits of every token but the first of each text, (tokens, V), and these tokens, (tokens,)."""
    ids, mask = _fields(model, batch, "input_ids", "attention_mask")
    z = _logits(model, ids[:, :-1], mask[:, :-1], ids.shape[1] - 1)
    scored = (mask[:, :-1] == 1) & (mask[:, 1:] == 1)
    return z[scored], ids[:, 1:][scored]


def _first(counted: torch.Tensor) -> int:
    """The first column of (B, T) in which any example has a scored token; the last one if there is none."""
    width = counted.shape[1]
    if not width:
        raise ValueError("Every example of the batch has one token; `Completion` needs a second one, to score.")
    columns = torch.arange(width, device=counted.device)
    starts = torch.where(counted, columns, width).amin(1).tolist()
    if width in starts:
        warnings.warn(
            f"An example has no scored token: its `labels` are {UNSCORED} everywhere after its first token. It counts "
            "as no loss. Was its answer cut off, or empty? Allow more tokens, cut the prompt instead, or leave it out.",
            stacklevel=3,
        )
    return int(min([*starts, width - 1]))


def _next_token(model: Any, batch: Mapping[str, Any]) -> torch.Tensor:
    """The logits of the token after each text, (B, V)."""
    ids, mask = _fields(model, batch, "input_ids", "attention_mask")
    width, ends = ids.shape[1], _ends(mask)
    first = min(ends.tolist())
    if first == 0:
        raise ValueError(f"Example {ends.tolist().index(0)} of the batch has no tokens; its `attention_mask` is all 0.")
    z = _logits(model, ids, mask, width - first + 1)
    if z.shape[1] == 1:
        return z[:, 0]
    return z.take_along_dim((ends - first)[:, None, None], 1)[:, 0]


def _ends(mask: torch.Tensor) -> torch.Tensor:
    """The number of columns up to the last token of each example, (B,)."""
    return (mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)).amax(1)


def _logits(model: Any, ids: torch.Tensor, mask: torch.Tensor, keep: int) -> torch.Tensor:
    """The logits at the last `keep` columns, (B, keep, V), in fp32 or better."""
    check_causal(model)
    accepted, inputs = _accepted(model), {"input_ids": ids.contiguous(), "attention_mask": mask.contiguous()}
    if "position_ids" in accepted and not _places_itself(model):
        inputs["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)  # positions must not count the padding
    settings = {"use_cache": False, "logits_to_keep": keep}
    z = model(**inputs, **{name: value for name, value in settings.items() if name in accepted}).logits
    return z[:, -keep:].to(torch.promote_types(z.dtype, torch.float32))  # type: ignore[no-any-return]


def _accepted(model: Any) -> Mapping[str, inspect.Parameter]:
    """The arguments of the model's forward; of the wrapped model, if it is compiled or has a peft adapter."""
    model = getattr(model, "_orig_mod", model)
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return inspect.signature(base.forward).parameters


def _places_itself(model: Any) -> bool:
    """Whether peft puts its own tokens before the text and refuses position ids (prefix tuning only shifts them)."""
    config = getattr(getattr(model, "_orig_mod", model), "active_peft_config", None)
    return config is not None and config.is_prompt_learning and "PREFIX" not in str(config.peft_type)


def _cross_entropy(z: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """`-log softmax(z)[right]` over the last axis."""
    return z.logsumexp(-1) - z.gather(-1, right[..., None])[..., 0]


def _labels(batch: Mapping[str, Any], classes: int) -> torch.Tensor:
    label = _field(batch, "label")
    if label.numel() and not 0 <= int(label.min()) <= int(label.max()) < classes:
        raise ValueError(f"`batch['label']` must be from 0 to {classes - 1}, got {label.tolist()!r:.80}.")
    return label


def _fields(model: Any, batch: Mapping[str, Any], *names: str) -> list[torch.Tensor]:
    """Fields of (B, T). If the model puts tokens before the text, padding moves to the right, not between the two."""
    fields = [_field(batch, name) for name in names]
    check_same(dict(zip(names, fields, strict=True)))
    if not _places_itself(model):
        return fields
    order = _field(batch, "attention_mask").argsort(dim=1, descending=True, stable=True)
    return [field.gather(1, order) for field in fields]


def _field(batch: Mapping[str, Any], name: str) -> torch.Tensor:
    if name not in batch:
        raise ValueError(f"The batch has no {name!r}, which this loss needs; it has {', '.join(map(repr, batch))}.")
    value: torch.Tensor = batch[name]
    return value
