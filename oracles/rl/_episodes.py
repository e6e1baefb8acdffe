"""Episodes: their results, the rules of play, and the players."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from blackbox_zo._number import number
from blackbox_zo._typing import Floats
from oracles.rl._environment import EnvError, name_of
from oracles.rl._spaces import SpaceError
from oracles.rl._statistics import Statistics

__all__ = ["ENDLESS", "Episode", "Failure", "Player", "Rules", "Trajectory", "check_sizes", "groups"]

ENDLESS = 100_000
"""Maximum length of an episode if no limit is set."""


class Trajectory(NamedTuple):
    """One episode, as a user's `score` sees it.

    Attributes:
        observations: The flat observations that the policy acted on, shape (t, o).
        actions: The t actions, as passed to the environment.
        rewards: Shape (t,).
        terminated: Whether it reached a terminal state, rather than a time limit.
        info: The `info` of the last step.
    """

    observations: Floats
    actions: list[Any]
    rewards: Floats
    terminated: bool
    info: dict[str, Any]


class Episode(NamedTuple):
    """The result of an episode.

    Attributes:
        score: The number to maximise.
        episode_return: Sum of rewards.
        steps: Number of steps.
        terminated: Whether it reached a terminal state.
        seen: Statistics of its observations, if the policy normalises.
        cut: Whether the horizon of the search cut it short.
    """

    score: float
    episode_return: float
    steps: int
    terminated: bool
    seen: Statistics | None
    cut: bool = False


class Failure(NamedTuple):
    """Why an episode has no result."""

    reason: str


@dataclass(frozen=True)
class Rules:
    """How episodes are played and scored; see `EpisodeOracle`."""

    score: Callable[[Trajectory], float] | None = None
    survival_bonus: float = 0.0
    max_steps: int | None = None
    clip: bool = True

    def episode(
        self,
        observations: Floats | None,
        actions: list[Any],
        rewards: Floats,
        terminated: bool,
        info: Any,
        seen: bool,
        cut: bool = False,
    ) -> Episode:
        """The result of an episode.

        Args:
            observations: Shape (t, o), if `score` or `seen` needs them.
            actions: The t actions, if `score` needs them.
            rewards: Shape (t,).
            terminated: See `Trajectory`.
            info: See `Trajectory`.
            seen: Whether to compute statistics of the observations.
            cut: See `Episode`.

        Raises:
            EnvError: Rewards or the score are not finite.
        """
        episode_return = float(rewards.sum())
        if not math.isfinite(episode_return):
            bad = np.flatnonzero(~np.isfinite(rewards))
            raise EnvError(f"The reward of step {bad[0] + 1} is not finite." if bad.size else "The rewards overflow.")
        score = episode_return - self.survival_bonus * len(rewards)
        if self.score is not None:
            assert observations is not None
            score = number(self.score(Trajectory(observations.copy(), actions, rewards, terminated, info)), "`score`")
            if not math.isfinite(score):
                raise EnvError(f"`score` returned {score}; it must return a finite number.")
        statistics = Statistics.of(observations) if seen and observations is not None and len(rewards) else None
        return Episode(score, episode_return, len(rewards), terminated, statistics, cut)


class Player(ABC):
    """Plays episodes in an environment.

    Attributes:
        num_envs: Number of episodes played at once; None allows any number.
    """

    num_envs: int | None

    @abstractmethod
    def play_all(
        self, xs: Floats, seen: Statistics | None, seeds: Sequence[int], horizon: int | None = None
    ) -> list[Episode | Failure]:
        """Play k episodes together, at most `num_envs`.

        Args:
            xs: The policy parameters of each, shape (k, size).
            seen: Statistics to normalise by.
            seeds: The environment seed of each, length k.
            horizon: Steps after which an episode is cut; None plays to the end.

        Raises:
            Exception: Whatever the environment raises; then no episode has a result.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the environment."""


def groups(n: int, num_envs: int | None) -> Iterator[slice]:
    """Split n episodes into groups that are played at once."""
    width = num_envs or n
    for first in range(0, n, width):
        yield slice(first, min(first + width, n))


def check_sizes(env: Any, policy: Any, n_inputs: int, n_outputs: int) -> None:
    """Check that a policy fits an environment.

    Raises:
        SpaceError: The policy does not fit.
    """
    for what, has, needs in (
        ("n_inputs", policy.n_inputs, n_inputs),
        ("n_outputs", policy.n_outputs, n_outputs),
    ):
        if has != needs:
            raise SpaceError(
                f"The policy's {what} is {has}, but {name_of(env)!r} needs {needs}. "
                f"Make it with `{type(policy).__name__}.for_env`."
            )
