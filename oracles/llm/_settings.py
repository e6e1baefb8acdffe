"""The options of `blackbox-zo finetune`, checked before anything large is loaded."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from blackbox_zo.estimators import RandomVector
from blackbox_zo.rules import SGD, Adam, ClipScalar, Cosine, Linear, Momentum, Rule, Schedule, WeightDecay, chain
from oracles._imported import imported
from oracles.llm._adapters import default_select
from oracles.llm._compatible import (
    FITTING,
    GENERATING,
    GROUP,
    check_adapter,
    check_method,
    check_quantised,
    check_streaming,
    check_task,
)
from oracles.llm._folders import check_output
from oracles.llm._rows import field_to_learn, read_rows
from oracles.options import BadInput, told

if TYPE_CHECKING:
    from blackbox_zo.modules import Module

__all__ = ["RATES", "Settings", "settings_of"]

RATES = {
    "sgd": {"all": 1e-4, "top": 1e-1, "top:N": 3e-3, "few": 1e-2, "scale_shift": 1e-3, "code_shift": 4e-2},
    "momentum": {"all": 1e-5, "top": 1e-2, "top:N": 3e-4, "few": 1e-3},
    "adam": {"all": 1e-5, "top": 3e-2, "top:N": 1e-4, "few": 1e-3},
    "mezo": {"all": 1e-6, "few": 1e-4, "scale_shift": 1e-3},
}
"""The default learning rate, by optimizer and selection; "few" is any selection but the others."""

DEFAULTS: dict[str, dict[str, Any]] = {
    "top": {"optimizer": "adam", "lr_schedule": "cosine", "radius": 1e-2, "batch_size": 256, "reuse": "keep"},
    "top:N": {"optimizer": "sgd", "lr_schedule": "constant", "radius": 1e-3, "batch_size": 16, "reuse": "keep"},
    "few": {"optimizer": "sgd", "lr_schedule": "constant", "radius": 1e-3, "batch_size": 16, "reuse": True},
    "scale_shift": {
        "optimizer": "sgd",
        "lr_schedule": "constant",
        "radius": 1e-2,
        "batch_size": 16,
        "reuse": True,
    },
    "code_shift": {
        "optimizer": "sgd",
        "lr_schedule": "constant",
        "radius": 0.125,
        "batch_size": 16,
        "reuse": True,
        "directions": 1,
    },
}
"""Defaults of options, with --select top, the last layers, any other selection, and what --quantised searches. Codes
have one direction: each has weights of its own, which each pass computes from the file."""

_WITHOUT_GRADIENT = ("accuracy", *GENERATING)
"""Objectives that are flat near x: their default radius is a tenth of the weights' own size."""

_QUANTISED = {"scale_shift": 0.1, "code_shift": 0.125}
"""The same for what --quantised searches: a tenth of a matrix's scales, which are its unit, and one code."""

_MEMORY = 20
"""Number of estimates that --optimizer momentum keeps; the truncation omits 12 % of the velocity."""


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
        return self.given.objective in GENERATING

    @property
    def max_new_tokens(self) -> int:
        """Maximum number of generated tokens; 0 if none are."""
        return (self.given.max_new_tokens or GENERATING[self.given.objective]) if self.generates else 0

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
        rates = RATES[optimizer]
        return float(self.given.lr or rates.get(_kind(self.select)) or rates["few"])

    @property
    def group(self) -> int:
        """Directions that are compared with each other, and see the same examples."""
        return int(self.given.group or GROUP) if self.given.difference == "relative" else 1

    def directions(self, size: int) -> int:
        """Number of directions in a step of `size` examples."""
        return 1 if self.given.mezo else int(self.given.directions or size * self.group)

    def directions_per(self, size: int) -> Literal["step", "example"]:
        """Whether each direction is evaluated on the whole batch of a step, or on its own examples.

        Raises:
            BadInput: The directions cannot share the examples.
        """
        k = self.directions(size) // self.group
        if self.given.directions_per == "example" and size % k:
            what = f"{k} groups of directions" if self.group > 1 else f"--directions {k}"
            raise BadInput(
                f"--directions-per example shares the {size} examples of a step among {what}, which must divide them."
            )
        wanted = self.given.directions_per or ("example" if k == size > 1 else "step")
        return "example" if wanted == "example" else "step"

    def estimator(self, size: int, module: Module) -> RandomVector:
        """The estimator for steps of `size` examples, over the parameters of `module`."""
        given = self.given
        with told():
            return RandomVector(
                given.radius or _QUANTISED.get(self.select) or (1e-3 if given.mezo else _tenth(module)),
                self.directions(size),
                given.distribution or _distribution(given),
                given.difference or "central",
                given.rank or 1,
                given.blocks,
                self.group if self.group > 1 else None,
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
    given.objective = given.objective or FITTING[learns][0]
    check_task(given, learns)
    check_method(given)
    labels, values = _words(given.labels, "--labels"), _words(given.values, "--values")
    if given.labels is not None and len(labels) < 2:
        raise BadInput(f"--labels must be two or more words, such as great,terrible, got {given.labels!r}.")
    if values and len(values) != len(labels):
        raise BadInput(f"--values must have one value for each of the {len(labels)} of --labels, got {len(values)}.")
    select = (
        given.select
        or default_select(given.model)
        or ({"scales": "scale_shift", "codes": "code_shift"}.get(given.quantised, ""))
        or ("top" if learns == "labels" and not given.mezo and not given.blocks else "all")
    )
    if given.save is not None:
        check_output(given.save, "--save", given.model, quantised=bool(given.quantised), adapter=select == "lora")
    check_adapter(given, select)
    check_quantised(given, select)
    check_streaming(given, select)
    for name, value in DEFAULTS.get(_kind(select), DEFAULTS["few"]).items():
        if getattr(given, name) is None and not (name == "radius" and given.objective in _WITHOUT_GRADIENT):
            setattr(given, name, value)
    reward = None if given.reward is None else imported(given.reward, "--reward")
    return Settings(given, learns, field, labels, values, select, reward)


def _distribution(given: argparse.Namespace) -> Literal["gaussian", "lowrank", "sparse"]:
    if given.quantised == "codes":
        return "sparse"
    return "gaussian" if given.mezo else "lowrank"


def _kind(select: str) -> str:
    """What the defaults call a selection."""
    return "top:N" if select.startswith("top:") else select


def _tenth(module: Module) -> float:
    """A tenth of the root mean square of the searched parameters, to one digit, so that a rounding changes nothing."""
    squares = sum(float(p.detach().double().square().sum()) for _, p in module.whole(module.parameters))
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
