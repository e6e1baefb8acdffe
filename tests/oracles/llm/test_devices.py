"""Batches go where the model is. The device "meta" stands for a card: it is another device, and is everywhere."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from transformers import BatchEncoding

from blackbox_zo._typing import override
from oracles.llm import Accuracy, Completion, Generation, LabelWords, LossOracle, exact_match
from oracles.llm._evaluate import Evaluator
from oracles.llm._features import is_faithful
from oracles.llm._passes import is_out_of_memory, on_device_of

Pair = namedtuple("Pair", "x y")


class Far(nn.Module):
    """A model on another device."""

    @override
    def parameters(self, recurse: bool = True) -> Iterator[Any]:
        yield SimpleNamespace(device=torch.device("meta"), is_meta=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def generate(self, **inputs: Any) -> torch.Tensor:
        return inputs["input_ids"]  # type: ignore[no-any-return]


def batch() -> dict[str, Any]:
    return {"x": torch.ones(2, 3), "deep": [(torch.ones(2), "a"), Pair(torch.ones(2), 1)], "reference": ["a", "b"]}


def test_tensors_move_and_the_rest_stays() -> None:
    moved = on_device_of(Far(), batch())
    (one, letter), pair = moved["deep"]
    assert moved["x"].is_meta and one.is_meta and pair.x.is_meta
    assert (letter, type(pair), pair.y, moved["reference"]) == ("a", Pair, 1, ["a", "b"])
    encoded = on_device_of(Far(), BatchEncoding({"x": torch.ones(2)}))
    assert isinstance(encoded, BatchEncoding) and encoded["x"].is_meta


def test_a_batch_stays_where_it_is_if_the_model_is_on_the_cpu_or_it_is_elsewhere_already() -> None:
    given, elsewhere = batch(), torch.ones(2, device="meta")
    assert on_device_of(nn.Linear(1, 1), given) is given
    assert on_device_of(nn.Linear(1, 1, device="meta"), given) is given  # weights that are not loaded say nothing
    assert on_device_of(Far(), {"x": elsewhere})["x"] is elsewhere


def test_an_oracle_and_an_evaluation_ask_on_the_models_device() -> None:
    seen = []

    def loss(model: Any, batch: Any) -> torch.Tensor:
        seen.append(batch["x"].device.type)
        return torch.zeros(2)

    assert LossOracle(Far(), [batch()], loss, reuse=False).batch(3)["x"].is_meta
    assert LossOracle(Far(), lambda step: batch(), loss, reuse=False).batch(3)["x"].is_meta
    assert Evaluator(Far(), [batch()], {"loss": loss})() == {"loss": 0.0}
    assert seen == ["meta"]


def test_losses_move_a_batch_when_they_are_called_alone() -> None:
    """The first look at a value fails then, since "meta" has none."""
    ones = torch.ones(2, 3, dtype=torch.long)
    given = {"input_ids": ones, "attention_mask": ones, "labels": ones, "label": ones[:, 0] * 0}
    words = LabelWords((1, 2))
    for call in (words, words.measures, words.scores, words.predict, Accuracy(words), Completion(), texts):
        with pytest.raises((NotImplementedError, RuntimeError), match="meta"):
            call(Far(), given)


def texts(model: Any, batch: Any) -> Any:
    return Generation(None, exact_match).texts(model, batch)


@pytest.mark.parametrize("text", ["CUDA out of memory.", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `x`"])
def test_words_for_a_full_card(text: str) -> None:
    assert is_out_of_memory(RuntimeError(text)) and not is_out_of_memory(ValueError(text))


@pytest.mark.parametrize(("dtype", "usable"), [(torch.float32, False), (torch.bfloat16, True)], ids=str)
def test_features_of_a_16_bit_model_may_differ_by_its_rounding(dtype: torch.dtype, usable: bool) -> None:
    from oracles.llm._features import Features, Trunk

    class Stack(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for layer in self.layers:
                x = layer(x)
            return x

    torch.manual_seed(0)
    model = Stack().to(dtype)
    x = torch.randn(2, 3).to(dtype)

    def loss(model: Any, batch: Any) -> torch.Tensor:
        return 10.0 + model(batch["x"]).float().sum(1)  # type: ignore[no-any-return]

    hidden = model.layers[0](x).detach()
    features = Features(Trunk(model), 1, hidden * 1.004)
    assert is_faithful(features, model, loss, {"x": x}) is usable
    assert not is_faithful(Features(Trunk(model), 1, hidden * 3.0), model, loss, {"x": x})
