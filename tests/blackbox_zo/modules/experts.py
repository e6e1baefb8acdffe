"""Tiny mixtures of experts of many families."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import blackbox_zo as bz

from .helpers import GROUPED, PLAIN, SIZE, T5, Case, Make, logits, made, numbers, of, output, pairs, text

__all__ = ["ALONE", "IMPLEMENTED", "MIXTURES", "OWN", "RANKS", "low_rank_four", "made_by"]

IMPLEMENTATIONS = ("eager", "batched_mm", "grouped_mm")
FEW = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 12}
ROUTED = {"n_routed_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 12, "n_shared_experts": 1}
LATENT = {"kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 4}
DEEPSEEK = {**SIZE, **PLAIN, **ROUTED, **LATENT, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1}
LOCAL = {"num_local_experts": 6, "num_experts_per_tok": 2}
GPT_OSS = {**GROUPED, **LOCAL, "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 4}
LLAMA4 = {**GROUPED, **LOCAL, "intermediate_size_mlp": 24, "interleave_moe_layer_step": 1, "attention_chunk_size": 16}
JETMOE = {
    "vocab_size": 40, "hidden_size": 16, "intermediate_size": 12, "num_hidden_layers": 2, "num_key_value_heads": 2,
    "kv_channels": 4, "num_local_experts": 6, "num_experts_per_tok": 2, "initializer_range": 0.2, "bos_token_id": None,
    "eos_token_id": None,
}  # fmt: skip
DBRX = {
    "vocab_size": 40, "d_model": 16, "n_heads": 4, "n_layers": 2, "max_seq_len": 32, "initializer_range": 0.2,
    "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8.0},
    "ffn_config": {"ffn_hidden_size": 12, "moe_num_experts": 6, "moe_top_k": 2, "hidden_size": 16},
}  # fmt: skip
SWITCH = {**T5, "num_experts": 4, "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1, "expert_capacity": 64}


def mixture(kind: str, config: str, **options: Any) -> Case:
    return Case(of(kind, config, **options), text, logits)


MIXTURES = {
    "mixtral": mixture("MixtralForCausalLM", "MixtralConfig", **GROUPED, **LOCAL),
    "qwen2": mixture("Qwen2MoeForCausalLM", "Qwen2MoeConfig", **GROUPED, **FEW, shared_expert_intermediate_size=12),
    "qwen3": mixture("Qwen3MoeForCausalLM", "Qwen3MoeConfig", **GROUPED, **FEW),
    "granite": mixture("GraniteMoeForCausalLM", "GraniteMoeConfig", **GROUPED, **LOCAL),
    "olmoe": mixture("OlmoeForCausalLM", "OlmoeConfig", **GROUPED, **FEW),
    "deepseek v2": mixture("DeepseekV2ForCausalLM", "DeepseekV2Config", **DEEPSEEK, topk_method="greedy"),
    "deepseek v3": mixture("DeepseekV3ForCausalLM", "DeepseekV3Config", **DEEPSEEK),
    "gpt-oss": mixture("GptOssForCausalLM", "GptOssConfig", **GPT_OSS),
    "llama4": mixture("Llama4ForCausalLM", "Llama4TextConfig", **LLAMA4),
    "jetmoe": mixture("JetMoeForCausalLM", "JetMoeConfig", **JETMOE),
    "dbrx": mixture("DbrxForCausalLM", "DbrxConfig", **DBRX),
    "phimoe": mixture("PhimoeForCausalLM", "PhimoeConfig", **GROUPED, **LOCAL),
    "glm4": mixture("Glm4MoeForCausalLM", "Glm4MoeConfig", **GROUPED, **ROUTED, first_k_dense_replace=1),
    "switch": Case(
        of("SwitchTransformersForConditionalGeneration", "SwitchTransformersConfig", **SWITCH), pairs, logits
    ),
}


def low_rank_four(blocks: tuple[bz.Block, ...], k: int, key: bz.Key) -> bz.LowRank:
    return bz.LowRank(blocks, k, key, rank=4)


RANKS: dict[str, Make] = {
    "rank one": bz.LowRank, "rank four": low_rank_four, "rademacher": bz.Rademacher, "gaussian": bz.Gaussian,
}  # fmt: skip

ALONE = ("llama4", "jetmoe", "dbrx", "switch")
"""Those that have one implementation."""

IMPLEMENTED = [(name, way) for name in MIXTURES for way in IMPLEMENTATIONS if way == "eager" or name not in ALONE]


def made_by(name: str, implementation: str) -> Any:
    """A model whose experts run by one of transformers' implementations."""
    model = MIXTURES[name].make()
    if name not in ALONE:
        model.set_experts_implementation(implementation)
    return model


class Own(nn.Module):
    """Experts in one parameter, used in one of the ways that people write."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.weight, self.bias = nn.Parameter(torch.randn(5, 7, 6)), nn.Parameter(torch.randn(5, 7))
        self.router, self.last = nn.Linear(6, 5), nn.Linear(7, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gates = self.router(x).softmax(-1)
        best = gates.argmax(-1)
        y = getattr(self, self.way)(x, best)
        return self.last(y * gates.gather(1, best[:, None]))  # type: ignore[no-any-return]

    def looped(self, x: torch.Tensor, best: torch.Tensor) -> torch.Tensor:
        return torch.stack(
            [nn.functional.linear(row, self.weight[e], self.bias[e]) for row, e in zip(x, best, strict=True)]
        )

    def numbered(self, x: torch.Tensor, best: torch.Tensor) -> torch.Tensor:
        return torch.stack(
            [self.weight.select(0, int(e)) @ row + self.bias[int(e)] for row, e in zip(x, best, strict=True)]
        )

    def gathered(self, x: torch.Tensor, best: torch.Tensor) -> torch.Tensor:
        return torch.einsum("bi,boi->bo", x, self.weight[best]) + self.bias.index_select(0, best)

    def transposed(self, x: torch.Tensor, best: torch.Tensor) -> torch.Tensor:
        stack = self.weight.permute(0, 2, 1)
        return torch.stack([row @ stack[e] + self.bias[e] for row, e in zip(x, best, strict=True)])

    def all_of_them(self, x: torch.Tensor, best: torch.Tensor) -> torch.Tensor:
        y = torch.matmul(x, self.weight.mT) + self.bias[:, None]
        return y[best, torch.arange(len(x))]

    def batched(self, x: torch.Tensor, best: torch.Tensor) -> torch.Tensor:
        y = torch.baddbmm(self.bias[:, None], x.expand(5, -1, -1), self.weight.transpose(1, 2))
        return y[best, torch.arange(len(x))]

    def summed(self, x: torch.Tensor, best: torch.Tensor) -> torch.Tensor:
        chosen = nn.functional.one_hot(best, 5).to(x.dtype)
        return torch.einsum("eoi,bi,be->bo", self.weight, x, chosen) + chosen @ self.bias

    def unbound(self, x: torch.Tensor, best: torch.Tensor) -> torch.Tensor:
        parts = list(self.weight)
        return torch.stack([parts[int(e)].t().contiguous().t() @ row for row, e in zip(x, best, strict=True)])

    def halves(self, x: torch.Tensor, best: torch.Tensor) -> torch.Tensor:
        up, down = self.weight[:, 1:].chunk(2, 1)
        both = [torch.cat([up[e], down[e], self.weight[e, :1]]) @ row for row, e in zip(x, best, strict=True)]
        return torch.stack(both)

    def reversed(self, x: torch.Tensor, best: torch.Tensor) -> torch.Tensor:
        return (
            torch.einsum("bi,boi->bo", x, self.weight[best - 5])
            + self.weight[best, :, 0]
            + self.weight[2, [0, 1, 2, 3, 4, 5, 6], 1]
        )

    def flattened(self, x: torch.Tensor, best: torch.Tensor) -> torch.Tensor:
        flat = self.weight.view(35, 6)
        return torch.stack([flat[7 * int(e) : 7 * int(e) + 7] @ row for row, e in zip(x, best, strict=True)])


OWN = {
    way: Case(made(lambda way=way: Own(way)), numbers(4, 6), output)  # type: ignore[misc]
    for way in vars(Own)
    if not way.startswith("_") and way != "forward"
}
