"""Losses on models with encoders: the text that they write is scored; next tokens are asked of causal ones alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    BartConfig,
    BartForCausalLM,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    BertLMHeadModel,
    DebertaV2Config,
    DebertaV2ForMaskedLM,
    RemBertConfig,
    RemBertForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

import blackbox_zo as bz
from oracles.llm import Accuracy, Completion, Generation, LabelWords, LossOracle, exact_match
from tests.oracles.llm.helpers import VOCABULARY, gpt2, llama, padded, tokenizer

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # by peft

ROWS = [[5, 6, 7, 8, 9], [10, 11], [12, 13, 14, 15, 16, 17, 18]]
SIZES: Any = {
    "vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 16,
}  # fmt: skip


def t5() -> Any:
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=VOCABULARY, d_model=16, d_kv=4, d_ff=24, num_layers=1, num_heads=4, initializer_factor=8.0,
        pad_token_id=0, eos_token_id=None,
    )  # fmt: skip
    config.decoder_start_token_id = 0
    made: Any = T5ForConditionalGeneration(config)
    return made.eval()


def bart(start: int = 7) -> Any:
    """Its start token is a word, which is no part of the text all the same."""
    torch.manual_seed(0)
    config = BartConfig(
        vocab_size=VOCABULARY, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, pad_token_id=1, bos_token_id=0,
        eos_token_id=0, decoder_start_token_id=start, forced_eos_token_id=None, init_std=0.5,
    )  # fmt: skip
    made: Any = BartForConditionalGeneration(config)
    return made.eval()


def written(model: Any, row: list[int], count: int) -> list[int]:
    """The most likely tokens one by one, from the row alone."""
    out = [model.config.decoder_start_token_id]
    for _ in range(count):
        with torch.no_grad():
            z = model(input_ids=torch.tensor([row]), decoder_input_ids=torch.tensor([out])).logits[0, -1]
        out.append(int(z.argmax()))
        if out[-1] == model.config.eos_token_id:
            break
    return out[1:]


def batch_of(side: str) -> dict[str, Any]:
    ids, mask = padded(ROWS, side)
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("make", [t5, bart])
def test_an_encoder_decoder_model_writes_from_its_start_token(make: Any, side: str) -> None:
    model, words = make(), tokenizer()
    texts = [words.decode(written(model, row, 6), skip_special_tokens=True).strip() for row in ROWS]
    assert all(texts) and len(set(texts)) > 1
    batch = batch_of(side)
    loss = Generation(words, exact_match, 6)
    assert loss.texts(model, batch) == texts
    assert loss(model, {**batch, "reference": texts}).tolist() == [0.0] * 3
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q"] if make is t5 else ["q_proj"]))
    assert Generation(words, exact_match, 6).texts(adapted, batch) == texts


def test_its_text_can_be_the_objective_of_a_search() -> None:
    model, words = t5(), tokenizer()
    batch = {**batch_of("right"), "reference": ["a", "b", "c"]}
    loss = Generation(words, lambda text, _: min(len(text), 20) / 20, 4)
    oracle = LossOracle(model, [batch], loss, "scratch")
    report = next(iter(bz.Search(bz.Module(model), bz.RandomVector(0.5), bz.SGD(0.1)).run(oracle, steps=1)))
    assert 0 <= report.value < 1  # an empty text would be 1


def bert(kind: Any, **more: Any) -> Any:
    torch.manual_seed(0)
    return kind(BertConfig(**SIZES, **more)).eval()


def bidirectional() -> dict[str, Any]:
    rembert: Any = RemBertForCausalLM(RemBertConfig(**SIZES, input_embedding_size=16))
    return {
        "BertForMaskedLM": bert(BertForMaskedLM),
        "BertLMHeadModel": bert(BertLMHeadModel),
        "DebertaV2ForMaskedLM": DebertaV2ForMaskedLM(DebertaV2Config(**SIZES)),
        "RemBertForCausalLM": rembert.eval(),
    }


WORDS = LabelWords((40, 41))
SCORED = {**batch_of("left"), "label": torch.tensor([0, 1, 1]), "labels": batch_of("left")["input_ids"]}


@pytest.mark.parametrize("loss", [WORDS, LabelWords((40, 41), "labels"), Accuracy(WORDS), Completion()])
def test_next_tokens_are_asked_of_causal_models_alone(loss: Any) -> None:
    for name, model in bidirectional().items():
        with pytest.raises(ValueError, match=f"{name} sees the tokens on both sides"):
            loss(model, SCORED)
    for model, name in ((t5(), "T5ForConditionalGeneration"), (bart(), "BartForConditionalGeneration")):
        with pytest.raises(ValueError, match=f"but {name} has an encoder and a decoder"):
            loss(model, SCORED)
    decoder: Any = BartForCausalLM(bart().config)
    for model in (llama(), gpt2(), decoder.eval(), bert(BertLMHeadModel, is_decoder=True)):
        assert loss(model, SCORED).shape == (3,)


def test_a_model_that_cannot_write_says_so() -> None:
    batch, loss = batch_of("left"), Generation(tokenizer(), exact_match, 2)
    models = bidirectional()
    with pytest.raises(ValueError, match="BertForMaskedLM has no `generate`"):
        loss.texts(models["BertForMaskedLM"], batch)
    with pytest.raises(ValueError, match="BertLMHeadModel sees the tokens on both sides"):
        loss.texts(models["BertLMHeadModel"], batch)
    with pytest.raises(ValueError, match="Linear has no `generate`"):
        loss.texts(torch.nn.Linear(2, 2), batch)
