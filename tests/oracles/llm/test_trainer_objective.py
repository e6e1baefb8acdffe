"""What `ZOTrainer` minimises is what its `compute_loss` returns, compared with copies that have the weights written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from transformers import (
    BertConfig,
    BertForMaskedLM,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PrinterCallback,
    Trainer,
)

import blackbox_zo as bz
from oracles.llm import ZOTrainer
from oracles.llm._adapters import make_adapter
from tests.blackbox_zo.modules.helpers import written
from tests.oracles.llm.test_trainer import VOCABULARY, arguments, classifier, config, counting, llama, same, weights

ROWS = counting(8)


def made(path: Path, model: Any, kind: Any = ZOTrainer, rows: Any = None, options: Any = None, **more: Any) -> Any:
    settings = {"max_steps": 1, "per_device_train_batch_size": 8, "journal": "run.jsonl", "logging_steps": 1, **more}
    rows = ROWS if rows is None else rows
    found = kind(model, arguments(path, **settings), train_dataset=rows, **(options or {}))
    found.remove_callback(PrinterCallback)
    return found


def minimised(trainer: Any) -> list[float]:
    """The values of the first step, from its journal."""
    trainer.train()
    trainer.search.close()
    _, first, *_ = (Path(trainer.args.output_dir) / "run.jsonl").read_text().splitlines()
    values: list[float] = json.loads(first)["values"]
    return values


def by_hand(model: Any, of: Callable[[Any], Any], **more: Any) -> list[float]:
    """The loss of the model at each query of a first step, of a copy with the weights written."""
    variable = bz.Module(model.eval())
    estimator = bz.RandomVector(more.get("radius", 1e-3), 4, more.get("distribution", "lowrank"))
    queries = bz.Search(variable, estimator, bz.SGD(1.0), seed=42).ask().queries
    with torch.no_grad():
        return [float(of(written(variable, queries, i))) for i in range(queries.n)]


def batch(rows: Any = None) -> dict[str, torch.Tensor]:
    rows = ROWS if rows is None else rows
    return {name: torch.tensor([row[name] for row in rows]) for name in rows[0]}


def close(got: list[float], want: list[float], slopes: bool = True) -> None:
    assert got == pytest.approx(want, rel=2e-6)
    if slopes:  # the differences within pairs are what a step is made of
        pairs = range(0, len(want), 2)
        found, meant = ([v[i] - v[i + 1] for i in pairs] for v in (got, want))
        assert max(map(abs, meant)) > 1e-4
        assert found == pytest.approx(meant, abs=5e-6)


# ------------------------------------------------------------------------------------------------- whose loss it is


class InBatch(ZOTrainer):
    """A contrast among the examples of a batch: one number, which no example has alone."""

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        labels = inputs.pop("labels")
        out = model(**inputs)
        loss = contrast(out.logits, labels)
        return (loss, out) if return_outputs else loss


def contrast(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    z = F.normalize(logits.mean(1), dim=-1)
    alike = labels[:, -1, None] % 2 == labels[:, -1] % 2
    return (z @ z.T / 0.1).logsumexp(1).mean() - (z @ z.T / 0.1)[alike].mean()


@pytest.mark.parametrize("distribution", ["lowrank", "gaussian"])
def test_an_overridden_loss_is_minimised(tmp_path: Path, distribution: str) -> None:
    trainer = made(tmp_path, llama(), InBatch, distribution=distribution)
    got = minimised(trainer)
    given = batch()
    labels = given.pop("labels")
    close(got, by_hand(llama(), lambda m: contrast(m(**given).logits, labels), distribution=distribution))
    assert "InBatch.compute_loss` is not transformers' own" in trainer.oracle.reason
    assert trainer.oracle.forwards == 8 * 8


def test_an_overridden_loss_falls(tmp_path: Path) -> None:
    trainer = made(tmp_path, llama(), InBatch, max_steps=60, n_directions=8, learning_rate=5e-3, journal=None)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert sum(losses[-10:]) < sum(losses[:10]) - 0.5


def test_a_loss_function_of_ones_own_is_minimised(tmp_path: Path) -> None:
    def focal(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        z, y = outputs.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
        losses = F.cross_entropy(z, y, reduction="none")
        counted: torch.Tensor = (y != -100) * losses * (1 - (-losses).exp())
        total: torch.Tensor = counted.sum() / num_items_in_batch
        return total

    trainer = made(tmp_path, llama(), options={"compute_loss_func": focal}, gradient_accumulation_steps=2)
    trainer.args.per_device_train_batch_size = 4
    given = batch()
    scored = int((given["labels"][:, 1:] != -100).sum())
    close(minimised(trainer), by_hand(llama(), lambda m: focal(m(**given), given["labels"], scored)))


def test_smoothed_labels_are_smoothed(tmp_path: Path) -> None:
    trainer = made(tmp_path, llama(), label_smoothing_factor=0.2)
    given = batch()

    def smoothed(model: Any) -> torch.Tensor:
        z, y = model(**given).logits[:, :-1].flatten(0, 1), given["labels"][:, 1:].flatten()
        return F.cross_entropy(z, y, label_smoothing=0.2, ignore_index=-100)

    close(minimised(trainer), by_hand(llama(), smoothed))


def mixtral(coefficient: float) -> Any:
    torch.manual_seed(0)
    sizes: Any = {
        "vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2,
        "initializer_range": 0.3,
    }  # fmt: skip
    return MixtralForCausalLM(MixtralConfig(**sizes, output_router_logits=True, router_aux_loss_coef=coefficient))


@pytest.mark.parametrize("coefficient", [1e-3, 1e-6, 1.0])
def test_the_routers_loss_is_part_of_it(tmp_path: Path, coefficient: float) -> None:
    trainer = made(tmp_path, mixtral(coefficient))
    given = batch()
    close(minimised(trainer), by_hand(mixtral(coefficient), lambda m: m(**given).loss))
    assert "the model also has `aux_loss`" in trainer.oracle.reason


class Anchored(LlamaForCausalLM):  # type: ignore[no-untyped-call]
    """A penalty that is 0 at the start, and only in training."""

    start: Any = None

    def forward(self, *args: Any, **more: Any) -> Any:
        out = super().forward(*args, **more)
        w = self.lm_head.weight
        self.start = w.detach().clone() if self.start is None else self.start
        if out.loss is not None and self.training:
            out.loss = out.loss + 1e3 * (w - self.start).pow(2).sum()
        return out


def test_a_model_that_adds_to_its_loss_is_heard(tmp_path: Path) -> None:
    model, other = Anchored(config()), Anchored(config())
    for one in (model, other):
        one.start = one.lm_head.weight.detach().clone()
    given = batch()

    def penalised(copy: Any) -> torch.Tensor:
        copy.training = True
        return copy(**given).loss  # type: ignore[no-any-return]

    trainer = made(tmp_path, model, remove_unused_columns=False)
    close(minimised(trainer), by_hand(other, penalised), slopes=False)
    assert "Anchored is not one of transformers' own models" in trainer.oracle.reason


@pytest.mark.parametrize("kind", ["plain", "loss_function", "hook"])
def test_transformers_own_loss_takes_one_pass_for_all_queries(tmp_path: Path, kind: str) -> None:
    model, runs = llama(), list[int]()
    model.model.embed_tokens.register_forward_hook(lambda part, given, out: runs.append(len(out)))
    trainer = made(tmp_path, model, max_steps=3, journal=None)
    if kind == "loss_function":
        model.loss_function = lambda logits, labels, vocab_size, **more: logits.logsumexp(-1).mean()
    elif kind == "hook":
        model.register_forward_hook(lambda part, given, out: None)
    trainer.train()
    if kind == "plain":
        assert trainer.oracle.reason == "" and len(runs) < 3 * 8
    else:
        assert trainer.oracle.reason and len(runs) == 3 * 8 + 1


# -------------------------------------------------------------------------------------------------- what it is over


def bert() -> Any:
    torch.manual_seed(0)
    sizes: Any = {
        "vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 16, "initializer_range": 0.3,
    }  # fmt: skip
    return BertForMaskedLM(BertConfig(**sizes))


def unscaled() -> Any:
    """The mean over each micro-batch, which the Trainer divides by the number of them."""
    model = llama()
    model.accepts_loss_kwargs = False
    return model


@pytest.mark.parametrize(
    "make", [bert, llama, unscaled, lambda: classifier(num_labels=1), lambda: classifier(num_labels=3)]
)
def test_micro_batches_count_as_in_the_trainer(tmp_path: Path, make: Any) -> None:
    """Whether means are taken over a step or over micro-batches is what the Trainer does with the same model."""
    model = make()
    own: Any = {1: [0.5, -1.0, 2.0, 3.0, 1.0, 1.5, 0.1, 0.9], 3: [0, 2, 1, 1, 2, 0, 0, 1]}
    labels = own.get(model.config.num_labels, [row["labels"] for row in ROWS])
    rows = [{**row, "labels": y} for row, y in zip(ROWS, labels, strict=True)]
    more: dict[str, Any] = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    got = minimised(made(tmp_path, model, rows=rows, **more))

    def total(copy: Any) -> float:
        """What `Trainer.training_step` takes the gradient of."""
        seen = list[float]()
        plain = Trainer(copy, arguments(tmp_path / "plain", max_steps=1, **more), train_dataset=rows)
        plain.remove_callback(PrinterCallback)
        plain.accelerator.backward = lambda loss, **_: seen.append(loss.item())
        plain.create_optimizer = lambda model=None: plain.optimizer  # type: ignore[method-assign, assignment, return-value]
        plain.optimizer = torch.optim.SGD(copy.parameters(), 0.0)
        with torch.enable_grad():
            plain.train()
        assert len(seen) == 2
        return sum(seen)

    def evaluated(copy: Any) -> float:
        copy.train = lambda mode=True: copy  # as without dropout
        return total(copy)

    close(got, by_hand(make(), evaluated), slopes=False)


# --------------------------------------------------------------------------------------------- noise, modes, resumes


class Noisy(ZOTrainer):
    modes: list[tuple[bool, bool]]

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        self.modes = [*getattr(self, "modes", []), (model.training, model.model.layers[0].training)]
        found: Any = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        return found if return_outputs else found + torch.rand(())


def test_noise_of_ones_own_is_the_same_at_each_query(tmp_path: Path) -> None:
    model = llama().train()
    trainer = made(tmp_path, model, Noisy)
    got = minimised(trainer)
    want = by_hand(llama(), lambda m: m(**batch()).loss)
    added = [a - b for a, b in zip(got, want, strict=True)]
    assert added == pytest.approx([added[0]] * 8, abs=2e-6) and added[0] > 1e-3
    assert set(trainer.modes) == {(True, False)} and all(part.training for part in model.modules())


def noisy() -> Any:
    """A model that makes noise of its own, in evaluation too."""
    model = llama()
    model.model.layers[0].register_forward_hook(lambda part, given, out: out + 0.1 * torch.rand_like(out))
    return model


@pytest.mark.parametrize(("make", "kind"), [(llama, Noisy), (noisy, ZOTrainer)])
def test_a_resumed_run_is_the_unbroken_one(tmp_path: Path, make: Any, kind: Any) -> None:
    more: dict[str, Any] = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "journal": None}
    whole, resumed = (made(tmp_path, make(), kind, **more) for _ in range(2))
    whole.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert whole.oracle.reason and same(weights(whole.model), weights(resumed.model))


class Preferred(ZOTrainer):
    """Compared with the base model, as in DPO: the adapter is off in between."""

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        found = preference(model, inputs)
        return (found, None) if return_outputs else found


def preference(model: Any, inputs: Any) -> torch.Tensor:
    def score() -> torch.Tensor:
        z: torch.Tensor = model(inputs["input_ids"]).logits[:, :-1].log_softmax(-1)
        return z.gather(-1, inputs["input_ids"][:, 1:, None]).sum((1, 2))

    with model.disable_adapter():
        base = score()
    ratio = score() - base
    return -F.logsigmoid(ratio[:, None] - ratio + 0.1 * inputs["labels"][:, -1, None]).mean()


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_a_loss_may_turn_the_adapter_off_in_between(tmp_path: Path) -> None:
    def adapted() -> Any:
        return make_adapter(llama(initializer_range=0.5), 2, seed=1)

    trainer = made(tmp_path, adapted(), Preferred, radius=0.1, label_names=["labels"], max_steps=2)
    got = minimised(trainer)
    close(got, by_hand(adapted(), lambda m: preference(m, batch()), radius=0.1))
