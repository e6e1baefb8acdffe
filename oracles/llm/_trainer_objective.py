"""What `ZOTrainer` minimises: the loss that its `compute_loss` returns, at each query of a step."""

from __future__ import annotations

import copy
import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, final

import numpy as np
import torch
import transformers.trainer

from blackbox_zo._typing import Floats, override
from blackbox_zo.modules._displaced import Displacements
from blackbox_zo.modules._scratch import Scratch
from oracles.llm._eager import eagerly, uncompiled
from oracles.llm._oracle import LossOracle
from oracles.llm._passes import batch_size, is_out_of_memory
from oracles.llm._trainer_loss import ModelLoss
from oracles.llm._trainer_step import StepUnderWay

__all__ = ["GivenObjective", "Objective", "TrainersObjective", "another_objective"]


class Objective(ABC):
    """Evaluates the queries of a step on one micro-batch after another."""

    @abstractmethod
    def add(self, step: StepUnderWay, inputs: Mapping[str, Any], num_items: Any) -> None:
        """Add the losses of a micro-batch to those of the step.

        Args:
            step: The step.
            inputs: The micro-batch, on the model's device.
            num_items: The number of scored labels in all micro-batches of the step, if the Trainer has counted them.
        """


@final
class GivenObjective(Objective):
    """The mean of `compute_per_example_loss` over the examples of a step.

    Args:
        oracle: Answers with that loss.
    """

    def __init__(self, oracle: LossOracle) -> None:
        self.oracle = oracle

    @override
    def add(self, step: StepUnderWay, inputs: Mapping[str, Any], num_items: Any) -> None:
        step.sums += self.oracle.values(step.displacements, inputs) * batch_size(inputs)
        step.weight += batch_size(inputs)


@final
class TrainersObjective(Objective):
    """The number of which the Trainer's own `training_step` would take the gradient, summed over micro-batches.

    Where that number is proved to be the model's cross-entropy or squared error, one value per example, `LossOracle`
    answers all queries at once. Otherwise `compute_loss` is called once a query, on the whole micro-batch.

    Args:
        trainer: The Trainer.
        oracle: Answers with `ModelLoss`.
    """

    def __init__(self, trainer: Any, oracle: LossOracle) -> None:
        self.trainer, self.oracle = trainer, oracle
        self.own_mode: bool | None = None if self.foreign else False
        self.split = dict[tuple[Any, ...], bool]()

    @property
    def foreign(self) -> str:
        """Why the loss may have other parts than its examples' own; empty if nothing says so now."""
        return another_objective(self.trainer) or _another_model(self.trainer.model)

    @override
    def add(self, step: StepUnderWay, inputs: Mapping[str, Any], num_items: Any) -> None:
        # Raises ValueError if one value per example is needed, but there is one number per batch, and OracleError as
        # `LossOracle.values` does
        step.weight = 1.0
        if self.own_mode is None:
            self.own_mode = self._may_train(step, inputs, num_items)
        if self._splits(step, inputs, num_items):
            sums = self.oracle.values(step.displacements, inputs) * batch_size(inputs)
            share = self._share(inputs, num_items)
            step.sums += sums / share if share else np.nan
        else:
            step.sums += self._whole(step, inputs, num_items)

    def _may_train(self, step: StepUnderWay, inputs: Mapping[str, Any], num_items: Any) -> bool:
        """Whether the model itself can be in training mode, which the user's code may ask; its layers never are."""
        self.own_mode = True
        with _same_noise(self.trainer.model) as again, eagerly(), Scratch(step.displacements, 0):
            try:
                self._computed(inputs, num_items)
            except RuntimeError as error:
                if "is in training mode" not in str(error):  # it has dropout itself, which would be refused
                    raise
                return False
            finally:
                again()
        return True

    # ------------------------------------------------------------------------------------------ one value per example

    def _splits(self, step: StepUnderWay, inputs: Mapping[str, Any], num_items: Any) -> bool:
        """Whether the loss has one value per example; tried again for every new kind of batch."""
        foreign, config = self.foreign, getattr(_outermost(self.trainer.model)[-1], "config", None)
        parts = (num_items is None, self.trainer.current_gradient_accumulation_steps)
        key = (foreign, _kind(inputs), *parts, *(getattr(config, name, None) for name in _TERMS))
        if key not in self.split:
            reason = foreign or self._differs(step, inputs, num_items)
            if reason is None:
                return False
            if reason:
                self._refuse(reason)
                self.oracle.reason = f"The loss is one number per batch: {reason}."
            self.split[key] = not reason
        return self.split[key]

    def _refuse(self, reason: str) -> None:
        for name, value, mend in (
            ("sweep", self.oracle.sweep, "'scratch' or 'auto'"),
            ("directions_per", self.oracle.directions_per, "'step'"),
        ):
            if value in ("batched", "example"):
                raise ValueError(
                    f"`{name}={value!r}` needs one loss per example, but here there is one per batch: {reason}. Use "
                    f"{mend}, or give `ZOTrainer(compute_per_example_loss=...)`."
                )

    def _differs(self, step: StepUnderWay, inputs: Mapping[str, Any], num_items: Any) -> str | None:
        """Why the Trainer's loss is not the sum over examples, under the first query; None if it is not finite."""
        loss = self.oracle.loss
        assert isinstance(loss, ModelLoss)
        with _same_noise(self.trainer.model) as again, eagerly(), Scratch(step.displacements, 0):
            try:
                want, out = self._computed(inputs, num_items, return_outputs=True)
                if beside := _other_losses(out):
                    return f"the model also has {beside}"
                if not np.isfinite(want):
                    return None
                if not isinstance(inputs.get("labels"), torch.Tensor):
                    return "the batch has no `labels`, whose scores would be its examples' own"
                try:
                    share = self._share(inputs, num_items)
                    got = float(loss(self.trainer.model, inputs).double().sum()) / share if share else np.nan
                except (ValueError, AttributeError) as error:
                    return str(error).rstrip(".")
            finally:
                again()  # a resumed run, which compares again, must not find other noise
        if not abs(got - want) <= 1e-5 * abs(want) + 1e-6:
            return f"`compute_loss` gives {want:.7g}, and the sum of the examples' own losses is {got:.7g}"
        return ""

    def _share(self, inputs: Mapping[str, Any], num_items: Any) -> float:
        """What the sum over the examples of a micro-batch is divided by."""
        loss = self.oracle.loss
        assert isinstance(loss, ModelLoss)
        if num_items is not None and self.trainer.model_accepts_loss_kwargs and loss.counts(inputs):
            return float(num_items)
        return loss.weight(inputs) * self._parts(num_items)

    def _parts(self, num_items: Any) -> int:
        """What `training_step` divides the loss of a micro-batch by."""
        scaled = getattr(self.trainer, "loss_is_scaled_for_ga", None)
        if scaled is None:
            counted = self.trainer.model_accepts_loss_kwargs and num_items is not None
            scaled = counted or self.trainer.compute_loss_func is not None
        return 1 if scaled else int(self.trainer.current_gradient_accumulation_steps)

    # --------------------------------------------------------------------------------------------- one number per batch

    def _whole(self, step: StepUnderWay, inputs: Mapping[str, Any], num_items: Any) -> Floats:
        """The Trainer's loss at each query, each under the same noise, if it makes any of its own."""
        with _same_noise(self.trainer.model) as again, eagerly():

            def at(_: Any = None, displacements: Displacements | None = None, which: slice = slice(0, 1)) -> Floats:
                again()
                self.oracle.forwards += batch_size(inputs)
                with nullcontext() if displacements is None else Scratch(displacements, which.start):
                    return np.array([self._computed(inputs, num_items)[0]])

            out = np.concatenate([at(None, step.displacements, slice(i, i + 1)) for i in range(len(step.sums))])
            if np.isfinite(out).all():
                self.oracle.reached.check(step.displacements)
                if not self.oracle.reached.changes([out]):
                    sweep: Any = at
                    self.oracle.reached.look_farther(step.displacements, sweep, sweep)
        return out

    def _computed(self, inputs: Any, num_items: Any, return_outputs: bool = False) -> tuple[float, Any]:
        """What `compute_loss` returns, as `training_step` scales it."""
        trainer, model = self.trainer, self.trainer.model
        for part in _outermost(model):
            part.training = bool(self.own_mode)
        more = {"return_outputs": True} if return_outputs else {}
        try:
            with trainer.compute_loss_context_manager():
                found = trainer.compute_loss(model, copy.copy(inputs), num_items_in_batch=num_items, **more)
        except Exception as error:
            if is_out_of_memory(error):
                raise RuntimeError(
                    f"Out of memory with {batch_size(inputs)} examples, and one loss per batch cannot be split. Use a "
                    "smaller `per_device_train_batch_size`, and more `gradient_accumulation_steps`."
                ) from error
            if "did not return a loss" in str(error) and "labels" not in inputs:
                have = ", ".join(map(repr, inputs))
                raise ValueError(
                    f"The batch has no tensor 'labels', and the model no loss; it has {have}. Add labels to the data, "
                    "override `compute_loss`, or give `ZOTrainer(compute_per_example_loss=...)`."
                ) from error
            raise
        finally:
            for part in _outermost(model):
                part.training = False
        loss, out = found if return_outputs else (found, None)
        if not isinstance(loss, torch.Tensor | float | int) or (isinstance(loss, torch.Tensor) and loss.numel() != 1):
            what = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else f"{loss!r:.60}"
            raise TypeError(f"`compute_loss` must return one number for the batch, got {what}.")
        return float(loss) / self._parts(num_items), out


def another_objective(trainer: Any) -> str:
    """Why the Trainer minimises something other than its model's own loss; empty if it does not."""
    function = getattr(trainer.compute_loss, "__func__", trainer.compute_loss)
    code = getattr(function, "__code__", None)
    if code is None or (code.co_filename, code.co_name) != (transformers.trainer.__file__, "compute_loss"):
        return f"`{getattr(function, '__qualname__', 'compute_loss')}` is not transformers' own"
    if trainer.compute_loss_func is not None:
        return "`compute_loss_func` is given"
    if trainer.label_smoother is not None:
        return "labels are smoothed (`label_smoothing_factor`)"
    return ""


def _another_model(model: Any) -> str:
    """Why a model may add something to its loss; empty for the models of transformers as they are."""
    base: Any = uncompiled(_outermost(model)[-1])
    if not type(base).__module__.startswith("transformers.models."):
        return f"{type(base).__name__} is not one of transformers' own models"
    if any(part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part) for part in _outermost(model)):
        return f"the forward pass of {type(base).__name__} is changed by a hook"
    if "_loss_function" in vars(base):
        return f"the `loss_function` of {type(base).__name__} is replaced"
    return ""


_TERMS = ("output_router_logits", "router_aux_loss_coef", "problem_type", "use_return_dict")
"""Settings of a model that change its loss, perhaps in the middle of a run."""


def _outermost(model: Any) -> list[Any]:
    """The model, and the one within an adapter's wrapper."""
    return [model, model.get_base_model()] if hasattr(model, "get_base_model") else [model]


def _other_losses(out: Any) -> str:
    """A loss that a model returns besides its own, such as the router's."""
    items = out.items() if isinstance(out, Mapping) else ()
    return next((f"`{name}`" for name, value in items if "loss" in name and name != "loss" and value is not None), "")


def _kind(inputs: Mapping[str, Any]) -> tuple[Any, ...]:
    """What batches of one kind have in common: the fields, their types and axes."""
    return tuple(
        (name, value.dtype, value.dim()) if isinstance(value, torch.Tensor) else (name, type(value))
        for name, value in inputs.items()
    )


@contextmanager
def _same_noise(model: Any) -> Iterator[Any]:
    """Yield a function that puts all generators of random numbers back to where they are now."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    cuda = device if device.type == "cuda" else None
    plain, arrays, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    card = torch.cuda.get_rng_state(cuda) if cuda is not None else None

    def again() -> None:
        random.setstate(plain)
        np.random.set_state(arrays)  # noqa: NPY002
        torch.set_rng_state(cpu)
        if card is not None and cuda is not None:
            torch.cuda.set_rng_state(card, cuda)

    yield again
