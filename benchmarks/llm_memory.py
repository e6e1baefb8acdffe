"""Peak resident memory of a step ÷ that of the plain forward of the same batch, on the models of `llm_speed.py`.

    python benchmarks/llm_memory.py [--models opt smollm llama] [--tokens 1024]

Each side is a process of its own, whose peak is counted from after the model is made (Linux). A batched run has as many
examples as the forward, so its queries take turns. AdamW, with a backward pass, is there to compare.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from _common import save
from _mezo import MeZO
from llm_speed import LENGTH, MODELS, loss

import blackbox_zo as bz
from oracles.llm import LossOracle

SIDES = ("plain forward", "batched, rank 1", "batched, rank 4", "scratch, full-rank signs", "MeZO's loop", "AdamW")


def peak() -> float:
    """MiB since the last reset."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def step_of(side: str, net: torch.nn.Module, batch: dict[str, torch.Tensor]) -> Callable[[], object]:
    """What makes one step."""
    rows = len(batch["label"])
    if side == "plain forward":
        return lambda: loss(net, batch)
    if side == "MeZO's loop":
        mezo = MeZO(net.parameters(), 1e-9)
        return lambda: mezo.step(lambda: loss(net, batch).mean())
    if side == "AdamW":
        optimizer = torch.optim.AdamW(net.parameters(), 1e-9)

        def descend() -> None:
            with torch.enable_grad():
                loss(net, batch).mean().backward()
            optimizer.step()
            optimizer.zero_grad()

        return descend
    sweep, _, what = side.partition(", ")
    estimator = (
        bz.RandomVector(1e-3, 1, "rademacher")
        if sweep == "scratch"
        else bz.RandomVector(1e-3, 1, "lowrank", rank=int(what[-1]))
    )
    search = bz.Search(bz.Module(net), estimator, bz.SGD(1e-9))
    oracle = LossOracle(net, [batch], loss, sweep, micro_batch=rows)  # type: ignore[arg-type]

    def step() -> None:
        proposal = search.ask()
        search.tell(proposal, oracle.answer(proposal))

    return step


def measure(side: str, model: str, tokens: int) -> float:
    """MiB."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(2)
    net, rows = MODELS[model]().eval(), max(1, tokens // LENGTH)
    batch = {"input_ids": torch.randint(3, 16_000, (rows, LENGTH)), "label": torch.randint(3, 16_000, (rows,))}
    with torch.no_grad():
        step = step_of(side, net, batch)
        Path("/proc/self/clear_refs").write_text("5")
        for _ in range(3):
            step()
    return peak()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--tokens", type=int, nargs="+", default=[64, 1024, 2048])
    parser.add_argument("--side", choices=SIDES, help="measure this one alone, here")
    given = parser.parse_args()
    if given.side:
        print(json.dumps(measure(given.side, given.models[0], given.tokens[0])))
        return
    out: dict[str, object] = {}
    for model in given.models:
        for tokens in given.tokens:
            alone = [sys.executable, __file__, "--models", model, "--tokens", str(tokens), "--side"]
            found = {side: float(subprocess.check_output([*alone, side], text=True)) for side in SIDES}
            plain, place = found["plain forward"], f"{model}, {tokens} tokens"
            out[place] = {side: {"MiB": round(v), "ratio": round(v / plain, 3)} for side, v in found.items()}
            print(place, out[place], flush=True)
    save(__file__, out)


if __name__ == "__main__":
    main()
