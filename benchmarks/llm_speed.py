"""One step on a 125M-parameter model against two plain forwards of the same batch, all parameters searched.

    python benchmarks/llm_speed.py [--tokens 64 1024 2048] [--repeats 7]

All sides take turns in one process; ratios are of each turn, and the table has their medians.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable

import torch
import transformers
from _common import save
from _mezo import MeZO

import blackbox_zo as bz
from oracles.llm import LossOracle

LENGTH = 64


def model() -> torch.nn.Module:
    """OPT-125M's shape with random weights."""
    torch.manual_seed(0)
    config = transformers.OPTConfig(
        hidden_size=768,
        num_hidden_layers=12,
        ffn_dim=3072,
        num_attention_heads=12,
        word_embed_proj_dim=768,
        max_position_embeddings=2048,
    )
    return transformers.OPTForCausalLM(config).eval()


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
def measure(tokens: int, repeats: int, k: int) -> dict[str, list[float]]:
    """For each side its times divided by those of the plain forwards of the same queries, turn by turn."""
    net = model()
    rows = max(1, tokens // LENGTH)
    batch = {"input_ids": torch.randint(3, 50_000, (rows, LENGTH)), "label": torch.randint(3, 50_000, (rows,))}
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
    parser.add_argument("--tokens", type=int, nargs="+", default=[64, 1024, 2048])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--directions", type=int, default=8)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(2)
    out = {}
    for tokens in given.tokens:
        found = measure(tokens, given.repeats, given.directions)
        out[tokens] = {name: {"median": sorted(v)[len(v) // 2], "all": v} for name, v in found.items()}
        for name, v in out[tokens].items():
            print(f"{tokens:5d} tokens  {name:32s} {v['median']:.3f}", flush=True)
    save(__file__, {str(tokens): found for tokens, found in out.items()})


if __name__ == "__main__":
    main()
