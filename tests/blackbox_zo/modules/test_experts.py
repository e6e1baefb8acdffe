"""Mixtures of experts: queries give what the displaced parameters written into a copy give."""

from __future__ import annotations

import pytest

import blackbox_zo as bz
from blackbox_zo.modules import Module
from blackbox_zo.modules import _indexed as indexed
from blackbox_zo.modules import _parts as parts
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
