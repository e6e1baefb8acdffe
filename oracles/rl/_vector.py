"""Play whole episodes in vector environments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from blackbox_zo._typing import Floats, override
from oracles.rl._environment import EnvError, close, make, reset, said, spaces_of
from oracles.rl._episodes import ENDLESS, Episode, Failure, Player, Rules, check_sizes
from oracles.rl._spaces import actions_of, observations_of
from oracles.rl._statistics import Statistics

__all__ = ["VectorPlayer"]


class VectorPlayer(Player):
    """Plays in a `gymnasium.vector.VectorEnv`, with different policy parameters in each of its environments.

    An environment whose episode has ended waits for the others; its actions and observations are ignored. If each
    environment takes its own seed, as in gymnasium's SyncVectorEnv and AsyncVectorEnv, an episode does not depend on
    the others. Otherwise all of them share the seed of the first.

    Args:
        env: The environment, as in `make`.
        policy: The policy.
        rules: How episodes are played.
        num_envs: Number of environments; with 1 the function that makes them decides.
        made: The environments, if they exist already.

    Raises:
        ValueError: The policy does not fit the environment.
    """

    num_envs: int

    def __init__(self, env: Any, policy: Any, rules: Rules | None = None, num_envs: int = 1, made: Any = None) -> None:
        self.env, self.policy, self.rules = env, policy, rules or Rules()
        self.made = make(env, num_envs) if made is None else made
        try:
            self.num_envs = int(self.made.num_envs)
            observations, actions = spaces_of(self.made)
            n_inputs, self._flat = _rows_of(observations, self.made.observation_space)
            n_outputs, self._actions = _actions_of(actions, self.made.action_space, self.rules.clip)
            check_sizes(env, policy, n_inputs, n_outputs)
            self._acting = policy.in_turn(self.num_envs)
            self._seeded_each = self._takes_seeds()
            self._asks_for_resets = _mode_of(self.made) == "DISABLED"
        except BaseException:
            self.close()
            raise

    @override
    def play_all(
        self, xs: Floats, seen: Statistics | None, seeds: Sequence[int], horizon: int | None = None
    ) -> list[Episode | Failure]:
        # An episode with a non-finite observation or reward fails alone
        n, k = self.num_envs, len(seeds)
        rows = np.minimum(np.arange(n), k - 1)  # idle environments repeat the last episode
        act, rules = self._acting(xs[rows], seen), self.rules
        record = self.policy.normalize or rules.score is not None
        longest = ENDLESS if rules.max_steps is None else rules.max_steps
        limit = longest if horizon is None else min(longest, horizon)
        observation, info = self._reset([seeds[i] for i in rows])
        running = np.arange(n) < k
        steps, terminated = np.zeros(n, dtype=int), np.zeros(n, dtype=bool)
        infos: list[Any] = [{}] * n
        failed: dict[int, str] = {}
        observations: list[Floats] = []
        rewards: list[Floats] = []
        actions: list[Any] = []
        while running.any() and len(rewards) < limit:
            flat = self._flat(observation)
            blind = running & ~np.isfinite(flat).all(axis=1)
            for i in np.flatnonzero(blind).tolist():
                failed[i] = f"The observation before step {len(rewards) + 1} is not finite."
            running &= ~blind
            flat[~running] = 0.0
            action = self._actions(act(flat))
            observation, reward, ended, truncated, info = self.made.step(action)
            rewards.append(np.array(reward, dtype=np.float64))
            if record:
                observations.append(flat)
            if rules.score is not None:
                actions.append(action)
                for i in np.flatnonzero(running).tolist():
                    infos[i] = _info_of(info, i)
            steps += running
            ended, done = np.asarray(ended), np.asarray(ended) | np.asarray(truncated)
            terminated |= running & ended
            if self._asks_for_resets and done.any() and (running & ~done).any():
                observation, _ = self.made.reset(options={"reset_mask": done})
            running &= ~done
        told = np.stack(rewards, axis=1) if rewards else np.zeros((n, 0))
        saw = np.stack(observations) if observations else None
        out: list[Episode | Failure] = []
        for i in range(k):
            t = int(steps[i])
            try:
                if i in failed:
                    raise EnvError(failed[i])
                acted = [action[i] for action in actions[:t]]
                own = None if saw is None else saw[:t, i]
                cut = bool(running[i]) and limit < longest
                ended = bool(terminated[i])
                out.append(rules.episode(own, acted, told[i, :t], ended, infos[i], self.policy.normalize, cut))
            except EnvError as error:
                out.append(Failure(said(error)))
        return out

    def _takes_seeds(self) -> bool:
        """Whether each environment takes its own seed."""
        import gymnasium

        try:
            self.made.reset(seed=list(range(self.num_envs)))
        except (
            TypeError,
            ValueError,
            AssertionError,
            gymnasium.error.Error,
        ):  # the error differs
            reset(self.env, self.made, 0)
            return False
        return True

    def _reset(self, seeds: list[int]) -> Any:
        return reset(self.env, self.made, seeds if self._seeded_each else seeds[0])

    @override
    def close(self) -> None:
        close(self.made)


def _mode_of(made: Any) -> str:
    """Gymnasium's autoreset mode: what starts the next episode after one has ended."""
    mode = (getattr(made, "metadata", None) or {}).get("autoreset_mode")
    return str(getattr(mode, "name", mode))


def _rows_of(space: Any, batched: Any) -> tuple[int, Callable[[Any], Floats]]:
    """The size of a flat observation, and a function that copies a batch of observations to rows."""
    from gymnasium import spaces
    from gymnasium.vector.utils import iterate

    size, flat = observations_of(space)
    if isinstance(space, spaces.Box):
        return size, lambda many: np.array(many, dtype=np.float64).reshape(-1, size)
    return size, lambda many: np.array([flat(one) for one in iterate(batched, many)], dtype=np.float64)


def _actions_of(space: Any, batched: Any, clip: bool) -> tuple[int, Callable[[Floats], Any]]:
    """The number of outputs that a policy needs, and a function from rows of outputs to a batch of actions."""
    from gymnasium import spaces

    size, one = actions_of(space, clip)
    if isinstance(space, spaces.Box):
        whole = actions_of(batched, clip)[1]
        return size, lambda rows: whole(rows.reshape(-1))
    dtype, shape = batched.dtype, batched.shape
    if isinstance(space, spaces.Discrete):
        first = int(space.start)
        return size, lambda rows: (first + rows.argmax(axis=1)).astype(dtype)
    return size, lambda rows: np.array([one(row) for row in rows], dtype=dtype).reshape(shape)


def _info_of(info: dict[str, Any], i: int) -> dict[str, Any]:
    """The info of one environment out of a vector environment's: an array per name, and a mask under `_name`.

    Values that are not arrays apply to all environments.
    """
    if "final_info" in info and _has(info, "final_info", i):
        info = info["final_info"]
    out = {}
    for name, value in info.items():
        if name.startswith("_") or not _has(info, name, i):
            continue
        if isinstance(value, dict):
            out[name] = _info_of(value, i)
        else:
            out[name] = value[i] if np.ndim(value) else value
    return out


def _has(info: dict[str, Any], name: str, i: int) -> bool:
    return f"_{name}" not in info or bool(info[f"_{name}"][i])
