"""One measurement of `before_after.py`, in the checkout that PYTHONPATH names: prints what it took.

It uses only what both checkouts have. Run by `before_after.py`, in a process of its own.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import blackbox_zo as bz
from blackbox_zo.function import FunctionOracle

PAIRS = bz.RandomVector(0.1, 8)
"""16 queries a step."""


def cpu(call: Callable[[], object]) -> float:
    """CPU seconds of one call in this process, all its threads included."""
    begun = time.process_time()
    call()
    return time.process_time() - begun


# ----------------------------------------------------------------------------------------------------- the core


def ask_tell(folder: Path, d: int, estimator: bz.Estimator, n: int, journal: bool = False) -> float:
    """CPU us a query of so many, after a few steps that warm up."""
    search = bz.Search(np.zeros(d), estimator, bz.SGD(1e-3), journal=folder / "run.jsonl" if journal else None)
    first = search.ask()
    answers = [bz.Values(np.random.default_rng(step).random(first.n)) for step in range(n // first.n)]
    search.tell(first, answers[0])

    def go(some: list[bz.Values]) -> None:
        for answer in some:
            p = search.ask()
            _ = p.points
            search.tell(p, answer)

    go(answers[:5])
    took = cpu(lambda: go(answers))
    search.close()
    return took / (len(answers) * first.n) * 1e6


def minimize(folder: Path, journal: bool) -> float:
    """CPU us a query of a function that costs nothing, whose answers are told one at a time."""
    path = folder / "run.jsonl" if journal else None
    bz.minimize(lambda x: 1.0, np.ones(10), budget=20)

    def run() -> None:
        bz.minimize(lambda x: 1.0, np.ones(10), (PAIRS, bz.SGD(1e-3)), budget=8000, journal=path)

    return cpu(run) / 8000 * 1e6


def replay(folder: Path, n: int, one_by_one: bool) -> float:
    """CPU s to go on with a run of so many answers, told one at a time or a step at a time."""

    def search() -> bz.Search:
        return bz.Search(np.ones(10), bz.RandomVector(0.1, 16), bz.SGD(1e-3), budget=n, journal=folder / "run.jsonl")

    first = search()
    while first.nfev < n:
        p = first.ask()
        if one_by_one:
            for i in p.ids:
                first.tell(p, bz.Values([1.0]), ids=[i])
        else:
            first.tell(p, bz.Values(np.ones(p.n)))
    first.close()
    return cpu(lambda: search().close())


# ----------------------------------------------------------------------------------------------------- episodes


def episodes(folder: Path, env: str, journal: bool) -> float:
    """CPU us an environment step: a linear policy, normalised observations, 16 episodes a step, in this process.

    A seed gives the same run in both checkouts, as long as neither changes its numbers; so both play the same steps.
    """
    from oracles.rl import EpisodeOracle, LinearPolicy

    oracle = EpisodeOracle(env, LinearPolicy.for_env(env, normalize=True), workers=0)
    path = folder / "run.jsonl" if journal else None
    search = bz.Search(oracle.x0, bz.PGPE(0.5, 8), bz.SGD(1.0), journal=path)

    def run(steps: int) -> None:
        for _ in search.run(oracle, steps=steps):
            pass

    run(3)
    before = oracle.steps_played
    took = cpu(lambda: run(10))
    search.close()
    return took / (oracle.steps_played - before) * 1e6


# ---------------------------------------------------------------------------------------------- language models


def language_model(distribution: Any, sweep: Any) -> float:
    """CPU ms a step. OPT's architecture with 2 layers of 128 and random weights: what is beside the model counts."""
    import torch
    import transformers

    from oracles.llm import LossOracle

    torch.set_num_threads(1)
    torch.manual_seed(0)
    shape = {"hidden_size": 128, "ffn_dim": 512, "word_embed_proj_dim": 128, "vocab_size": 2000}
    config = transformers.OPTConfig(num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=128, **shape)
    net = transformers.OPTForCausalLM(config).eval()
    batch = {"input_ids": torch.randint(3, 2000, (4, 32)), "label": torch.randint(3, 2000, (4,))}

    def loss(net: Any, batch: Any) -> Any:
        z = net(input_ids=batch["input_ids"], logits_to_keep=1).logits[:, -1]
        return torch.nn.functional.cross_entropy(z, batch["label"], reduction="none")

    search = bz.Search(bz.Module(net), bz.RandomVector(1e-3, 1, distribution), bz.SGD(1e-9))
    oracle = LossOracle(net, [batch], loss, sweep)

    def step() -> None:
        for _ in search.run(oracle, steps=1):
            pass

    for _ in range(5):
        step()
    return statistics.median(cpu(step) for _ in range(40)) * 1e3


# ------------------------------------------------------------------------------------------------------ workers


def workers(seconds: float, calls: int) -> float:
    """Wall seconds a call, of calls that sleep, so that they need no processor; once the workers have started."""

    def fun(x: Any) -> float:
        if seconds:
            time.sleep(seconds)
        return float(x[0])

    oracle = FunctionOracle(fun, workers=2)
    search = bz.Search(np.ones(10), bz.RandomVector(0.1, 32), bz.SGD(1e-3))

    def run(steps: int) -> None:
        for _ in search.run(oracle, steps=steps):
            pass

    run(2)
    begun = time.perf_counter()
    run(calls // 64)
    took = (time.perf_counter() - begun) / calls
    oracle.close()
    return took


# ---------------------------------------------------------------------------------------------------- the table

CMA = bz.EvolutionStrategy(0.1, 16, model=True)

TASKS: dict[str, Callable[[Path], float]] = {
    "ask + tell, d = 10, RandomVector, CPU us a query": lambda at: ask_tell(at, 10, PAIRS, 16_000),
    "ask + tell, d = 1000, RandomVector, CPU us a query": lambda at: ask_tell(at, 1000, PAIRS, 4800),
    "ask + tell, d = 10, CMA + model, CPU us a query": lambda at: ask_tell(at, 10, CMA, 1600),
    "ask + tell with a journal, d = 10, CPU us a query": lambda at: ask_tell(at, 10, PAIRS, 16_000, journal=True),
    "minimize, an answer a query, d = 10, CPU us a query": lambda at: minimize(at, journal=False),
    "minimize with a journal, an answer a query, d = 10, CPU us a query": lambda at: minimize(at, journal=True),
    "replay of 200,000 answers, a line a step, d = 10, CPU s": lambda at: replay(at, 200_000, one_by_one=False),
    "replay of 50,000 answers, a line each, d = 10, CPU s": lambda at: replay(at, 50_000, one_by_one=True),
    "Pendulum-v1, CPU us an environment step": lambda at: episodes(at, "Pendulum-v1", journal=False),
    "Pendulum-v1 with a journal, CPU us an environment step": lambda at: episodes(at, "Pendulum-v1", journal=True),
    "CartPole-v1, CPU us an environment step": lambda at: episodes(at, "CartPole-v1", journal=False),
    "CartPole-v1 with a journal, CPU us an environment step": lambda at: episodes(at, "CartPole-v1", journal=True),
    "a step of a small language model, batched, rank 1, CPU ms": lambda at: language_model("lowrank", "batched"),
    "a step of a small language model, scratch, signs, CPU ms": lambda at: language_model("rademacher", "scratch"),
    "2 workers, brisk calls, wall us a call": lambda at: workers(0.0, 6400) * 1e6,
    "2 workers, calls of 10 ms, wall ms a call": lambda at: workers(0.01, 384) * 1e3,
}
"""By what the figure is called, unit included: what measures it, given a folder for a journal. Less is better."""


def least(measure: Callable[[Path], float]) -> float:
    """The least of what it took, time after time for two seconds: what else runs on the machine only adds to it."""
    found, begun = list[float](), time.perf_counter()
    while not found or time.perf_counter() - begun < 2.0:
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:  # on the disk, not in a memory file system
            found.append(measure(Path(folder)))
    return min(found)


def main() -> None:
    warnings.simplefilter("ignore")
    print(json.dumps({"took": least(TASKS[sys.argv[1]]), "package": bz.__file__}))


if __name__ == "__main__":
    main()
