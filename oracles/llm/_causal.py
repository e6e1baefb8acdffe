"""Whether a model predicts each token from those before it alone, which a loss on next tokens needs."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch

__all__ = ["check_causal", "check_generates", "is_encoder_decoder"]

_causal: WeakKeyDictionary[torch.nn.Module, bool] = WeakKeyDictionary()

_OTHER = (
    *("ForMaskedLM", "ForPreTraining", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering"),
    *("ForMultipleChoice", "ForNextSentencePrediction"),
)
"""What the names of transformers' classes end with that score something other than the next token."""


def check_causal(model: Any) -> None:
    """Refuse a model that does not predict the next token.

    Raises:
        ValueError: It has an encoder and a decoder, or sees the tokens after the one that it predicts.
    """
    base = _base_of(model)
    if is_encoder_decoder(model):
        raise ValueError(
            f"`LabelWords` and `Completion` score the next token of a causal language model, but {_named(base)} has an "
            "encoder and a decoder. Use `Generation`, `ZOTrainer`, or a loss of your own that calls "
            "`model(input_ids=..., labels=...)`."
        )
    if not _is_causal(base):
        raise ValueError(
            f"`LabelWords` and `Completion` score the next token of a causal language model, but {_named(base)} sees "
            "the tokens on both sides, its own answer too. Load a causal model (`AutoModelForCausalLM`, with "
            "`is_decoder=True` where its family also has encoders), or give a loss of your own."
        )


def check_generates(model: Any) -> None:
    """Refuse a model that cannot write text.

    Raises:
        ValueError: It has no `generate`, or sees the tokens on both sides.
    """
    base = _base_of(model)
    able = getattr(base, "can_generate", None)
    if not hasattr(model, "generate") or (callable(able) and not able()):
        raise ValueError(f"`Generation` needs a model that writes text, but {_named(base)} has no `generate`.")
    if not is_encoder_decoder(model) and not _is_causal(base):
        raise ValueError(
            f"`Generation` needs a causal model, but {_named(base)} sees the tokens on both sides. Load it with "
            "`is_decoder=True`."
        )


def is_encoder_decoder(model: Any) -> bool:
    """Whether the model reads with an encoder and writes with a decoder."""
    return bool(getattr(getattr(_base_of(model), "config", None), "is_encoder_decoder", False))


def _base_of(model: Any) -> Any:
    model = getattr(model, "_orig_mod", model)
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _is_causal(base: Any) -> bool:
    """False for encoders, which transformers marks in several ways; True where nothing says so."""
    config = getattr(base, "config", None)
    if config is None or not isinstance(base, torch.nn.Module):
        return True
    if base not in _causal:
        marks = [getattr(part, mark) for part in base.modules() for mark in _MARKS if hasattr(part, mark)]
        both = marks and not any(marks) and not getattr(config, "is_decoder", False)
        said = getattr(config, "attn_type", None) == "bi" or getattr(config, "causal", None) is False
        _causal[base] = not (type(base).__name__.endswith(_OTHER) or both or said)
    return _causal[base]


_MARKS = ("is_causal", "is_decoder")
"""Attributes of transformers' attention layers."""


def _named(model: Any) -> str:
    return type(model).__name__
