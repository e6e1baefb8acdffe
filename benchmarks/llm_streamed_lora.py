"""Weights that stream: searching with forward passes against LoRA by backpropagation, at the same bytes read.

    python benchmarks/llm_streamed_lora.py [--sides NAME ...] [--sweeps 40]

SmolLM2-135M on fine foods, batches of 16, all through `StreamedModule` with room for two blocks. A step of a search
reads the weights once for all its queries. Backpropagation reads them twice: forward without a graph, and again, layer
by layer from the last, to compute each once more and go back through it (checkpointing). Bytes are those of the blocks
that passes needed; validations do not count. The first step of a search reads more, as it checks more. Curves are
(sweeps, loss on 64 examples), where a sweep is all weights once.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _common import machine
from _foods import reviews, words
from data import smollm2
from torch.utils.checkpoint import checkpoint

import blackbox_zo as bz
from oracles.llm import Examples, LabelWords, LossOracle
from oracles.llm._evaluate import Evaluator
from oracles.llm.models import load_tokenizer, local_folder

RESULT = Path(__file__).with_suffix(".json")
BATCH, VALIDATION, EVERY = 16, 64, 4


class Reads:
    """Counts the bytes of the blocks that a streamed model needs."""

    def __init__(self, x: bz.StreamedModule) -> None:
        self.bytes, self.whole = 0, sum(entry.nbytes for entry in x.entries)
        own = x.streamer.ring.take

        def take(entry: Any) -> Any:
            self.bytes += entry.nbytes
            return own(entry)

        x.streamer.ring.take = take  # type: ignore[method-assign]

    @contextmanager
    def not_counted(self) -> Iterator[None]:
        """Within the context, nothing counts."""
        before = self.bytes
        yield
        self.bytes = before


def again(x: bz.StreamedModule, entry: Any, layer: Callable[..., Any], *args: Any) -> Any:
    """A layer that is computed once more on the way back, for which its weights come in again."""

    def run(*inputs: Any) -> Any:
        with torch.no_grad():
            x.streamer.open(entry)
        return layer(*inputs)

    return checkpoint(run, *args, use_reentrant=False)


Made = tuple[bz.StreamedModule, Callable[[int], object]]


def lora(rate: float) -> Callable[[Path, Examples, LabelWords], Made]:
    """LoRA of rank 8 on all linear layers by Adam, with exact gradients."""

    def start(folder: Path, train: Examples, loss: LabelWords) -> Made:
        import peft

        def adapt(model: Any) -> Any:
            torch.manual_seed(0)
            return peft.get_peft_model(model, peft.LoraConfig(r=8, lora_alpha=16, target_modules="all-linear"))

        x = bz.StreamedModule.from_pretrained(folder, adapt=adapt, select="lora", dtype=torch.float32)
        model: Any = x.model
        model.gradient_checkpointing_enable()
        for window in x.streamer.windows:
            if hasattr(window.module, "_gradient_checkpointing_func"):
                window.module._gradient_checkpointing_func = partial(again, x, window.entry)
        model.train()  # checkpoints are for training; there is no dropout
        optimizer, batches = torch.optim.Adam(x.parameters.values(), rate), train.shuffled(BATCH, 0)

        def step(number: int) -> None:
            loss(model, batches(number)).mean().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()

        return x, step

    return start


def searched(select: str, estimator: bz.RandomVector, rate: float) -> Callable[[Path, Examples, LabelWords], Made]:
    """A search, as in `llm_convergence.py`."""

    def start(folder: Path, train: Examples, loss: LabelWords) -> Made:
        x = bz.StreamedModule.from_pretrained(folder, log_structured=True, select=select, dtype=torch.float32)
        oracle = LossOracle(x.model, train.shuffled(BATCH, 0), loss, "batched", "example", reuse="keep")
        search = bz.Search(x, estimator, bz.SGD(rate), seed=0)

        def step(_: int) -> None:
            proposal = search.ask()
            search.tell(proposal, oracle.answer(proposal))

        return x, step

    return start


EACH = bz.RandomVector(1e-3, BATCH, "lowrank")
SIDES = {
    "search of all parameters": searched("all", EACH, 3e-4),
    "search of the top two layers": searched("top:2", EACH, 6e-3),
    "LoRA by backpropagation, rate 3e-4": lora(3e-4),
    "LoRA by backpropagation, rate 1e-3": lora(1e-3),
}


def run(start: Callable[[Path, Examples, LabelWords], Made], sweeps: int) -> dict[str, Any]:
    """The curve of a side."""
    folder = local_folder(str(smollm2()))
    tokenizer = load_tokenizer(folder)
    loss = words(tokenizer)
    examples, _ = reviews(tokenizer)
    train, held = examples.pick(range(VALIDATION, len(examples))), examples.take(VALIDATION)
    x, step = start(folder, train, loss)
    with x:
        evaluate, reads = Evaluator(x.model, held.batches(BATCH), {"loss": loss}), Reads(x)
        curve, number, begun = [(0.0, round(evaluate()["loss"], 4))], 0, time.perf_counter()
        reads.bytes = 0
        while reads.bytes < sweeps * reads.whole and number < 3 * sweeps:
            step(number)
            number += 1
            if number % EVERY == 0:
                with reads.not_counted():
                    curve.append((round(reads.bytes / reads.whole, 2), round(evaluate()["loss"], 4)))
                print(curve[-1], flush=True)
        return {"curve": curve, "steps": number, "seconds, with validation": round(time.perf_counter() - begun)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=list(SIDES))
    parser.add_argument("--sweeps", type=int, default=40)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(2)
    result: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {"machine": machine()}
    for name in given.sides:
        print(name, flush=True)
        result[name] = run(SIDES[name], given.sweeps)
        RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
