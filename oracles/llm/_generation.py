"""`Generation`: generate text greedily and score it."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch

from blackbox_zo._checks import check_at_least
from oracles.llm._causal import check_generates, is_encoder_decoder
from oracles.llm._passes import on_device_of
from oracles.llm._prompts import past_of
from oracles.llm._tokens import pad_token

__all__ = ["Generation", "exact_match", "f1"]


@final
@dataclass(frozen=True)
class Generation:
    """1 - score of the text that the model generates greedily after each prompt.

    A causal model goes on with the prompt; an encoder-decoder model reads it, and writes from its start token.

    A batch has `input_ids` and `attention_mask`, (B, T), and `reference`, a list of B. The prompts of a causal model
    are padded on the left.

    Args:
        tokenizer: Decodes the new tokens; special tokens and surrounding white space are removed.
        score: A function of (text, reference), higher is better, such as `f1` or `exact_match`.
        max_new_tokens: Maximum number of generated tokens.
        stop: The text is cut before the first occurrence of this string, such as a line break. None: the text ends
            only at the model's end-of-text token.

    Raises:
        ValueError: `max_new_tokens` is not positive, or `stop` is empty.
    """

    tokenizer: Any
    score: Callable[[str, Any], float]
    max_new_tokens: int = 8
    stop: str | None = None

    generates: ClassVar[bool] = True
    """The layers run once a token, so their output cannot be reused; prompts can (see `SharedPrompts`)."""

    def __post_init__(self) -> None:
        check_at_least("Generation", 1, max_new_tokens=self.max_new_tokens)
        if self.stop == "":
            raise ValueError("`Generation(stop='')` is empty; give the text to stop at, or None.")

    def __call__(self, model: Any, batch: Mapping[str, Any]) -> torch.Tensor:
        """The losses, (B,).

        Raises:
            ValueError: The prompts of a causal model are padded on the right, the batch lacks `reference`, or has not B
                references, or the model cannot write text.
            RuntimeError: The score failed; the message quotes the text.
        """
        references = batch.get("reference")
        if references is None or len(references) != len(batch["input_ids"]):
            have = "none" if references is None else str(len(references))
            raise ValueError(
                f"`batch['reference']` must hold {len(batch['input_ids'])} references, but there are {have}."
            )
        losses = [1.0 - self._scored(*pair) for pair in zip(self.texts(model, batch), references, strict=True)]
        return torch.tensor(losses, device=batch["input_ids"].device)

    def texts(self, model: Any, batch: Mapping[str, Any], **more: Any) -> list[str]:
        """The generated text after each prompt; `more` goes to `model.generate`."""
        check_generates(model)
        batch = on_device_of(model, batch)
        ids, mask, encodes = batch["input_ids"], batch["attention_mask"], is_encoder_decoder(model)
        if not encodes and not bool((mask[:, -1] == 1).all()):
            raise ValueError("`Generation` appends to the last column, so prompts must be padded on the left.")
        if encodes:  # places count from the left, so the padding goes to the right
            order = mask.argsort(dim=1, descending=True, stable=True)
            ids, mask = ids.gather(1, order), mask.gather(1, order)
        new = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=self.max_new_tokens,
            do_sample=False,
            use_cache=True,
            pad_token_id=pad_token(self.tokenizer),
            **past_of(batch),
            **more,
        )
        new = new[:, 1 if encodes else ids.shape[1] :]  # after the decoder's start token, or after the prompt
        return [self._cut(self.tokenizer.decode(row, skip_special_tokens=True)) for row in new.tolist()]

    def _cut(self, text: str) -> str:
        return (text if self.stop is None else text.partition(self.stop)[0]).strip()

    def _scored(self, text: str, reference: Any) -> float:
        try:
            return float(self.score(text, reference))
        except Exception as error:
            raise RuntimeError(
                f"`Generation(score=...)` failed on the text {text!r} with reference {reference!r:.200}: "
                f"{type(error).__name__}: {error}"
            ) from error


def exact_match(text: str, reference: str | list[str]) -> float:
    """1 if the text equals the reference, or one of several, else 0.

    As in SQuAD, texts are compared in lower case, without punctuation, articles and repeated white space
    (Rajpurkar et al. 2016).

    Raises:
        ValueError: There is no reference.
    """
    return max(float(_words(text) == _words(one)) for one in _several(reference))


def f1(text: str, reference: str | list[str]) -> float:
    """Harmonic mean of word precision and recall; the maximum over several references.

    Words are normalised as in `exact_match`. Two texts without words score 1.

    Raises:
        ValueError: There is no reference.
    """
    return max(_overlap(_words(text), _words(one)) for one in _several(reference))


def _overlap(a: list[str], b: list[str]) -> float:
    if not a or not b:
        return float(a == b)
    common = sum((Counter(a) & Counter(b)).values())
    return 2.0 * common / (len(a) + len(b))


def _words(text: str) -> list[str]:
    plain = text.lower().translate(str.maketrans("", "", string.punctuation))
    return re.sub(r"\b(a|an|the)\b", " ", plain).split()


def _several(reference: str | list[str]) -> list[str]:
    several = [reference] if isinstance(reference, str) else list(reference)
    if not several:
        raise ValueError("The list of references is empty; give at least one.")
    return several
