"""Which options of `blackbox-zo finetune` go together."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from oracles.llm._adapters import is_adapter
from oracles.llm._folders import is_file
from oracles.options import BadInput

__all__ = [
    "FITTING",
    "GENERATING",
    "GROUP",
    "OBJECTIVES",
    "check_adapter",
    "check_method",
    "check_quantised",
    "check_streaming",
    "check_task",
]

GROUP = 8
"""The default of --group."""

OBJECTIVES = ("labels", "loss", "accuracy", "exact-match", "f1")
"""All choices of --objective."""

_WRITTEN = ("loss", "exact-match", "f1")

FITTING = {
    "labels": OBJECTIVES[:3],
    "answer": _WRITTEN,
    "text": ("loss",),
    "messages": _WRITTEN,
    "prompt": _WRITTEN,
    "reward": ("reward",),
}

_GIVEN = {"messages": "rows with messages", "prompt": "rows with prompt and completion"}
"""What says the kind of the examples where no option does."""

GENERATING = {"exact-match": 8, "f1": 8, "reward": 16}
"""Objectives that score generated text, and the default of --max-new-tokens."""

_NOT_WITH_MEZO = "select optimizer directions directions_per distribution difference group rank blocks mask".split()


def check_task(given: argparse.Namespace, learns: str) -> None:
    """Refuse options that do not go with what is learnt."""
    if given.objective not in FITTING[learns]:
        raise BadInput(
            f"--objective {given.objective} does not go with {_GIVEN.get(learns, f'--{learns}')}, which takes "
            f"{', '.join(FITTING[learns])}."
        )
    if learns == "text" and given.template is not None:
        raise BadInput("--text uses a field as it is; remove --template.")
    if learns in ("labels", "answer") and given.template is None:
        raise BadInput(f"--{learns} needs a prompt; add --template, such as '{{text}} All in all, it was'.")
    for name, option in (("values", "--values"), ("label_field", "--label-field")):
        if getattr(given, name) is not None and learns != "labels":
            raise BadInput(f"{option} goes with --labels only.")
    if given.turns is not None and learns != "messages":
        raise BadInput("--turns goes with rows of messages only.")
    if given.no_eos and learns in ("labels", "messages"):
        raise BadInput("--no-eos goes with --answer, --text, and rows of prompt and completion only.")
    conversations = learns in _GIVEN or (learns == "reward" and given.template is None)
    if given.chat_template is not None and not conversations:
        raise BadInput(f"--chat-template goes with rows of messages only, not with --{learns}, which uses no template.")
    if given.objective not in GENERATING:
        for name in ("max_new_tokens", "stop"):
            if getattr(given, name) is not None:
                raise BadInput(
                    f"--{name.replace('_', '-')} goes with --reward and --objective exact-match or f1 only; other "
                    "objectives generate no text."
                )
    if given.stop == "":
        raise BadInput("--stop is empty; give the text to stop at, or leave it out.")
    for name in ("samples", "temperature", "group_relative"):
        if getattr(given, name) not in (None, False) and learns != "reward":
            raise BadInput(f"--{name.replace('_', '-')} goes with --reward only.")
    if given.off_task_field is not None and given.off_task is None:
        raise BadInput("--off-task-field goes with --off-task only.")
    if given.group_relative and given.difference == "forward" and given.directions_per != "step":
        raise BadInput("--group-relative with --difference forward needs --directions-per step.")


def check_adapter(given: argparse.Namespace, select: str) -> None:
    """Refuse options of a new adapter where none is made."""
    for name in ("lora_rank", "lora_alpha", "lora_targets"):
        option = f"--{name.replace('_', '-')}"
        if getattr(given, name) is not None and select != "lora":
            raise BadInput(f"{option} goes with --select lora only, which makes an adapter.")
        if getattr(given, name) is not None and is_adapter(Path(given.model).expanduser()):
            raise BadInput(f"{option} is for a new adapter, but {given.model!r} is one; remove the option.")


def check_method(given: argparse.Namespace) -> None:
    """Refuse options of the search that conflict."""
    for name in _NOT_WITH_MEZO:
        if given.mezo and getattr(given, name) is not None:
            raise BadInput(f"--mezo fixes --{name.replace('_', '-')}; remove one of the two.")
    if given.group is not None and given.difference != "relative":
        raise BadInput("--group goes with --difference relative only.")
    group = given.group or GROUP
    if given.difference == "relative" and (group < 2 or (given.directions or group) % group):
        of = "" if given.directions is None else f" and divide --directions, which is {given.directions}"
        raise BadInput(f"--group, the directions that are compared, must be at least 2{of}; it is {group}.")
    if given.rank is not None and given.distribution not in (None, "lowrank"):
        raise BadInput(f"--rank goes with --distribution lowrank, not {given.distribution}.")
    if given.mask is not None and given.mask >= 1:
        raise BadInput(f"--mask must be a share between 0 and 1, got {given.mask:g}.")
    if given.no_decay is not None and given.weight_decay is None:
        raise BadInput("--no-decay goes with --weight-decay only.")
    for name, option in (("select", "--select"), ("no_decay", "--no-decay")):
        try:
            re.compile(getattr(given, name) or "")
        except re.error as error:
            raise BadInput(f"{option} {getattr(given, name)!r} is not a regular expression: {error}.") from None


def check_quantised(given: argparse.Namespace, select: str) -> None:
    """Refuse what does not go with --quantised."""
    if not given.quantised:
        return
    model = str(given.model)
    if not is_file(model):
        raise BadInput(f"--quantised runs from a .gguf file, not from {model!r}.")
    if given.stream is not None:
        raise BadInput("--quantised maps its file, so it needs no --stream; leave one of them out.")
    if (given.device or "auto") not in ("auto", "cpu"):
        raise BadInput(f"--quantised runs on the CPU for now, not on {given.device}; leave --device out.")
    if given.quantised == "codes" and given.mezo:
        raise BadInput(
            "--quantised codes moves whole integers, which --mezo's small steps do not change; leave it out."
        )
    if given.quantised == "codes" and given.distribution not in (None, "sparse"):
        raise BadInput(
            f"--quantised codes moves whole integers, so its directions are sparse, not {given.distribution}; leave "
            "--distribution out."
        )
    if select in ("lora", "prefix"):
        raise BadInput(
            f"--quantised searches scales, codes and norms, not --select {select}; --stream disk can, on the file."
        )


def check_streaming(given: argparse.Namespace, select: str) -> None:
    """Refuse options that do not go with --stream, or only with it."""
    if given.stream is None:
        for name, option in (
            ("budget", "--budget"),
            ("stream_to", "--stream-to"),
            ("log_structured", "--log-structured"),
            ("transfer_dtype", "--transfer-dtype"),
        ):
            if getattr(given, name):
                raise BadInput(f"{option} is for --stream.")
        return
    if select == "prefix":
        raise BadInput("--stream searches no virtual tokens (--select prefix); use --select lora, or the weights.")
    if given.stream_to is not None and given.stream != "disk":
        raise BadInput("--stream-to is for --stream disk; the host's memory needs no folder.")
    if given.stream_to is not None and not given.stream_to.absolute().parent.is_dir():
        raise BadInput(f"--stream-to '{given.stream_to}' is in a folder that does not exist; create it first.")
