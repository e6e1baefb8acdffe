"""From the options of `blackbox-zo train-policy` to a training, and from a policy to a file."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING

from oracles.options import BadInput, check_file, told
from oracles.rl._tally import short

if TYPE_CHECKING:
    from oracles.rl.policies import Policy
    from oracles.rl.trained import Trained
    from oracles.rl.training import Training

__all__ = ["needed", "training_of", "written"]


def training_of(given: argparse.Namespace) -> Training:
    """The requested training, without a journal.

    Raises:
        BadInput: Options conflict, or do not fit the environment.
    """
    given.policy = given.policy or ("mlp" if given.hidden else "linear")
    if given.policy == "linear" and given.hidden:
        raise BadInput("--hidden needs --policy mlp; a linear policy has no hidden layers.")
    if given.policy == "mlp":
        given.hidden = given.hidden or (64, 64)
    if given.steps is None and given.env_steps is None:
        given.steps = 500
    check_file(given.save, "--save")
    check_file(given.onnx, "--onnx")
    needed(onnx=given.onnx is not None)
    from oracles.rl import Horizon, LinearPolicy, MLPPolicy, Training, preset
    from oracles.rl._rebuilt import env_of

    with told():
        env = env_of(given.env)
        policy: Policy
        if given.policy == "mlp":
            policy = MLPPolicy.for_env(env, hidden=given.hidden, seed=given.seed)
        else:
            policy = LinearPolicy.for_env(env)
        how = preset(given.preset, policy.size)
        policy.normalize = how.normalize if given.normalize is None else given.normalize
        horizon = how.horizon
        if given.horizon is not None:
            horizon = Horizon(given.horizon) if given.horizon else None
        return Training(
            env,
            how,
            policy,
            workers=given.workers,
            num_envs=given.num_envs,
            seed=given.seed,
            evaluate=given.evaluate,
            every=given.every,
            episodes=given.episodes or how.episodes,
            survival_bonus=given.survival_bonus,
            max_steps=given.max_steps,
            timeout=given.timeout,
            horizon=horizon,
        )


def needed(onnx: bool = False) -> None:
    """Check that the packages a command needs are installed.

    Raises:
        BadInput: One is missing.
    """
    for name in ("gymnasium", "cloudpickle"):
        if importlib.util.find_spec(name) is None:
            raise BadInput(f"This needs {name}, which is not installed: pip install 'blackbox-zo[rl]'")
    if onnx and importlib.util.find_spec("onnx") is None:
        raise BadInput("An .onnx file needs onnx, which is not installed: pip install onnx")


def written(policy: Trained, given: argparse.Namespace, step: int, value: float | None) -> Iterator[str]:
    """Save a policy to the requested files."""
    what = f"policy after step {step}" + ("" if value is None else f", evaluated {short(value)}")
    for write, path in ((policy.save, given.save), (policy.to_onnx, given.onnx)):
        if path is not None:
            with told():
                write(path)
            yield f"{what}: {path}"
