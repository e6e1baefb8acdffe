"""Small environments: one that is a function of everything it is given, and some that misbehave."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from blackbox_zo._typing import Floats

Misdeed = Callable[["Line", Any], Any]


class Line(gymnasium.Env[Any, Any]):
    """A point on a line, pushed by the action and by the seed's noise; the reward is minus its distance from 1.

    Args:
        length: Steps of an episode.
        misdeed: Called in the middle of each episode with the environment and the observation; gives an observation.
        reward: What is given instead, once.
        at_close: Called at the end.
    """

    def __init__(
        self,
        length: int = 6,
        misdeed: Misdeed | None = None,
        reward: float | None = None,
        at_close: Callable[[], Any] | None = None,
    ) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (3,))
        self.action_space = spaces.Box(-1.0, 1.0, (1,))
        self.length, self.misdeed, self.reward, self.at_close = length, misdeed, reward, at_close

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t, self.seed, self.at = 0, seed, float(self.np_random.normal())
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        self.t += 1
        self.pushed = float(action[0])
        self.at += 0.3 * float(action[0]) + 0.1 * float(self.np_random.normal())
        reward = -abs(self.at - 1.0)
        observation = self._seen()
        if self.t == self.length // 2:
            if self.misdeed is not None:
                observation = self.misdeed(self, observation)
            if self.reward is not None:
                reward = self.reward
        return observation, reward, self.t >= self.length, False, {"at": self.at, "seed": self.seed}

    def close(self) -> None:
        if self.at_close is not None:
            self.at_close()

    def _seen(self) -> Floats:
        return np.array([self.at, self.at**2, 7.0], dtype=np.float32)


def played(seeds: Any, x: Floats, length: int = 6) -> list[float]:
    """The sums of rewards of a linear policy in `Line`, step by step."""
    out, env = [], Line(length)
    for seed in seeds:
        observation, _ = env.reset(seed=seed)
        total = 0.0
        for _ in range(length):
            action = np.clip(x @ observation.astype(float), -1, 1).astype(np.float32)[None]
            observation, reward, *_ = env.step(action)
            total += reward
        out.append(total)
    return out


class Spaces(gymnasium.Env[Any, Any]):
    """Two steps in any spaces; the reward is 1 for an action of the space."""

    def __init__(self, observation_space: Any, action_space: Any) -> None:
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.t = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        return self.observation_space.sample(), float(self.action_space.contains(action)), False, self.t == 2, {}


class Seedless(Line):
    """Of an old kind."""

    def reset(self) -> tuple[Any, dict[str, Any]]:  # type: ignore[override]
        return super().reset(seed=0)


# ------------------------------------------------------------------------------------------------- misdeeds


def nothing(env: Line, observation: Any) -> Any:
    return observation


def by_action(misdeeds: dict[float, Misdeed]) -> Misdeed:
    """The misdeed of an action, to two places."""
    return lambda env, observation: misdeeds.get(round(env.pushed, 2), nothing)(env, observation)


def once(mark: Path, misdeed: Misdeed) -> Misdeed:
    """A misdeed that happens once among all processes."""

    def done(env: Line, observation: Any) -> Any:
        try:
            mark.touch(exist_ok=False)
        except FileExistsError:
            return observation
        return misdeed(env, observation)

    return done


def raises(env: Line, observation: Any) -> Any:
    raise RuntimeError("the motor is on fire")


def hangs(env: Line, observation: Any) -> Any:
    time.sleep(600)


def aborts(env: Line, observation: Any) -> Any:
    os.abort()


def exits(env: Line, observation: Any) -> Any:
    os._exit(3)


def is_blind(env: Line, observation: Any) -> Any:
    return observation * np.nan


def poisons(env: Line, observation: Any) -> Any:
    env.reward = np.nan
    return observation


def overflows(env: Line, observation: Any) -> Any:
    return observation + np.inf


def forks_and_dies(env: Line, observation: Any) -> Any:
    """A child that outlives it holds all its files open."""
    if os.fork() == 0:
        time.sleep(600)
    os._exit(5)


def says_where(folder: Path, misdeed: Misdeed) -> Misdeed:
    """Leaves a file of its process's number."""

    def done(env: Line, observation: Any) -> Any:
        (folder / str(os.getpid())).touch()
        return misdeed(env, observation)

    return done


def starts_a_program(folder: Path) -> Misdeed:
    """And hangs; both leave a file of their number."""

    def done(env: Line, observation: Any) -> Any:
        program = subprocess.Popen(["sleep", "600"])
        for pid in (program.pid, os.getpid()):
            (folder / str(pid)).touch()
        time.sleep(600)

    return done


def keeps_memory(kept: list[Any], folder: Path, mib: int) -> Misdeed:
    """And leaves a file of its process's number for each episode."""

    def done(env: Line, observation: Any) -> Any:
        kept.append(np.ones(mib << 17))
        (folder / f"{os.getpid()}.{len(kept)}").touch()
        return observation

    return done
