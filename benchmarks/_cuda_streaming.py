"""Steps with weights that come to a CUDA card while it computes, against the same steps with all of them there."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from llm_streaming import made

import blackbox_zo as bz
from oracles.llm import Completion, LossOracle

SHAPES: dict[str, Any] = {
    "1.3B": lambda: hf.OPTConfig(
        hidden_size=2048, ffn_dim=8192, num_hidden_layers=24, num_attention_heads=32, word_embed_proj_dim=2048,
        dropout=0.0),
    "7B": lambda: hf.LlamaConfig(
        hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32, vocab_size=32000),
    "tiny": lambda: hf.LlamaConfig(
        hidden_size=128, intermediate_size=256, num_hidden_layers=6, num_attention_heads=4, vocab_size=512),
}  # fmt: skip
"""OPT-1.3B's and Llama-7B's shapes."""

HOWS: dict[str, dict[str, Any]] = {
    "host, write-back": {"store": "host"},
    "host, log-structured": {"store": "host", "log_structured": True},
    "disk, write-back": {"store": "disk"},
    "disk, log-structured": {"store": "disk", "log_structured": True},
}


def _steps(x: bz.Module, device: str, rows: int, tokens: int, seconds: float) -> dict[str, Any]:
    """Median seconds of a step of two queries along a low-rank direction, and the peak of the card's memory."""
    ids = torch.randint(3, 500, (rows, tokens), generator=torch.Generator().manual_seed(0))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    search = bz.Search(x, bz.RandomVector(1e-3, 1, "lowrank"), bz.SGD(1e-7))
    run, times = iter(search.run(LossOracle(x.model, [batch], Completion()), steps=1000)), list[float]()
    for _ in range(2):  # the first of a shape is checked against one pass for each query
        next(run)
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    end = time.perf_counter() + seconds
    while len(times) < 34 and (len(times) < 4 or time.perf_counter() < end):
        begun = time.perf_counter()
        next(run)
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begun)
    found = {"seconds": round(statistics.median(times), 4), "most": round(max(times), 4), "steps": len(times)}
    if device == "cuda":
        found["peak GiB"] = round(torch.cuda.max_memory_allocated() / 2**30, 3)
    return found


def measured(device: str, size: str, seconds: float) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each way to hold the weights of a shape: its step over that with all weights on the card, and memory."""
    rows, tokens = (8, 256) if size != "tiny" else (2, 16)
    with tempfile.TemporaryDirectory(prefix="blackbox_zo-") as place:
        begun = time.perf_counter()
        folder = made(Path(place), size, SHAPES[size](), torch.bfloat16, device)
        yield "setup", {"seconds": round(time.perf_counter() - begun, 1)}
        model = hf.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).to(device).eval()
        resident = _steps(bz.Module(model), device, rows, tokens, seconds)
        yield "resident", resident
        del model
        for name, how in HOWS.items():
            if device == "cuda":
                torch.cuda.empty_cache()
            begun = time.perf_counter()
            with bz.StreamedModule.from_pretrained(folder, device, **how) as x:
                opened, held = time.perf_counter() - begun, x.plan.total
                found = _steps(x, device, rows, tokens, seconds)
            ratio = {"over resident": round(found["seconds"] / resident["seconds"], 3)}
            yield name, found | ratio | {"opened": round(opened, 1), "weights GiB": round(held / 2**30, 3)}
