"""What the journal of a run of the command line says of its problem and its settings."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from oracles.llm._settings import Settings
from oracles.llm._task import Task, fingerprint

__all__ = ["problem_of", "recorded_settings"]


def problem_of(chosen: Settings, task: Task, size: int) -> dict[str, Any]:
    """The problem, which is equal for two runs if one may continue the other's journal."""
    given: argparse.Namespace = chosen.given
    typed = ("dtype", "template", "answer", "text", "turns", "no_eos", "objective", "mask", "no_decay")
    rows = {"train": task.train, "validation": task.validation}
    return {
        "model": chosen.model_name,
        **{name: getattr(given, name) for name in typed},
        "labels": list(chosen.labels) or None,
        "values": list(chosen.values) or None,
        "max_new_tokens": chosen.max_new_tokens or None,
        **_generated(chosen),
        **({"quantised": given.quantised} if given.quantised else {}),
        "batch_size": size,
        "directions_per": chosen.directions_per(size),
        "select": chosen.select,
        **{name: {"rows": len(found), "digest": fingerprint(found)} for name, found in rows.items()},
    }


def _generated(chosen: Settings) -> dict[str, Any]:
    """What decides generated text and its reward, besides its length; empty if no text is generated."""
    given = chosen.given
    found: dict[str, Any] = {"stop": given.stop} if chosen.generates else {}
    if chosen.learns == "reward":
        found |= {"reward": given.reward, "samples": chosen.samples, "temperature": chosen.temperature}
        found["group_relative"] = bool(given.group_relative)
    return found


def recorded_settings(chosen: Settings, model: Any) -> dict[str, Any]:
    """Settings worth recording that may change when the run continues."""
    given: argparse.Namespace = chosen.given
    kept: dict[str, Any] = {name: getattr(given, name) for name in ("model", "steps", "sweep", "reuse", "micro_batch")}
    kept |= {"data": str(given.data), "eval_every": chosen.eval_every, "lr_schedule": given.lr_schedule}
    kept["device"] = model.device.type
    if given.chat_template is not None:
        kept["chat_template"] = given.chat_template.read_text(encoding="utf-8")
    kept |= {} if given.off_task is None else {"off_task": str(given.off_task)}
    return {**kept, "local": Path(given.model).expanduser().exists()}
