"""Wall time to a validation loss on fine foods ÷ MeZO's, with the rates and steps that llm_convergence.json has.

    python benchmarks/llm_time.py [--turns 3]

A time is steps times the seconds of a step, all sides' steps taking turns; validation is not counted. The side that
keeps features tunes the norm after the last layer on 64 examples, whose features are computed once, and is timed whole.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
import warnings
from typing import Any

import torch
from _common import save
from _foods import model, reviews, words
from llm_convergence import BATCH, RESULT, SIDES, TARGETS, VALIDATION, ours, steps_to

import blackbox_zo as bz
from oracles.llm._evaluate import Evaluator

SOME = 64
RATE = 0.1


def seconds_of_a_step(turns: int, rates: dict[str, float]) -> dict[str, float]:
    """Medians; each turn is two steps, and the first of each side is not counted."""
    net, tokenizer = model()
    loss, (train, _) = words(tokenizer), reviews(tokenizer)
    steps = {name: SIDES[name].start(net, train, loss, 1e-3 * rate, 0)[0] for name, rate in rates.items()}
    found: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(turns + 1):
        for name, step in steps.items():
            begun = time.perf_counter()
            for i in (0, 1):
                step(2 * turn + i)
            if turn:
                found[name].append((time.perf_counter() - begun) / 2)
    return {name: statistics.median(values) for name, values in found.items()}


def kept(seed: int, most: int = 400) -> dict[str, Any]:
    """Seconds to each target with kept features of a few examples, and steps."""
    net, tokenizer = model()
    loss, (examples, _) = words(tokenizer), reviews(tokenizer)
    train, held = examples.pick(range(VALIDATION, VALIDATION + SOME)), examples.take(VALIDATION)
    start = ours("top", bz.RandomVector(1e-2, BATCH, "rademacher"), lambda rate: bz.Adam(rate))
    step, module = start(net, train, loss, RATE, seed)
    evaluate = Evaluator(net, held.batches(BATCH), {"loss": loss}, module)
    curve, taken = [(0, evaluate()["loss"])], [0.0]
    for number in range(most):
        begun = time.perf_counter()
        step(number)
        taken.append(taken[-1] + time.perf_counter() - begun)
        if (number + 1) % 4 == 0:
            curve.append((number + 1, evaluate()["loss"]))
            if curve[-1][1] <= TARGETS[-1]:
                break
    out: dict[str, Any] = {"curve": curve}
    for target in TARGETS:
        steps = steps_to(curve, target)
        out[f"{target:g}"] = None if steps is None else taken[math.ceil(steps)]
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(2)
    summary = json.loads(RESULT.read_text())["summary"]
    rates = {name: found["rate"] for name, found in summary.items()}
    seconds = seconds_of_a_step(given.turns, rates)
    runs = [kept(seed) for seed in range(3)]
    out: dict[str, Any] = {"seconds of a step": seconds, "kept features": runs}
    for target in TARGETS:
        key = f"forwards to {target:g}"
        mezo = summary["MeZO"][key] / 2 * seconds["MeZO"]
        out[f"to {target:g}, ÷ MeZO"] = {
            name: {
                "forwards": round(found[key] / summary["MeZO"][key], 3),
                "time": round(found[key] / 2 * seconds[name] / mezo, 3),
            }
            for name, found in summary.items()
            if found[key] is not None
        }
        reached = [run[f"{target:g}"] for run in runs]
        if None not in reached:
            out[f"to {target:g}, ÷ MeZO"]["final norm, kept features of 64 examples"] = {
                "time": round(statistics.median(reached) / mezo, 3)
            }
    save(__file__, out)


if __name__ == "__main__":
    main()
