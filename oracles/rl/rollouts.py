"""Episodes of all candidates at once, by a function of one's own, as on an accelerator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from blackbox_zo._typing import Floats
from oracles.rl._environment import EnvError
from oracles.rl._player import Episode, Failure, Player, Rules
from oracles.rl._statistics import Statistics

__all__ = ["Played", "Rollouts", "RolloutsPlayer"]


class Played(NamedTuple):
    """What k episodes gave.

    Attributes:
        returns: Sum of rewards of each, shape (k,).
        steps: Steps of each, shape (k,); none counts one each.
        mean: Of the observations of each, shape (k, o); only a policy that normalises needs it.
        variance: Of the observations of each, not corrected: the mean of squared deviations, shape (k, o).
    """

    returns: Any
    steps: Any = None
    mean: Any = None
    variance: Any = None


@dataclass(frozen=True)
class Rollouts:
    """A function that plays the episodes of many candidates at once, in place of an environment.

    Args:
        play: Called with the parameters, float64 (k, size), the episodes' seeds, int64 (k,) below 2³¹, and the
            `Statistics` to normalise by, or none. It gives the returns, shape (k,), or `Played`. It must be a function
            of its arguments alone. k is the number of all episodes of a step, so a compiled function is compiled once.
    """

    play: Callable[[Floats, Any, Statistics | None], Any]

    @property
    def id(self) -> str:
        """How it is called in messages and journals."""
        return str(getattr(self.play, "__qualname__", None) or type(self.play).__qualname__)


class RolloutsPlayer(Player):
    """A policy's episodes by a function.

    Args:
        env: The function.
        policy: Whose parameters it takes.
        rules: How.

    Raises:
        ValueError: It cannot follow the rules.
    """

    num_envs = None

    def __init__(self, env: Rollouts, policy: Any, rules: Rules) -> None:
        if rules.score is not None or rules.max_steps is not None:
            raise ValueError(
                "`score` and `max_steps` are for environments; the function of `Rollouts` must see to them."
            )
        self.env, self.policy, self.rules = env, policy, rules

    def play_all(self, xs: Floats, seen: Statistics | None, seeds: Sequence[int]) -> list[Episode | Failure]:
        """See `Player.play_all`.

        Raises:
            EnvError: The function gave something else than it must.
        """
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
                    f"The policy normalises observations, so `{self.env.id}` must give `Played` with steps, mean and "
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
                out.append(Failure(f"EnvError: What `{self.env.id}` gave of an episode is not finite."))
                continue
            total = float(returns[i])
            score = total - self.rules.survival_bonus * steps[i]
            out.append(Episode(float(score), total, int(steps[i]), False, statistics[i]))
        return out

    def _array(self, name: str, value: Any, shape: tuple[int, ...]) -> Floats:
        if hasattr(value, "detach"):  # torch's, perhaps on a device
            value = value.detach().cpu()
        try:
            array = np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise EnvError(f"`{self.env.id}` gave {name} that are not numbers: {error}") from None
        if array.shape != shape:
            raise EnvError(f"`{self.env.id}` gave {name} of shape {array.shape}; of these episodes it must be {shape}.")
        return array

    def close(self) -> None:
        """See `Player.close`."""
