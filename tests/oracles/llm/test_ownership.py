"""Which rows belong to which example and query: never decided by a size that coincides."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import blackbox_zo as bz
from oracles.llm import LossOracle

from ...blackbox_zo.modules.helpers import made
from .loss_helpers import RV, answered, ask, by_hand, squares

X = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
HEAVY = torch.cat([torch.ones(8), torch.full((8,), 100.0)])
BATCH = {"x": X, "y": torch.arange(16), "class_weight": HEAVY}


def classes() -> Any:
    return made(lambda: nn.Linear(4, 16))()


def weighted(model: Any, batch: Any) -> torch.Tensor:
    x, y, w = batch.values() if isinstance(batch, dict) else batch
    return nn.functional.cross_entropy(model(x), y, reduction="none") * w[y]  # type: ignore[no-any-return]


def weighted_mean(model: Any, batch: Any) -> torch.Tensor:
    return nn.functional.cross_entropy(model(batch["x"]), batch["y"], weight=batch["class_weight"])


def check(oracle: LossOracle, proposal: bz.Proposal, batch: Any, loss: Any) -> None:
    values = answered(oracle, proposal)
    want = by_hand(proposal, batch, loss)
    np.testing.assert_allclose(values, want.mean(1) if want.ndim == 2 else want, rtol=3e-6, atol=1e-7)
    assert np.ptp(values) > 1e-3


# ----------------------------------------------------------------------------------------------------- of an example


@pytest.mark.parametrize("micro_batch", [None, 4, 1])
@pytest.mark.parametrize("sweep", ["auto", "batched", "scratch"])
@pytest.mark.parametrize("of", [dict, lambda b: tuple(b.values())], ids=["dict", "tuple"])
def test_what_all_examples_share_may_have_the_size_of_the_batch(of: Any, sweep: Any, micro_batch: int | None) -> None:
    model, batch = classes(), of(BATCH)
    check(LossOracle(model, [batch], weighted, sweep, micro_batch=micro_batch), ask(model), batch, weighted)


def test_what_is_shared_may_come_first() -> None:
    def loss(model: Any, batch: Any) -> torch.Tensor:
        return weighted(model, {k: batch[k] for k in ("x", "y", "class_weight")})

    for size in (16, 5):
        model = classes()
        batch = {"class_weight": HEAVY, "x": X[:size], "y": torch.arange(size)}
        check(LossOracle(model, [batch], loss, micro_batch=3), ask(model), batch, loss)


def test_a_tensor_whose_order_makes_no_difference_at_first_is_looked_at_again() -> None:
    """All classes have the same weight at first, so that nothing shows what it belongs to."""
    model = classes()
    even = {**BATCH, "class_weight": torch.ones(16)}
    oracle = LossOracle(model, [even, BATCH], weighted, micro_batch=5)
    search = bz.Search(bz.Module(model), RV(0.05, 2, "lowrank"), bz.SGD(1e-3))
    for step in range(4):
        proposal = search.ask()
        check(oracle, proposal, oracle.batch(step), weighted)
        search.tell(proposal, oracle.answer(proposal))


def test_rows_that_do_not_differ_at_first_may_later() -> None:
    """A weight for each example, all 1 at first."""

    def of(model: Any, batch: Any) -> torch.Tensor:
        return nn.functional.cross_entropy(model(batch["x"]), batch["y"], reduction="none") * batch["w"].sum(-1)  # type: ignore[no-any-return]

    model, one = classes(), {"x": X, "y": torch.arange(16), "w": torch.ones(16, 1)}
    oracle = LossOracle(model, [one, {**one, "w": torch.rand(16, 1)}], of, micro_batch=5)
    search = bz.Search(bz.Module(model), RV(0.05, 2, "lowrank"), bz.SGD(1e-3))
    for step in range(3):
        proposal = search.ask()
        check(oracle, proposal, oracle.batch(step), of)
        search.tell(proposal, oracle.answer(proposal))


def test_examples_can_be_declared() -> None:
    model = classes()
    check(LossOracle(model, [BATCH], weighted, micro_batch=3, examples=["x", "y"]), ask(model), BATCH, weighted)
    with pytest.raises(ValueError, match=re.escape("names 'z'; the batch has 'x', 'y', 'class_weight'.")):
        LossOracle(model, [BATCH], weighted, examples=["x", "z"]).answer(ask(model))


def test_lengths_that_disagree_are_named() -> None:
    model = classes()
    batch = {"input_ids": torch.ones(4, 3), "labels": torch.ones(3)}
    words = "disagree about the number of examples: 'input_ids' has 4, 'labels' has 3"
    with pytest.raises(ValueError, match=words):
        LossOracle(model, [batch], weighted).answer(ask(model))
    with pytest.raises(ValueError, match=r".") as caught:
        LossOracle(model, [{**BATCH, "y": torch.arange(15)}], weighted).answer(ask(model))
    assert "different lengths: 'x' has 16, 'y' has 15, 'class_weight' has 16" in caught.value.__notes__[0]


def of_its_place(model: Any, batch: Any) -> torch.Tensor:
    return squares(model, batch) * torch.arange(len(batch["x"]))


def centred(model: Any, batch: Any) -> torch.Tensor:
    z = model(batch["x"])
    return (z - z.mean(0)).square().mean(1)  # type: ignore[no-any-return]


@pytest.mark.parametrize("loss", [weighted_mean, centred, of_its_place])
def test_a_loss_that_mixes_rows_sees_the_whole_batch(loss: Any) -> None:
    model = classes()
    for sweep in ("auto", "scratch"):
        oracle = LossOracle(model, [BATCH], loss, sweep)
        check(oracle, ask(model), BATCH, loss)
        assert oracle.sweep == "scratch" and re.search("on other rows|not the mean over its", oracle.reason)
    with pytest.raises(bz.OracleError, match=r"Use sweep='scratch'"):
        LossOracle(model, [BATCH], loss, "batched").answer(ask(model))
    with pytest.raises(ValueError, match=r"would then depend on `micro_batch=5`: give the loss the whole batch of 16"):
        LossOracle(model, [BATCH], loss, micro_batch=5).answer(ask(model))
    with pytest.raises(ValueError, match=r"`directions_per='example'` needs a loss of each example by itself"):
        LossOracle(model, [BATCH], loss, directions_per="example").answer(ask(model, RV(0.05, 16, "lowrank")))


def test_a_loss_is_looked_at_again_in_another_mode() -> None:
    class Fickle(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            z = super().forward(x)
            return z - z.mean(0) if self.training else z

    def loss(model: Any, batch: Any) -> torch.Tensor:
        return model(batch["x"]).square().mean(1)  # type: ignore[no-any-return]

    model = made(lambda: Fickle(4, 3))()
    oracle = LossOracle(model, [BATCH], loss)
    for training in (False, True):
        model.train(training)
        check(oracle, ask(model), BATCH, loss)
        assert oracle.sweep == ("scratch" if training else "auto")


# ------------------------------------------------------------------------------------------------------- of a query


class Prototypes(nn.Module):
    """Compares each example with 64 constants."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.w = way, nn.Parameter(torch.randn(4, 4))
        self.c = nn.Buffer(torch.randn(64, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.way == "einsum":
            return torch.einsum("bd,de,pe->bp", x, self.w, self.c).logsumexp(1)
        if self.way == "matmul":
            return ((x @ self.w) @ self.c.t()).logsumexp(1)
        return ((x @ self.w) @ (self.c @ self.w).t()).logsumexp(1)


class Tokens(nn.Module):
    """Adds to 64 tokens what depends on their place, which is not the batch's."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.layer, self.places = way, nn.Linear(4, 4), nn.Embedding(64, 4)
        self.b = nn.Buffer(torch.randn(64, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x[:, None] * torch.linspace(0, 1, 64)[:, None]
        if self.way == "buffer":
            return torch.tanh(self.layer(x) * self.b * self.layer.weight[0]).sum((1, 2))
        if self.way == "places":
            return torch.tanh(self.layer(x + self.places(torch.arange(64)))).sum((1, 2))
        first = self.layer(x.transpose(0, 1))  # the batch comes second
        return (first - first.mean(0)).square().sum((0, 2))  # type: ignore[no-any-return]


@pytest.mark.parametrize("way", ["einsum", "matmul", "embedded", "buffer", "places", "second"])
def test_constants_are_never_cut_by_query(way: str) -> None:
    """8 queries on 8 rows are as many as there are constants or tokens."""

    def loss(model: Any, batch: Any) -> torch.Tensor:
        return model(batch["x"])  # type: ignore[no-any-return]

    model = made(lambda: (Prototypes if way in ("einsum", "matmul", "embedded") else Tokens)(way))()
    batch = {"x": X[:8]}
    select = "all" if way in ("einsum", "matmul", "embedded", "places") else "layer"
    oracle = LossOracle(model, [batch], loss)
    check(oracle, ask(model, RV(0.05, 4, "lowrank"), select), batch, loss)
    assert oracle.sweep == ("scratch" if way == "second" else "auto")


def test_a_size_at_which_the_model_cannot_be_stacked_may_come_late() -> None:
    class Chunks(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([super(Chunks, self).forward(c) for c in torch.split(x, 64)])

    model = made(lambda: Chunks(4, 1))()
    batches = [{"x": torch.randn(n, 4), "y": torch.zeros(n)} for n in (4, 40)]
    oracle = LossOracle(model, batches, squares)
    search = bz.Search(bz.Module(model), RV(1e-2, 4, "lowrank"), bz.SGD(1e-3))
    for step, sweep in enumerate(("auto", "scratch", "scratch")):
        proposal = search.ask()
        check(oracle, proposal, oracle.batch(step), squares)
        search.tell(proposal, oracle.answer(proposal))
        assert oracle.sweep == sweep


def test_a_size_that_coincides_may_come_late() -> None:
    """With 4 rows, 8 queries are 32; with 8 they are as many as the places that the model makes."""

    class Grid(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.randn(4, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            places = torch.linspace(0, 1, 256).sin().view(64, 4)
            return torch.einsum("bd,de,pe->bp", x, self.w, places).square().sum(1)

    def loss(model: Any, batch: Any) -> torch.Tensor:
        return model(batch["x"])  # type: ignore[no-any-return]

    model = made(Grid)()
    batches = [{"x": X[:4]}, {"x": X[:8]}, {"x": X[:4]}]
    oracle = LossOracle(model, batches, loss)
    search = bz.Search(bz.Module(model), RV(0.05, 4, "lowrank"), bz.SGD(1e-3))
    for step in range(3):
        proposal = search.ask()
        check(oracle, proposal, batches[step], loss)
        search.tell(proposal, oracle.answer(proposal))
        assert (oracle.sweep == "scratch") == (step > 0)


@pytest.mark.parametrize("way", ["index", "index_select", "sort"])
def test_rows_picked_by_their_contents_are_never_guessed_at(way: str) -> None:
    """Sorted at first, the rows stay where they are; a pass of the same shapes then mixes them."""

    class Sorting(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            order = x[:, 0].argsort()
            ordered = {"index": lambda: x[order], "index_select": lambda: x.index_select(0, order),
                       "sort": lambda: x.sort(0)[0]}[way]()  # fmt: skip
            z = super().forward(ordered)
            return z if way == "sort" else z[order.argsort()]

    def loss(model: Any, batch: Any) -> torch.Tensor:
        return model(batch["x"])[:, 0].square()  # type: ignore[no-any-return]

    one = torch.ones(1, 4)
    model = made(lambda: Sorting(4, 1))()
    oracle = LossOracle(model, [{"x": one}, {"x": 2 * one}], loss)
    search = bz.Search(bz.Module(model), RV(0.05, 4, "lowrank"), bz.SGD(1e-3))
    for step in range(2):
        proposal = search.ask()
        check(oracle, proposal, oracle.batch(step), loss)
        search.tell(proposal, oracle.answer(proposal))
    assert oracle.sweep == "scratch" and "picked by their contents" in oracle.reason
