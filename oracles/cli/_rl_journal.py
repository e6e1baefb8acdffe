"""What the journal of a training says of it, and whether a run is the one in a journal."""

from __future__ import annotations

import shlex
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blackbox_zo._describe import describe, spell
from oracles.cli._errors import BadInput

if TYPE_CHECKING:
    from oracles.rl import Training

__all__ = ["check_same", "env_name", "go_on", "is_training", "settings_for"]

_OPTIONS = {
    "env": "--env",
    "policy": "--policy",
    "dimension": "--policy or --hidden: another number of parameters",
    "estimator": "--preset",
    "rule": "--preset",
    "rank": "--preset",
    "normalize": "--normalize or --preset",
    "seed": "--seed",
    "episodes": "--episodes",
    "survival_bonus": "--survival-bonus",
    "max_steps": "--max-steps",
    "num_envs": "--num-envs",
    "horizon": "--horizon",
    "common": "common random numbers",
    "clip": "clipping of actions",
    "score": "score",
}


def settings_for(given: Namespace) -> dict[str, Any]:
    """What is worth keeping, but may change when the run goes on."""
    kept = {name: getattr(given, name) for name in ("env", "preset", "steps", "env_steps", "workers", "timeout")}
    kept |= {"hidden": given.hidden and list(given.hidden), "evaluate": given.evaluate, "every": given.every}
    save = None if given.save is None else str(given.save.absolute())
    return {"arguments": list(given.typed), "cwd": str(Path.cwd()), "save": save, **kept}


def is_training(header: Mapping[str, Any]) -> bool:
    """Whether a journal's header is of a search of a policy."""
    problem = header.get("problem")
    return isinstance(problem, dict) and {"env", "versions", "policy"} <= problem.keys()


def env_name(header: Mapping[str, Any]) -> str:
    """The environment of a header, as it was asked for."""
    return str((header.get("settings") or {}).get("env") or header["problem"]["env"])


def check_same(path: Path, header: Mapping[str, Any], training: Training, env: str) -> None:
    """Refuse a journal of another run by the name of what differs, but for what the journal itself compares.

    Raises:
        BadInput: It is of another run.
    """
    if not is_training(header):
        raise BadInput(f"{str(path)!r} records no training of a policy; name another --journal.")
    preset = training.preset
    mine = {**training.problem, "env": env, "seed": training.search.seed, "dimension": training.policy.size}
    mine |= {"estimator": describe(preset.estimator), "rule": describe(training.search.rule)}
    theirs = {**header, **header["problem"], "env": env_name(header)}
    if ":" in env and ":" not in theirs["env"]:  # begun by a program, which told the function's name alone
        mine["env"] = header["problem"]["env"] if env.endswith(f":{header['problem']['env']}") else env
    was, now = header["problem"]["versions"], mine["versions"]
    for name in was.keys() | now.keys() if theirs["env"] == mine["env"] else ():
        if was.get(name) != now.get(name):
            raise BadInput(
                f"{str(path)!r} was begun with {name} {was.get(name, 'none')}, here it is {now.get(name, 'none')}: "
                "episodes would not be the same. Go on with that version, or name another --journal."
            )
    for name, option in _OPTIONS.items():
        if theirs.get(name) != mine.get(name):
            raise BadInput(
                f"{str(path)!r} was begun with other {option}: {_shown(theirs.get(name))} there, "
                f"{_shown(mine.get(name))} here. Give the same as then, or name another --journal."
            )


def go_on(arguments: Sequence[str]) -> str:
    """The command that goes on with a run."""
    return shlex.join(["blackbox-zo", *arguments])


def _shown(value: Any) -> str:
    return "none" if value is None else value if isinstance(value, str) else spell(value)
