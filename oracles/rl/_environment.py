"""Make environments; find their spaces and versions."""

from __future__ import annotations

import contextlib
import difflib
import importlib.metadata
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from oracles.rl._spaces import actions_of, observations_of
from oracles.rl.rollouts import Rollouts

__all__ = [
    "EnvError",
    "close",
    "is_vector",
    "make",
    "name_of",
    "register",
    "registered",
    "reset",
    "said",
    "sizes_of",
    "spaces_of",
    "spelled",
    "unseeded",
    "versions_of",
]


class EnvError(ValueError):
    """An environment cannot be made or has failed."""


def name_of(env: Any) -> str:
    """The name of an environment in messages and journals."""
    if isinstance(env, str):
        return env
    return str(getattr(env, "id", None) or getattr(env, "__qualname__", None) or type(env).__qualname__)


def spelled(env: Any) -> str:
    """An environment's name in a journal: its id, or module:function if that can be imported."""
    name, module = name_of(env), getattr(env, "__module__", "__main__")
    found = name.isidentifier() and name == getattr(env, "__qualname__", None) and module != "__main__"
    return f"{module}:{name}" if found else name


def make(env: Any, num_envs: int = 1, **arguments: Any) -> Any:
    """Make an environment.

    Args:
        env: Its id, an `EnvSpec`, or a function that makes it.
        num_envs: Environments stepped together; above 1 the result is a `gymnasium.vector.VectorEnv`.
        **arguments: Arguments of gymnasium's `make`, or of the function.

    Raises:
        EnvError: The id is unknown, or a package is missing.
        TypeError: `env` is none of the three.
        ValueError: The function makes another number of environments.
    """
    import gymnasium

    if isinstance(env, Rollouts):
        raise EnvError(
            "`Rollouts` has no spaces: give the policy its sizes, as in `LinearPolicy(n_inputs, n_outputs)`."
        )
    named = isinstance(env, str | gymnasium.envs.registration.EnvSpec)
    if not named and not isinstance(env, type) and hasattr(env, "reset"):
        raise TypeError(
            "Give the id of an environment, its EnvSpec, or a function that makes it, not the environment itself."
        )
    if not named and not callable(env):
        raise TypeError(f"`env` must be an id, an EnvSpec, or a function that makes an environment, got {env!r:.60}.")
    made: Any
    try:
        if named and num_envs > 1:
            with _without_old_attributes(env):
                made = gymnasium.make_vec(env, num_envs, **arguments)
        elif named:
            with _without_old_attributes(env):
                made = gymnasium.make(env, disable_env_checker=True, **arguments)
        else:
            made = env(**arguments)
            if num_envs > 1 and not is_vector(made):
                first = [made]  # use the one that exists
                made = gymnasium.vector.SyncVectorEnv([lambda: first.pop() if first else env(**arguments)] * num_envs)
    except (gymnasium.error.UnregisteredEnv, gymnasium.error.DeprecatedEnv) as error:
        near = _near(name_of(env), gymnasium.registry.values())
        hint = f" Did you mean {', '.join(near)}?" if near else ""
        said = str(error).partition(" Did you mean")[0]
        raise EnvError(f"Unknown environment {name_of(env)!r}: {said}{hint}") from None
    except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
        raise EnvError(f"{name_of(env)!r} needs a package that is not installed: {error}") from None
    except gymnasium.error.Error as error:
        raise EnvError(f"{name_of(env)!r} cannot be made: {error}") from None
    if is_vector(made) and num_envs not in (1, made.num_envs):
        n = made.num_envs
        close(made)
        raise ValueError(f"`{name_of(env)}` makes a vector of {n} environments, but `num_envs={num_envs}`.")
    missing = [n for n in ("reset", "step", "observation_space", "action_space") if not hasattr(made, n)]
    if missing:
        raise EnvError(f"`{name_of(env)}` made a `{type(made).__name__}` without {', '.join(missing)}.")
    return made


def _near(name: str, specs: Iterable[Any]) -> list[str]:
    """Ids similar to `name`, ignoring case, each in its newest version."""
    newest: dict[str, Any] = {}
    for spec in specs:
        stem = spec.id.rpartition("-v")[0] if spec.version is not None else spec.id
        if stem not in newest or (spec.version or 0) > newest[stem].version:
            newest[stem] = spec
    ids = {stem.lower(): spec.id for stem, spec in newest.items()}
    asked = re.sub(r"-v\d+$", "", name).lower()
    return [ids[stem] for stem in difflib.get_close_matches(asked, list(ids), 3, 0.5)]


@contextlib.contextmanager
def _without_old_attributes(env: Any) -> Iterator[None]:
    """Suppress MuJoCo's warning about a deprecated attribute in gymnasium's models, printed in each process."""
    import gymnasium

    spec = gymnasium.registry.get(env) if isinstance(env, str) else env
    try:
        if not str(getattr(spec, "entry_point", None)).startswith("gymnasium.envs.mujoco"):
            raise ImportError
        import mujoco
    except ImportError:
        yield
        return
    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda text: None if "settotalmass" in text else print(text, file=sys.stderr))
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before)


def versions_of(env: Any) -> dict[str, str]:
    """The versions of the packages on which an environment's behaviour depends."""
    import gymnasium

    if isinstance(env, Rollouts):
        return {}
    made = make(env)
    try:
        kinds = type(getattr(made, "unwrapped", made)).__mro__
    finally:
        close(made)
    out = {"gymnasium": gymnasium.__version__}
    if any(kind.__name__ == "MujocoEnv" for kind in kinds):
        import mujoco

        out["mujoco"] = mujoco.__version__
    own = kinds[0].__module__.partition(".")[0]
    names = ["box2d", "box2d-py"] if kinds[0].__module__.startswith("gymnasium.envs.box2d") else [own]
    return {**{name: version for name in names if (version := _installed(name))}, **out}


def _installed(name: str) -> str:
    """The version of a package; empty if it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def registered() -> dict[str, Any]:
    """The environments registered here besides gymnasium's own, to be registered in worker processes too."""
    import gymnasium

    own = "gymnasium.envs."
    return {
        i: s for i, s in gymnasium.registry.items() if not str(s.entry_point or s.vector_entry_point).startswith(own)
    }


def register(specs: dict[str, Any]) -> None:
    """Register the environments that `registered` returned in another process, unless they are known here."""
    import gymnasium

    for name, spec in specs.items():
        gymnasium.registry.setdefault(name, spec)


def is_vector(made: Any) -> bool:
    """Whether an environment is a vector environment."""
    import gymnasium

    return isinstance(made, gymnasium.vector.VectorEnv)


def spaces_of(made: Any) -> tuple[Any, Any]:
    """The observation space and the action space of a single environment."""
    if is_vector(made):
        return made.single_observation_space, made.single_action_space
    return made.observation_space, made.action_space


def sizes_of(env: Any) -> tuple[int, int]:
    """The size of a flat observation, and the number of outputs that a policy needs.

    Raises:
        EnvError: The environment cannot be made.
    """
    made = make(env)
    try:
        observations, actions = spaces_of(made)
        return observations_of(observations)[0], actions_of(actions, True)[0]
    finally:
        close(made)


def said(error: BaseException) -> str:
    """An error as a journal records it."""
    return f"{type(error).__name__}: {error}"[:500]


def unseeded(env: Any) -> EnvError:
    """The error for an environment that takes no seed."""
    return EnvError(f"{name_of(env)!r} has no `reset(seed=...)`, so its episodes cannot be repeated. Give it one.")


def reset(env: Any, made: Any, seed: Any) -> Any:
    """Start an episode in `made`, which `env` made; return the result of its `reset`.

    Raises:
        EnvError: The environment takes no seed.
    """
    try:
        return made.reset(seed=seed)
    except TypeError as error:
        if "seed" not in str(error):
            raise
        raise unseeded(env) from None


def close(made: Any) -> None:
    """Close an environment and ignore its errors."""
    with contextlib.suppress(Exception):
        made.close()
