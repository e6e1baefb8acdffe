"""One query of a mixture of experts, all of its parameters searched, ÷ a plain forward of the same rows.

    python benchmarks/llm_experts.py [--rounds 7]

Forward and step take turns; figures are medians of CPU seconds, on one thread. A step has two queries, or eight along
four directions where it says so. The large shape has three rounds at most.
"""

from __future__ import annotations

import argparse
import statistics
import warnings
from collections.abc import Callable
from typing import Any

import torch
import transformers as hf
from _common import cpu, save
from torch.nn import functional as F

import blackbox_zo as bz
from oracles.llm import LossOracle

SHAPES: dict[str, dict[str, int]] = {
    "tiny, 4 experts": {"hidden": 64, "inner": 512, "experts": 4, "chosen": 2, "rows": 4, "tokens": 32},
    "tiny, 64 experts": {"hidden": 64, "inner": 32, "experts": 64, "chosen": 2, "rows": 4, "tokens": 32},
    "64 experts of 512 x 256": {"hidden": 512, "inner": 256, "experts": 64, "chosen": 8, "rows": 8, "tokens": 128},
}
IMPLEMENTATIONS = ("eager", "grouped_mm")
SIDES: dict[str, tuple[str, dict[str, Any]]] = {
    "scratch, gaussian": ("scratch", {"distribution": "gaussian"}),
    "scratch, signs": ("scratch", {"distribution": "rademacher"}),
    "scratch, rank 1": ("scratch", {"distribution": "lowrank"}),
    "batched, rank 1": ("batched", {"distribution": "lowrank"}),
    "batched, rank 4": ("batched", {"distribution": "lowrank", "rank": 4}),
    "batched, rank 1, 4 directions": ("batched", {"distribution": "lowrank", "n_directions": 4}),
}


def model(shape: dict[str, int], implementation: str) -> Any:
    """Two layers of Qwen3's mixture, of random weights."""
    torch.manual_seed(0)
    config = hf.Qwen3MoeConfig(
        vocab_size=200,
        hidden_size=shape["hidden"],
        intermediate_size=shape["hidden"],
        moe_intermediate_size=shape["inner"],
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=shape["hidden"] // 4,
        num_experts=shape["experts"],
        num_experts_per_tok=shape["chosen"],
    )
    net = hf.Qwen3MoeForCausalLM(config).eval()
    net.set_experts_implementation(implementation)
    return net


def loss(net: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Of the word after the last."""
    return F.cross_entropy(net(input_ids=batch["input_ids"]).logits[:, -1], batch["label"], reduction="none")


def asked(net: Any, batch: dict[str, torch.Tensor], sweep: str, options: dict[str, Any]) -> Callable[[int], float]:
    """CPU seconds of a query, the mean over a step's, for each seed."""
    oracle = LossOracle(net, [batch], loss, sweep)  # type: ignore[arg-type]
    estimator = bz.RandomVector(1e-3, **({"n_directions": 1} | options))

    def step(seed: int) -> float:
        proposal = bz.Search(bz.Module(net), estimator, bz.SGD(1e-6), seed=seed).ask()
        return cpu(lambda: oracle.answer(proposal)) / proposal.queries.n

    return step


def measure(shape: dict[str, int], implementation: str, rounds: int) -> dict[str, Any]:
    """Medians over the rounds, the first of which does not count."""
    net = model(shape, implementation)
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 200, (shape["rows"], shape["tokens"]), generator=draw)
    batch = {"input_ids": ids, "label": torch.randint(0, 200, (shape["rows"],), generator=draw)}
    steps = {name: asked(net, batch, *side) for name, side in SIDES.items()}
    forwards, ratios = [], dict[str, list[float]]()
    for seed in range(rounds + 1):
        for name, step in steps.items():
            with torch.no_grad():
                forward = min(cpu(lambda: loss(net, batch)) for _ in range(2))
            query = step(seed)
            if seed:
                forwards.append(forward)
                ratios.setdefault(name, []).append(query / forward)
    return {
        "parameters": sum(p.numel() for p in net.parameters()),
        "forward_ms": round(1e3 * statistics.median(forwards), 2),
        "query_per_forward": {name: round(statistics.median(found), 2) for name, found in ratios.items()},
    }


def main() -> None:
    """Measure and save."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    warnings.simplefilter("ignore")
    hf.logging.set_verbosity_error()
    torch.set_num_threads(1)
    found = {}
    for name, shape in SHAPES.items():
        for implementation in IMPLEMENTATIONS if name.startswith("tiny") else IMPLEMENTATIONS[1:]:
            most = rounds if name.startswith("tiny") else min(rounds, 3)
            found[f"{name}, {implementation}"] = measure(shape, implementation, most)
    save(__file__, {"torch": torch.__version__, "shapes": SHAPES, "rounds": rounds, "found": found})


if __name__ == "__main__":
    main()
