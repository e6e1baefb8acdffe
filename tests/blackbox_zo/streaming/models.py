"""Small models of several kinds in folders, and runs over them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import blackbox_zo as bz
from oracles.llm import LossOracle

transformers: Any = pytest.importorskip("transformers", reason="needs transformers: pip install blackbox-zo[llm]")

V = 128
SIZES = {"vocab_size": V, "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 96}


def _causal(model: Any, batch: Any) -> torch.Tensor:
    ids = batch["input_ids"]
    z = model(input_ids=ids).logits.float()[:, :-1]
    losses: torch.Tensor = torch.nn.functional.cross_entropy(z.transpose(1, 2), ids[:, 1:], reduction="none")
    return losses.mean(1)


def _to_sequence(model: Any, batch: Any) -> torch.Tensor:
    ids = batch["input_ids"]
    z = model(input_ids=ids, decoder_input_ids=ids).logits.float()
    losses: torch.Tensor = torch.nn.functional.cross_entropy(z.transpose(1, 2), ids, reduction="none")
    return losses.mean(1)


def _first_class(model: Any, batch: Any) -> torch.Tensor:
    z: torch.Tensor = model(input_ids=batch["input_ids"]).logits.float()
    return z.logsumexp(-1) - z[:, 0]


def _llama(**more: Any) -> Any:
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES, num_key_value_heads=2, **more))


MODELS: dict[str, tuple[Callable[[], Any], Callable[..., Any]]] = {
    "llama": (_llama, _causal),
    "llama tied": (lambda: _llama(tie_word_embeddings=True), _causal),
    "opt": (lambda: transformers.OPTForCausalLM(transformers.OPTConfig(
        vocab_size=V, hidden_size=64, ffn_dim=96, num_hidden_layers=3, num_attention_heads=4, word_embed_proj_dim=64,
        max_position_embeddings=64, dropout=0.0)), _causal),
    "gpt2": (lambda: transformers.GPT2LMHeadModel(transformers.GPT2Config(
        vocab_size=V, n_embd=64, n_layer=3, n_head=4, n_positions=64, bos_token_id=0, eos_token_id=0)), _causal),
    "gpt-neox, renamed weights": (
        lambda: transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(**SIZES)), _causal),
    "mixtral, stacked experts": (
        lambda: transformers.MixtralForCausalLM(transformers.MixtralConfig(
            **SIZES, num_key_value_heads=2, num_local_experts=4)), _causal),
    "t5, two stacks": (lambda: transformers.T5ForConditionalGeneration(transformers.T5Config(
        vocab_size=V, d_model=64, d_kv=16, d_ff=96, num_layers=3, num_heads=4)), _to_sequence),
    "bert, no language model": (
        lambda: transformers.BertForSequenceClassification(transformers.BertConfig(**SIZES)), _first_class),
    "mamba": (lambda: transformers.MambaForCausalLM(transformers.MambaConfig(
        vocab_size=V, hidden_size=64, num_hidden_layers=3, state_size=8)), _causal),
}  # fmt: skip


def saved(name: str, folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    """A folder with a model of random weights."""
    torch.manual_seed(0)
    MODELS[name][0]().to(dtype).save_pretrained(folder)
    return folder


def loaded(name: str, folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """The model of a folder, in memory."""
    return type(MODELS[name][0]()).from_pretrained(folder, dtype=dtype).eval()


def search_of(
    name: str, x: bz.Module, estimator: bz.Estimator, journal: Any = None, rule: bz.Rule | None = None
) -> tuple[bz.Search, LossOracle]:
    """A search over a model, with two different batches of rows that take three passes each."""
    generator = torch.Generator().manual_seed(1)
    batches = [{"input_ids": torch.randint(1, V, (6, 10 + i), generator=generator)} for i in range(2)]
    oracle = LossOracle(x.model, batches, MODELS[name][1], micro_batch=5)
    return bz.Search(x, estimator, rule or bz.SGD(1e-3), seed=3, journal=journal), oracle


def values_of(name: str, x: bz.Module, estimator: bz.Estimator, steps: int, **more: Any) -> list[float]:
    """The mean value of each step of a run, until the variable has made so many moves in all."""
    search, oracle = search_of(name, x, estimator, **more)
    with search:
        return [report.value for report in search.run(oracle, steps=steps - search.moves)]


def same_weights(x: bz.StreamedModule, model: Any) -> bool:
    """Whether all weights are the same bits."""
    want = dict(model.named_parameters())
    return all(torch.equal(p, want.pop(name)) for name, p in x.whole()) and not want
