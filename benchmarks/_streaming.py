"""One side of `llm_streaming.py` in a process of its own, so that its peak memory is its own.

It reads a command a line from standard input and answers each with a line of JSON: "step" takes a step, "forwards"
runs the model twice, and "peak" gives the peak resident memory.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch

import blackbox_zo as bz
from oracles.llm import Completion, LossOracle


def peak() -> dict[str, float]:
    """Peak resident memory in MiB, and what of the present one is not mapped from files."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: int(lines[key].split()[0]) / 1024 for name, key in (("peak", "VmHWM"), ("anonymous", "RssAnon"))}


def batch_of(rows: int, tokens: int) -> dict[str, torch.Tensor]:
    """Random tokens."""
    ids = torch.randint(3, 30_000, (rows, tokens), generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}


def in_memory(folder: str) -> Any:
    """The model, in fp32."""
    import transformers

    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def offloaded(folder: str, where: str) -> Any:
    """The same with accelerate's offloading to the disk."""
    import accelerate

    return accelerate.disk_offload(in_memory(folder), offload_dir=where, execution_device=torch.device("cpu"))


def main() -> None:
    side, folder, rows, tokens, *rest = sys.argv[1:]
    warnings.simplefilter("ignore")
    torch.set_num_threads(2)
    given: dict[str, Any] = json.loads(rest[0]) if rest else {}
    batch, loss, run = batch_of(int(rows), int(tokens)), Completion(), None
    before, x = peak(), None
    if side == "streamed":
        x = bz.StreamedModule.from_pretrained(folder, dtype=torch.float32, **given)
        model = x.model
    else:
        model = in_memory(folder) if side == "memory" else offloaded(folder, given["where"])
        x = bz.Module(model) if side == "memory" else None
    said = {"loaded": peak(), "before": before}
    if isinstance(x, bz.StreamedModule):
        said |= {"plan": x.plan.total / 2**20, "is": str(x)}
    print(json.dumps(said), flush=True)
    for line in sys.stdin:
        command, begun, out = line.strip(), time.perf_counter(), {}
        if command == "step":
            if run is None:
                oracle = LossOracle(model, [batch], loss)
                search = bz.Search(x, bz.RandomVector(1e-3, 1, "lowrank"), bz.SGD(1e-6))
                run = iter(search.run(oracle, steps=100))
            out["value"] = next(run).value
        elif command == "forwards":
            with torch.no_grad():
                parts = [{name: t[i : i + 1] for name, t in batch.items()} for i in range(int(rows))]  # the fastest way
                tasks = [partial(loss, model, part) for part in 2 * parts]
                if x is None:
                    for task in tasks:
                        task()
                else:
                    x.run_together(tasks)
        elif command == "peak":
            out |= peak()
        out["seconds"] = time.perf_counter() - begun
        print(json.dumps(out), flush=True)
    if isinstance(x, bz.StreamedModule):
        x.close()
    os._exit(0)


if __name__ == "__main__":
    main()
