"""Plans of real sweeps on this machine against the sweeps themselves, and against ZO2's published memory.

    python benchmarks/plan.py --folder DIR [--parts sweeps zo2 presets picture] [--repeats 3]

Shapes are real, weights random, fp32 on two threads. Sweeps run in processes of their own (`_streaming.py`). The
machine is measured before and after each step of a sweep, which is compared with what these two measurements predict.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from pathlib import Path
from typing import Any

import torch
from _common import machine
from llm_streaming import Side, made

from blackbox_zo.streaming._budget import in_bytes
from blackbox_zo.streaming._encoding import ENCODINGS
from oracles.llm.plan import MACHINES, Figure, Machine
from oracles.llm.plan._measure import Measuring
from oracles.llm.plan._models import Shape, shape_of
from oracles.llm.plan._plan import plan, work_of
from oracles.llm.plan._ways import Way, Work, way_of

RESULT = Path(__file__).with_suffix(".json")

CASES: dict[str, tuple[str, torch.dtype, int, int, list[dict[str, Any]]]] = {
    "OPT-1.3B, bf16 on the disk, 64 tokens": ("opt-1.3b", torch.bfloat16, 1, 64, [
        {"budget": "627MiB"}, {"budget": "627MiB", "log_structured": True},
        {"budget": "627MiB", "log_structured": True, "cold": True},
    ]),
    "OPT-350M, bf16 on the disk, 256 tokens": ("opt-350m", torch.bfloat16, 1, 256, [
        {"budget": "400MiB"}, {"budget": "400MiB", "log_structured": True},
        {"budget": "400MiB", "store": "host", "log_structured": True, "transfer_dtype": "bf16"},
    ]),
    "OPT-125M, fp32 on the disk, 512 tokens": ("opt-125m", torch.float32, 2, 256, [
        {"budget": "330MiB"}, {"budget": "330MiB", "log_structured": True},
    ]),
}  # fmt: skip
"""Preset, type on the disk, rows, tokens in a row, and the ways; "cold" drops the files from the page cache."""

ZO2 = {"1.3b": 3.75, "2.7b": 4.14, "6.7b": 4.99, "13b": 6.18, "30b": 8.86, "66b": 12.07, "175b": 18.04}
"""GB of GPU memory that ZO2's README publishes for OPT: fp16, one text of 2,048 tokens."""


def sweeps(folder: Path, repeats: int, only: str) -> dict[str, Any]:
    """Predicted and measured seconds of a step."""
    torch.set_num_threads(2)
    result = {}
    for name, (preset, dtype, rows, length, ways) in CASES.items():
        if only not in name:
            continue
        config = shape_of(preset, None).model.config
        where = made(folder, preset + ("" if dtype is torch.bfloat16 else "-fp32"), config, dtype)
        shape = shape_of(str(where), torch.float32)
        work = work_of(shape, rows * length, length, 2)
        result[name] = _taking_turns(shape, work, where, folder, ways, repeats)
        _save("sweeps", result)
    return result


def _taking_turns(
    shape: Shape, work: Work, where: Path, folder: Path, ways: list[dict[str, Any]], repeats: int
) -> list[dict[str, Any]]:
    """Before and after each step of a sweep the machine is measured, so that both meet the same load."""
    found = []
    with Measuring(shape, work, folder=folder) as measuring:
        for how in ways:
            given = {name: value for name, value in how.items() if name != "cold"}
            side = Side("streamed", where, work.rows, work.length, **given)
            side.ask("step")  # the first is checked against one pass for each query
            samples, times = [_sample(measuring, where, how)], []
            for _ in range(repeats):
                times.append(side.ask("step")["seconds"])
                samples.append(_sample(measuring, where, how))
            pairs = [measuring.machine(samples[i : i + 2]) for i in range(repeats)]
            predicted = [_way(shape, m, work, how, i + 1) for i, m in enumerate(pairs)]
            told = _compared([way.seconds for way in predicted], times)
            told |= {"way": how, "limited by": predicted[0].limit[0], "kept": len(predicted[0].kept.kept)}
            before, end = side.begun["before"]["peak"], side.end()
            weights = sum(predicted[0].memory["memory"].values()) - measuring.runtime
            told["peak, MiB"] = {"predicted": round(weights / 2**20 + before), "measured": round(end["peak"])}
            told["machine"] = {n: f.value for n, f in measuring.machine(samples).figures().items()}
            found.append(told)
            print(json.dumps(told), flush=True)
    return found


def _sample(measuring: Measuring, where: Path, how: dict[str, Any]) -> dict[str, float]:
    """A sample; before it, and before the next step, a cold file is dropped from the page cache."""
    if how.get("cold"):
        _drop(where)
    found = measuring.sample()
    if how.get("cold"):
        _drop(where)
    return found


def _drop(where: Path) -> None:
    handle = os.open(where / "model.safetensors", os.O_RDONLY)
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(handle)


def _compared(predicted: list[float], times: list[float]) -> dict[str, Any]:
    ratios = [p / t for p, t in zip(predicted, times, strict=True)]
    return {
        "predicted over measured": round(statistics.median(ratios), 3),
        "of the shortest": round(min(predicted) / min(times), 3),
        "ratios": [round(r, 2) for r in ratios],
        "predicted": [round(p, 2) for p in predicted],
        "measured": [round(t, 2) for t in times],
    }


def _way(shape: Shape, this: Machine, work: Work, how: dict[str, Any], moves: int) -> Way:
    """What is predicted of a step before which so many moves were made."""
    log, budget = bool(how.get("log_structured")), in_bytes(how["budget"])
    return way_of(
        shape, this, work, how.get("store", "disk"), log, ENCODINGS.get(how.get("transfer_dtype", "")), budget,
        rewritten=not log, moves=[moves if log else 1],
    )  # fmt: skip


def zo2(folder: Path, repeats: int, only: str) -> dict[str, Any]:
    """Device memory of OPT on ZO2's card, and the share of the throughput with all weights on it."""
    found: dict[str, Any] = {}
    for size, published in ZO2.items():
        card = MACHINES["a100"].but(device_memory=Figure(published * 1e9, "published"))
        shape = shape_of(f"opt-{size}", None)
        best = plan(shape, card, 2048, store="host").best
        found[f"OPT-{size}"] = {
            "ZO2, GB": published,
            "plan within it, GB": round(sum(best.memory["device"].values()) / 1e9, 2),
            "throughput over all weights on the card": round(best.ratio, 3),
            "seconds": round(best.seconds, 3),
            "ring": best.sweep.slots,
            "kept": len(best.kept.kept),
            "ZO2's layout, reckoned, GB": round(theirs(shape) / 1e9, 2),
        }
    card = MACHINES["a100"].but(device_memory=Figure(18e9, "given"))
    quick = card.but(move=Figure(10 * card.move.value, "assumed"))
    for name, on, queries in (("", card, 2), (", quick moves", quick, 2), (", quick moves, 4 queries", quick, 4)):
        best = plan("opt-175b", on, 2048, queries=queries, store="host").best
        found[f"OPT-175B within 18 GB{name}"] = {
            "device, GB": round(sum(best.memory["device"].values()) / 1e9, 2),
            "throughput over all weights on the card": round(best.ratio, 3),
            "seconds": round(best.seconds, 2),
            "computing takes longer from tokens": best.hidden_from,
        }
    return found


def theirs(shape: Shape) -> float:
    """Bytes of ZO2's layout: three blocks, tables and head untied, a text's activations and scores, the runtime."""
    block = max(e.nbytes for e in shape.entries if len(e.names) > 1)
    tables = 2 * sum(e.nbytes for e in shape.entries if len(e.names) == 1)
    one = shape.a_pass(1, 2048)
    scores = 3 * shape.model.config.num_attention_heads * 2048**2 * 2
    return float(3 * block + tables + max(one.peak, scores + one.between) + MACHINES["a100"].runtime.value)


def presets(folder: Path, repeats: int, only: str) -> dict[str, Any]:
    """Steps of the large models on several machines, simulated."""
    found: dict[str, Any] = {}
    for model in ("opt-1.3b", "opt-13b", "opt-30b", "opt-66b", "opt-175b", "llama-3-70b", "qwen3-32b"):
        shape = shape_of(model, None)
        for card in ("h100", "a100", "4090"):
            for store in ("host", "disk"):
                best = plan(shape, MACHINES[card], 2048, store=store).best
                found.setdefault(model, {})[f"{card}, {best.store if best.store == 'none' else store}"] = {
                    "seconds": round(best.seconds, 2),
                    "throughput": round(best.ratio, 3),
                    "limited by": best.limit[0],
                    "device, GB": round(sum(best.memory["device"].values()) / 1e9, 1),
                    "host, GB": round(sum(best.memory["host"].values()) / 1e9, 1),
                }
    return found


def picture(folder: Path, repeats: int, only: str) -> dict[str, Any]:
    """The pipeline of Llama-3-70B on a 4090 with its weights on the disk, for the guide."""
    from oracles.llm.plan._page import timeline

    found = timeline(plan("llama-3-70b", MACHINES["4090"], 2048, store="disk", log_structured=False).best)
    bars = [bar for bar in found.bars if bar.end > found.begin and bar.begin < found.end]
    return {
        "lanes": list(found.lanes),
        "begin": found.begin,
        "end": found.end,
        "bars": [[b.lane, round(b.begin, 4), round(b.end, 4), b.label, b.colour] for b in bars],
    }


PARTS = {"sweeps": sweeps, "zo2": zo2, "presets": presets, "picture": picture}


def _save(part: str, found: dict[str, Any]) -> None:
    result: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {"machine": machine()}
    result[part] = {**result.get(part, {}), **found}
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for the models, 8 GB")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="", help="a part of the name of the sweeps to run")
    given = parser.parse_args()
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    for name in given.parts:
        found = PARTS[name](given.folder, given.repeats, given.only)
        _save(name, found)
        print(name, json.dumps(found, indent=1), flush=True)


if __name__ == "__main__":
    main()
