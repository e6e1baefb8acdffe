"""Autograd above, forward passes below."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import blackbox_zo as bz
from blackbox_zo.errors import JournalError
from oracles.llm import HybridOracle, LossOracle

from ...blackbox_zo.modules.helpers import GROUPED, of
from .loss_helpers import RV, loss, texts

ESTIMATOR = RV(0.05, 2, "lowrank")
BELOW = r"layers\.[12]\."
BATCH = texts(4)


def llama() -> Any:
    return of("LlamaForCausalLM", "LlamaConfig", **{**GROUPED, "num_hidden_layers": 4})()


def top_of(model: Any) -> list[torch.nn.Parameter]:
    return [*model.model.layers[3].parameters(), model.model.norm.weight]


def search_of(model: Any, select: Any = BELOW, **options: Any) -> bz.Search:
    return bz.Search(bz.Module(model, select), ESTIMATOR, bz.SGD(0.02), seed=1, **options)


def test_the_top_moves_by_its_gradient_and_the_rest_as_without_it() -> None:
    model, plain = llama(), llama()
    oracle = HybridOracle(model, [BATCH], loss, torch.optim.SGD(top_of(model), 0.1))
    want = copy.deepcopy(plain)
    loss(want, BATCH).mean().backward()  # type: ignore[no-untyped-call]
    list(search_of(model).run(oracle, 1))
    list(search_of(plain).run(LossOracle(plain, [BATCH], loss), 1))
    top = {id(p) for p in top_of(model)}
    for (name, p), q, before in zip(model.named_parameters(), plain.parameters(), want.parameters(), strict=True):
        if id(p) in top:
            torch.testing.assert_close(p.detach(), (before - 0.1 * before.grad).detach(), rtol=1e-5, atol=1e-7)
        else:
            assert torch.equal(p, q), name


@pytest.mark.parametrize("micro_batch", [1, 3, 4])
def test_micro_batches_give_the_same_gradient(micro_batch: int) -> None:
    models = [llama(), llama()]
    for model, size in zip(models, (None, micro_batch), strict=True):
        top = torch.optim.SGD(top_of(model), 0.1)
        list(search_of(model).run(HybridOracle(model, [BATCH], loss, top, micro_batch=size), 2))
    for p, q in zip(*(m.parameters() for m in models), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)


def test_autograd_records_nothing_below_the_top_and_leaves_requires_grad_as_it_was() -> None:
    model = llama()
    model.model.embed_tokens.weight.requires_grad_(False)
    before = [p.requires_grad for p in model.parameters()]
    recorded: list[bool] = []
    for layer in model.model.layers:
        layer.register_forward_hook(
            lambda _, __, out: recorded.append((out[0] if isinstance(out, tuple) else out).requires_grad)
        )
    oracle = HybridOracle(model, [BATCH], loss, torch.optim.SGD(top_of(model), 0.1), "batched")
    list(search_of(model).run(oracle, 1))
    assert recorded[-4:] == [False, False, False, True]
    assert [p.requires_grad for p in model.parameters()] == before


def test_features_are_not_kept_over_what_the_optimiser_moves() -> None:
    batch = {**BATCH, "example_id": torch.arange(4)}
    values = []
    for reuse in ("keep", False):
        model = llama()
        low = torch.optim.SGD(model.model.layers[0].parameters(), 0.5)
        search = search_of(model, r"layers\.3\.")
        values.append([r.value for r in search.run(HybridOracle(model, [batch], loss, low, reuse=reuse), 3)])
    np.testing.assert_allclose(values[0], values[1], rtol=1e-5)


def test_asked_twice_it_moves_the_top_once() -> None:
    model = llama()
    oracle, search = HybridOracle(model, [BATCH], loss, torch.optim.SGD(top_of(model), 0.1)), search_of(model)
    proposal = search.ask()
    before = model.model.norm.weight.clone()
    oracle.answer(proposal)
    answer = oracle.answer(proposal)
    assert torch.equal(model.model.norm.weight, before)
    search.tell(proposal, answer)
    once = llama()
    list(search_of(once).run(HybridOracle(once, [BATCH], loss, torch.optim.SGD(top_of(once), 0.1)), 1))
    assert not torch.equal(model.model.norm.weight, before)
    assert torch.equal(model.model.norm.weight, once.model.norm.weight)


def test_a_step_without_a_finite_loss_does_not_move_the_top() -> None:
    model = llama()
    before = model.model.norm.weight.clone()

    def broken(net: Any, batch: Any) -> torch.Tensor:
        return loss(net, batch) * torch.nan

    oracle = HybridOracle(model, [BATCH], broken, torch.optim.SGD(top_of(model), 0.1), "scratch")
    search = search_of(model)
    list(search.run(oracle, 2))
    assert torch.equal(model.model.norm.weight, before)
    assert search.barren == search.barren_steps == 2


def test_refused(tmp_path: Path) -> None:
    model = llama()
    top = torch.optim.SGD(top_of(model), 0.1)
    with pytest.raises(JournalError, match="HybridOracle"), search_of(model, journal=tmp_path / "j.jsonl") as search:
        list(search.run(HybridOracle(model, [BATCH], loss, top), 1))
    with pytest.raises(ValueError, match=r"both have 'model\.layers\.3"):
        list(search_of(model, "all").run(HybridOracle(model, [BATCH], loss, top), 1))
    with pytest.raises(ValueError, match="is not in this model"):
        list(search_of(model).run(HybridOracle(model, [BATCH], loss, torch.optim.SGD(llama().parameters(), 0.1)), 1))
    with pytest.raises(ValueError, match="no gradient"):
        flat = HybridOracle(model, [BATCH], lambda net, batch: loss(net, batch).detach(), top)
        list(search_of(model).run(flat, 1))
    with pytest.raises(TypeError, match="optimiser"):
        HybridOracle(model, [BATCH], loss, 0.1)  # type: ignore[arg-type]
