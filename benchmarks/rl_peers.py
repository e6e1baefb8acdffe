"""Linear policies by us and by peers: return at equal steps of the environment, and steps per CPU second of the whole.

One process each, of which the CPU seconds of training are counted, imports not. The policy at the end plays 20 episodes
of seeds of their own, in one plain loop that is the same for all. How fast an environment is depends on what is done in
it, so each training is done a second time with every action written down, and these are played again with nothing else
in the loop: the speed of training is given as a share of that too. (evotorch seeds no episode, so its second
training is alike, not the same.) Peers have their published settings:
- stable-baselines3-contrib: ARS with those of rl-baselines3-zoo ("closest to the original paper"), VecNormalize where
  it says so.
- evotorch: `GymNE` with observation normalisation, PGPE and ClipUp as in its example `rl_clipup.py`, popsize 100.
- pycma: `CMAEvolutionStrategy(0, 0.5)` over a plain loop in numpy; diagonal above 100 parameters, as ours.
Run: pip install evotorch sb3-contrib cma; OMP_NUM_THREADS=1 python benchmarks/rl_peers.py
"""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import json
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gymnasium
import numpy as np
from _common import save

Act = Callable[[Any], Any]
Make = Callable[[], Any]
STEPS = {"CartPole-v1": 20_000, "Swimmer-v5": 200_000, "HalfCheetah-v5": 300_000}
SEEDS = range(5)


def ours(make: Make, name: str, steps: int, seed: int) -> tuple[Act, int]:
    """What `train` does unless told otherwise."""
    from oracles.rl import Training

    with Training(make, workers=0, seed=seed) as training:
        for _ in training.run(env_steps=steps):
            pass
        return training.trained.act, training.experience.steps


def sb3_ars(make: Make, name: str, steps: int, seed: int) -> tuple[Act, int]:
    """ARS of stable-baselines3-contrib."""
    from sb3_contrib import ARS
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    settings: dict[str, dict[str, Any]] = {
        "CartPole-v1": {"n_delta": 2, "n_top": 2},
        "Swimmer-v5": {"n_delta": 1, "n_top": 1, "learning_rate": 0.02, "delta_std": 0.01},
        "HalfCheetah-v5": {"n_delta": 32, "n_top": 4, "learning_rate": 0.02, "delta_std": 0.03},
    }
    env: Any = DummyVecEnv([make])
    normalizes = name == "HalfCheetah-v5"
    if normalizes:
        env = VecNormalize(env, norm_reward=False)
    model = ARS("LinearPolicy", env, seed=seed, **settings[name])
    model.learn(steps)

    def act(observation: Any) -> Any:
        seen = env.normalize_obs(observation) if normalizes else observation
        return model.predict(seen, deterministic=True)[0]

    return act, model.num_timesteps


def evotorch_pgpe(make: Make, name: str, steps: int, seed: int) -> tuple[Act, int]:
    """PGPE of evotorch."""
    import torch
    from evotorch.algorithms import PGPE
    from evotorch.neuroevolution import GymNE

    discrete = isinstance(make().action_space, gymnasium.spaces.Discrete)
    problem: Any = GymNE(make, "Linear(obs_length, act_length)", observation_normalization=True)
    problem.manual_seed(seed)
    longest = 0.015
    search = PGPE(
        problem,
        popsize=100,
        center_learning_rate=0.75 * longest,
        stdev_learning_rate=0.1,
        radius_init=15 * longest,
        optimizer="clipup",
        optimizer_config={"max_speed": longest},
        stdev_max_change=0.2,
    )
    while int(problem.status.get("total_interaction_count", 0)) < steps:
        search.step()
    policy = problem.to_policy(search.status["center"])

    def act(observation: Any) -> Any:
        with torch.no_grad():
            out = policy(torch.as_tensor(np.asarray(observation), dtype=torch.float32)).numpy()
        return int(out.argmax()) if discrete else out

    return act, int(problem.status["total_interaction_count"])


def pycma(make: Make, name: str, steps: int, seed: int) -> tuple[Act, int]:
    """CMA-ES of pycma."""
    import cma

    env = make()
    discrete = isinstance(env.action_space, gymnasium.spaces.Discrete)
    shape = (int(env.action_space.n) if discrete else env.action_space.shape[0], env.observation_space.shape[0])

    def acting(x: Any) -> Act:
        w = np.reshape(x, shape)
        if discrete:
            return lambda o: int((w @ o).argmax())
        low, high = env.action_space.low, env.action_space.high
        return lambda o: np.clip(w @ o, low, high).astype(np.float32)

    d, taken, rng = shape[0] * shape[1], 0, np.random.default_rng(seed)
    es = cma.CMAEvolutionStrategy(
        np.zeros(d), 0.5, {"seed": seed + 1, "verbose": -9, "CMA_diagonal": d > 100, "maxiter": 10**9}
    )
    while taken < steps:
        xs, values, episode = es.ask(), [], int(rng.integers(1 << 31))
        for x in xs:
            total, t = play(env, acting(x), episode)
            taken += t
            values.append(-total)
        es.tell(xs, values)
    return acting(es.mean), taken


METHODS = {"ours": ours, "sb3-contrib ARS": sb3_ars, "evotorch PGPE, ClipUp": evotorch_pgpe, "pycma": pycma}


def play(env: Any, act: Act, seed: int) -> tuple[float, int]:
    """One episode: sum of rewards, and steps."""
    observation, _ = env.reset(seed=seed)
    total, t, over = 0.0, 0, False
    while not over:
        observation, reward, terminated, truncated, _ = env.step(act(observation))
        total, t, over = total + float(reward), t + 1, terminated or truncated
    return total, t


class Recorded(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Writes down the seed of each episode, and what is done in it."""

    def __init__(self, env: Any, episodes: list[tuple[Any, list[Any]]]) -> None:
        super().__init__(env)
        self.episodes = episodes

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        """As gymnasium's."""
        self.episodes.append((seed, []))
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> Any:
        """As gymnasium's."""
        self.episodes[-1][1].append(np.copy(action)[()])
        return self.env.step(action)


def alone(env: Any, episodes: list[tuple[Any, list[Any]]]) -> float:
    """Steps per CPU second of the environment alone, given the actions of some episodes."""
    taken, seconds = 0, 0.0
    for seed, actions in episodes:
        env.reset(seed=seed)
        begun = time.process_time()
        for action in actions:
            env.step(action)
        seconds += time.process_time() - begun
        taken += len(actions)
    return taken / seconds


def one(method: str, name: str, seed: int) -> dict[str, float]:
    """Train, evaluate, and train once more for what was done, here."""

    def make() -> Any:
        return gymnasium.make(name)

    def recorded() -> Any:
        return Recorded(gymnasium.make(name), episodes)

    METHODS[method](make, name, 2000, 99)  # imports, and what is made once
    begun = time.process_time()
    act, steps = METHODS[method](make, name, STEPS[name], seed)
    rate = steps / (time.process_time() - begun)
    env = make()
    value = float(np.mean([play(env, act, 10**6 + e)[0] for e in range(20)]))
    episodes: list[tuple[Any, list[Any]]] = []
    METHODS[method](recorded, name, STEPS[name], seed)
    return {"return": value, "rate": rate, "alone": alone(env, episodes), "steps": steps}


def apart(task: tuple[str, str, int]) -> dict[str, float]:
    """In a process of its own."""
    method, name, seed = task
    words = [sys.executable, __file__, "--one", method, name, str(seed)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(task, found, flush=True)
    return found


def main() -> None:
    result: dict[str, Any] = {"steps": STEPS}
    tasks = [(method, name, seed) for seed in SEEDS for name in STEPS for method in METHODS]
    with ThreadPoolExecutor(2) as pool:
        found = dict(zip(tasks, pool.map(apart, tasks), strict=True))
    for name in STEPS:
        result[name] = {}
        for method in METHODS:
            rows = [found[method, name, seed] for seed in SEEDS]
            columns = {
                "return": [round(row["return"], 1) for row in rows],
                "steps per CPU second": [round(row["rate"]) for row in rows],
                "environment alone": [round(row["alone"]) for row in rows],
                "share of it": [round(row["rate"] / row["alone"], 3) for row in rows],
            }
            result[name][method] = {
                **{what: {"median": float(np.median(each)), "all": each} for what, each in columns.items()},
                "steps": [int(row["steps"]) for row in rows],
            }
    save(__file__, result)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(one(sys.argv[2], sys.argv[3], int(sys.argv[4]))))
    else:
        main()
