"""`ZOTrainingArguments`: the arguments of `ZOTrainer`, and the Trainer's arguments that it refuses."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import TrainingArguments
from transformers.trainer_utils import SchedulerType

import blackbox_zo as bz
from blackbox_zo._checks import check_at_least, check_choice, check_positive, check_share
from blackbox_zo._typing import override

__all__ = ["ZOTrainingArguments", "estimator_of", "rule_of"]

_NO_SHARDING = "there are no gradients and no optimiser state to shard; run one process without it"
_OWN_WEIGHTS = "the weights are perturbed by intercepting the model's own Python code; leave it off"
_REFUSED = {
    "deepspeed": _NO_SHARDING,
    "fsdp": _NO_SHARDING,
    "torch_compile": _OWN_WEIGHTS,
    "torch_compile_backend": _OWN_WEIGHTS,
    "torch_compile_mode": _OWN_WEIGHTS,
    "use_liger_kernel": _OWN_WEIGHTS,
    "fp16": "load the model with `dtype=torch.bfloat16` instead; no second copy in fp32 is needed",
    "bf16": "load the model with `dtype=torch.bfloat16` instead; no second copy in fp32 is needed",
    "max_grad_norm": "there is no gradient to clip; use `clip_scalar`",
    "neftune_noise_alpha": "all queries of a step must see the same inputs; leave it off",
    "auto_find_batch_size": "batches are split automatically when memory runs out; leave it off",
}


def _help(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass
class ZOTrainingArguments(TrainingArguments):
    """`transformers.TrainingArguments` for training by forward passes alone.

    `optim` and activation (or gradient) checkpointing are ignored: there is no backward pass. A good learning
    rate is about a thousandth of Adam's. `weight_decay` is decoupled.

    Args:
        learning_rate: Positive; the schedule is the Trainer's own.
        lr_scheduler_type: Any of the Trainer's.
        max_grad_norm: Must stay 0; see `clip_scalar`.
        radius: Perturbation radius, positive.
        n_directions: Directions per step.
        distribution: See `blackbox_zo.RandomVector`, as for `difference` and `rank`.
        rank: Rank of "lowrank" directions.
        difference: "central", "forward", "residual" or "relative".
        group: Directions that "relative" compares with each other; None for all.
        select: Which parameters: "all" (those that require grad), "lora", "bias", "prefix", or a regular expression.
        sweep: See `oracles.llm.LossOracle`, as for `directions_per`.
        directions_per: "step" or "example". With "example" every batch must be a multiple of `n_directions`, or of the
            number of groups, so `dataloader_drop_last=True` is needed if the data do not divide evenly.
        momentum_memory: Number of past estimates in the momentum; None turns momentum off.
        momentum: Momentum coefficient, in [0, 1); used with `momentum_memory` only.
        clip_scalar: Largest absolute weight of a direction in an estimate; None does not clip.
        no_decay: A regular expression; parameters whose names match it have no weight decay.
        journal: Name of a new file in `output_dir` for all answers; None writes no journal. It only records the run: a
            run resumes from its checkpoints, and then without a journal.

    Raises:
        ValueError: An argument is out of its range, or has no meaning without gradients.
    """

    learning_rate: float = _help(1e-6, "The initial learning rate.")
    lr_scheduler_type: SchedulerType | str = _help("constant", "The scheduler type to use.")
    max_grad_norm: float = _help(0.0, "Must stay 0, since there is no gradient; see clip_scalar.")
    radius: float = _help(1e-3, "Perturbation radius.")
    n_directions: int = _help(1, "Directions per step.")
    distribution: str = _help("lowrank", "gaussian, sphere, rademacher, orthogonal or lowrank.")
    rank: int = _help(1, "Rank of lowrank directions.")
    difference: str = _help("central", "central, forward, residual or relative.")
    group: int | None = _help(None, "Directions that difference=relative compares with each other; None for all.")
    select: str = _help("all", "Parameters to train: all, lora, bias, prefix, or a regular expression for their names.")
    sweep: str = _help("auto", "auto, batched or scratch.")
    directions_per: str = _help("step", "step or example.")
    momentum_memory: int | None = _help(None, "Number of past estimates in the momentum; None turns momentum off.")
    momentum: float = _help(0.9, "Momentum coefficient; used with momentum_memory only.")
    clip_scalar: float | None = _help(None, "Largest absolute weight of a direction in an estimate.")
    no_decay: str = _help(r"bias|norm|ln_", "A regular expression for the names of parameters without weight decay.")
    journal: str | None = _help(None, "Name of a new file in output_dir for all answers.")

    @override
    def __post_init__(self) -> None:
        owner = type(self).__name__
        for name, mend in _REFUSED.items():
            if getattr(self, name):
                raise ValueError(f"`{owner}({name}={getattr(self, name)!r})` is not supported: {mend}.")
        check_positive(owner, learning_rate=self.learning_rate, radius=self.radius)
        check_share(owner, momentum=self.momentum, weight_decay=self.weight_decay)
        check_choice(owner, ("auto", "batched", "scratch"), sweep=self.sweep)
        check_choice(owner, ("step", "example"), directions_per=self.directions_per)
        if self.momentum_memory is not None:
            check_at_least(owner, 1, momentum_memory=self.momentum_memory)
        if self.clip_scalar is not None:
            check_positive(owner, clip_scalar=self.clip_scalar)
        if self.journal is not None and (not self.journal or Path(self.journal).name != self.journal):
            raise ValueError(
                f"`{owner}(journal=...)` must be the name of a file in `output_dir`, got {self.journal!r}."
            )
        estimator_of(self)
        super().__post_init__()  # type: ignore[no-untyped-call]
        if self.mixed_precision != "no":
            raise ValueError(f"Mixed precision {self.mixed_precision!r} is not supported: {_REFUSED['bf16']}.")
        self.activation_checkpointing = self.gradient_checkpointing = False


def estimator_of(args: ZOTrainingArguments) -> bz.RandomVector:
    """The estimator that the arguments specify."""
    distribution: Any = args.distribution
    difference: Any = args.difference
    return bz.RandomVector(args.radius, args.n_directions, distribution, difference, args.rank, group=args.group)


def rule_of(args: ZOTrainingArguments, rate: bz.rules.Schedule) -> bz.Rule:
    """The rule that the arguments specify."""
    links: list[bz.Rule] = []
    if args.clip_scalar is not None:
        links.append(bz.ClipScalar(args.clip_scalar))
    if args.weight_decay:
        links.append(bz.WeightDecay(args.weight_decay))
    if args.momentum_memory is None:
        return bz.chain(*links, bz.SGD(rate))
    return bz.chain(*links, bz.Momentum(rate, args.momentum, memory=args.momentum_memory))
