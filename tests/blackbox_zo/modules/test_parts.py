"""Parts of searched parameters are displaced where they are used, and no others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import blackbox_zo as bz
from blackbox_zo.modules import Module
from blackbox_zo.modules import _indexed as indexed
from blackbox_zo.modules import _parts as parts
from blackbox_zo.modules._displaced import Displaced, Displacements
from blackbox_zo.modules._scratch import Scratch
from blackbox_zo.modules._tensors import rectangles

from .experts import RANKS
from .helpers import Make, queries_of

directions = pytest.mark.parametrize("make", RANKS.values(), ids=RANKS)


@pytest.fixture(autouse=True)
def each_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with large experts."""
    monkeypatch.setattr(parts, "TILE", 64)
    monkeypatch.setattr(parts, "GAP", 0)
    monkeypatch.setattr(indexed, "CHUNK", 256)
    monkeypatch.setattr(indexed, "NARROW", 5)


def stack(experts: int = 9, rows: int = 8, columns: int = 16, dtype: torch.dtype = torch.float32) -> Any:
    """A module with one parameter, used by whoever is given it."""
    holder: Any = nn.Module()
    draw = torch.Generator().manual_seed(0)
    holder.w = nn.Parameter(torch.randn(experts, rows, columns, generator=draw).to(dtype))
    return holder


def under(holder: Any, make: Make, use: Callable[[Any], Any], **options: Any) -> Any:
    """What a function of the parameter gives under the first query."""
    module = Module(holder, **options)
    with Scratch(Displacements(module, queries_of(module, make)), 0), torch.no_grad():
        return use(holder.w)


def value(holder: Any, make: Make, **options: Any) -> torch.Tensor:
    """The parameter under the first query, made at once."""
    return cast(torch.Tensor, under(holder, make, lambda w: w + 0.0, **options))


X = torch.randn(5, 16, generator=torch.Generator().manual_seed(2))
E = torch.tensor(4)
USES: dict[str, tuple[Callable[[Any], Any], int]] = {
    "a number": (lambda w: F.linear(X, w[7]), 1),
    "a tensor of one": (lambda w: F.linear(X, w[E]), 1),
    "select": (lambda w: torch.mm(X, w.select(0, 2).t()), 1),
    "a slice": (lambda w: w[2:4] * 2.0, 2),
    "a slice of a slice": (lambda w: torch.matmul(w[2:6][1:2, :, 3:], torch.ones(13)), 1),
    "rows": (lambda w: w[torch.tensor([[7, 1], [1, -8]])], 2),
    "rows and columns": (lambda w: w[torch.tensor([7, 1]), :, 3], 2),
    "index_select": (lambda w: torch.index_select(w, 0, torch.tensor([3, 3])), 1),
    "a mask": (lambda w: w[torch.arange(9) == 5], 1),
    "a list": (lambda w: w[[0, 8]], 2),
    "transposed": (lambda w: X @ w.transpose(1, 2)[6], 1),
    "viewed flat": (lambda w: w.view(72, 16)[8:16] @ X.t(), 1),
    "unbound": (lambda w: w.unbind()[3] + 1.0, 1),
    "looked up": (lambda w: F.embedding(torch.tensor([2, 5]), w[1]), 1),
    "grouped": (lambda w: F.grouped_mm(X, w.transpose(1, 2), offs=torch.tensor([0, 0, 2, 2, 2, 5, 5, 5, 5]).int()), 2),
    "all": (lambda w: torch.bmm(X.expand(9, 5, 16), w.mT), 9),
    "einsum": (lambda w: torch.einsum("ti,eoi->teo", X, w), 9),
    "an unknown operation": (lambda w: torch.cumsum(w, 0), 9),
    "a view, no value": (lambda w: torch.tensor([len(w), *w[3].shape, w.mT.dim()]), 0),
}


@directions
@pytest.mark.parametrize("use", USES)
def test_only_what_is_used_is_made(use: str, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    holder, (function, experts) = stack(), USES[use]
    with torch.no_grad():
        expected = function(value(holder, make))
    sizes, fill = [], Displaced.fill_

    def counted(self: Displaced, out: torch.Tensor, *rest: Any) -> torch.Tensor:
        sizes.append(out.numel())
        return fill(self, out, *rest)

    monkeypatch.setattr(Displaced, "fill_", counted)
    found = under(holder, make, function)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert sum(sizes) <= experts * 8 * 16 and max(sizes, default=0) <= (9 if use == "an unknown operation" else 2) * 128


@directions
def test_parts_are_the_same_numbers_as_the_whole(make: Make) -> None:
    """From any element to any other; signs and normals to the bit."""
    holder = stack(7, 13, 11)
    module = Module(holder)
    displacements = Displacements(module, queries_of(module, make))
    hit = displacements.of[id(holder.w)]
    whole = hit.whole(1, displacements.buffers).view(-1)
    for start, stop in [
        (0, 1),
        (5, 6),
        (63, 65),
        (64, 640),
        (143, 286),
        (100, 143),
        (143, 144),
        (1000, 1001),
        (7, 1001),
    ]:
        part = hit.fill_(torch.empty(stop - start), 1, start, displacements.buffers)
        if hit.factors is None:
            assert torch.equal(part, whole[start:stop])
        torch.testing.assert_close(part, whole[start:stop], rtol=1e-6, atol=1e-6)


@directions
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=["bf16", "fp64"])
def test_other_types(dtype: torch.dtype, make: Make) -> None:
    holder = stack(dtype=dtype)
    expected = value(holder, make)

    def same(found: torch.Tensor, wanted: torch.Tensor) -> None:
        torch.testing.assert_close(found, wanted, rtol=1e-2 if dtype is torch.bfloat16 else 1e-6, atol=1e-6)

    same(under(holder, make, lambda w: w[torch.tensor([8, 2])]), expected[[8, 2]])
    same(under(holder, make, lambda w: w[5].clone()), expected[5])
    same(under(holder, make, lambda w: w[5].float()), expected[5].float())
    assert under(holder, make, lambda w: type(w.to(w.dtype)[0])) is parts.View


@directions
def test_masks_and_units(make: Make) -> None:
    holder = stack()
    expected = value(holder, make, mask=0.5, unit=3.0)
    assert 0.3 < float((expected == holder.w).double().mean()) < 0.7
    some = under(holder, make, lambda w: [w[e] + 0.0 for e in (0, 8, 3)], mask=0.5, unit=3.0)
    torch.testing.assert_close(torch.stack(some), expected[[0, 8, 3]], rtol=1e-6, atol=1e-6)


def test_neighbours_are_made_together_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "TILE", 512)  # four experts
    made, fill = [], Displaced.fill_

    def noted(self: Displaced, out: torch.Tensor, i: int, start: int, *rest: Any) -> torch.Tensor:
        made.append((start, out.numel()))
        return fill(self, out, i, start, *rest)

    holder = stack()
    expected = value(holder, bz.Gaussian)
    monkeypatch.setattr(Displaced, "fill_", noted)
    found = under(holder, bz.Gaussian, lambda w: torch.stack([F.linear(X, w[e]) for e in range(9)]))
    torch.testing.assert_close(found, F.linear(X, expected.view(72, 16)).view(5, 9, 8).transpose(0, 1))
    assert made == [(0, 512), (512, 512), (1024, 128)]


WRITES: dict[str, Callable[[Any], Any]] = {
    "mul_": lambda w: w.mul_(2.0),
    "add_": lambda w: w[3].add_(1.0),
    "__setitem__": lambda w: w.__setitem__(0, 1.0),
    "__iadd__": lambda w: w[0].__iadd__(1.0),
    "clamp_": lambda w: w.data.clamp_(-1.0, 1.0),
}


@pytest.mark.parametrize("name", WRITES)
def test_a_model_that_writes_to_a_searched_parameter_is_refused(name: str) -> None:
    holder = stack()
    before = holder.w.detach().clone()
    with pytest.raises(RuntimeError, match=rf"writes to 'w' as it runs \(`({name}|add_)`\).*Leave it out of `select`"):
        under(holder, bz.LowRank, WRITES[name])
    assert torch.equal(holder.w, before)


def test_a_part_kept_from_one_query_to_the_next_is_refused() -> None:
    holder = stack()
    module = Module(holder)
    displacements = Displacements(module, queries_of(module, bz.LowRank))
    with Scratch(displacements, 0), torch.no_grad():
        kept = holder.w[2]
    torch.testing.assert_close(kept + 0.0, value(holder, bz.LowRank)[2])  # after the pass it has its values
    with Scratch(displacements, 1), pytest.raises(RuntimeError, match="keeps a part of 'w' from one forward pass"):
        kept + 0.0


def test_rows_out_of_bounds_are_an_error() -> None:
    with pytest.raises(IndexError, match="out of bounds for 9 rows"):
        under(stack(), bz.LowRank, lambda w: w[torch.tensor([0, 9])])


@given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 9))
def test_rectangles_cover_each_element_once(start: int, size: int, width: int) -> None:
    found = [r * width + c for a, b, left, right in rectangles(start, start + size, width)
             for r in range(a, b) for c in range(left, right)]  # fmt: skip
    assert found == list(range(start, start + size)) and len(rectangles(start, start + size, width)) <= 3
