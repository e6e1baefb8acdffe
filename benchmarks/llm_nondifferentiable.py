"""Objectives without a gradient, from zero-shot: accuracy itself, and the exact match of what the model writes.

    python benchmarks/llm_nondifferentiable.py [--objectives accuracy match] [--seeds 0 1 2]

Both search the norm after the last layer of SmolLM2-135M. Accuracy is on the food reviews, with what the layers give
kept for each example; exact match is of the topic that the model names for an article of BBC News: every query writes.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import machine
from _foods import model, reviews, words
from data import bbc

import blackbox_zo as bz
from oracles.llm import Accuracy, Examples, Generation, evaluate, exact_match, finetune, prompts

RESULT = Path(__file__).with_suffix(".json")
QUESTION = "Article: {text:60t}\n\nWhich topic is it: business, entertainment, politics, sport or tech?\nAnswer:"


def accuracy(steps: int, seed: int) -> dict[str, float]:
    """Shares of right answers on 400 reviews, before and after."""
    net, tokenizer = model()
    train, test = reviews(tokenizer)
    return _tuned(net, train.take(1000), test, Accuracy(words(tokenizer)), steps, seed, radius=0.3, size=512, rate=0.03)


def match(steps: int, seed: int) -> dict[str, float]:
    """Shares of exact matches on 100 articles, before and after."""
    net, tokenizer = model()
    rows = bbc()
    order = np.random.default_rng(0).permutation(len(rows))
    examples = prompts([rows[i] for i in order[:1100]], tokenizer, QUESTION, "label")
    loss = Generation(tokenizer, exact_match, max_new_tokens=3, stop="\n")
    return _tuned(
        net, examples.take(1000), examples.pick(range(1000, 1100)), loss, steps, seed, radius=0.1, size=16, rate=0.03
    )


def _tuned(
    net: Any, train: Examples, test: Examples, loss: Any, steps: int, seed: int, radius: float, size: int, rate: float
) -> dict[str, float]:
    before = evaluate(net, test.batches(20), {"loss": loss})["loss"]
    begun = time.perf_counter()
    run = finetune(
        net,
        train,
        loss,
        steps=steps,
        batch_size=size,
        module="top",
        estimator=bz.RandomVector(radius, size, "rademacher"),
        rule=bz.Adam(bz.Cosine(rate, rate / 100, steps)),
        reuse="keep" if isinstance(loss, Accuracy) else False,
        seed=seed,
        progress=lambda p: (
            print(f"    {p.step + 1} {p.value:.3f}", flush=True) if (p.step + 1) % max(1, steps // 10) == 0 else 0
        ),
    )
    assert not run.stopped
    after = evaluate(net, test.batches(20), {"loss": loss})["loss"]
    return {
        "zero-shot": round(1 - before, 4),
        "tuned": round(1 - after, 4),
        "steps": steps,
        "seconds": round(time.perf_counter() - begun),
    }


OBJECTIVES = {"accuracy": (accuracy, 2000), "match": (match, 40)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objectives", nargs="+", default=list(OBJECTIVES), choices=list(OBJECTIVES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(2)
    result: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {"machine": machine()}
    for name in given.objectives:
        run, steps = OBJECTIVES[name]
        for seed in given.seeds:
            found = result.setdefault(name, {})[f"seed {seed}"] = run(steps, seed)
            print(name, seed, found, flush=True)
            RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
