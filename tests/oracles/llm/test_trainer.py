"""Training with transformers' Trainer, from forward passes alone."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertForMaskedLM,
    HfArgumentParser,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PrinterCallback,
    T5Config,
    T5ForConditionalGeneration,
    TrainerCallback,
    TrainingArguments,
)

import blackbox_zo as bz
from oracles.llm import ZOTrainer, ZOTrainingArguments
from oracles.llm._trainer_loss import ModelLoss

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # by peft

VOCABULARY, LENGTH = 60, 8


def config(**more: Any) -> Any:
    torch.manual_seed(0)
    settings = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32,
        "pad_token_id": 0,
    }
    return LlamaConfig(**{**settings, **more})


def llama(**more: Any) -> Any:
    return LlamaForCausalLM(config(**more))


def classifier(**more: Any) -> Any:
    make: Any = LlamaForSequenceClassification
    return make(config(**more))


def counting(n: int = 32, seed: int = 0) -> list[dict[str, Any]]:
    """Each token is the one before it plus one, from a random start; the first few labels do not count."""
    rng = np.random.default_rng(seed)
    rows = []
    for start in rng.integers(1, VOCABULARY, n).tolist():
        ids = [(start + t) % VOCABULARY for t in range(LENGTH)]
        hidden = int(rng.integers(0, LENGTH - 2))
        rows.append({"input_ids": ids, "labels": [-100] * hidden + ids[hidden:]})
    return rows


def classes(n: int = 32) -> list[dict[str, Any]]:
    """Texts of even or of odd tokens."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, n).tolist()
    return [{"input_ids": (2 * rng.integers(1, 25, LENGTH) + y).tolist(), "labels": y} for y in labels]


def arguments(path: Path, **more: Any) -> ZOTrainingArguments:
    settings: dict[str, Any] = {
        "learning_rate": 3e-3,
        "n_directions": 4,
        "max_steps": 10,
        "save_strategy": "no",
        "logging_steps": 5,
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
    }
    return ZOTrainingArguments(str(path), **{**settings, **more})


def trainer(path: Path, model: Any, rows: Any = None, options: Any = None, **more: Any) -> ZOTrainer:
    rows = counting() if rows is None else rows
    made = ZOTrainer(model, arguments(path, **more), train_dataset=rows, **(options or {}))
    made.remove_callback(PrinterCallback)
    return made


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def logged(made: ZOTrainer, name: str) -> list[float]:
    return [entry[name] for entry in made.state.log_history if name in entry]


class At(TrainerCallback):
    """Calls a function at the end of each step."""

    def __init__(self, function: Callable[[int, Any], None]) -> None:
        self.function = function

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self.function(state.global_step, control)


# ---------------------------------------------------------------------------------------------------- training


def test_the_loss_falls_and_nothing_of_the_model_is_patched(tmp_path: Path) -> None:
    model = llama()
    model.model.layers[0].eval()
    modes = {name: part.training for name, part in model.named_modules()}
    made = trainer(tmp_path, model, max_steps=120, logging_steps=30, learning_rate=7e-3, n_directions=8)
    made.train()
    losses = logged(made, "loss")
    assert losses[0] > 3.8 and losses[-1] < losses[0] - 0.2
    assert made.oracle is not None and made.oracle.sweep == "auto"  # one run for all queries
    assert type(model) is LlamaForCausalLM
    assert {name: part.training for name, part in model.named_modules()} == modes
    for part in model.modules():
        assert "forward" not in vars(part)
        assert not part._forward_hooks and not part._forward_pre_hooks
    assert all(p.grad is None for p in model.parameters())
    assert "grad_norm" not in made.state.log_history[0]


def test_dropout_is_off_in_a_step(tmp_path: Path) -> None:
    model = llama(attention_dropout=0.5).train()
    made = trainer(tmp_path, model, max_steps=3)
    made.train()
    assert model.training and made.bad_steps == 0
    assert made.oracle is not None and made.oracle.reason == ""


def test_evaluation_sees_the_moving_weights(tmp_path: Path) -> None:
    def metrics(predictions: Any) -> dict[str, float]:
        guess, labels = predictions.predictions[:, :-1].argmax(-1), predictions.label_ids[:, 1:]
        return {"right": float((guess == labels)[labels != -100].mean())}

    options = {"eval_dataset": counting(16, seed=5), "compute_metrics": metrics}
    more: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 40, "max_steps": 80, "learning_rate": 5e-3}
    made = trainer(tmp_path, llama(), options=options, eval_on_start=True, **more)
    made.train()
    losses = logged(made, "eval_loss")
    assert losses[0] > losses[1] > losses[2]
    assert all(0 <= value <= 1 for value in logged(made, "eval_right"))
    assert made.evaluate()["eval_loss"] == pytest.approx(losses[-1], rel=1e-5)


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_schedules_are_the_trainers(tmp_path: Path, kind: str) -> None:
    made = trainer(tmp_path, llama(), lr_scheduler_type=kind, max_steps=4, logging_steps=1, warmup_steps=1)
    moved: list[float] = []
    last = weights(made.model)

    def note(step: int, control: Any) -> None:
        nonlocal last
        now = weights(made.model)
        moved.append(max(float((now[n] - last[n]).abs().max()) for n in now))
        last = now

    made.add_callback(At(note))
    made.train()
    shares = {"linear": [0, 1, 2 / 3, 1 / 3], "cosine": [0, 1, 0.75, 0.25]}[kind]
    assert logged(made, "learning_rate") == pytest.approx([3e-3 * share for share in shares])
    assert moved[0] == 0 and min(moved[1:]) > 0
    assert made.lr_scheduler is not None and made.lr_scheduler.get_last_lr()[0] == pytest.approx(0, abs=1e-12)


def test_a_move_is_what_the_search_alone_makes(tmp_path: Path) -> None:
    """The same directions, the model's own mean loss, and the rate times the weight decay."""
    model, copy = llama(), llama()
    rows = counting(8)
    made = trainer(tmp_path, model, rows, max_steps=1, per_device_train_batch_size=8, weight_decay=0.5, seed=7)
    made.train()
    batch = {name: torch.tensor([row[name] for row in rows]) for name in ("input_ids", "labels")}
    variable = bz.Module(copy, no_decay="norm")
    search = bz.Search(variable, bz.RandomVector(1e-3, 4, "lowrank"), bz.SGD(1.0), seed=7)
    proposal = search.ask()
    losses = []
    from blackbox_zo.modules._displaced import Displacements
    from blackbox_zo.modules._scratch import Scratch

    for i in range(proposal.queries.n):
        with torch.no_grad(), Scratch(Displacements(variable, proposal.queries), i):
            losses.append(float(copy.eval()(**batch).loss))
    g = search.estimator.estimate(search.state, variable, proposal.queries, bz.Values(losses))[1]
    variable.add_(bz.Step(g.directions, -3e-3 * g.w, 3e-3 * 0.5))
    for name, value in weights(copy).items():
        torch.testing.assert_close(weights(model)[name], value, rtol=0, atol=2e-5)
    assert not torch.equal(weights(model)["model.norm.weight"], torch.ones(32))


def test_accumulated_micro_batches_are_one_batch(tmp_path: Path) -> None:
    ends = []
    for size, parts in ((8, 1), (4, 2)):
        more: dict[str, Any] = {"per_device_train_batch_size": size, "gradient_accumulation_steps": parts}
        made = trainer(tmp_path, llama(), max_steps=5, logging_steps=1, momentum_memory=3, **more)
        made.train()
        ends.append((weights(made.model), logged(made, "loss")))
    (one, losses), (two, others) = ends
    assert losses == pytest.approx(others, rel=1e-5)
    start = weights(llama())
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=0, atol=1e-4)
    assert max(float((one[name] - start[name]).abs().max()) for name in one) > 2e-3


def test_examples_shared_among_directions(tmp_path: Path) -> None:
    more: dict[str, Any] = {"directions_per": "example", "n_directions": 8, "gradient_accumulation_steps": 2}
    made = trainer(tmp_path, llama(), max_steps=60, logging_steps=20, learning_rate=5e-3, **more)
    made.train()
    assert logged(made, "loss")[-1] < logged(made, "loss")[0]
    assert made.oracle is not None and made.oracle.forwards == 60 * 2 * 2 * 8


def test_the_last_accumulation_of_an_epoch_may_be_short(tmp_path: Path) -> None:
    more: dict[str, Any] = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 3, "logging_steps": 1}
    made = trainer(tmp_path, llama(), counting(20), num_train_epochs=2, max_steps=-1, **more)
    made.train()
    assert made.state.global_step == 4
    assert made.search is not None and made.search.nfev == 4 * 8
    assert all(3 < loss < 5 for loss in logged(made, "loss"))


def test_an_epoch_that_stops_within_an_accumulation(tmp_path: Path) -> None:
    class Stop(TrainerCallback):
        def on_substep_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            control.should_training_stop = state.global_step == 2

    made = trainer(tmp_path, llama(), options={"callbacks": [Stop()]}, gradient_accumulation_steps=2, max_steps=4)
    made.train()
    assert made.state.global_step == 2
    made.remove_callback(Stop)
    made.train()
    assert made.state.global_step == 4
    assert made.search is not None and made.search.nfev == 6 * 8 and not made.search.waiting


def test_the_search_is_what_the_arguments_say(tmp_path: Path) -> None:
    more: dict[str, Any] = {"momentum_memory": 3, "momentum": 0.8, "clip_scalar": 2.0, "weight_decay": 0.1}
    made = trainer(tmp_path, llama(), distribution="gaussian", difference="forward", radius=0.01, **more)
    made.create_optimizer()
    assert made.search is not None
    assert made.search.estimator == bz.RandomVector(0.01, 4, "gaussian", "forward")
    rate = made.search.rule.rules[-1].learning_rate  # type: ignore[attr-defined]
    momentum = bz.Momentum(rate, 0.8, memory=3)
    assert made.search.rule == bz.chain(bz.ClipScalar(2.0), bz.WeightDecay(0.1), momentum)
    assert rate(0) == 3e-3 and made.search.seed == 42


def test_a_parameter_that_was_replaced_is_trained(tmp_path: Path) -> None:
    made = trainer(tmp_path, llama(), max_steps=1)
    made.train()
    fresh = torch.nn.Parameter(torch.zeros(VOCABULARY, 32))
    made.model.lm_head.weight = fresh
    made.train()
    assert bool(fresh.any())


# ---------------------------------------------------------------------------------------------------- losses


def own(model: Any, batch: dict[str, Any]) -> tuple[float, float]:
    loss = ModelLoss(model)
    with torch.no_grad():
        model.eval()
        values = loss(model, batch)
        assert values.shape == (len(batch["labels"]),)
        return float(values.sum()) / loss.weight(batch), float(model(**batch).loss)


def test_the_default_loss_is_the_models_own() -> None:
    batch = {name: torch.tensor([row[name] for row in counting(6)]) for name in ("input_ids", "labels")}
    assert len(set((batch["labels"] != -100).sum(1).tolist())) > 1
    got, want = own(llama(), batch)
    assert got == pytest.approx(want, rel=1e-5)
    sizes: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    got, want = own(BertForMaskedLM(BertConfig(**sizes, intermediate_size=16)), batch)
    assert got == pytest.approx(want, rel=1e-5)
    t5 = T5Config(vocab_size=VOCABULARY, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    t5.decoder_start_token_id = 0
    got, want = own(T5ForConditionalGeneration(t5), batch)
    assert got == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize(
    ("more", "labels"),
    [
        ({"num_labels": 3}, [0, 2, 1, 1]),
        ({"num_labels": 1}, [0.5, -1.0, 2.0, 3.0]),
        ({"num_labels": 2, "problem_type": "regression"}, [[0.5, -1.0], [2.0, 3.0], [0.0, 0.1], [1.0, 1.0]]),
        ({"num_labels": 2}, [[0.0, 1.0], [1.0, 1.0], [0.0, 0.0], [1.0, 0.0]]),
    ],
)
def test_the_default_loss_of_classifiers(more: dict[str, Any], labels: Any) -> None:
    ids = torch.tensor([row["input_ids"] for row in classes(4)])
    got, want = own(classifier(**more), {"input_ids": ids, "labels": torch.tensor(labels)})
    assert got == pytest.approx(want, rel=1e-5)


def test_sequence_classification(tmp_path: Path) -> None:
    model = classifier(num_labels=2)
    made = trainer(tmp_path, model, classes(), max_steps=150, logging_steps=30, learning_rate=1e-2)
    made.train()
    losses = logged(made, "loss")
    assert losses[-1] < losses[0] - 0.1
    assert model.config.problem_type in (None, "single_label_classification")


def test_a_loss_of_ones_own(tmp_path: Path) -> None:
    def last_token(model: Any, inputs: Any) -> torch.Tensor:
        z = model(inputs["input_ids"]).logits[:, -2]
        loss: torch.Tensor = z.logsumexp(-1) - z.gather(-1, inputs["input_ids"][:, -1:])[:, 0]
        return loss

    options = {"compute_per_example_loss": last_token}
    made = trainer(tmp_path, llama(), options=options, max_steps=60, logging_steps=20)
    made.train()
    assert logged(made, "loss")[-1] < logged(made, "loss")[0]


def test_data_without_labels_are_refused(tmp_path: Path) -> None:
    rows = [{"input_ids": row["input_ids"]} for row in counting()]
    with pytest.raises(ValueError, match="no tensor 'labels'"):
        trainer(tmp_path, llama(), rows).train()


def test_labels_that_do_not_fit_are_refused() -> None:
    batch = {"input_ids": torch.ones(2, 4, dtype=torch.long), "labels": torch.ones(2, 5, dtype=torch.long)}
    with pytest.raises(ValueError, match=re.escape("do not match labels of shape (2, 4)")):
        ModelLoss(llama())(llama(), batch)


# ---------------------------------------------------------------------------------------------------- bad steps


class NaNs:
    """A loss that is NaN in steps of one's choice."""

    def __init__(self, *steps: int) -> None:
        self.steps, self.step = steps, 0

    def __call__(self, model: Any, inputs: Any) -> torch.Tensor:
        z: torch.Tensor = model(inputs["input_ids"]).logits.logsumexp(-1).mean(1)
        return z * math.nan if self.step in self.steps else z

    def count(self, step: int, control: Any) -> None:
        self.step = step


def test_a_step_of_nans_moves_nothing_and_is_counted(tmp_path: Path) -> None:
    model, loss = llama(), NaNs(2)
    states = [weights(model)]
    options: dict[str, Any] = {"compute_per_example_loss": loss, "callbacks": [At(loss.count)]}
    made = trainer(tmp_path, model, options=options, max_steps=4, logging_steps=1, weight_decay=0.1)
    made.add_callback(At(lambda step, control: states.append(weights(model))))
    made.train()
    assert [same(a, b) for a, b in pairwise(states)] == [False, False, True, False]
    assert logged(made, "zo_bad_steps") == [0, 0, 1, 1] and made.bad_steps == 1


def test_ten_steps_of_nans_end_the_run(tmp_path: Path) -> None:
    loss = NaNs(*range(3, 100))
    options: dict[str, Any] = {"compute_per_example_loss": loss, "callbacks": [At(loss.count)]}
    made = trainer(tmp_path, llama(), options=options, max_steps=50, n_directions=1)
    with pytest.raises(bz.OracleError, match="10 steps in a row"):
        made.train()
    assert made.state.global_step == 12


# ---------------------------------------------------------------------------------------------------- checkpoints


@pytest.mark.parametrize("kind", ["plain", "lora", "bf16"])
def test_a_resumed_run_is_the_unbroken_one(tmp_path: Path, kind: str) -> None:
    def model() -> Any:
        made = llama()
        if kind == "bf16":
            made = made.to(torch.bfloat16)
        return lora(made) if kind == "lora" else made

    more: dict[str, Any] = {
        "max_steps": 8,
        "save_strategy": "steps",
        "save_steps": 5,
        "gradient_accumulation_steps": 2,
        "per_device_train_batch_size": 4,
        "momentum_memory": 4,
        "weight_decay": 0.01,
        "lr_scheduler_type": "linear",
        "difference": "residual",
        "logging_steps": 1,
    }
    whole = trainer(tmp_path / "whole", model(), **more)
    whole.train()

    resumed = trainer(tmp_path / "whole", model(), **more)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-5"))
    assert resumed.state.global_step == 8
    assert same(weights(whole.model), weights(resumed.model))
    assert logged(whole, "loss") == logged(resumed, "loss")
    assert whole.search is not None and resumed.search is not None
    assert whole.search.nfev == resumed.search.nfev == 8 * 4
    assert not same(weights(whole.model), weights(model()))
    saved = dict(np.load(tmp_path / "whole" / "checkpoint-5" / "zo_state.npz"))
    assert int(saved["version"]) == 5 and not any(name.startswith("x/") for name in saved)


def test_a_run_resumes_in_the_same_trainer(tmp_path: Path) -> None:
    made = trainer(tmp_path, lora(llama()), max_steps=4, save_strategy="steps", save_steps=2)
    made.train()
    end = weights(made.model)
    made.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert same(end, weights(made.model))


def test_a_checkpoint_without_the_search_is_refused(tmp_path: Path) -> None:
    more: dict[str, Any] = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    trainer(tmp_path, llama(), save_only_model=True, **more).train()
    with pytest.raises(ValueError, match=r"checkpoint-1' has no zo_state\.npz"):
        trainer(tmp_path, llama(), **more).train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))


def test_what_is_saved_can_be_loaded(tmp_path: Path) -> None:
    made = trainer(tmp_path, llama(), max_steps=3)
    made.train()
    made.save_model(str(tmp_path / "saved"))
    assert (tmp_path / "saved" / "model.safetensors").is_file()
    loaded: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    assert same(weights(loaded), weights(made.model))


def test_the_best_model_is_loaded_at_the_end(tmp_path: Path) -> None:
    more: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    options = {"eval_dataset": counting(8, seed=3)}
    made = trainer(tmp_path, llama(), options=options, max_steps=4, load_best_model_at_end=True, **more)
    made.train()
    assert made.evaluate()["eval_loss"] == pytest.approx(min(logged(made, "eval_loss")), rel=1e-5)


# ---------------------------------------------------------------------------------------------------- adapters


def lora(model: Any) -> Any:
    return get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))


@pytest.mark.parametrize("select", ["lora", "all"])
def test_an_adapter_alone_is_trained(tmp_path: Path, select: str) -> None:
    model = lora(llama())
    before = weights(model)
    made = trainer(tmp_path, model, select=select, max_steps=5)
    made.train()
    made.save_model(str(tmp_path / "saved"))
    after = weights(model)
    moved = {name for name in after if not torch.equal(before[name], after[name])}
    assert moved == {name for name in after if "lora_" in name} and moved
    assert {p.name for p in (tmp_path / "saved").iterdir()} >= {"adapter_model.safetensors", "adapter_config.json"}


def test_weights_that_no_checkpoint_holds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"`select='norm'` trains '.*norm\.weight', which is no part of the .* adapter"
    ):
        trainer(tmp_path, lora(llama()), select="norm", save_strategy="steps")
    trainer(tmp_path, lora(llama()), select="lora", save_strategy="steps")
    trainer(tmp_path, lora(llama()), select="norm")


def test_selected_layers_alone_are_trained(tmp_path: Path) -> None:
    model = llama()
    before = weights(model)
    trainer(tmp_path, model, select=r"layers\.1\.", max_steps=2).train()
    after = weights(model)
    moved = {name for name in after if not torch.equal(before[name], after[name])}
    assert moved == {name for name in after if ".layers.1." in name}


# ---------------------------------------------------------------------------------------------------- journal


def test_a_journal_has_every_answer(tmp_path: Path) -> None:
    made = trainer(tmp_path, llama(), max_steps=3, journal="answers.jsonl")
    made.train()
    assert made.search is not None
    made.search.close()
    header, *records = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert header["rule"] == {
        "name": "SGD",
        "learning_rate": {"python": "oracles.llm._trainer_step.TrainerRate"},
    }
    assert [len(record["values"]) for record in records] == [8, 8, 8]
    with pytest.raises(ValueError, match="exists already"):
        trainer(tmp_path, llama(), max_steps=3, journal="answers.jsonl").train()


def test_a_journal_cannot_begin_at_a_checkpoint(tmp_path: Path) -> None:
    trainer(tmp_path, llama(), max_steps=2, save_strategy="steps", save_steps=1).train()
    made = trainer(tmp_path, llama(), max_steps=2, journal="answers.jsonl")
    with pytest.raises(ValueError, match="cannot begin at a checkpoint"):
        made.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    assert made.search is not None
    made.search.close()


# ---------------------------------------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        ({"deepspeed": {"zero_optimization": {"stage": 2}}}, "deepspeed=.*one process"),
        ({"fsdp": "full_shard"}, "fsdp=.*one process"),
        ({"torch_compile": True}, "torch_compile=True"),
        ({"bf16": True}, r"bf16=True.*torch\.bfloat16"),
        ({"fp16": True}, r"fp16=True.*torch\.bfloat16"),
        ({"max_grad_norm": 1.0}, r"max_grad_norm=1\.0.*clip_scalar"),
        ({"neftune_noise_alpha": 5.0}, "neftune_noise_alpha"),
        ({"auto_find_batch_size": True}, "auto_find_batch_size"),
        ({"learning_rate": 0.0}, r"learning_rate=\.\.\.\)` must be a positive number, got 0\.0"),
        ({"radius": -1.0}, r"radius=\.\.\.\)` must be a positive number, got -1\.0"),
        ({"n_directions": 0}, r"n_directions=\.\.\..*at least 1, got 0"),
        ({"distribution": "cauchy"}, "distribution=.*got 'cauchy'"),
        ({"difference": "backward"}, "difference=.*got 'backward'"),
        ({"difference": "relative", "n_directions": 4, "group": 3}, r"group=3\)` must divide"),
        ({"rank": 0}, r"rank=\.\.\..*got 0"),
        ({"sweep": "fast"}, "sweep=.*got 'fast'"),
        ({"directions_per": "token"}, "directions_per=.*got 'token'"),
        ({"momentum_memory": 0}, "momentum_memory=.*got 0"),
        ({"momentum": 1.0}, r"momentum=.*got 1\.0"),
        ({"weight_decay": 2.0}, r"weight_decay=.*got 2\.0"),
        ({"clip_scalar": 0.0}, r"clip_scalar=.*got 0\.0"),
        ({"journal": "a/b.jsonl"}, "journal=.*got 'a/b.jsonl'"),
    ],
)
def test_bad_arguments_are_refused(tmp_path: Path, bad: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        arguments(tmp_path, **bad)


def test_what_a_trainer_cannot_honour_is_refused(tmp_path: Path) -> None:
    model: Any = llama()
    rows = counting(8)
    wrong: Any = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
    with pytest.raises(TypeError, match="must be `ZOTrainingArguments`, got TrainingArguments"):
        ZOTrainer(model, wrong, train_dataset=rows)
    with pytest.raises(TypeError, match="must be a function"):
        trainer(tmp_path, model, rows, {"compute_per_example_loss": 3})
    with pytest.raises(ValueError, match="makes its own optimizer"):
        trainer(tmp_path, model, rows, {"optimizers": (torch.optim.SGD(model.parameters(), 0.1), None)})
    with pytest.raises(ValueError, match="makes its own optimizer_cls_and_kwargs"):
        trainer(tmp_path, model, rows, {"optimizer_cls_and_kwargs": (torch.optim.SGD, {"lr": 0.1})})
    with pytest.raises(ValueError, match="no trainable parameter matches 'adapter'"):
        trainer(tmp_path, model, rows, select="adapter")


def test_several_devices_are_refused(tmp_path: Path) -> None:
    args = arguments(tmp_path)
    args._n_gpu = 2
    with pytest.raises(ValueError, match="one device, but there are 2"):
        ZOTrainer(llama(), args, train_dataset=counting(8))


def test_arguments_can_be_parsed_from_a_command_line(tmp_path: Path) -> None:
    parser = HfArgumentParser(ZOTrainingArguments)  # type: ignore[arg-type]
    line = ["--output_dir", str(tmp_path), "--radius", "0.01", "--momentum_memory", "5", "--use_cpu", "true"]
    new = "activation_checkpointing"  # transformers 5.0 has the older name only
    checkpointing = new if new in ZOTrainingArguments.__dataclass_fields__ else "gradient_checkpointing"
    (args,) = parser.parse_args_into_dataclasses([*line, f"--{checkpointing}", "true"])
    assert (args.radius, args.momentum_memory, args.learning_rate, args.max_grad_norm) == (0.01, 5, 1e-6, 0.0)
    assert args.lr_scheduler_type == "constant" and args.journal is None and not getattr(args, checkpointing)


def test_a_model_that_is_made_by_a_function(tmp_path: Path) -> None:
    def build() -> Any:
        return llama()

    made = ZOTrainer(None, arguments(tmp_path, max_steps=2), train_dataset=counting(), model_init=build)
    made.remove_callback(PrinterCallback)
    made.train()
    first = weights(made.model)
    made.train()
    assert same(first, weights(made.model)) and not same(first, weights(llama()))
