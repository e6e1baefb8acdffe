"""A process that measures steps of one checkout on request, for `llm_cuda.py`: PYTHONPATH says which.

It reads a line of JSON {"size", "dtype", "variant", "seconds", "steps"} and answers with one. A model is kept until
another size is asked for.
"""

from __future__ import annotations

import cProfile
import gc
import json
import pstats
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from _mezo import MeZO

import blackbox_zo as bz
from oracles.llm import LossOracle

SIZES = {
    "125M": (768, 12, 12), "1.3B": (2048, 24, 32), "6.7B": (4096, 32, 32), "tiny": (64, 2, 4), "tiny2": (96, 3, 4),
}  # fmt: skip
"""Width, layers and heads of OPT."""

TWO = {"lowrank": ("lowrank", 1, "auto"), "lowrank scratch": ("lowrank", 1, "scratch"),
       "rademacher": ("rademacher", 1, "scratch"), "gaussian": ("gaussian", 1, "scratch")}  # fmt: skip


def model(size: str, dtype: str, device: str) -> Any:
    """OPT's shape with random weights, made on the device."""
    width, layers, heads = SIZES[size]
    config = hf.OPTConfig(
        hidden_size=width, num_hidden_layers=layers, ffn_dim=4 * width, num_attention_heads=heads,
        word_embed_proj_dim=width, vocab_size=300 if size.startswith("tiny") else 50272,
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device(device):
        return hf.AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype)).eval()


def loss(net: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Cross-entropy of the token after the text, one value an example."""
    z = net(input_ids=batch["input_ids"], use_cache=False, logits_to_keep=1).logits[:, -1].float()
    return torch.nn.functional.cross_entropy(z, batch["label"], reduction="none")


class Measured:
    """One model and what is done with it."""

    def __init__(self, size: str, dtype: str, device: str, batch: int, tokens: int) -> None:
        self.device, self.net = device, model(size, dtype, device)
        top = self.net.config.vocab_size
        ids = torch.randint(2, top, (batch, tokens), generator=torch.Generator().manual_seed(1)).to(device)
        self.batch = {"input_ids": ids, "label": ids[:, 0].clone()}
        self.sync = torch.cuda.synchronize if device == "cuda" else lambda: None

    def variant(self, name: str) -> Callable[[], Any]:
        """A function that makes one step and returns the seconds of its parts, if it has any."""
        if name == "two forwards":
            return lambda: [loss(self.net, self.batch).mean().item() for _ in range(2)] and None
        if name == "one forward":
            return lambda: loss(self.net, self.batch).mean().item() and None
        if name == "MeZO":
            mezo = MeZO(self.net.parameters(), 1e-9)
            return lambda: mezo.step(lambda: loss(self.net, self.batch).mean()) and None
        if name == "default":  # of `finetune`: a direction an example
            k = len(self.batch["label"])
            return self.step(bz.RandomVector(1e-3, k, "lowrank"), "auto", "example")
        distribution, k, sweep = TWO[name]
        return self.step(bz.RandomVector(1e-3, k, distribution), sweep, "step")

    def step(self, estimator: Any, sweep: Any, per: Any) -> Callable[[], dict[str, float]]:
        search = bz.Search(bz.Module(self.net), estimator, bz.SGD(1e-9))
        oracle = self.oracle = LossOracle(self.net, [self.batch], loss, sweep, per)

        def step() -> dict[str, float]:
            begun = time.perf_counter()
            proposal = search.ask()
            feedback = oracle.answer(proposal)
            answered = time.perf_counter()
            search.tell(proposal, feedback)
            self.sync()
            return {"answer": answered - begun, "move": time.perf_counter() - answered}

        return step

    @torch.no_grad()
    def run(self, variant: str, seconds: float, steps: int, **_: Any) -> dict[str, Any]:
        """Median seconds of a step, of its parts, and the peak of the memory."""
        step, times, parts = self.variant(variant), list[float](), list[dict[str, float]]()
        begun = time.perf_counter()
        step()
        self.sync()
        first = time.perf_counter() - begun
        if self.device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        end = time.perf_counter() + seconds
        while len(times) < steps and (len(times) < 2 or time.perf_counter() < end):
            begun = time.perf_counter()
            part = step()
            self.sync()
            times.append(time.perf_counter() - begun)
            if isinstance(part, dict):
                parts.append(part)
        out: dict[str, Any] = {"seconds": statistics.median(times), "least": min(times), "steps": len(times),
                               "first": first}  # fmt: skip
        out |= {name: statistics.median([p[name] for p in parts]) for name in (parts[0] if parts else ())}
        if parts:
            out |= {"sweep": self.oracle.sweep, "reason": self.oracle.reason}
        if self.device == "cuda":
            out |= {"peak": torch.cuda.max_memory_allocated(), "held": torch.cuda.memory_allocated()}
        return out

    @torch.no_grad()
    def profile(self, variant: str, **_: Any) -> dict[str, Any]:
        """The kernels and the operations that take most of one step."""
        from torch.profiler import ProfilerActivity, profile

        step = self.variant(variant)
        step()
        kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self.device == "cuda" else [])]
        with profile(activities=kinds) as found:
            step()
            self.sync()
        rows = found.key_averages()
        out = {}
        for by in ("self_device_time_total", "self_cpu_time_total"):
            best = sorted(rows, key=lambda row, by=by: -getattr(row, by))[:14]
            out[by] = [[row.key[:90], row.count, round(getattr(row, by) / 1e3, 3)] for row in best]
        return out | {"python": _python(step)}


def _python(step: Callable[[], Any]) -> list[list[Any]]:
    """The functions that take most of one step on the host: calls, and milliseconds without and with what they call."""
    with cProfile.Profile() as found:
        step()
    rows = pstats.Stats(found).stats.items()  # type: ignore[attr-defined]
    best = sorted(rows, key=lambda row: -row[1][2])[:30]
    return [[f"{Path(f).name}:{line} {name}"[:70], n, round(own * 1e3, 2), round(whole * 1e3, 2)]
            for (f, line, name), (_, n, own, whole, _) in best]  # fmt: skip


def thin(device: str) -> dict[str, float]:
    """Milliseconds of `y = t A + x W` as it is made for low-rank directions, in other ways of making `t A`."""
    n, each, size, wide = (2, 4096, 8192, 2048) if device == "cuda" else (2, 64, 128, 64)
    make: dict[str, Any] = {"device": device, "dtype": torch.bfloat16}
    x, w, y = torch.randn(n * each, wide, **make), torch.randn(wide, size, **make), torch.empty(n * each, size, **make)
    t, a = torch.randn(n, each, 2, **make), torch.randn(n, 2, size, **make)
    t8, a8 = torch.nn.functional.pad(t, (0, 6)), torch.nn.functional.pad(a, (0, 0, 0, 6))
    y3, (row, last) = y.view(n, each, size), a.unbind(1)
    ways: dict[str, Callable[[], Any]] = {
        "x W alone": lambda: torch.mm(x, w, out=y),
        "t A of two": lambda: torch.bmm(t, a, out=y3),
        "t A padded to eight": lambda: torch.bmm(t8, a8, out=y3),
        "t A by addcmul": lambda: torch.addcmul(last[:, None], t[..., :1], row[:, None], out=y3),
        "+= x W": lambda: y.addmm_(x, w),
    }
    out = {}
    for name, way in ways.items():
        for _ in range(3):
            way()
        torch.cuda.synchronize() if device == "cuda" else None
        begun = time.perf_counter()
        for _ in range(20):
            way()
        torch.cuda.synchronize() if device == "cuda" else None
        out[name] = (time.perf_counter() - begun) / 20 * 1e3
    return out


def main() -> None:
    """Answer each line."""
    device, batch, tokens = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    have: tuple[Any, Measured | None] = (None, None)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            what = asked.get("what", "run")
            if what == "thin":
                found: dict[str, Any] = thin(device)
            else:
                which = asked["size"], asked["dtype"]
                if have[0] != which:
                    have = (None, None)
                    gc.collect()
                    have = which, Measured(*which, device, batch, tokens)
                assert have[1] is not None
                found = getattr(have[1], what)(**asked)
        except Exception as error:
            found = {"error": f"{type(error).__name__}: {error}"[:500]}
        print("=" + json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
