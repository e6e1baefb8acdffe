"""What `ZOTrainer` refuses by name, where it would minimise something else than the user's Trainer, or nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer, TrainerCallback

import blackbox_zo as bz
from oracles.llm import ZOTrainer
from tests.oracles.llm.test_trainer import llama, same, weights
from tests.oracles.llm.test_trainer_objective import InBatch, made


def test_two_losses_are_refused(tmp_path: Path) -> None:
    options: dict[str, Any] = {"compute_per_example_loss": lambda model, inputs: torch.zeros(8)}
    with pytest.raises(ValueError, match=r"two losses to minimise: .*and `InBatch\.compute_loss`"):
        made(tmp_path, llama(), InBatch, options=options)
    with pytest.raises(ValueError, match=r"two losses to minimise: .*label_smoothing_factor"):
        made(tmp_path, llama(), options=options, label_smoothing_factor=0.1)
    with pytest.raises(ValueError, match=r"two losses to minimise: .*`compute_loss_func` is given"):
        made(tmp_path, llama(), options={**options, "compute_loss_func": lambda *_, **__: None})


@pytest.mark.parametrize("more", [{"sweep": "batched"}, {"directions_per": "example"}])
def test_one_number_cannot_be_shared_out(tmp_path: Path, more: dict[str, Any]) -> None:
    name, value = next(iter(more.items()))
    before = weights(model := llama())
    with pytest.raises(ValueError, match=f"`{name}='{value}'` needs one loss per example.*InBatch"):
        made(tmp_path, model, InBatch, **more).train()
    assert same(before, weights(model))


def test_what_is_no_number_is_refused(tmp_path: Path) -> None:
    class Several(ZOTrainer):
        def compute_loss(self, *_: Any, **__: Any) -> Any:
            return torch.zeros(8)

    with pytest.raises(TypeError, match=r"must return one number for the batch, got a tensor of shape \(8,\)"):
        made(tmp_path, llama(), Several).train()


class Quiet(ZOTrainer):
    def training_step(self, *_: Any, **__: Any) -> torch.Tensor:
        return torch.tensor(0.0)


class Blind(ZOTrainer):
    def create_optimizer(self, model: Any = None) -> Any:
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.1)
        return self.optimizer


def test_steps_that_ask_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"Quiet\.training_step` does not call that of `ZOTrainer`"):
        made(tmp_path, llama(), Quiet, journal=None).train()
    with pytest.raises(RuntimeError, match=r"Blind\.create_optimizer` does not call that of `ZOTrainer`"):
        made(tmp_path, llama(), Blind, journal=None).train()

    class Other(Trainer):
        def training_step(self, *given: Any, **more: Any) -> torch.Tensor:
            return super().training_step(*given, **more)

    class Both(ZOTrainer, Other):
        pass

    class Before(Other, ZOTrainer):
        pass

    with pytest.raises(ValueError, match=r"`Other\.training_step` would never be called"):
        made(tmp_path, llama(), Both)
    made(tmp_path, llama(), Before, journal=None).train()


@pytest.mark.parametrize("change", ["freeze", "replace"])
def test_a_model_that_a_callback_changes_is_refused(tmp_path: Path, change: str) -> None:
    class Change(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **more: Any) -> None:
            if change == "freeze":
                model.lm_head.weight.requires_grad_(False)
            else:
                model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())

    trainer = made(tmp_path, llama(), options={"callbacks": [Change()]}, max_steps=3, journal=None)
    with pytest.raises(RuntimeError, match=r"Parameter 'lm_head\.weight' was replaced, frozen or unfrozen"):
        trainer.train()
    assert trainer.state.global_step == 1


def test_a_model_that_is_changed_between_runs_is_trained_as_it_is(tmp_path: Path) -> None:
    model = llama()
    trainer = made(tmp_path, model, max_steps=1, journal=None)
    trainer.train()
    model.lm_head.weight.requires_grad_(False)
    before = model.lm_head.weight.clone()
    trainer.train()
    assert torch.equal(before, model.lm_head.weight) and "lm_head.weight" not in trainer.search.variable.parameters


class Constant(ZOTrainer):
    """A loss in which the model has no part."""

    def compute_loss(self, *_: Any, **__: Any) -> Any:
        return torch.tensor(1.0)


class Flat(ZOTrainer):
    """A loss that the model's output does not change."""

    def compute_loss(self, model: Any, inputs: Any, *_: Any, **__: Any) -> Any:
        return (model(input_ids=inputs["input_ids"]).logits.mean() > 1e9).float()


def test_a_loss_that_no_query_changes_is_said(tmp_path: Path) -> None:
    with pytest.raises(bz.OracleError, match=r"No operation used 'model\.embed_tokens\.weight'"):
        made(tmp_path, llama(), Constant, journal=None).train()
    with (
        pytest.warns(UserWarning, match="All 8 queries have the same loss"),
        pytest.raises(bz.OracleError, match="In 10 steps no query had another loss than the others"),
    ):
        made(tmp_path, llama(), Flat, journal=None, max_steps=20).train()
