"""What the journal of a fine-tuning says of it, and whether a run is the one in a journal."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oracles.cli._errors import BadInput
from oracles.cli._finetune_settings import Settings

if TYPE_CHECKING:
    from blackbox_zo.modules import Module
    from oracles.cli._finetune_data import Task

__all__ = ["check_same", "go_on", "is_finetuning", "problem_of", "settings_for"]

_KIND = "blackbox-zo finetune"

_OPTIONS = {
    "model": "--model",
    "seed": "--seed",
    "dtype": "--dtype",
    "template": "--template",
    "labels": "--labels",
    "values": "--values",
    "answer": "--answer",
    "text": "--text",
    "objective": "--objective",
    "max_new_tokens": "--max-new-tokens",
    "batch_size": "--batch-size",
    "directions_per": "--directions-per",
    "select": "--select",
    "mask": "--mask",
    "no_decay": "--no-decay",
    "train": "training rows",
    "validation": "validation rows",
}


def problem_of(settings: Settings, task: Task, size: int) -> dict[str, Any]:
    """What is minimised: equal for two runs if one may go on with the other's journal."""
    from oracles.cli._finetune_data import fingerprint

    given = settings.given
    return {
        "kind": _KIND,
        "model": settings.model_name,
        "dtype": given.dtype,
        "template": given.template,
        "labels": list(settings.labels) or None,
        "values": list(settings.values) or None,
        "answer": given.answer,
        "text": given.text,
        "objective": given.objective,
        "max_new_tokens": settings.max_new_tokens or None,
        "batch_size": size,
        "directions_per": settings.directions_per(size),
        "train": {"rows": len(task.train), "digest": fingerprint(task.train)},
        "validation": {"rows": len(task.validation), "digest": fingerprint(task.validation)},
    }


def settings_for(settings: Settings) -> dict[str, Any]:
    """What is worth keeping, but may change when the run goes on."""
    given = settings.given
    return {
        "arguments": list(given.typed),
        "cwd": str(Path.cwd()),
        "model": given.model,
        "data": str(given.data),
        "steps": given.steps,
        "eval_every": settings.eval_every,
        "sweep": given.sweep,
        "reuse": given.reuse,
        "micro_batch": given.micro_batch,
    }


def is_finetuning(header: Mapping[str, Any]) -> bool:
    """Whether a journal's header is of a run over the parameters of a model."""
    return (header.get("variable") or {}).get("name") == "Module"


def check_same(
    path: Path, header: Mapping[str, Any], problem: Mapping[str, Any], seed: int, module: Module, model: str
) -> None:
    """Refuse a journal of another run by the name of what differs, but for what the journal itself compares.

    Raises:
        BadInput: It is of another run.
    """
    theirs = header.get("problem")
    if not isinstance(theirs, dict) or theirs.get("kind") != _KIND:
        raise BadInput(f"{str(path)!r} records no run of `{_KIND}`; name another --journal.")
    mine = json.loads(json.dumps(module.describe()))
    theirs = {**theirs, **(header.get("variable") or {}), "seed": header.get("seed")}
    problem = {**problem, **mine, "seed": seed}
    for name, option in _OPTIONS.items():
        if theirs.get(name) != problem.get(name):
            was, now = (_shown(p.get(name)) for p in (theirs, problem))
            raise BadInput(
                f"{str(path)!r} was begun with other {option}: {was} there, {now} here. "
                "Give the same as then, or name another --journal."
            )
    if header.get("variable") == mine and header.get("start") != module.fingerprint():
        raise BadInput(
            f"{str(path)!r} began from other weights than those of --model {model!r}. Give the base model of then, "
            "or name another --journal."
        )


def go_on(arguments: Sequence[str]) -> str:
    """The command that goes on with a run."""
    more = [] if "--resume" in arguments else ["--resume"]
    return shlex.join(["blackbox-zo", *arguments, *more])


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return f"{value.get('rows')} with digest {value.get('digest')}"
    return "none" if value is None else repr(value)
