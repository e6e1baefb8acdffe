"""The classifier on the frozen model: its features, its optimum, and what `finetune` says of it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import blackbox_zo as bz
from oracles.cli.main import main
from oracles.llm import Examples, LabelWords, probe
from oracles.llm._probe import _fitted, _states, _strength
from oracles.llm._reuse import FeatureCache
from tests.oracles.llm.helpers import gpt2, llama
from tests.oracles.llm.test_cli import FAST, here, made, one_thread, typed

__all__ = ["here", "made", "one_thread"]  # fixtures

MODELS = {"llama": llama(), "gpt2": gpt2()}
WORDS = LabelWords((40, 41), over="labels")


def examples(n: int, seed: int = 0) -> Examples:
    """Texts of several lengths, of one class if they have token 60, of the other if they have 61."""
    drawn = random.Random(seed)
    label = [drawn.randrange(2) for _ in range(n)]
    tokens = [[*drawn.choices(range(5, 40), k=drawn.randrange(1, 5)), 60 + c, 50] for c in label]
    return Examples(tokens, 0, label)


@pytest.mark.parametrize("name", MODELS)
def test_the_features_are_the_last_hidden_states_of_each_text_alone(name: str) -> None:
    model, texts = MODELS[name], examples(20)
    with torch.no_grad():
        alone = [model.base_model(torch.tensor([t])).last_hidden_state[0, -1].numpy() for t in texts.tokens]
    np.testing.assert_allclose(_states(model, WORDS, texts), np.array(alone), atol=2e-5)
    assert not model.get_output_embeddings()._forward_pre_hooks and not model.training


def test_features_that_are_kept_are_not_made_again() -> None:
    model, texts = MODELS["llama"], examples(40)
    searched = {id(p): name for name, p in bz.Module(model, "top").parameters.items()}
    cache = FeatureCache(model, WORDS, keep=True)
    for batch in texts.batches(8):
        cache.of(searched, batch)
    runs: list[Any] = []
    handle = model.model.layers[0].self_attn.register_forward_hook(lambda *run: runs.append(run))
    found = _states(model, WORDS, texts, kept=lambda batch: cache.of(searched, batch))
    handle.remove()
    np.testing.assert_allclose(found, _states(model, WORDS, texts), atol=2e-5)
    assert not runs


def test_memory_that_runs_out_halves_the_passes() -> None:
    model, texts, sizes = llama(), examples(20), list[int]()

    def hook(_: Any, given: Any, more: Any) -> None:
        sizes.append(len(more["input_ids"]))
        if sizes[-1] > 4:
            raise MemoryError

    handle = model.model.register_forward_pre_hook(hook, with_kwargs=True)
    with pytest.warns(UserWarning, match="Out of memory with 8 examples in a pass; continuing with 4"):
        found = _states(model, WORDS, texts, 8)
    handle.remove()
    assert max(sizes[1:]) == 4
    np.testing.assert_allclose(found, _states(model, WORDS, texts), atol=2e-5)


def test_states_that_are_not_finite_are_refused() -> None:
    model = llama()
    with torch.no_grad():
        model.model.norm.weight[3] = torch.inf
    with pytest.raises(ValueError, match="NaN or infinite; use fp32"):
        probe(model, WORDS, examples(20), examples(20))


@pytest.mark.parametrize("classes", [2, 3])
def test_the_fit_is_at_its_optimum(classes: int) -> None:
    """The gradient of the penalised cross-entropy, by autograd, is zero there and not nearby."""
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(60, 5)), draw.integers(0, classes, 60)

    def slope(w: Any, strength: float = 0.3) -> float:
        t = torch.tensor(w, requires_grad=True)
        z = torch.tensor(x) @ t[:-1] + t[-1]
        (torch.nn.functional.cross_entropy(z, torch.tensor(y)) + 0.5 * strength * t[:-1].square().sum()).backward()  # type: ignore[no-untyped-call]
        assert t.grad is not None
        return float(t.grad.abs().max())

    w = _fitted(x, y, classes, 0.3)
    assert slope(w) < 1e-4 < 10 * slope(w * 1.1)
    assert slope(w, 0.6) > 1e-2  # the penalty counts


def test_the_penalty_is_stronger_where_features_say_nothing() -> None:
    draw = np.random.default_rng(0)
    x, noise = draw.normal(size=(200, 30)), draw.integers(0, 2, 200)
    assert _strength(x, (x[:, 0] > 0).astype(int), 2) < _strength(x, noise, 2)


def test_a_separable_task_is_solved_on_rows_that_were_not_learnt() -> None:
    found = probe(MODELS["llama"], WORDS, examples(120), examples(50, seed=1), most=100)
    assert found.accuracy > 0.95 and found.loss < 0.5 and (found.rows, found.forwards) == (100, 150)
    apart = examples(50, seed=1)
    wrong = Examples(apart.tokens, 0, [1 - c for c in apart.label or ()])
    assert probe(MODELS["llama"], WORDS, examples(120), wrong, most=100).accuracy < 0.05


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft asks for it
def test_what_cannot_be_probed_is_refused() -> None:
    one = Examples([[5, 6], [7, 8]], 0, [1, 1])
    with pytest.raises(ValueError, match="All 2 examples to learn from have one class"):
        probe(MODELS["llama"], WORDS, one, one)
    peft = pytest.importorskip("peft", reason="peft is not installed, whose virtual tokens are meant")
    virtual = peft.get_peft_model(llama(), peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    with pytest.raises(ValueError, match="last hidden states at the last column"):
        probe(virtual.eval(), WORDS, examples(8), examples(8))


def test_a_run_says_what_it_has_to_beat(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = (*FAST, "--steps", "40", "--journal", "run.jsonl")
    assert main(typed(*more)) == 0
    said = capsys.readouterr().err
    assert "Fitting a classifier to the frozen model, 120 forwards" in said
    assert "accuracy 1.0000 on the rows to validate on. If that is enough, nothing needs to be searched." in said
    assert main(typed(*more, "--steps", "41")) == 0
    assert "frozen" not in capsys.readouterr().err  # the weights have moved
    assert main(typed(*FAST, "--steps", "40", "--no-probe")) == 0
    assert "frozen" not in capsys.readouterr().err
    for quiet in (("--quiet",), ("--time-limit", "600")):
        assert main(typed(*FAST, "--steps", "40", *quiet)) == 0
        assert "frozen" not in capsys.readouterr().err
    assert main(typed(*FAST, "--steps", "30")) == 0  # it would cost more than a tenth of these
    assert "frozen" not in capsys.readouterr().err
