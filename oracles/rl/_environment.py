"""Making environments, and playing whole episodes in them."""

from __future__ import annotations

import contextlib
import difflib
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from blackbox_zo._typing import Floats
from oracles.rl._spaces import SpaceError, actions_of, observations_of
from oracles.rl._statistics import Statistics

__all__ = ["EnvError", "Episode", "Player", "Trajectory", "make", "name_of", "sizes_of", "versions_of"]

ENDLESS = 100_000
"""Steps after which an episode is cut where nobody set a limit."""


class EnvError(ValueError):
    """An environment that cannot be made or asked."""


class Trajectory(NamedTuple):
    """One episode, for a `score` of one's own.

    Attributes:
        observations: Flat, those that were acted on, shape (t, o).
        actions: As the environment got them, t of them.
        rewards: Shape (t,).
        terminated: Whether it ended of itself, not by a limit of time.
        info: What the environment said in the last step.
    """

    observations: Floats
    actions: list[Any]
    rewards: Floats
    terminated: bool
    info: dict[str, Any]


class Episode(NamedTuple):
    """What an episode gave.

    Attributes:
        score: What is maximised.
        total: Sum of rewards.
        steps: Number of steps.
        terminated: Whether it ended of itself.
        seen: Statistics of its observations, if the policy normalises.
    """

    score: float
    total: float
    steps: int
    terminated: bool
    seen: Statistics | None


def name_of(env: Any) -> str:
    """How an environment is called in messages and journals."""
    if isinstance(env, str):
        return env
    return str(getattr(env, "id", None) or getattr(env, "__qualname__", None) or type(env).__qualname__)


def make(env: Any, **arguments: Any) -> Any:
    """An environment from its id, an `EnvSpec`, or a function that makes it.

    Raises:
        EnvError: There is none of this name, or what it needs is not installed.
        TypeError: It is none of the three.
    """
    import gymnasium

    named = isinstance(env, str | gymnasium.envs.registration.EnvSpec)
    if not named and not isinstance(env, type) and hasattr(env, "reset"):
        raise TypeError(
            "Give the id of an environment, its EnvSpec, or a function that makes it, not one that is made."
        )
    if not named and not callable(env):
        raise TypeError(f"`env` must be an id, an EnvSpec, or a function that makes an environment, got {env!r:.60}.")
    try:
        made = gymnasium.make(env, disable_env_checker=True, **arguments) if named else env(**arguments)
    except (gymnasium.error.UnregisteredEnv, gymnasium.error.DeprecatedEnv) as error:
        near = difflib.get_close_matches(name_of(env), list(gymnasium.registry), 3, 0.5)
        hint = f" Did you mean {', '.join(near)}?" if near else ""
        said = str(error).partition(" Did you mean")[0]
        raise EnvError(f"There is no environment {name_of(env)!r}: {said}{hint}") from None
    except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
        raise EnvError(f"{name_of(env)!r} needs what is not installed: {error}") from None
    except gymnasium.error.Error as error:
        raise EnvError(f"{name_of(env)!r} cannot be made: {error}") from None
    missing = [n for n in ("reset", "step", "observation_space", "action_space") if not hasattr(made, n)]
    if missing:
        raise EnvError(f"`{name_of(env)}` made a `{type(made).__name__}` without {', '.join(missing)}.")
    return made


def versions_of(env: Any) -> dict[str, str]:
    """The versions of what decides how an environment behaves."""
    import gymnasium

    made = make(env)
    try:
        of_mujoco = any(base.__name__ == "MujocoEnv" for base in type(getattr(made, "unwrapped", made)).__mro__)
    finally:
        _close(made)
    out = {"gymnasium": gymnasium.__version__}
    if of_mujoco:
        import mujoco

        out["mujoco"] = mujoco.__version__
    return out


def registered() -> dict[str, Any]:
    """What has been registered here beside gymnasium's own environments, so that others can register it too."""
    import gymnasium

    own = "gymnasium.envs."
    return {
        i: s for i, s in gymnasium.registry.items() if not str(s.entry_point or s.vector_entry_point).startswith(own)
    }


def register(specs: dict[str, Any]) -> None:
    """Register what `registered` gave elsewhere, and is not known here."""
    import gymnasium

    for name, spec in specs.items():
        gymnasium.registry.setdefault(name, spec)


def sizes_of(env: Any) -> tuple[int, int]:
    """Numbers in an observation, and outputs that a policy needs."""
    made = make(env)
    try:
        return observations_of(made.observation_space)[0], actions_of(made.action_space, True)[0]
    finally:
        _close(made)


def said(error: BaseException) -> str:
    """What went wrong, for a journal."""
    return f"{type(error).__name__}: {error}"[:500]


@dataclass(frozen=True)
class Rules:
    """How episodes are played and scored; see `EpisodeOracle`."""

    score: Callable[[Trajectory], float] | None = None
    survival_bonus: float = 0.0
    max_steps: int | None = None
    clip: bool = True


@dataclass
class Player:
    """An environment, and a policy that plays whole episodes in it.

    Args:
        env: What `make` takes.
        policy: Who acts.
        rules: How.

    Raises:
        ValueError: The policy does not fit.
    """

    env: Any
    policy: Any
    rules: Rules = field(default_factory=Rules)

    def __post_init__(self) -> None:
        self.made = make(self.env)
        try:
            n_inputs, self._flat = observations_of(self.made.observation_space)
            n_outputs, self._action = actions_of(self.made.action_space, self.rules.clip)
            for what, has, needs in (
                ("n_inputs", self.policy.n_inputs, n_inputs),
                ("n_outputs", self.policy.n_outputs, n_outputs),
            ):
                if has != needs:
                    raise SpaceError(
                        f"The policy's {what} is {has}, but {name_of(self.env)!r} needs {needs}. "
                        f"Make it with `{type(self.policy).__name__}.for_env`."
                    )
            self._env, limit = _stripped(self.made)
            for inner in (self._env, getattr(self._env, "unwrapped", self._env)):
                if not _takes_seed(inner.reset):
                    raise EnvError(self._unseeded())
        except BaseException:
            self.close()
            raise
        limits = [n for n in (limit, self.rules.max_steps) if n is not None]
        self._limit = min(limits) if limits else ENDLESS
        self._acting = self.policy.in_turn()
        self._buffer: Floats = np.empty((1, n_inputs))
        self._zero: Floats = np.zeros(n_inputs)

    def play(self, x: Floats, seen: Statistics | None, seed: int) -> Episode:
        """One episode.

        Args:
            x: Parameters of the policy, shape (size,).
            seen: Statistics to normalise by.
            seed: Of the environment.

        Raises:
            EnvError: Observations, rewards or the score are not finite, or the environment takes no seed.
        """
        policy, rules = self.policy, self.rules
        record = policy.normalize or rules.score is not None
        act, flat, to_action, step = self._acting(x, seen), self._flat, self._action, self._env.step
        limit, zero = self._limit, self._zero
        observation, info = self._reset(seed)
        buffer: Floats = self._buffer
        rewards: list[float] = []
        actions: list[Any] = []
        t, terminated = 0, False
        while t < limit:
            if record and t == len(buffer):
                buffer = np.concatenate((buffer, np.empty_like(buffer)))
            row = buffer[t if record else 0]
            row[:] = flat(observation)
            if row.dot(zero) != 0.0:  # the quickest way to see a NaN or an infinity
                raise EnvError(f"The observation before step {t + 1} is not finite.")
            action = to_action(act(row))
            observation, reward, terminated, truncated, info = step(action)
            rewards.append(reward)
            if rules.score is not None:
                actions.append(action)
            t += 1
            if terminated or truncated:
                break
        self._buffer = buffer
        told = np.array(rewards, dtype=np.float64).reshape(t)
        total = float(told.sum())
        if not np.isfinite(total):
            bad = np.flatnonzero(~np.isfinite(told))
            raise EnvError(f"The reward of step {bad[0] + 1} is not finite." if bad.size else "The rewards overflow.")
        score = total - rules.survival_bonus * t
        if rules.score is not None:
            score = float(rules.score(Trajectory(buffer[:t].copy(), actions, told, bool(terminated), info)))
            if not math.isfinite(score):
                raise EnvError(f"`score` gave {score}; it must give a finite number.")
        seen_now = Statistics.of(buffer[:t]) if policy.normalize and t else None
        return Episode(score, total, t, bool(terminated), seen_now)

    def _reset(self, seed: int) -> Any:
        try:
            return self._env.reset(seed=seed)
        except TypeError as error:
            if "seed" not in str(error):
                raise
            raise EnvError(self._unseeded()) from None

    def _unseeded(self) -> str:
        return f"{name_of(self.env)!r} has no `reset(seed=...)`, so its episodes cannot be repeated. Give it one."

    def close(self) -> None:
        """Close the environment. What it raises then is of no use to anybody."""
        _close(self.made)


def _close(made: Any) -> None:
    with contextlib.suppress(Exception):
        made.close()


def _takes_seed(reset: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(reset).parameters
    except (TypeError, ValueError):  # a compiled one does not tell
        return True
    return "seed" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _stripped(env: Any) -> tuple[Any, int | None]:
    """The environment without gymnasium's own wrappers that count and check only, and its limit of steps."""
    from gymnasium import wrappers

    limit: int | None = None
    while type(env) in (wrappers.TimeLimit, wrappers.OrderEnforcing, wrappers.PassiveEnvChecker):
        if type(env) is wrappers.TimeLimit:
            steps = int(env._max_episode_steps)
            limit = steps if limit is None else min(limit, steps)
        env = env.env
    return env, limit
