"""The options of `blackbox-zo finetune`, checked before anything large is loaded."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from blackbox_zo.estimators import RandomVector
from blackbox_zo.rules import SGD, Adam, ClipScalar, Cosine, Linear, Momentum, Rule, Schedule, WeightDecay, chain
from oracles._imported import imported
from oracles.llm._adapters import default_select, is_adapter
from oracles.llm._folders import check_target
from oracles.llm._rows import field_to_learn, read_rows
from oracles.options import BadInput, told

if TYPE_CHECKING:
    from blackbox_zo.modules import Module

__all__ = ["OBJECTIVES", "RATES", "Settings", "settings_of"]

RATES = {
    "sgd": {"all": 1e-4, "top": 1e-1, "few": 1e-2},
    "momentum": {"all": 1e-5, "top": 1e-2, "few": 1e-3},
    "adam": {"all": 1e-5, "top": 3e-2, "few": 1e-3},
    "mezo": {"all": 1e-6},
}
"""The default learning rate, by optimizer and selection; "few" is any selection but "all" and "top"."""

DEFAULTS: dict[str, dict[str, Any]] = {
    "top": {"optimizer": "adam", "lr_schedule": "cosine", "radius": 1e-2, "batch_size": 256, "reuse": "keep"},
    "": {"optimizer": "sgd", "lr_schedule": "constant", "radius": 1e-3, "batch_size": 16, "reuse": True},
}
"""Defaults of options, with --select top and with any other selection."""

OBJECTIVES = ("labels", "loss", "accuracy", "exact-match", "f1")
"""All choices of --objective."""

_WRITTEN = ("loss", "exact-match", "f1")

_FITTING = {
    "labels": OBJECTIVES[:3],
    "answer": _WRITTEN,
    "text": ("loss",),
    "messages": _WRITTEN,
    "prompt": _WRITTEN,
    "reward": ("reward",),
}

_GIVEN = {"messages": "rows with messages", "prompt": "rows with prompt and completion"}
"""What says the kind of the examples where no option does."""

_GENERATING = {"exact-match": 8, "f1": 8, "reward": 16}
"""Objectives that score generated text, and the default of --max-new-tokens."""

_WITHOUT_GRADIENT = ("accuracy", *_GENERATING)
"""Objectives that are flat near x: their default radius is a tenth of the weights' own size."""

_MEMORY = 20
"""Number of estimates that --optimizer momentum keeps; the truncation omits 12 % of the velocity."""

_NOT_WITH_MEZO = "select optimizer directions directions_per distribution difference rank blocks mask".split()


@dataclass(frozen=True)
class Settings:
    """The options, and the values derived from them.

    Attributes:
        given: The options, completed by `DEFAULTS`.
        learns: Kind of the examples: "labels", "answer", "text", "messages", "prompt" (and completion) or "reward".
        field: With "messages", the field that holds them.
        labels: The words of the classes, with "labels".
        values: Values in the data for these labels.
        select: The parameters to tune.
        reward: The function that --reward names.
    """

    given: argparse.Namespace
    learns: Literal["labels", "answer", "text", "messages", "prompt", "reward"]
    field: str
    labels: tuple[str, ...]
    values: tuple[str, ...]
    select: str
    reward: Callable[..., Any] | None = None

    @property
    def lora(self) -> dict[str, Any]:
        """The arguments of a new adapter, without those that are left to its defaults."""
        targets = _words(self.given.lora_targets, "--lora-targets")
        told = {"rank": self.given.lora_rank, "alpha": self.given.lora_alpha, "targets": list(targets) or None}
        return {name: value for name, value in told.items() if value is not None}

    @property
    def generates(self) -> bool:
        """Whether the objective scores generated text."""
        return self.given.objective in _GENERATING

    @property
    def max_new_tokens(self) -> int:
        """Maximum number of generated tokens; 0 if none are."""
        return (self.given.max_new_tokens or _GENERATING[self.given.objective]) if self.generates else 0

    @property
    def samples(self) -> int:
        """Completions of each prompt."""
        return int(self.given.samples or 1)

    @property
    def temperature(self) -> float:
        """Temperature of the samples; 0 is greedy."""
        return float(self.given.temperature or (1.0 if self.samples > 1 else 0.0))

    @property
    def model_name(self) -> str:
        """The model's name without its folder, which may change."""
        name = str(self.given.model)
        path = Path(name).expanduser()
        return path.resolve().name if path.exists() else name

    @property
    def eval_every(self) -> int:
        """Steps between validations."""
        every = self.given.eval_every
        return -(-self.given.steps // 5) if every is None else int(every)

    @property
    def rate(self) -> float:
        """The learning rate, or the start of its schedule."""
        optimizer = "mezo" if self.given.mezo else self.given.optimizer
        return float(self.given.lr or RATES[optimizer][self.select if self.select in ("all", "top") else "few"])

    def directions(self, size: int) -> int:
        """Number of directions in a step of `size` examples."""
        return 1 if self.given.mezo else int(self.given.directions or size)

    def directions_per(self, size: int) -> Literal["step", "example"]:
        """Whether each direction is evaluated on the whole batch of a step, or on its own examples.

        Raises:
            BadInput: The directions cannot share the examples.
        """
        k = self.directions(size)
        if self.given.directions_per == "example" and size % k:
            raise BadInput(
                f"--directions-per example shares the {size} examples of a step among --directions {k}, "
                "which must divide them."
            )
        wanted = self.given.directions_per or ("example" if k == size > 1 else "step")
        return "example" if wanted == "example" else "step"

    def estimator(self, size: int, module: Module) -> RandomVector:
        """The estimator for steps of `size` examples, over the parameters of `module`."""
        given = self.given
        with told():
            return RandomVector(
                given.radius or (1e-3 if given.mezo else _tenth(module)),
                self.directions(size),
                "gaussian" if given.mezo else given.distribution or "lowrank",
                given.difference or "central",
                given.rank or 1,
                given.blocks,
            )

    def rule(self, size: int) -> Rule:
        """The rule for steps of `size` examples."""
        given, links = self.given, list[Rule]()
        with told():
            if given.clip is not None:
                links.append(ClipScalar(given.clip / self.directions(size)))  # a weight is the slope over k
            if given.weight_decay is not None:
                links.append(WeightDecay(given.weight_decay))
            return chain(*links, self._move())

    def _move(self) -> Rule:
        rate: float | Schedule = self.rate
        if self.given.lr_schedule != "constant":
            rate = (Linear if self.given.lr_schedule == "linear" else Cosine)(self.rate, 0.0, self.given.steps)
        match self.given.optimizer:
            case "momentum":
                return Momentum(rate, memory=_MEMORY)
            case "adam":
                return Adam(rate)
        return SGD(rate)


def settings_of(given: argparse.Namespace) -> Settings:
    """Check the options together.

    Raises:
        BadInput: They conflict, or a path cannot be written.
    """
    named = [name for name in ("labels", "answer", "text", "reward") if getattr(given, name) is not None]
    if len(named) > 1:
        raise BadInput(
            f"Give one of --labels, --answer, --text and --reward, got {' and '.join(f'--{n}' for n in named)}."
        )
    field = "" if named else _field_of(given)
    learns: Any = named[0] if named else "prompt" if field == "prompt" else "messages"
    given.objective = given.objective or _FITTING[learns][0]
    _check_task(given, learns)
    _check_method(given)
    if given.save is not None:
        check_target(given.save, "--save", given.model)
    labels, values = _words(given.labels, "--labels"), _words(given.values, "--values")
    if given.labels is not None and len(labels) < 2:
        raise BadInput(f"--labels must be two or more words, such as great,terrible, got {given.labels!r}.")
    if values and len(values) != len(labels):
        raise BadInput(f"--values must have one value for each of the {len(labels)} of --labels, got {len(values)}.")
    select = (
        given.select
        or default_select(given.model)
        or ("top" if learns == "labels" and not given.mezo and not given.blocks else "all")
    )
    _check_adapter(given, select)
    for name, value in DEFAULTS.get(select, DEFAULTS[""]).items():
        if getattr(given, name) is None and not (name == "radius" and given.objective in _WITHOUT_GRADIENT):
            setattr(given, name, value)
    reward = None if given.reward is None else imported(given.reward, "--reward")
    return Settings(given, learns, field, labels, values, select, reward)


def _tenth(module: Module) -> float:
    """A tenth of the root mean square of the searched parameters, to one digit, so that a rounding changes nothing."""
    squares = sum(float(p.detach().double().square().sum()) for p in module.parameters.values())
    return float(f"{0.1 * math.sqrt(squares / module.size):.0e}") or 1e-3


def _field_of(given: argparse.Namespace) -> str:
    """The field that says what is to be learnt, where no option does."""
    why = "Give one of --labels, --answer, --text and --reward, got none"
    if given.template is not None:
        raise BadInput(f"{why}.")
    try:
        row = read_rows(given.data)[0]
    except (ValueError, OSError, ModuleNotFoundError) as error:
        raise BadInput(str(error)) from error
    if field := field_to_learn(row):
        return field
    raise BadInput(
        f"{why}. Only rows with the field messages, or prompt and completion, need none of them; those of "
        f"{str(given.data)!r} have {', '.join(map(repr, row))}."
    )


def _words(text: str | None, option: str) -> tuple[str, ...]:
    words = tuple(text.split(",")) if text is not None else ()
    if any(not word.strip() for word in words):
        raise BadInput(f"{option} {text!r} has an empty word; separate words by single commas, such as great,terrible.")
    return words


def _check_task(given: argparse.Namespace, learns: str) -> None:
    if given.objective not in _FITTING[learns]:
        raise BadInput(
            f"--objective {given.objective} does not go with {_GIVEN.get(learns, f'--{learns}')}, which takes "
            f"{', '.join(_FITTING[learns])}."
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
    if given.chat_template is not None and learns not in _GIVEN:
        raise BadInput(f"--chat-template goes with rows of messages only, not with --{learns}, which uses no template.")
    if given.objective not in _GENERATING:
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


def _check_adapter(given: argparse.Namespace, select: str) -> None:
    for name in ("lora_rank", "lora_alpha", "lora_targets"):
        option = f"--{name.replace('_', '-')}"
        if getattr(given, name) is not None and select != "lora":
            raise BadInput(f"{option} goes with --select lora only, which makes an adapter.")
        if getattr(given, name) is not None and is_adapter(Path(given.model).expanduser()):
            raise BadInput(f"{option} is for a new adapter, but {given.model!r} is one; remove the option.")


def _check_method(given: argparse.Namespace) -> None:
    for name in _NOT_WITH_MEZO:
        if given.mezo and getattr(given, name) is not None:
            raise BadInput(f"--mezo fixes --{name.replace('_', '-')}; remove one of the two.")
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
