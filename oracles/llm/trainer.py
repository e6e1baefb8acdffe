"""`ZOTrainer`: the Trainer of transformers, by forward passes alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Trainer

import blackbox_zo as bz
from blackbox_zo._typing import override
from blackbox_zo.modules import Module
from blackbox_zo.modules._displaced import Displacements
from oracles.llm._adapters import unsaved
from oracles.llm._oracle import LossOracle
from oracles.llm._trainer_arguments import ZOTrainingArguments as ZOTrainingArguments
from oracles.llm._trainer_arguments import estimator_of, rule_of
from oracles.llm._trainer_loss import ModelLoss
from oracles.llm._trainer_objective import GivenObjective, Objective, TrainersObjective, another_objective
from oracles.llm._trainer_step import StepUnderWay, TrainerRate, ZOOptimizer, evaluating, flags_of

__all__ = ["ZOTrainer", "ZOTrainingArguments"]

STATE_FILE = "zo_state.npz"
"""The search's state in a checkpoint, without the weights."""

PATIENCE = 10
"""Steps in a row without any finite loss after which a run ends."""


class ZOTrainer(Trainer):
    """A `transformers.Trainer` that trains by zeroth-order estimates.

    Callbacks, evaluation, logging, checkpoints, schedules, gradient accumulation and peft adapters work as usual.
    A step asks `blackbox_zo.Search` for queries and answers them with the loss over all micro-batches of the step, by
    forward passes in evaluation mode. The weights move in `optimizer.step()`. The model's class is not patched.

    What `compute_loss` returns is minimised: your own, if you override it or give `compute_loss_func` or
    `label_smoothing_factor`, and the model's, with its router's or any other term. Where it is proved to be the mean
    cross-entropy or squared error of transformers' own models, one forward pass can answer all queries; otherwise
    `compute_loss` is called once a query, under the same noise each time, and `oracle.reason` says why. There,
    `model.training` is True as in any training step, though all layers are in evaluation mode.

    A checkpoint also holds `zo_state.npz`; a run resumed from it continues as if it had never stopped. A step
    without any finite loss moves nothing; `zo_bad_steps` in the logs counts them, and ten in a row end the run.

    Args:
        model: See `Trainer`.
        args: `ZOTrainingArguments`.
        *rest: See `Trainer`.
        compute_per_example_loss: Maps (model, inputs) to one value per example, shape (B,), each of its own row alone,
            of which the mean is minimised in place of `compute_loss`. Evaluation still reports `compute_loss`.
        **options: See `Trainer`; `optimizers` and `optimizer_cls_and_kwargs` are refused.

    Attributes:
        search: The search; None before the first `train()`. `search.close()` closes its journal.
        oracle: The oracle that answers its queries; None before the first `train()`.

    Raises:
        TypeError: `args` are not `ZOTrainingArguments`.
        ValueError: No parameter is selected, there are several devices, an argument is not supported, two losses are
            given, or another Trainer's `training_step` would be left out.

    Example:
        >>> import tempfile, transformers
        >>> from oracles.llm import ZOTrainer, ZOTrainingArguments
        >>> config = transformers.LlamaConfig(
        ...     vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2
        ... )
        >>> model = transformers.LlamaForCausalLM(config)
        >>> rows = [{"input_ids": [1, 2, 3], "labels": [1, 2, 3]}] * 8
        >>> folder = tempfile.mkdtemp()
        >>> args = ZOTrainingArguments(folder, max_steps=2, use_cpu=True, report_to="none", disable_tqdm=True)
        >>> trainer = ZOTrainer(model, args, train_dataset=rows)
        >>> trainer.remove_callback(transformers.PrinterCallback)
        >>> trainer.train().global_step
        2
    """

    args: ZOTrainingArguments
    model: Any
    optimizer: Any

    def __init__(
        self,
        model: Any = None,
        args: ZOTrainingArguments | None = None,
        *rest: Any,
        compute_per_example_loss: Callable[[Any, Any], torch.Tensor] | None = None,
        **options: Any,
    ) -> None:
        if not isinstance(args, ZOTrainingArguments):
            raise TypeError(f"`ZOTrainer(args=...)` must be `ZOTrainingArguments`, got {type(args).__name__}.")
        if compute_per_example_loss is not None and not callable(compute_per_example_loss):
            raise TypeError(
                "`ZOTrainer(compute_per_example_loss=...)` must be a function of (model, inputs), "
                f"got {compute_per_example_loss!r:.60}."
            )
        super().__init__(model, args, *rest, **options)
        self._given = compute_per_example_loss
        self._refuse()
        self.search: bz.Search | None = None
        self.oracle: LossOracle | None = None
        self._step: StepUnderWay | None = None
        if model is not None:
            self._variable()

    @property
    def bad_steps(self) -> int:
        """Steps without any finite loss."""
        return 0 if self.search is None else self.search.barren_steps

    def _refuse(self) -> None:
        """Refuse unsupported arguments."""
        devices = max(self.args.n_gpu, self.args.world_size)
        if devices > 1 or self.is_deepspeed_enabled or self.is_fsdp_enabled:
            raise ValueError(
                f"`ZOTrainer` runs in one process on one device, but there are {devices}, or DeepSpeed or FSDP is on. "
                "Start it with `python`, and make one device visible: CUDA_VISIBLE_DEVICES=0."
            )
        for name in ("optimizer", "lr_scheduler", "optimizer_cls_and_kwargs"):
            if getattr(self, name, None) is not None:
                raise ValueError(
                    f"`ZOTrainer` makes its own {name}; leave out `optimizers` and `optimizer_cls_and_kwargs`, and use "
                    "`learning_rate` and `lr_scheduler_type`."
                )
        another = another_objective(self)
        if self._given is not None and another:
            raise ValueError(
                f"`ZOTrainer` has two losses to minimise: `compute_per_example_loss`, and {another}. Give one of them."
            )
        for owner in type(self).__mro__[type(self).__mro__.index(ZOTrainer) + 1 :]:
            if owner is Trainer:
                break
            for name in {"training_step", "create_optimizer"} & vars(owner).keys():
                raise ValueError(
                    f"`{owner.__name__}.{name}` would never be called: `ZOTrainer` has its own. Leave "
                    f"{owner.__name__} out, or move what it does into `compute_loss`."
                )

    # ------------------------------------------------------------------------------------------------- the search

    @override
    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        # Also make the search, unless it exists for these parameters
        if self.search is None or self.optimizer is None or self._is_stale(self.search.variable):
            self._start()
        if self._step is not None:  # evaluate again the step that an earlier `train` left unfinished
            self._step.sums, self._step.weight = np.zeros(len(self._step.sums)), 0.0
        return self.optimizer  # type: ignore[no-any-return]

    def _is_stale(self, variable: bz.Variable) -> bool:
        """Whether the model or its parameters have been replaced, frozen or unfrozen since the search began."""
        now = dict(self.model.named_parameters())
        replaced = not isinstance(variable, Module) or any(now.get(n) is not p for n, p in variable.parameters.items())
        return replaced or self._trained != flags_of(self.model)

    def _variable(self) -> Module:
        streamed: Module | None = vars(self.model).get("_zo_streamed")
        if streamed is not None:
            its = streamed.describe() or {}
            for name in ("select", "no_decay") if self.args.weight_decay else ("select",):
                if getattr(self.args, name) != its[name]:
                    raise ValueError(
                        f"The arguments say {name}={getattr(self.args, name)!r}, but the model's `StreamedModule` was "
                        f"made with {its[name]!r}. Say the same in both."
                    )
            return streamed
        variable = bz.Module(self.model, self.args.select, no_decay=self.args.no_decay)
        if self.args.save_strategy != "no" and (lost := unsaved(self.model, variable.parameters)):
            raise ValueError(
                f"`select={self.args.select!r}` trains {lost!r}, which is no part of the model's adapter, and "
                "checkpoints hold the adapter alone. Select 'lora', merge the adapter, or use `save_strategy='no'`."
            )
        return variable

    def _start(self) -> None:
        """Make the loss, the oracle, the optimiser and the search."""
        args, variable = self.args, self._variable()
        if self.search is not None:
            self.search.close()
        sweep: Any = args.sweep
        directions_per: Any = args.directions_per
        self.oracle = LossOracle(self.model, [()], self._given or ModelLoss(self.model), sweep, directions_per)
        given = self._given is not None
        self._objective: Objective = GivenObjective(self.oracle) if given else TrainersObjective(self, self.oracle)
        self.optimizer = ZOOptimizer(variable.parameters.values(), args.learning_rate, self._move)
        self._rate = TrainerRate(self.optimizer)
        rule = rule_of(args, self._rate)
        self.search = bz.Search(variable, estimator_of(args), rule, seed=args.seed, journal=self._journal())
        self._step, self._trained = None, flags_of(self.model)

    def _journal(self) -> Path | None:
        """The path of the journal.

        Raises:
            ValueError: It exists already.
        """
        if self.args.journal is None:
            return None
        path = Path(self.args.output_dir or ".", self.args.journal)
        if path.exists() and path.stat().st_size:
            raise ValueError(
                f"`ZOTrainingArguments(journal={self.args.journal!r})`: journal '{path}' exists already. Give "
                "another name, or `journal=None` to resume from a checkpoint."
            )
        return path

    # ------------------------------------------------------------------------------------------------- a step

    @override
    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """Evaluate all queries of the step on a micro-batch, by forward passes alone.

        Returns:
            The step's mean loss at its last micro-batch, 0 before.

        Raises:
            RuntimeError: `create_optimizer` was overridden, or a parameter was replaced or frozen during training.
        """
        if self.search is None:
            name = type(self).__name__
            raise RuntimeError(f"`{name}.create_optimizer` does not call that of `ZOTrainer`, which begins the search.")
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), evaluating(self.model):
            step = self._step = self._step or self._ask(self.search)
            self._objective.add(step, inputs, num_items_in_batch)
        mean = 0.0
        if self.accelerator.sync_gradients:
            values = step.values()
            mean = float(values[np.isfinite(values)].mean()) if np.isfinite(values).any() else np.nan
        return torch.tensor(mean, device=self.args.device)

    def _ask(self, search: bz.Search) -> StepUnderWay:
        variable = search.variable
        assert isinstance(variable, Module)
        now = flags_of(self.model)
        changed = next((n for n in {**self._trained, **now} if self._trained.get(n) != now.get(n)), None)
        if changed is not None:
            raise RuntimeError(
                f"Parameter {changed!r} was replaced, frozen or unfrozen during training, by a callback perhaps. "
                "`ZOTrainer` moves the parameters that it began with: change the model before `train`."
            )
        proposal = search.ask()
        return StepUnderWay(proposal, Displacements(variable, proposal.queries), np.zeros(proposal.queries.n))

    def _move(self) -> None:
        """Tell the search the losses of the step, which moves the weights.

        Raises:
            OracleError: Ten steps in a row had no finite loss.
            RuntimeError: `training_step` was overridden, and no query was answered.
        """
        step, self._step = self._step, None
        if step is None or self.search is None:
            raise RuntimeError(
                f"`{type(self).__name__}.training_step` does not call that of `ZOTrainer`, so no query was answered "
                "and nothing can move. Call it, or override `compute_loss` instead."
            )
        self.search.tell(step.proposal, bz.Values(step.values()))
        if self.search.barren >= PATIENCE:
            raise bz.OracleError(
                f"The loss was NaN or infinite in {PATIENCE} steps in a row; none of them moved the weights, which are "
                "those of the last good step. Use a smaller learning rate or radius, or fp32."
            )

    @override
    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        # Add `zo_bad_steps`; drop `grad_norm`, since there is no gradient
        if "loss" in logs:
            logs.pop("grad_norm", None)
            logs["zo_bad_steps"] = self.bad_steps
        super().log(logs, start_time)

    # ------------------------------------------------------------------------------------------------- checkpoints

    @override
    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.search is not None and self.args.should_save:
            state = {k: v for k, v in self.search.state_dict().items() if not k.startswith("x/")}
            np.savez(Path(output_dir, STATE_FILE), **state)

    @override
    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        path = Path(checkpoint, STATE_FILE)
        if not path.is_file():
            raise ValueError(
                f"Checkpoint '{checkpoint}' has no {STATE_FILE}: it was saved with `save_only_model=True`, or by "
                "another Trainer. Load its model with `from_pretrained`, and start a new training."
            )
        if self.args.journal is not None:
            raise ValueError(
                f"`ZOTrainingArguments(journal={self.args.journal!r})`: a journal records a whole run and cannot begin "
                "at a checkpoint. Resume with `journal=None`."
            )
        super()._load_optimizer_and_scheduler(checkpoint)
        self._load_search(dict(np.load(path)))

    def _load_search(self, state: Mapping[str, Any]) -> None:
        """Restore the search, with the weights that the model already has."""
        assert self.search is not None and self.oracle is not None
        weights = {f"x/{name}": value for name, value in self.search.variable.state().items()}
        self.search.load_state_dict({**state, **weights})
        self._step = None
