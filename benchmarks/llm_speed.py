"""One step against two plain forwards of the same batch, all parameters searched, on three models of random weights.

    python benchmarks/llm_speed.py [--models opt smollm llama] [--tokens 64 1024 2048] [--repeats 9]

All sides take turns in one process; ratios are of each turn, and the table has their medians.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
import transformers
from _common import save
from _mezo import MeZO

import blackbox_zo as bz
from oracles.llm import LossOracle

LENGTH = 64


def opt() -> torch.nn.Module:
    """OPT-125M's shape."""
    config = transformers.OPTConfig(
        hidden_size=768,
        num_hidden_layers=12,
        ffn_dim=3072,
        num_attention_heads=12,
        word_embed_proj_dim=768,
        max_position_embeddings=2048,
    )
    return transformers.OPTForCausalLM(config)


def smollm() -> torch.nn.Module:
    """SmolLM2-135M's shape: 30 layers of 576."""
    config = transformers.LlamaConfig(
        vocab_size=49_152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
    )
    return transformers.LlamaForCausalLM(config)


def llama() -> torch.nn.Module:
    """A Llama of 45M parameters: 16,000 words, 8 layers of 512."""
    config = transformers.LlamaConfig(
        vocab_size=16_000,
        hidden_size=512,
        intermediate_size=1536,
        num_hidden_layers=8,
        num_attention_heads=8,
    )
    return transformers.LlamaForCausalLM(config)


MODELS: dict[str, Callable[[], torch.nn.Module]] = {"opt": opt, "smollm": smollm, "llama": llama}


def loss(net: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Cross-entropy of the last token, one value an example."""
    z = net(input_ids=batch["input_ids"], logits_to_keep=1).logits[:, -1]
    return torch.nn.functional.cross_entropy(z, batch["label"], reduction="none")


def searches(
    net: torch.nn.Module, batch: dict[str, torch.Tensor], k: int
) -> dict[str, tuple[Callable[[], object], int]]:
    """By name: what makes one step, and how many forwards of the batch its queries are."""
    out: dict[str, tuple[Callable[[], object], int]] = {}

    def add(name: str, n: int, distribution: str, rank: int, sweep: str) -> None:
        estimator = bz.RandomVector(1e-3, n, distribution, rank=rank)
        search = bz.Search(bz.Module(net), estimator, bz.SGD(1e-9))
        oracle = LossOracle(net, [batch], loss, sweep)

        def step() -> None:
            proposal = search.ask()
            search.tell(proposal, oracle.answer(proposal))

        out[name] = step, 2 * n

    for rank in (1, 4):
        add(f"batched, rank {rank}", 1, "lowrank", rank, "batched")
    add("scratch, full-rank signs", 1, "rademacher", 1, "scratch")
    add(f"batched, rank 1, {k} directions", k, "lowrank", 1, "batched")
    mezo = MeZO(net.parameters(), 1e-9)
    out["MeZO's loop"] = lambda: mezo.step(lambda: loss(net, batch).mean()), 2
    return out


def timed(call: Callable[[], object]) -> float:
    """Seconds."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


@torch.no_grad()
def measure(name: str, tokens: int, repeats: int, k: int) -> dict[str, list[float]]:
    """For each side its times divided by those of the plain forwards of the same queries, turn by turn."""
    torch.manual_seed(0)
    net = MODELS[name]().eval()
    rows = max(1, tokens // LENGTH)
    batch = {"input_ids": torch.randint(3, 16_000, (rows, LENGTH)), "label": torch.randint(3, 16_000, (rows,))}
    sides = searches(net, batch, k)
    ratios: dict[str, list[float]] = {name: [] for name in sides}
    seconds: list[float] = []
    for turn in range(repeats + 1):
        for name, (step, forwards) in sides.items():
            plain = timed(lambda: [loss(net, batch) for _ in range(2)])
            took = timed(step)
            if turn:  # the first warms up
                ratios[name].append(took / plain * 2 / forwards)
                seconds.append(plain)
    return {"two plain forwards, seconds": seconds, **ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--tokens", type=int, nargs="+", default=[64, 1024, 2048])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--directions", type=int, default=8)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(2)
    out: dict[str, Any] = {}
    for name in given.models:
        for tokens in given.tokens:
            found = measure(name, tokens, given.repeats, given.directions)
            told = {side: {"median": sorted(v)[len(v) // 2], "all": v} for side, v in found.items()}
            for side, v in told.items():
                print(f"{name:8s} {tokens:5d} tokens  {side:32s} {v['median']:.3f}", flush=True)
            out[f"{name}, {tokens} tokens"] = told
    save(__file__, out)


if __name__ == "__main__":
    main()
