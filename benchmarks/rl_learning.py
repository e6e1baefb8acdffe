"""What policies reach by how many steps: all seeds, beside ARS in its published settings, in one harness.

Policies are linear. After every 20,000 steps (50,000 on the others) the present policy plays 5 episodes of seeds that
no training meets; the figure is their mean. Steps count those of training alone.

- Swimmer-v5: the share of seeds that reach 325 within 400,000 steps; a run ends once it has. ARS V1 and V2 with N = b =
  1, alpha 0.02, nu 0.01.
- HalfCheetah-v5: the mean return at 1,000,000 steps. ARS V2-t with N = 32, b = 4, alpha 0.02, nu 0.03, as published,
  and with N = 8, b = 4, the defaults of its code.
- Walker2d-v5, its survival bonus taken off: the mean return, bonus included, at 500,000 steps, beside ARS V2-t with the
  defaults of its code, N = 8, b = 4.
- CartPole-v1: episodes until 100 others have a mean of 475, tested after each step whose best candidate reached 500.
- By rankings: the order of episodes alone, at equal episodes.
Each environment that is named is measured anew, `NAME=METHOD` one method of it; both take their place in the result.
Run: OMP_NUM_THREADS=1 python benchmarks/rl_learning.py [cartpole swimmer halfcheetah walker2d]
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import json
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from _common import save

import blackbox_zo as bz
from oracles.rl import Preset, Training, preset


def ars(n: int, b: int, nu: float, normalize: bool) -> Callable[[int], Preset]:
    return lambda d: Preset(bz.AugmentedRandomSearch(nu, n, b), bz.SGD(0.02), normalize)


def ranked(name: str) -> Callable[[int], Preset]:
    return lambda d: preset(name, d, rank=True)


SWIMMER: dict[str, Callable[[int], Preset]] = {
    "ours (auto)": lambda d: preset("auto", d),
    "ours, whole episodes": lambda d: preset("auto", d, horizon=None),
    "ours by rankings": ranked("auto"),
    "ARS V1": ars(1, 1, 0.01, False),
    "ARS V2": ars(1, 1, 0.01, True),
}
CHEETAH: dict[str, Callable[[int], Preset]] = {
    "ours (auto)": lambda d: preset("auto", d),
    "ours, whole episodes": lambda d: preset("auto", d, horizon=None),
    "ours, all ranks alike": lambda d: preset("auto", d, estimator=bz.PGPE(0.1, 10)),
    "by rankings (rank)": lambda d: preset("rank", d),
    "by rankings (rank-sgd)": lambda d: preset("rank-sgd", d),
    "ARS V2-t": ars(32, 4, 0.03, True),
    "ARS V2-t, defaults of its code": lambda d: preset("ars", d),
}
WALKER: dict[str, Callable[[int], Preset]] = {
    "ours (auto)": lambda d: preset("auto", d),
    "ours, all ranks alike": lambda d: preset("auto", d, estimator=bz.PGPE(0.1, 10)),
    "ARS V2-t, defaults of its code": lambda d: preset("ars", d),
}
METHODS = {"Swimmer-v5": SWIMMER, "HalfCheetah-v5": CHEETAH, "Walker2d-v5": WALKER}
SIZES = {"Swimmer-v5": 16, "HalfCheetah-v5": 102, "Walker2d-v5": 102, "CartPole-v1": 8}


def curve(env: str, how: Preset, steps: int, every: int, seed: int, enough: float) -> list[float]:
    """The mean return of 5 episodes after every so many steps, until it is enough."""
    out: list[float] = []
    bonus = 1.0 if env == "Walker2d-v5" else 0.0
    with Training(env, how, workers=0, seed=seed, survival_bonus=bonus) as training:
        for _ in training.run(env_steps=steps):
            while len(out) < training.experience.steps // every and len(out) < steps // every:
                out.append(round(float(training.trained.evaluate(5, seed=seed).mean()), 1))
                if out[-1] >= enough:
                    return out
    return out


def one(task: tuple[str, str, int]) -> list[float]:
    """One run, in a process of its own."""
    env, method, seed = task
    how = METHODS[env][method](SIZES[env])
    if env == "Swimmer-v5":
        return curve(env, how, 400_000, 20_000, seed, 325)
    return curve(env, how, 500_000 if env == "Walker2d-v5" else 1_000_000, 50_000, seed, np.inf)


def cartpole(seed: int) -> int | None:
    """Episodes until it is solved."""
    with Training("CartPole-v1", "auto", workers=0, seed=seed) as training:
        for _ in training.run(100):
            if -training.search.best.value >= 500 and training.trained.evaluate(100, seed=1).mean() >= 475:
                return training.experience.episodes
    return None


def main() -> None:
    given = [name.partition("=") for name in sys.argv[1:] or ["cartpole", "swimmer", "halfcheetah", "walker2d"]]
    wanted = {name: method for name, _, method in given}
    path = Path(__file__).with_suffix(".json")
    result: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    result = {name: found for name, found in result.items() if name in SIZES}
    with ProcessPoolExecutor(2) as pool:
        if "cartpole" in wanted:
            found = list(pool.map(cartpole, range(20)))
            solved = [n for n in found if n is not None and n <= 200]
            result["CartPole-v1"] = {"episodes": found, "solved within 200": f"{len(solved)} of 20"}
            print(result, flush=True)
        for env, n_seeds in (("Swimmer-v5", 20), ("HalfCheetah-v5", 5), ("Walker2d-v5", 5)):
            name = env.partition("-")[0].lower()
            if name not in wanted:
                continue
            methods = [wanted[name]] if wanted[name] else list(METHODS[env])
            result[env] = result.get(env, {}) if wanted[name] else {}
            tasks = [(env, method, seed) for seed in range(n_seeds) for method in methods]
            curves = dict(zip(tasks, pool.map(one, tasks), strict=True))
            for method in methods:
                mine = [curves[env, method, seed] for seed in range(n_seeds)]
                last = [c[-1] for c in mine]
                row: dict[str, Any] = {"last": last, "median": float(np.median(last))}
                if env == "Swimmer-v5":
                    took = [20_000 * len(c) if max(c) >= 325 else None for c in mine]
                    row = {"share that reached 325": float(np.mean([t is not None for t in took])), "steps": took}
                result[env][method] = {**row, "curves": mine}
                print(env, method, row, flush=True)
    save(__file__, result)


if __name__ == "__main__":
    main()
