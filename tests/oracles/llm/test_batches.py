"""Batches that disagree, that have nothing to learn in them, and those of a `DataLoader`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

import blackbox_zo as bz
from oracles.llm import Completion, Examples, LabelWords, LossOracle, evaluate, finetune
from oracles.llm._loader import LoaderBatches
from tests.oracles.llm.helpers import llama
from tests.oracles.llm.test_losses import MODELS, answers


@torch.no_grad()
def test_an_example_without_an_answer_counts_as_no_loss_and_that_is_said() -> None:
    batch = answers("left", [1, 2, 1, 1])
    whole = Completion()(MODELS["llama"], batch)
    batch["labels"][1] = -100
    with pytest.warns(UserWarning, match="no scored token.* counts as no loss. Was its answer cut off, or empty"):
        losses = Completion()(MODELS["llama"], batch)
    assert losses[1] == 0 and torch.equal(losses[[0, 2, 3]], whole[[0, 2, 3]])
    batch["labels"][:] = -100
    with pytest.warns(UserWarning, match="no scored token"):
        assert Completion()(MODELS["llama"], batch).tolist() == [0, 0, 0, 0]
    one = {name: value[:, -1:] for name, value in answers("left", [1, 1, 1, 1]).items()}
    with pytest.raises(ValueError, match="Every example of the batch has one token"):
        Completion()(MODELS["llama"], one)


@torch.no_grad()
@pytest.mark.parametrize("sweep", ["scratch", "batched"])
def test_a_batch_without_an_answer_has_no_loss_and_the_advice_fits(sweep: Any) -> None:
    model, batch = llama(), answers("left", [1, 2, 1, 1])
    none = {**batch, "labels": torch.full_like(batch["labels"], -100)}
    oracle = LossOracle(model, [none, batch], Completion(), sweep)
    search = bz.Search(bz.Module(model), bz.RandomVector(1e-2, 2, "lowrank"), bz.SGD(1e-3))
    before = [p.clone() for p in model.parameters()]
    proposal = search.ask()
    found = oracle.answer(proposal)
    assert isinstance(found, bz.Values)
    assert np.isnan(found.values).all() and found.info is not None
    assert "all its `labels` are -100. Were the answers cut off, or empty?" in str(found.info[0])
    search.tell(proposal, found)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    later = oracle.answer(search.ask())
    assert isinstance(later, bz.Values) and np.isfinite(later.values).all()


@pytest.mark.parametrize(
    ("name", "part", "message"),
    [
        ("labels", slice(3), "as many examples each, but 'input_ids' has 4, 'attention_mask' has 4, 'labels' has 3"),
        (
            "attention_mask",
            (slice(None), slice(1, None)),
            "as many tokens each, but 'input_ids' has 7, 'attention_mask' has 6",
        ),
    ],
)
def test_fields_that_differ_in_length_are_named(name: str, part: Any, message: str) -> None:
    batch = answers("left", [1, 2, 1, 1])
    batch[name] = batch[name][part]
    with pytest.raises(ValueError, match=message):
        Completion()(MODELS["llama"], batch)


# ---------------------------------------------------------------------------------------------------- a `DataLoader`


class Rows(Dataset[dict[str, torch.Tensor]]):
    def __init__(self, count: int = 7) -> None:
        torch.manual_seed(0)
        self.x = torch.randn(count, 3)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        return {"x": self.x[i], "number": torch.tensor(i)}


def seeded(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def loss(model: Any, batch: Any) -> torch.Tensor:
    return model(batch["x"])[:, 0] ** 2  # type: ignore[no-any-return]


def numbers(batches: Any, steps: range) -> list[list[int]]:
    return [batches(step)["number"].tolist() for step in steps]


def test_a_loaders_batches_are_those_of_its_passes_in_order() -> None:
    loader = DataLoader(Rows(), batch_size=3)
    assert numbers(LoaderBatches(loader), range(4)) == [[0, 1, 2], [3, 4, 5], [6], [0, 1, 2]]
    assert [b["number"].tolist() for b in loader] == [[0, 1, 2], [3, 4, 5], [6]]


@pytest.mark.parametrize(
    "made",
    [
        lambda g: DataLoader(Rows(), batch_size=3, shuffle=True, generator=g),
        lambda g: DataLoader(Rows(), batch_size=3, sampler=SubsetRandomSampler(range(7), generator=g), drop_last=True),
        lambda g: DataLoader(Rows(), batch_sampler=BatchSampler(RandomSampler(Rows(), generator=g), 3, False)),
        lambda g: DataLoader(Rows(), batch_size=3, sampler=DistributedSampler(Rows(), 1, 0), generator=g),
    ],
)
def test_a_batch_depends_on_the_number_of_its_step_alone(made: Any) -> None:
    loader = made(seeded())
    whole = numbers(LoaderBatches(loader), range(9))
    other, again = seeded(), LoaderBatches(made(seeded()))
    torch.randn(3, generator=other)
    before = other.get_state()
    list(loader)  # passes of the user's own change nothing
    assert numbers(LoaderBatches(loader), range(9)) == whole == numbers(LoaderBatches(made(other)), range(9))
    assert torch.equal(other.get_state(), before)  # nor is the generator moved
    assert [numbers(again, range(s, s + 1))[0] for s in (8, 0, 5, 3)] == [whole[s] for s in (8, 0, 5, 3)]
    each = 2 if loader.drop_last else 3
    assert len({str(whole[e * each : (e + 1) * each]) for e in range(3)}) == 3  # each pass has another order
    if not loader.drop_last:
        assert sorted(i for batch in whole[:3] for i in batch) == list(range(7))


def test_batches_by_the_dataset_or_by_several_items_at_once_are_fetched() -> None:
    class Several(Rows):
        def __getitems__(self, indices: list[int]) -> list[dict[str, torch.Tensor]]:
            return [self[i] for i in reversed(indices)]

    assert numbers(LoaderBatches(DataLoader(Several(), batch_size=3)), range(1)) == [[2, 1, 0]]
    whole = DataLoader(TensorDataset(torch.arange(6).view(3, 2)), batch_size=None)
    assert LoaderBatches(whole)(4)[0].tolist() == [2, 3]


def test_a_run_on_a_loader_goes_on_as_if_never_ended(tmp_path: Any) -> None:
    def run(steps: int, journal: str) -> list[torch.Tensor]:
        torch.manual_seed(1)
        model = torch.nn.Linear(3, 1)
        loader = DataLoader(Rows(), batch_size=2, shuffle=True, generator=seeded())
        finetune(
            model, loader, loss, steps=steps, rule=bz.SGD(1e-2), estimator=bz.RandomVector(1e-2),
            journal=tmp_path / journal, validation=DataLoader(Rows(), batch_size=4), evaluate_every=3,
        )  # fmt: skip
        return [p.detach().clone() for p in model.parameters()]

    run(5, "a")
    both = zip(run(9, "a"), run(9, "b"), strict=True)
    assert all(torch.equal(a, b) for a, b in both)


def test_examples_of_one_class_are_said() -> None:
    model, one = llama(), Examples([[5, 6], [7, 8]], 0, label=[1, 1])
    with pytest.warns(UserWarning, match="All 2 examples to learn from have one class, 1; there is nothing to tell"):
        finetune(model, one, LabelWords((5, 6)), steps=1, rule=bz.SGD(1e-3), batch_size=2)


class Noisy(Rows):
    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        return {"x": self.x[i] + torch.randn(3)}


class Stream(IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        return iter(range(3))


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        (DataLoader(Rows(2), shuffle=True), r"shuffles without a generator.*generator=torch.Generator\(\)"),
        (DataLoader(Rows(), batch_sampler=[[0], [1]], generator=None), ""),
        (DataLoader(Rows(), sampler=WeightedRandomSampler([1.0] * 7, 7)), "shuffles without a generator"),
        (DataLoader(Noisy()), "gives another batch for the same indices each time"),
        (DataLoader(Stream()), r"iterable dataset.*`list\(loader\)`"),
        (DataLoader(Rows(1), batch_size=2, drop_last=True), "has no batches"),
        (Examples([[5]], 0), r"`batches` are `Examples`; say how many a step takes, `examples.shuffled\(16\)`"),
        (iter([1]), "got a `list_iterator`. Of an iterator, give `list"),
        ({"x": torch.ones(2)}, "not `dict`; if it is one batch, give a list of it"),
    ],
)
def test_batches_that_a_step_cannot_name_are_refused(loader: Any, message: str) -> None:
    model, before = torch.nn.Linear(3, 1), torch.get_rng_state()
    if not message:
        assert numbers(LossOracle(model, loader, loss).batches, range(3)) == [[0], [1], [0]]
        return
    with pytest.raises((ValueError, TypeError), match=message):
        LossOracle(model, loader, loss)
    assert torch.equal(torch.get_rng_state(), before)


@torch.no_grad()
def test_examples_can_be_measured_on() -> None:
    examples = Examples([[5, 6, 7], [8, 9]], 0, labels=[[-100, 6, 7], [-100, 9]])
    want = Completion()(MODELS["llama"], examples.batch([0, 1])).mean()
    assert evaluate(MODELS["llama"], examples, {"loss": Completion()})["loss"] == pytest.approx(float(want))


def test_a_loader_that_shuffles_can_be_measured_on() -> None:
    model = torch.nn.Linear(3, 1)
    want = evaluate(model, [{"x": Rows().x}], {"loss": loss})
    assert evaluate(model, DataLoader(Rows(), batch_size=2, shuffle=True), {"loss": loss}) == pytest.approx(want)


@pytest.mark.filterwarnings("ignore")  # of `datasets` itself
def test_a_dataset_is_no_batches() -> None:
    datasets = pytest.importorskip("datasets")
    table = pytest.importorskip("pyarrow").Table.from_pylist([{"text": "x"}])
    with pytest.raises(TypeError, match="not `Dataset`; put a `DataLoader` around it, or make `Examples` of its rows"):
        LossOracle(torch.nn.Linear(1, 1), datasets.Dataset(table, fingerprint="x"), loss)
