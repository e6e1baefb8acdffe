"""From the arguments of `blackbox-zo train-policy` to a training."""

from __future__ import annotations

import importlib.util
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blackbox_zo.journal import read
from oracles.cli._errors import BadInput, told
from oracles.cli._folders import check_new_file
from oracles.cli._rl_journal import check_same, settings_for
from oracles.cli.rank import function_of

if TYPE_CHECKING:
    from oracles.rl import Training

__all__ = ["env_of", "needed", "open_journal", "training_of"]


def env_of(text: str) -> Any:
    """What --env names: a function where it is of the form module:function, else the id itself.

    Raises:
        BadInput: There is no such function.
    """
    module, colon, name = text.partition(":")
    if not colon or not name.isidentifier():
        return text  # also module:Name-v0, whose module gymnasium imports
    try:
        return function_of(f"{module}:{name}")
    except BadInput as error:
        raise BadInput(str(error).replace("--render", "--env")) from None


def needed() -> None:
    """See that what episodes need is there.

    Raises:
        BadInput: It is not.
    """
    for name in ("gymnasium", "cloudpickle"):
        if importlib.util.find_spec(name) is None:
            raise BadInput(f"This needs {name}, which is not installed: pip install 'blackbox-zo[rl]'")


def training_of(given: Namespace) -> Training:
    """The training that is asked for, without a journal.

    Raises:
        BadInput: Arguments do not fit each other, or the environment.
    """
    _check(given)
    needed()
    from oracles.rl import Horizon, LinearPolicy, MLPPolicy, Policy, Training, preset

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
            episodes=given.episodes or how.episodes,
            survival_bonus=given.survival_bonus,
            max_steps=given.max_steps,
            timeout=given.timeout,
            horizon=horizon,
        )


def _check(given: Namespace) -> None:
    given.policy = given.policy or ("mlp" if given.hidden else "linear")
    if given.policy == "linear" and given.hidden:
        raise BadInput("--hidden is of --policy mlp; a linear policy has no hidden layers.")
    if given.policy == "mlp":
        given.hidden = given.hidden or (64, 64)
    if given.steps is None and given.env_steps is None:
        given.steps = 500
    for name in ("save", "onnx", "journal"):
        path = getattr(given, name)
        if path is not None:
            check_new_file(path, f"--{name}")
    if given.onnx is not None and importlib.util.find_spec("onnx") is None:
        raise BadInput("--onnx needs onnx, which is not installed: pip install onnx")


def open_journal(given: Namespace, training: Training) -> None:
    """Have the training's search recorded; if the file holds this run, it goes on.

    Raises:
        BadInput: The journal is of another run.
        JournalError: It is damaged, or in use.
    """
    path: Path = given.journal
    if path.exists() and path.stat().st_size:
        check_same(path, read(path)[0], training, given.env)
    training.record(path, settings_for(given))
