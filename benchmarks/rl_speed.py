"""Environment steps per CPU second of whole episodes, ÷ raw stepping; and two workers ÷ twice one worker.

The policy plays with normalised observations, statistics kept, weights N(0, 0.05²). Raw is a loop of
`gymnasium.make(...).step` in the same process, in turns with it: of the same episodes, actions recorded beforehand, so
that physics and resets are the same; and of random actions, whose episodes are others.
Workers: wall time of one answer of 16 episodes by one and by two processes, beside `AsyncVectorEnv` with two.
Run: OMP_NUM_THREADS=1 python benchmarks/rl_speed.py
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from _common import interleaved, save

import blackbox_zo as bz
from oracles.rl import EpisodeOracle, LinearPolicy, MLPPolicy, Policy, Statistics
from oracles.rl._single import SinglePlayer

ENVS = {"Swimmer-v5": (0.92, 0.80), "HalfCheetah-v5": (0.88, 0.80), "CartPole-v1": (0.75, 0.50)}
STEPS, TURNS, EPISODES = 4000, 11, 16


def raw(name: str) -> Callable[[], float]:
    env = gymnasium.make(name)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(1000)]

    def run() -> float:
        begun = time.process_time()
        env.reset(seed=0)
        for i in range(STEPS):
            _, _, terminated, truncated, _ = env.step(actions[i % 1000])
            if terminated or truncated:
                env.reset(seed=i)
        return STEPS / (time.process_time() - begun)

    return run


class Recorder(gymnasium.Wrapper):  # type: ignore[type-arg]
    """Keeps the actions of each episode."""

    def reset(self, **arguments: Any) -> Any:  # noqa: D102
        episodes.append([])
        return super().reset(**arguments)

    def step(self, action: Any) -> Any:  # noqa: D102
        episodes[-1].append(action)
        return super().step(action)


episodes: list[list[Any]] = []


def played(name: str, policy: Policy) -> tuple[Callable[[], float], Callable[[], float]]:
    """The policy's episodes, and raw stepping of the same."""
    rng = np.random.default_rng(0)
    x, seen = 0.05 * rng.standard_normal(policy.size), Statistics.of(rng.standard_normal((100, policy.n_inputs)))
    recorder, player, env = (
        SinglePlayer(lambda: Recorder(gymnasium.make(name)), policy),
        SinglePlayer(name, policy),
        gymnasium.make(name),
    )
    episodes.clear()
    while sum(map(len, episodes)) < STEPS:
        recorder.play(x, seen, len(episodes))
    acted = [list(actions) for actions in episodes]
    n_steps = sum(map(len, acted))

    def play() -> float:
        begun = time.process_time()
        for seed in range(len(acted)):
            player.play(x, seen, seed)
        return n_steps / (time.process_time() - begun)

    def same() -> float:
        begun = time.process_time()
        for seed, actions in enumerate(acted):
            env.reset(seed=seed)
            for action in actions:
                env.step(action)
        return n_steps / (time.process_time() - begun)

    return play, same


def by_workers(name: str, workers: int) -> Callable[[], float]:
    policy = LinearPolicy.for_env(name, normalize=True)
    oracle = EpisodeOracle(name, policy, workers=workers)
    search = bz.Search(policy.x0, bz.PGPE(0.05, EPISODES // 2))
    oracle.answer(search.ask())  # starts the workers

    def run() -> float:
        before, begun = oracle.steps_played, time.perf_counter()
        proposal = search.ask()
        search.tell(proposal, oracle.answer(proposal))
        return (oracle.steps_played - before) / (time.perf_counter() - begun)

    return run


def by_vector_env(name: str) -> Callable[[], float]:
    envs: Any = gymnasium.make_vec(name, num_envs=2, vectorization_mode="async")
    envs.action_space.seed(0)
    actions = [envs.action_space.sample() for _ in range(1000)]
    envs.reset(seed=0)

    def run() -> float:
        begun = time.perf_counter()
        for action in actions:
            envs.step(action)
        return 2 * len(actions) / (time.perf_counter() - begun)

    return run


def main() -> None:
    result: dict[str, Any] = {"aims": "linear and MLP, share of raw", "envs": {}}
    for name, aims in ENVS.items():
        tasks: dict[str, Callable[[], float]] = {"raw": raw(name)}
        for what, policy in (("linear", LinearPolicy), ("MLP 64 x 64", MLPPolicy)):
            tasks[what], tasks[f"raw, as {what}"] = played(name, policy.for_env(name, normalize=True))
        for task in tasks.values():
            task()
        seen: dict[str, list[float]] = {task: [] for task in tasks}
        for _ in range(TURNS):
            for task, run in tasks.items():
                seen[task].append(run())
        rates = {task: np.array(values) for task, values in seen.items()}
        row: dict[str, Any] = {"raw, steps per CPU second": round(float(np.median(rates["raw"])))}
        for task, aim in zip(("linear", "MLP 64 x 64"), aims, strict=True):
            shares = {
                "of raw": rates[task] / rates[f"raw, as {task}"],
                "of raw with random actions": rates[task] / rates["raw"],
            }
            row[task] = {what: round(float(np.median(share)), 3) for what, share in shares.items()} | {"aim": aim}
        if name != "CartPole-v1":
            wall = interleaved({"1": by_workers(name, 1), "2": by_workers(name, 2), "a": by_vector_env(name)}, 5)
            row["two workers / 2 x one"] = round(wall["2"] / (2 * wall["1"]), 3)
            row["AsyncVectorEnv(2) / 2 x one worker"] = round(wall["a"] / (2 * wall["1"]), 3)
            row["steps a second, wall"] = {"one worker": round(wall["1"]), "two": round(wall["2"])}
        result["envs"][name] = row
        print(name, row, flush=True)
    save(__file__, result)


if __name__ == "__main__":
    main()
