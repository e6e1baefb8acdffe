"""Queries that never reach the model end the run at the first step, with the reason."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import blackbox_zo as bz
from oracles.llm import LossOracle

from ...blackbox_zo.modules.helpers import made
from .loss_helpers import RV, answered, ask, by_hand, net, regression, squares

SWEEPS = pytest.mark.parametrize("sweep", ["auto", "batched", "scratch"])


class Cached(nn.Module):
    """Keeps a weight of its first forward pass, as it is used."""

    def __init__(self) -> None:
        super().__init__()
        self.below, self.layer, self.kept = nn.Linear(4, 4), nn.Linear(4, 1, bias=False), list[torch.Tensor]()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.kept = self.kept or [self.layer.weight.t().contiguous()]
        return torch.tanh(self.below(x)) @ self.kept[0]


class Pooled(nn.Module):
    """Has a layer that its forward pass does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.pooler = nn.Linear(4, 1), nn.Linear(4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)  # type: ignore[no-any-return]


def replaced(part: int) -> tuple[Any, bz.Module]:
    model = net()
    module = bz.Module(model)
    model[part] = nn.Linear(model[part].in_features, model[part].out_features)
    return model, module


def traced() -> tuple[Any, bz.Module]:
    model: Any = torch.jit.trace(net(), regression()["x"])  # type: ignore[no-untyped-call]
    return model, bz.Module(model)


def with_a_scripted_part() -> tuple[Any, bz.Module]:
    model = nn.Sequential(torch.jit.script(nn.Linear(4, 4)), nn.Linear(4, 1))
    return model, bz.Module(model)


def merged() -> tuple[Any, bz.Module]:
    peft = pytest.importorskip("peft", reason="needs peft")
    model = peft.get_peft_model(net(), peft.LoraConfig(r=2, target_modules=["0"], init_lora_weights=False)).eval()
    model.merge_adapter()
    return model, bz.Module(model, r"lora_")


def of(build: Callable[[], Any]) -> Callable[[], tuple[Any, bz.Module]]:
    def make() -> tuple[Any, bz.Module]:
        model = made(build)()
        return model, bz.Module(model)

    return make


OUT_OF_REACH: dict[str, tuple[Callable[[], tuple[Any, bz.Module]], str]] = {
    "traced": (traced, "No operation used '0.weight', .* TorchScript runs its operations out of Python's sight"),
    "scripted in part": (with_a_scripted_part, "No operation used '0.weight', '0.bias' .* before `torch.jit`"),
    "replaced": (lambda: replaced(2), r"No operation used '2.weight', '2.bias' .* replaced after `bz.Module\(...\)`"),
    "cached": (of(Cached), "No operation used 'layer.weight' .* cached at the first forward pass"),
    "unused": (of(Pooled), r"No operation used 'pooler.weight', 'pooler.bias' .* leave them out of `bz.Module"),
    "merged": (merged, r"No operation used .*lora_.* merged into the base weights. Call .* `unmerge_adapter\(\)`"),
}


@SWEEPS
@pytest.mark.parametrize(("make", "words"), OUT_OF_REACH.values(), ids=OUT_OF_REACH)
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_parameter_that_no_operation_uses_ends_the_run(make: Any, words: str, sweep: Any) -> None:
    model, module = make()
    search = bz.Search(module, RV(1e-2, 2, "lowrank"), bz.SGD(0.1))
    with pytest.raises(bz.OracleError, match=words):
        list(search.run(LossOracle(model, [regression()], squares, sweep), steps=1))
    assert module.version == 0


class Experts(nn.Module):
    """One expert for each half of the line."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList([nn.Linear(4, 1), nn.Linear(4, 1)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        high = x[:, :1] > 0
        if not high.any():
            return self.experts[0](x)  # type: ignore[no-any-return]
        return torch.where(high, self.experts[1](x), self.experts[0](x))


def test_an_expert_that_is_not_chosen_is_named_once() -> None:
    model = made(Experts)()
    low = {**regression(), "x": -regression()["x"].abs()}
    search = bz.Search(bz.Module(model), RV(0.1, 2, "lowrank"), bz.SGD(1e-3))
    oracle = LossOracle(model, [low, low, regression()], squares, "scratch")
    with pytest.warns(UserWarning, match=r"No operation used 'experts.1.weight', 'experts.1.bias' on this batch"):
        next(search.run(oracle, steps=1))
    list(search.run(oracle, steps=2))  # a second warning would be an error


class Zero(nn.Linear):
    """Multiplies by what is not searched, and 0."""

    def __init__(self) -> None:
        super().__init__(4, 1)
        self.times = nn.Parameter(torch.zeros(()), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * self.times


@SWEEPS
def test_a_model_that_nothing_changes_ends_the_run(sweep: Any) -> None:
    model = Zero()
    oracle = LossOracle(model, [regression()], squares, sweep)
    for per, k in (("step", 2), ("example", 12)):
        oracle.directions_per = per  # type: ignore[assignment]
        with pytest.raises(bz.OracleError, match=r"All \d+ queries have the same loss, even a million times farther"):
            oracle.answer(ask(model, RV(1e-3, k, "lowrank")))


@SWEEPS
def test_a_loss_that_nothing_changes_is_said_to_be_constant_and_ends_the_run_in_the_end(sweep: Any) -> None:
    """The same might be a reward that no answer has earned yet."""
    model, right = net(), {"is": False}

    def of(model: Any, batch: Any) -> torch.Tensor:
        return squares(model, batch) * right["is"] + 1

    oracle = LossOracle(model, [regression()], of, sweep)
    search = bz.Search(bz.Module(model), RV(0.1, 2, "lowrank"), bz.SGD(1e-3))
    with pytest.warns(UserWarning, match="although the model's output changes. The loss is constant, or"):
        next(search.run(oracle, steps=1))
    right["is"] = True
    list(search.run(oracle, steps=1))
    right["is"] = False
    list(search.run(oracle, steps=12))  # it has changed once
    search = bz.Search(bz.Module(net()), RV(0.1, 2, "lowrank"), bz.SGD(1e-3))
    with pytest.raises(bz.OracleError, match="In 10 steps no query had another loss"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        list(search.run(LossOracle(search.variable.x, [regression()], of, sweep), steps=10))
    assert search.moves == 9


def test_half_of_an_adapter_that_begins_at_zero_is_no_search() -> None:
    peft = pytest.importorskip("peft", reason="needs peft")
    model = peft.get_peft_model(net(), peft.LoraConfig(r=2, target_modules=["0"])).eval()
    proposal = bz.Search(bz.Module(model, "lora_A"), RV(0.1, 2, "lowrank"), bz.SGD(0.1)).ask()
    with pytest.raises(bz.OracleError, match=r"another factor zero, as lora_B is at first"):
        LossOracle(model, [regression()], squares).answer(proposal)


@pytest.mark.parametrize("radius", [1e-5, 1e-3])
def test_a_loss_of_steps_is_said_to_be_flat_once(radius: float) -> None:
    def right(model: Any, batch: Any) -> torch.Tensor:
        return (model(batch["x"])[:, 0] > batch["y"]).float()  # type: ignore[no-any-return]

    model = net()
    search = bz.Search(bz.Module(model), RV(radius, 1), bz.SGD(1e-9), seed=1)
    oracle = LossOracle(model, [regression()], right)
    with pytest.warns(UserWarning, match=r"All 2 queries have the same loss, so this step learns nothing; "):
        next(search.run(oracle, steps=1))
    list(search.run(oracle, steps=3))


@SWEEPS
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("whole", [True, False])
def test_compiled_models_run_eagerly(whole: bool, sweep: Any) -> None:
    plain, model = net(), net()
    if whole:
        model = torch.compile(model, fullgraph=True)
    else:
        model[0].compile()
    expected = by_hand(ask(plain), regression(), squares).mean(1)
    for module in {id(m): m for m in (model, getattr(model, "_orig_mod", model))}.values():
        values = answered(LossOracle(model, [regression()], squares, sweep), ask(module))
        np.testing.assert_allclose(values, expected, rtol=2e-6)
