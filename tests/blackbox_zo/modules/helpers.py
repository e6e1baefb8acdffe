"""Tiny models of random weights, and what they give with the displaced parameters written into a copy."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers as hf
from torch import nn

import blackbox_zo as bz
from blackbox_zo.modules import Module
from blackbox_zo.modules._batched import Batched
from blackbox_zo.modules._displaced import Displacements
from blackbox_zo.modules._scratch import Scratch

Make = Callable[[tuple[bz.Block, ...], int, bz.Key], bz.Directions]


def low_rank_three(blocks: tuple[bz.Block, ...], k: int, key: bz.Key) -> bz.LowRank:
    return bz.LowRank(blocks, k, key, rank=3)


def sparse(blocks: tuple[bz.Block, ...], k: int, key: bz.Key) -> bz.Sparse:
    return bz.Sparse(blocks, k, key, sparsity=4)


DIRECTIONS: dict[str, Make] = {
    "lowrank": bz.LowRank,
    "rank three": low_rank_three,
    "rademacher": bz.Rademacher,
    "gaussian": bz.Gaussian,
}
SWEEPS = ("scratch", "batched")

SIZE = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
PLAIN = {"max_position_embeddings": 32, "initializer_range": 0.2, "bos_token_id": None, "eos_token_id": None}
GROUPED = {**SIZE, **PLAIN, "num_key_value_heads": 2, "head_dim": 4, "pad_token_id": 0}


@dataclass(frozen=True)
class Case:
    """A kind of model.

    Attributes:
        make: Makes one in evaluation mode, always of the same weights.
        inputs: A batch for it.
        run: From model and batch to a tensor with the examples along its first axis.
        stacks: Whether it can run stacked.
        by_factors: Whether only under directions of low rank.
    """

    make: Callable[[], Any]
    inputs: Callable[[], Any]
    run: Callable[[Any, Any], torch.Tensor]
    stacks: bool = True
    by_factors: bool = False


def text(mask: bool = True, size: int = 3) -> dict[str, torch.Tensor]:
    """Token ids, (size, 6), padded on the left."""
    ids = torch.randint(1, 40, (size, 6), generator=torch.Generator().manual_seed(1))
    if not mask:
        return {"input_ids": ids}
    padded = torch.ones_like(ids)
    for row in range(size):
        padded[row, : row % 3] = 0
    return {"input_ids": ids * padded, "attention_mask": padded}


def pairs() -> dict[str, torch.Tensor]:
    """For a model from text to text."""
    return {**text(), "labels": text(mask=False)["input_ids"][:, :4].contiguous()}


def numbers(*shape: int) -> Callable[[], torch.Tensor]:
    """A batch of normals."""
    return lambda: torch.randn(shape, generator=torch.Generator().manual_seed(1))


def made(build: Callable[[], Any]) -> Callable[[], Any]:
    """The same weights each time, in evaluation mode; biases and norms are made other than 0 and 1."""

    def make() -> Any:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = build().eval()
            with torch.no_grad():
                for p in model.parameters():
                    if p.dim() < 2:
                        p += 0.1 * torch.randn_like(p)
        return model

    return make


def of(kind: str, config: str, **options: Any) -> Callable[[], Any]:
    """A transformer by the names of its classes."""
    return made(lambda: getattr(hf, kind)(getattr(hf, config)(**options)))


def logits(model: Any, inputs: Any) -> torch.Tensor:
    return model(**inputs).logits  # type: ignore[no-any-return]


def hidden(model: Any, inputs: Any) -> torch.Tensor:
    return model(**inputs).last_hidden_state  # type: ignore[no-any-return]


def output(model: Any, inputs: Any) -> torch.Tensor:
    return model(inputs)  # type: ignore[no-any-return]


GPT2 = {"vocab_size": 40, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 32, "initializer_range": 0.2}
T5 = {
    "vocab_size": 40, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4,
    "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": None, "initializer_factor": 1.0,
}  # fmt: skip
BLOOM = {"vocab_size": 40, "hidden_size": 16, "n_layer": 2, "n_head": 4, "initializer_range": 0.2}
MIXTRAL = {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2}
GEMMA3 = {**GROUPED, "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 4}

LANGUAGE = {
    "llama": Case(of("LlamaForCausalLM", "LlamaConfig", **GROUPED), text, logits),
    "llama tied": Case(of("LlamaForCausalLM", "LlamaConfig", **GROUPED, tie_word_embeddings=True), text, logits),
    "gpt2": Case(of("GPT2LMHeadModel", "GPT2Config", **GPT2, bos_token_id=0, eos_token_id=0), text, logits),
    "opt": Case(of("OPTForCausalLM", "OPTConfig", **SIZE | PLAIN, ffn_dim=24, init_std=0.2), text, logits),
    "gemma": Case(of("GemmaForCausalLM", "GemmaConfig", **GROUPED), text, logits),
    "gemma3": Case(of("Gemma3ForCausalLM", "Gemma3TextConfig", **GEMMA3), text, logits),
    "qwen2": Case(of("Qwen2ForCausalLM", "Qwen2Config", **GROUPED), text, logits),
    "qwen3": Case(of("Qwen3ForCausalLM", "Qwen3Config", **GROUPED), text, logits),
    "mistral": Case(of("MistralForCausalLM", "MistralConfig", **GROUPED), text, logits),
    "phi": Case(of("PhiForCausalLM", "PhiConfig", **SIZE | PLAIN), text, logits),
    "neox": Case(of("GPTNeoXForCausalLM", "GPTNeoXConfig", **SIZE | PLAIN), text, logits),
    "bloom": Case(of("BloomForCausalLM", "BloomConfig", **BLOOM), text, logits),
    "falcon": Case(of("FalconForCausalLM", "FalconConfig", **SIZE | PLAIN), text, logits),
    "mixtral": Case(of("MixtralForCausalLM", "MixtralConfig", **MIXTRAL), text, logits, by_factors=True),
    "t5": Case(of("T5ForConditionalGeneration", "T5Config", **T5), pairs, logits),
    "bert": Case(of("BertModel", "BertConfig", **SIZE, initializer_range=0.2), text, hidden),
}


class Recurrent(nn.Module):
    """An LSTM and a linear map of its last output."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.last = nn.LSTM(6, 8, num_layers=2, batch_first=True), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.lstm(x)[0][:, -1])  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Torch's own attention of a sequence to itself."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attention(x, x, x, need_weights=False)[0]  # type: ignore[no-any-return]


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.Linear(16, 16, bias=False), nn.ReLU(), nn.Linear(16, 3))


def cnn() -> nn.Module:
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.GroupNorm(2, 4), nn.Conv2d(4, 6, 3, padding=1),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 3),
    )  # fmt: skip
    net.register_buffer("unused", torch.ones(2))
    return net


OTHER = {
    "mlp": Case(made(mlp), numbers(3, 6), output),
    "cnn": Case(made(cnn), numbers(3, 2, 6, 6), output),
    "lstm": Case(made(Recurrent), numbers(3, 5, 6), output, stacks=False),
    "attention": Case(made(Attention), numbers(3, 5, 8), output, stacks=False),
    "encoder layer": Case(
        made(lambda: nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)), numbers(3, 5, 8), output, stacks=False
    ),
}
CASES = LANGUAGE | OTHER


def queries_of(module: Module, make: Make, radius: float = 0.05, seed: int = 3) -> bz.Queries:
    """Two pairs along two directions, and x itself."""
    directions = make(module.blocks, 2, bz.Key(seed, 0))
    scale = radius * np.array([1.0, -1.0, 1.0, -1.0, 0.0])
    return bz.Queries(directions, np.array([0, 0, 1, 1, 0]), scale, module.version)


@torch.no_grad()
def written(module: Module, queries: bz.Queries, i: int) -> Any:
    """A copy of the model with `x + C U` of one query written into it."""
    model, own = copy.deepcopy((module.model, module.parameters))
    j, c = int(queries.index[i]), float(queries.scale[i])
    for block in module.blocks:
        u = torch.from_numpy(queries.directions.part(block, j, 0, block.size)).view(block.shape)
        unit = module.units[block.name]
        mask = module.masks.get(block.name)
        p = own[block.name]
        if mask is not None:
            u = u * mask(p.detach().reshape(-1), 0).view(block.shape)
        p.copy_((p.double() + c * unit * u).to(p.dtype))
    return model


@torch.no_grad()
def reference(case: Case, module: Module, queries: bz.Queries, inputs: Any) -> torch.Tensor:
    """What each query's model gives, shape (n, …)."""
    return torch.stack([case.run(written(module, queries, i), inputs) for i in range(queries.n)])


@torch.no_grad()
def swept(case: Case, module: Module, queries: bz.Queries, inputs: Any, sweep: str) -> torch.Tensor:
    """The same by a sweep, shape (n, …)."""
    displacements = Displacements(module, queries)
    if sweep == "scratch":
        outs = []
        for i in range(queries.n):
            with Scratch(displacements, i):
                outs.append(case.run(module.model, inputs))
        return torch.stack(outs)
    size = (inputs if isinstance(inputs, torch.Tensor) else next(iter(inputs.values()))).shape[0]
    mode = Batched(displacements, size)
    stacked = mode.stack(inputs, torch.arange(size).repeat(queries.n), size)
    with mode:
        out = case.run(module.model, stacked)
    return out.view(queries.n, size, *out.shape[1:])


def assert_exact(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 3e-6, effect: float = 1e-2) -> None:
    """The queries' outputs are the reference's, and far enough from that of the last query, x itself, to matter."""
    size = float(expected.abs().max())
    away = float((found - expected).abs().max())
    moved = (expected[:-1] - expected[-1]).flatten(1).abs().amax(1)
    assert float(moved.min()) > effect * size, f"the effect is {float(moved.min()):.1e} of {size:.1e}"
    assert away <= tolerance * max(size, 1.0), f"{away:.1e} away, effect {float(moved.min()):.1e}, size {size:.1e}"
