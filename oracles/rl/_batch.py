"""Play the episodes of all candidates at once, with a user's function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from blackbox_zo._typing import Floats, override
from oracles.rl._environment import EnvError
from oracles.rl._episodes import Episode, Failure, Player, Rules
from oracles.rl._statistics import Statistics
from oracles.rl.rollouts import Played, Rollouts

__all__ = ["BatchPlayer"]


class BatchPlayer(Player):
    """Plays episodes with the function in `Rollouts`.

    Args:
        env: The function.
        policy: The policy whose parameters it takes.
        rules: How episodes are played.

    Raises:
        ValueError: The function cannot follow the rules.
    """

    num_envs = None

    def __init__(self, env: Rollouts, policy: Any, rules: Rules) -> None:
        if rules.score is not None or rules.max_steps is not None:
            raise ValueError(
                "`score` and `max_steps` are for environments; the function in `Rollouts` must apply its own."
            )
        self.env, self.policy, self.rules = env, policy, rules

    @override
    def play_all(
        self, xs: Floats, seen: Statistics | None, seeds: Sequence[int], horizon: int | None = None
    ) -> list[Episode | Failure]:
        # The horizon is not passed on: the function alone decides the length of its episodes
        k = len(seeds)
        given = self.env.play(np.ascontiguousarray(xs), np.array(seeds, dtype=np.int64), seen)
        played = given if isinstance(given, Played) else Played(given)
        returns = self._array("returns", played.returns, (k,))
        steps = np.ones(k) if played.steps is None else self._array("steps", played.steps, (k,))
        statistics: list[Statistics | None] = [None] * k
        finite = np.isfinite(returns) & np.isfinite(steps)
        if self.policy.normalize:
            if played.steps is None or played.mean is None or played.variance is None:
                raise EnvError(
                    f"The policy normalises observations, so `{self.env.id}` must return `Played` with steps, mean and "
                    "variance."
                )
            o = (k, self.policy.n_inputs)
            mean, variance = (self._array(n, getattr(played, n), o) for n in ("mean", "variance"))
            finite &= np.isfinite(mean).all(axis=1) & np.isfinite(variance).all(axis=1)
            statistics = [
                Statistics(int(t), m, v * int(t)) if np.isfinite(t) else None
                for t, m, v in zip(steps, mean, variance, strict=True)
            ]
        out: list[Episode | Failure] = []
        for i in range(k):
            if not finite[i]:
                out.append(Failure(f"EnvError: `{self.env.id}` returned a number that is not finite."))
                continue
            episode_return = float(returns[i])
            score = episode_return - self.rules.survival_bonus * steps[i]
            out.append(Episode(float(score), episode_return, int(steps[i]), False, statistics[i]))
        return out

    def _array(self, name: str, value: Any, shape: tuple[int, ...]) -> Floats:
        if hasattr(value, "detach"):  # a torch tensor, perhaps on a GPU
            value = value.detach().cpu()
        try:
            array = np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise EnvError(f"`{self.env.id}` returned {name} that are not numbers: {error}") from None
        if array.shape != shape:
            raise EnvError(f"`{self.env.id}` returned {name} of shape {array.shape}; the shape must be {shape}.")
        return array

    @override
    def close(self) -> None:
        pass
