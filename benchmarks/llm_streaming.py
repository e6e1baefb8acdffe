"""A step with weights on the disk against the same step in memory, against accelerate's offloading, and a 7B shape.

    python benchmarks/llm_streaming.py --folder DIR [--parts opt accelerate llama] [--repeats 3]

Shapes are real, weights random. Sides run in processes of their own and take turns, in fp32 on two threads; the page
cache is warm where the files fit into it, and the file then says so. A "step" is two queries along a low-rank
direction; "two forwards" are those of a model in memory. Peak memory is that of the process, without mapped files,
above what it had before the model was made.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from _common import machine

HERE = Path(__file__).resolve().parent
RESULT = Path(__file__).with_suffix(".json")


OPT = {"hidden_size": 2048, "ffn_dim": 8192, "num_hidden_layers": 24, "num_attention_heads": 32,
       "word_embed_proj_dim": 2048, "dropout": 0.0}  # fmt: skip
"""The shape of OPT-1.3B."""


class Side:
    """A process of `_streaming.py`."""

    def __init__(self, side: str, folder: Path, rows: int, tokens: int, **given: Any) -> None:
        command = [sys.executable, str(HERE / "_streaming.py"), side, str(folder), str(rows), str(tokens)]
        self.process = subprocess.Popen(
            [*command, json.dumps(given)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.begun = self._said()

    def _said(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                found: dict[str, Any] = json.loads(line)
                return found
        raise RuntimeError("the process has ended")

    def ask(self, command: str) -> dict[str, Any]:
        """Seconds, and what else it measures."""
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self._said()

    def end(self) -> dict[str, Any]:
        """The peak memory; then the process ends."""
        found = self.ask("peak")
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        return found


def made(folder: Path, name: str, config: Any, dtype: torch.dtype, device: str = "cpu") -> Path:
    """A folder with random weights of a shape, made one tensor at a time."""
    import transformers

    from blackbox_zo._arrays import Array, write_arrays
    from blackbox_zo.modules._module import KINDS, bits_of

    to = folder / name
    if (to / "config.json").is_file():
        return to
    to.mkdir(parents=True, exist_ok=True)
    config.architectures = [transformers.MODEL_FOR_CAUSAL_LM_MAPPING[type(config)].__name__]
    config.dtype = dtype
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)

    def one(p: torch.Tensor) -> Any:
        return bits_of((torch.ones(p.shape) if p.dim() < 2 else torch.randn(p.shape, device=device) * 0.02).to(dtype))

    arrays = {n: Array(KINDS[dtype], tuple(p.shape), lambda p=p: one(p)) for n, p in model.named_parameters()}
    write_arrays(to / "model.safetensors", arrays, {})
    config.save_pretrained(to)
    return to


def read_once(folder: Path) -> float:
    """Seconds to read the weights."""
    begun, memory = time.perf_counter(), memoryview(bytearray(16 << 20))
    with (folder / "model.safetensors").open("rb", buffering=0) as file:
        while file.readinto(memory):
            pass
    return time.perf_counter() - begun


def ratios(times: dict[str, list[float]], base: str) -> dict[str, Any]:
    """Medians in seconds, and over the base."""
    medians = {name: statistics.median(found) for name, found in times.items()}
    return {
        "seconds": {name: round(t, 2) for name, t in medians.items()},
        f"over {base}": {name: round(t / medians[base], 3) for name, t in medians.items() if name != base},
        "all": {name: [round(t, 2) for t in found] for name, found in times.items()},
    }


def opt(folder: Path, repeats: int) -> dict[str, Any]:
    """OPT-1.3B's shape, bf16 on the disk, 2,048 tokens, a budget of 1/8 of the weights in fp32."""
    import transformers

    config = transformers.OPTConfig(**OPT)
    model = made(folder, "opt-1.3b", config, torch.bfloat16)
    weights = 2 * (model / "model.safetensors").stat().st_size
    hows: dict[str, dict[str, Any]] = {
        "log-structured": {"log_structured": True},
        "write-back": {},
        "host": {"store": "host", "log_structured": True},
    }
    sides = {name: Side("streamed", model, 8, 256, budget=weights // 8, **how) for name, how in hows.items()}
    sides["memory"] = Side("memory", model, 8, 256)
    for side in sides.values():
        side.ask("step")  # the first of a shape is checked against one pass for each query
    times: dict[str, list[float]] = {"two forwards": []}
    for _ in range(repeats):
        times["two forwards"].append(sides["memory"].ask("forwards")["seconds"])
        for name, side in sides.items():
            times.setdefault(name, []).append(side.ask("step")["seconds"])
    found = {
        **ratios(times, "two forwards"),
        "step in memory": ratios(times, "memory")["over memory"],
        "reading the file once": round(read_once(model), 2),
        "budget, MiB": weights // 8 // 2**20,
    }
    for name, side in sides.items():
        end = side.end()
        found[f"{name}, MiB"] = {
            "plan": side.begun.get("plan"),
            "peak": round(end["peak"]),
            "before the model": round(side.begun["before"]["peak"]),
            "anonymous at the end": round(end["anonymous"]),
        }
    return found


def with_accelerate(folder: Path, repeats: int) -> dict[str, Any]:
    """The same shape in fp32 on the disk: two forwards and a step against two forwards offloaded by accelerate."""
    import transformers

    config = transformers.OPTConfig(**OPT)
    model, found = made(folder, "opt-1.3b-fp32", config, torch.float32), {}
    for rows, tokens in ((1, 8), (1, 64), (2, 256)):
        where = str(folder / "offloaded")
        sides = {
            "streamed": Side("streamed", model, rows, tokens, budget="600MiB", log_structured=True),
            "accelerate": Side("accelerate", model, rows, tokens, where=where),
        }
        sides["streamed"].ask("step")
        sides["accelerate"].ask("forwards")
        times: dict[str, list[float]] = {name: [] for name in ("streamed", "accelerate", "streamed, a step")}
        for _ in range(repeats):
            for name, side in sides.items():
                times[name].append(side.ask("forwards")["seconds"])
            times["streamed, a step"].append(sides["streamed"].ask("step")["seconds"])
        found[f"{rows * tokens} tokens"] = ratios(times, "streamed")
        for side in sides.values():
            side.end()
    return found


def llama(folder: Path, repeats: int) -> dict[str, Any]:
    """Llama-2-7B's shape, 13.5 GB in bf16 on the disk, computed in fp32: one step of 128 tokens."""
    import transformers

    model = made(folder, "llama-7b", transformers.LlamaConfig(), torch.bfloat16)
    side = Side("streamed", model, 1, 128, budget="1800MiB", log_structured=True)
    times = [side.ask("step")["seconds"] for _ in range(2)]
    end = side.end()
    return {
        "step, seconds": [round(t, 1) for t in times],
        "reading the file once": round(read_once(model), 1),
        "plan, MiB": side.begun["plan"],
        "peak, MiB": round(end["peak"]),
        "file, GB": round((model / "model.safetensors").stat().st_size / 1e9, 2),
    }


PARTS = {"opt": opt, "accelerate": with_accelerate, "llama": llama}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for the models, 22 GB")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    for name in given.parts:
        found = PARTS[name](given.folder, given.repeats)
        result: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {"machine": machine()}
        result[name] = found
        RESULT.write_text(json.dumps(result, indent=1) + "\n")
        print(name, json.dumps(found, indent=1), flush=True)


if __name__ == "__main__":
    main()
