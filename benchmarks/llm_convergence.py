"""Forward passes to a validation loss on fine foods, ours against MeZO's, each with the best rate of its grid.

    python benchmarks/llm_convergence.py [--sides NAME ...] [--seeds 3] [--most-steps 100]

Each rate of a grid gets 30 steps of seed 0, and the one with the lowest loss then is taken for all seeds. A run ends at
the lowest target. The JSON file is written after each run, and runs that it has are not made again. A forward is one
pass of 16 examples through the whole model, also where a side reuses what lower layers gave. A step takes two of them:
"relative" asks 8 examples along 4 directions each, the others 16 examples at both ends of a direction each.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from _common import machine
from _foods import model, reviews, words
from _mezo import MeZO

import blackbox_zo as bz
from oracles.llm import Examples, LabelWords, LossOracle
from oracles.llm._evaluate import Evaluator

TARGETS = (4.0, 3.5, 3.2)
BATCH = 16
TRIAL = 30
VALIDATION = 64
RESULT = Path(__file__).with_suffix(".json")


@dataclass(frozen=True)
class Side:
    """One way to tune.

    Attributes:
        grid: Learning rates to choose from.
        every: Steps between validations.
        start: From (model, examples, loss, rate, seed) to what makes a step, and what is searched.
        forwards: Of one step.
    """

    grid: tuple[float, ...]
    every: int
    start: Callable[[Any, Examples, LabelWords, float, int], tuple[Callable[[int], object], bz.Module | None]]
    forwards: int = 2


def mezo(net: Any, train: Examples, loss: LabelWords, rate: float, seed: int) -> tuple[Any, None]:
    """MeZO over all parameters, radius 1e-3."""
    method, batches = MeZO(net.parameters(), rate, seed=seed), train.shuffled(BATCH, seed)
    return lambda step: method.step(lambda: loss(net, batches(step)).mean()), None


def ours(select: str, estimator: bz.RandomVector, rule: Callable[[float], bz.Rule]) -> Any:
    """A search of ours; see `Side.start`."""

    def start(net: Any, train: Examples, loss: LabelWords, rate: float, seed: int) -> tuple[Any, bz.Module]:
        module = bz.Module(net, select)
        per = "example" if estimator.n_directions > 1 else "step"
        size = BATCH if estimator.n_directions == 1 else estimator.n_groups
        oracle = LossOracle(net, train.shuffled(size, seed), loss, "batched", per, reuse="keep")
        search = bz.Search(module, estimator, rule(rate), seed=seed)

        def step(_: int) -> None:
            proposal = search.ask()
            search.tell(proposal, oracle.answer(proposal))

        return step, module

    return start


TOP = "top:2"
RELATIVE = bz.RandomVector(1e-3, 2 * BATCH, "lowrank", "relative", group=4)
SIDES = {
    "MeZO": Side((3e-5, 1e-4, 3e-4), 5, mezo),
    "all parameters": Side((1e-4, 3e-4, 1e-3), 2, ours("all", bz.RandomVector(1e-3, BATCH, "lowrank"), bz.SGD)),
    "all parameters, relative": Side((1e-4, 3e-4, 1e-3), 2, ours("all", RELATIVE, bz.SGD)),
    "top two layers": Side((2e-3, 6e-3, 2e-2), 2, ours(TOP, bz.RandomVector(1e-3, BATCH, "lowrank"), bz.SGD)),
    "top two layers, relative": Side((2e-3, 6e-3, 2e-2), 2, ours(TOP, RELATIVE, bz.SGD)),
    "final norm": Side(
        (0.1, 0.2, 0.4), 2, ours("top", bz.RandomVector(1e-2, BATCH, "rademacher"), lambda rate: bz.Adam(rate))
    ),
    "all parameters, one direction": Side(
        (3e-5, 1e-4, 3e-4), 5, ours("all", bz.RandomVector(1e-3, 1, "lowrank"), bz.SGD)
    ),
}


def run(side: Side, rate: float, seed: int, most: int) -> list[tuple[int, float]]:
    """(step, validation loss), until the lowest target or the most steps."""
    net, tokenizer = model()
    loss = words(tokenizer)
    examples, _ = reviews(tokenizer)
    train, held = examples.pick(range(VALIDATION, len(examples))), examples.take(VALIDATION)
    step, module = side.start(net, train, loss, rate, seed)
    evaluate = Evaluator(net, held.batches(BATCH), {"loss": loss}, module)
    curve = [(0, evaluate()["loss"])]
    for number in range(most):
        step(number)
        if (number + 1) % side.every == 0:
            curve.append((number + 1, evaluate()["loss"]))
            print(f"    {number + 1:4d} {curve[-1][1]:.3f}", flush=True)
            if curve[-1][1] <= TARGETS[-1] or not curve[-1][1] < 2 * curve[0][1]:
                break
    return curve


def steps_to(curve: list[tuple[int, float]], target: float) -> float | None:
    """Steps until the loss is at the target, between two validations on a straight line; None if it never is."""
    for (a, high), (b, low) in itertools.pairwise(curve):
        if low <= target:
            return a + (b - a) * (high - target) / (high - low)
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=list(SIDES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--most-steps", type=int, default=100)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(2)
    result: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {"machine": machine(), "runs": {}}
    runs = result["runs"]

    def curve(name: str, rate: float, seed: int, most: int) -> list[tuple[int, float]]:
        key = f"{name}, rate {rate:g}, seed {seed}, {most} steps"
        if key not in runs:
            print(key, flush=True)
            runs[key] = run(SIDES[name], rate, seed, most)
            RESULT.write_text(json.dumps(result, indent=1) + "\n")
        return runs[key]  # type: ignore[no-any-return]

    summary = result.setdefault("summary", {})
    for name in given.sides:
        side = SIDES[name]
        trials = {rate: curve(name, rate, 0, TRIAL) for rate in side.grid}
        best = min(side.grid, key=lambda rate: (steps_to(trials[rate], TARGETS[-1]) or TRIAL, trials[rate][-1][1]))
        curves = [curve(name, best, seed, given.most_steps) for seed in range(given.seeds)]
        summary[name] = {"rate": best}
        for target in TARGETS:
            steps = [steps_to(c, target) for c in curves]
            middle = statistics.median(math.inf if s is None else s for s in steps)  # a run may diverge before
            summary[name][f"forwards to {target:g}"] = round(side.forwards * middle, 1) if middle < math.inf else None
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
