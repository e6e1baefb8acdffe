"""`blackbox-zo watch` of a training that has ended: 10,000 steps of 10 candidates, with an evaluation after each.

The lines of "normalised" hold the statistics of 17 observations each, as those of HalfCheetah do; "plain" are those of
a policy that takes observations as they are. The process is measured whole, from its start to its end, by the wall and
by its CPU time, which a busy machine leaves alone; beside it a tenth of the run, and the help alone.
Run: python benchmarks/watch.py
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from _common import save

import blackbox_zo as bz
from oracles.rl import EpisodeOracle, LinearPolicy, Played, Rollouts

STEPS, CANDIDATES, ROUNDS = 10_000, 10, 5


def recorded(path: Path, steps: int, normalize: bool) -> int:
    """The bytes of a run of so many steps, whose episodes cost nothing."""
    rng = np.random.default_rng(0)

    def play(x: Any, seeds: Any, seen: Any) -> Played:
        k = len(x)
        return Played(rng.normal(size=k), np.full(k, 1000), rng.normal(size=(k, 17)), rng.random((k, 17)))

    oracle = EpisodeOracle(Rollouts(play), LinearPolicy(17, 6, normalize=normalize), workers=0)
    problem = {"kind": "train-policy", "env": "HalfCheetah-v5", "versions": {}, "policy": "LinearPolicy", "episodes": 1}
    journal = bz.Journal(path, problem, {"steps": steps})
    measure = bz.Measure("return", lambda search: {"return": search.moves / 10, "steps": 1e4 * search.moves})
    with bz.Search(oracle.x0, bz.PGPE(0.1, CANDIDATES // 2), bz.SGD(0.01), journal=journal) as search:
        bz.Run(search, oracle, steps=steps, measures=[measure]).to_the_end()
    return path.stat().st_size


def seconds(*words: str) -> tuple[float, float]:
    """Of a command, in all: by the wall, and of its processor."""
    wall, before = time.perf_counter(), os.times()
    subprocess.run([sys.executable, "-m", "oracles.cli.main", *words], check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - wall, cpu


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        commands: dict[str, tuple[str, ...]] = {"help": ("--help",)}
        size = {}
        for name, normalize in (("normalised", True), ("plain", False)):
            for share, steps in (("", STEPS), (", a tenth", STEPS // 10)):
                path = Path(folder) / f"{name}{steps}.jsonl"
                size[name + share] = recorded(path, steps, normalize)
                commands[name + share] = ("watch", str(path))
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for _ in range(ROUNDS):
            for name, words in commands.items():
                found[name].append(seconds(*words))
    result: dict[str, Any] = {"steps": STEPS, "candidates": CANDIDATES, "aim, seconds": 3.0, "bytes": size}
    for name, taken in found.items():
        wall, cpu = zip(*taken, strict=True)
        columns = {"wall": wall, "CPU": cpu}
        result[name] = {
            what: {"median": round(statistics.median(each), 2), "all": [round(x, 2) for x in each]}
            for what, each in columns.items()
        }
    save(__file__, result)


if __name__ == "__main__":
    main()
