"""Mixtures of experts: queries give what the displaced parameters written into a copy give."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch

import blackbox_zo as bz
from blackbox_zo.modules import Module
from blackbox_zo.modules import _indexed as indexed
from blackbox_zo.modules import _parts as parts
from blackbox_zo.modules._batched import Batched
from blackbox_zo.modules._displaced import Displacements
from blackbox_zo.modules._stacking import Unstackable

from .experts import ALONE, IMPLEMENTED, MIXTURES, OWN, RANKS, low_rank_four, made_by
from .helpers import Make, assert_exact, queries_of, reference, swept

directions = pytest.mark.parametrize("make", RANKS.values(), ids=RANKS)


@pytest.fixture(autouse=True)
def nothing_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with large experts: each is made by itself, in several runs."""
    monkeypatch.setattr(parts, "TILE", 64)
    monkeypatch.setattr(indexed, "CHUNK", 200)
    monkeypatch.setattr(indexed, "NARROW", 5)


@directions
@pytest.mark.parametrize(("name", "implementation"), IMPLEMENTED)
def test_every_family(name: str, implementation: str, make: Make) -> None:
    case = MIXTURES[name]
    module, inputs = Module(made_by(name, implementation)), case.inputs()
    queries = queries_of(module, make, radius=0.02)
    expected = reference(case, module, queries, inputs)
    assert_exact(swept(case, module, queries, inputs, "scratch"), expected, tolerance=1e-5, effect=1e-4)


@directions
@pytest.mark.parametrize("way", OWN)
def test_every_way_to_write_it(way: str, make: Make) -> None:
    case = OWN[way]
    module, inputs = Module(case.make(), "weight|bias"), case.inputs()
    queries = queries_of(module, make)
    assert_exact(swept(case, module, queries, inputs, "scratch"), reference(case, module, queries, inputs))


BATCHED = [(name, way) for name, way in IMPLEMENTED if name not in ALONE]


@pytest.mark.parametrize("make", [bz.LowRank, low_rank_four], ids=["rank one", "rank four"])
@pytest.mark.parametrize(("name", "implementation"), BATCHED)
def test_all_queries_in_one_pass(name: str, implementation: str, make: Make) -> None:
    case = MIXTURES[name]
    module, inputs = Module(made_by(name, implementation)), case.inputs()
    queries = queries_of(module, make, radius=0.02)
    expected = reference(case, module, queries, inputs)
    assert_exact(swept(case, module, queries, inputs, "batched"), expected, tolerance=1e-5, effect=1e-4)
    assert not any("forward" in vars(part) for part in module.model.modules())


@pytest.mark.parametrize("make", [bz.Rademacher, bz.Gaussian])
@pytest.mark.parametrize("name", ["qwen3", "gpt-oss"])
def test_without_factors_a_batched_run_is_refused(name: str, make: Make) -> None:
    case = MIXTURES[name]
    module = Module(case.make())
    with pytest.raises(Unstackable, match="sweep='scratch'"):
        swept(case, module, queries_of(module, make), case.inputs(), "batched")


@pytest.mark.parametrize("name", ALONE)
def test_what_is_not_transformers_experts_is_refused(name: str) -> None:
    case = MIXTURES[name]
    module = Module(case.make())
    with pytest.raises(Unstackable):
        swept(case, module, queries_of(module, bz.LowRank), case.inputs(), "batched")


@pytest.mark.parametrize("select", ["gate_up_proj", r"experts\.down_proj$", "bias", "down_proj_bias", "router", "norm"])
def test_some_of_the_parameters(select: str) -> None:
    case = MIXTURES["gpt-oss"]
    module, inputs = Module(made_by("gpt-oss", "eager"), select), case.inputs()
    queries = queries_of(module, low_rank_four)
    found = swept(case, module, queries, inputs, "batched")
    assert_exact(found, reference(case, module, queries, inputs), tolerance=1e-5, effect=1e-5)


@pytest.mark.parametrize("change", ["a subclass", "a parameter more", "a forward of its own", "a mask"])
def test_what_is_not_known_is_left_to_itself(change: str) -> None:
    case = MIXTURES["qwen3"]
    model = made_by("qwen3", "eager")
    experts = model.model.layers[0].mlp.experts
    if change == "a subclass":
        plain = type(experts)
        experts.__class__ = type("Other", (plain,), {"forward": lambda self, *args: 2.0 * plain.forward(self, *args)})
    if change == "a parameter more":
        experts.scale = torch.nn.Parameter(torch.ones(1))
    if change == "a forward of its own":
        experts.forward = partial(type(experts).forward, experts)
    module = Module(model, mask=0.5 if change == "a mask" else None)
    with pytest.raises(Unstackable):
        swept(case, module, queries_of(module, bz.LowRank), case.inputs(), "batched")
    assert ("forward" in vars(experts)) == (change == "a forward of its own")


def test_only_the_thread_of_the_pass_is_routed() -> None:
    case = MIXTURES["qwen3"]
    model, inputs = made_by("qwen3", "eager"), case.inputs()
    module = Module(model)
    mode = Batched(Displacements(module, queries_of(module, bz.LowRank)), 3)
    plain = case.run(model, inputs)
    with mode, ThreadPoolExecutor(1) as pool:
        assert "forward" in vars(model.model.layers[0].mlp.experts)
        other = pool.submit(case.run, model, inputs).result()
    assert torch.equal(other, plain)
    assert torch.equal(case.run(model, inputs), plain)


def test_the_model_is_as_before_after_an_error() -> None:
    model = made_by("qwen3", "eager")
    module = Module(model)
    with pytest.raises(ZeroDivisionError), Batched(Displacements(module, queries_of(module, bz.LowRank)), 3):
        raise ZeroDivisionError
    assert not any("forward" in vars(part) for part in model.modules())
