"""`LossOracle`: means over a batch under each query, whatever the sweep, and what stops it."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import blackbox_zo as bz
from blackbox_zo._typing import Floats
from oracles.llm import LossOracle

from ...blackbox_zo.modules.helpers import CASES, DIRECTIONS, SWEEPS, Make, made, queries_of
from .loss_helpers import RV, Runs, answered, ask, by_hand, loss, net, regression, squares, texts

sweeps = pytest.mark.parametrize("sweep", SWEEPS)

sweeps = pytest.mark.parametrize("sweep", SWEEPS)
# ---------------------------------------------------------------------------------------------------------- sweeps


@sweeps
@pytest.mark.parametrize("make", DIRECTIONS.values(), ids=DIRECTIONS)
@pytest.mark.parametrize("name", ["llama tied", "gpt2"])
def test_the_mean_loss_of_each_query(name: str, make: Make, sweep: Any) -> None:
    module = bz.Module(CASES[name].make())
    proposal = bz.Proposal.numbered(0, 0, queries_of(module, make), module)
    oracle = LossOracle(module.model, [texts()], loss, sweep)
    values, expected = answered(oracle, proposal), by_hand(proposal, texts(), loss).mean(1)
    np.testing.assert_allclose(values, expected, rtol=2e-6, atol=3e-7)
    assert np.abs(values[:-1] - values[-1]).min() > 1e-3
    assert values.tolist() == [float(f"{v:.9g}") for v in values] and oracle.sweep == sweep
    assert answered(oracle, proposal).tolist() == values.tolist()


@sweeps
@pytest.mark.parametrize("micro_batch", [1, 2, 3, 5, 6, 7, 24, 1000, None])
def test_the_result_does_not_depend_on_the_micro_batch(micro_batch: int | None, sweep: Any) -> None:
    model = CASES["llama"].make()
    runs, proposal = Runs(loss), ask(model)
    oracle = LossOracle(model, [texts()], runs, sweep, micro_batch=micro_batch, reuse=False)
    np.testing.assert_allclose(
        answered(oracle, proposal), by_hand(proposal, texts(), loss).mean(1), rtol=2e-6, atol=3e-7
    )
    assert max(runs.rows) <= (micro_batch or 24)
    assert oracle.forwards == 24
    runs.rows.clear()  # the first step also tries what is relied on later
    answered(oracle, proposal)
    if sweep == "scratch":  # each run displaces the weights anew, so it has all rows that fit
        assert len(runs.rows) == 4 * -(-6 // min(micro_batch or 6, 6))


def test_auto_takes_one_run_for_all_queries_where_directions_are_of_low_rank() -> None:
    for estimator, rows in ((RV(0.05, 2, "lowrank"), 24), (RV(0.05, 2), 6)):
        model = CASES["llama"].make()
        runs = Runs(loss)
        oracle = LossOracle(model, [texts()], runs, reuse=False)
        answered(oracle, ask(model, estimator))  # the first step also tries what is relied on later
        runs.rows.clear()
        for step in (1, 2):
            answered(oracle, ask(model, estimator, seed=step))
        assert max(runs.rows) == rows and runs.rows[-1] == rows and oracle.sweep == "auto"
        assert runs.rows.count(rows) == (2 if rows == 24 else 8)


@pytest.mark.parametrize("batches", [[texts(6, 0), texts(3, 1)], lambda step: texts(6 - 3 * (step % 2), step % 2)])
def test_the_batch_depends_on_the_step_alone(batches: Any) -> None:
    model = CASES["gpt2"].make()
    search = bz.Search(bz.Module(model), RV(0.05, 2, "lowrank"), bz.SGD(1e-3))
    oracle = LossOracle(model, batches, loss)
    for step in range(3):
        proposal = search.ask()
        expected = by_hand(proposal, texts(6, 0) if step != 1 else texts(3, 1), loss).mean(1)
        np.testing.assert_allclose(answered(oracle, proposal), expected, rtol=2e-6, atol=3e-7)
        search.tell(proposal, bz.Values(expected))


def test_a_run_lowers_the_loss() -> None:
    model = net()
    search = bz.Search(bz.Module(model), RV(1e-3, 8, "lowrank"), bz.SGD(0.2), seed=1)
    reports = list(search.run(LossOracle(model, [regression()], squares), steps=60))
    assert reports[-1].value < 0.3 * reports[0].value and reports[-1].failed == 0


# ------------------------------------------------------------------------------------------- directions per example


@sweeps
@pytest.mark.parametrize(("k", "micro_batch"), [(1, None), (3, None), (3, 2), (12, None), (12, 5), (4, 1)])
@pytest.mark.parametrize("difference", ["central", "forward"])
def test_each_direction_sees_its_own_share(difference: Any, k: int, micro_batch: int | None, sweep: Any) -> None:
    model, batch = net(), regression(12)
    proposal = ask(model, RV(0.1, k, "lowrank", difference))
    runs = Runs(squares)
    oracle = LossOracle(model, [batch], runs, sweep, "example", micro_batch=micro_batch)
    values, each = answered(oracle, proposal), by_hand(proposal, batch, squares)
    share = [slice(j * 12 // k, (j + 1) * 12 // k) for j in range(k)]
    mine = np.array([each[i, share[j]].mean() for i, j in enumerate(proposal.queries.index)])
    if difference == "central":
        np.testing.assert_allclose(values, mine, rtol=2e-6, atol=3e-7)
        return
    base = each[0]
    np.testing.assert_allclose(values[0], base.mean(), rtol=2e-6, atol=3e-7)
    differences = [each[i, share[j]].mean() - base[share[j]].mean() for i, j in enumerate(proposal.queries.index)]
    np.testing.assert_allclose(values[1:] - values[0], differences[1:], atol=3e-7)


@sweeps
@pytest.mark.parametrize(("k", "group", "micro_batch"), [(12, 4, None), (12, 4, 5), (24, 2, None), (3, None, None)])
def test_directions_of_a_group_share_their_examples(k: int, group: int, micro_batch: int | None, sweep: Any) -> None:
    model, batch = net(), regression(12)
    proposal = ask(model, RV(0.1, k, "lowrank", "relative", group=group))
    shares = k // (group or k)
    oracle = LossOracle(model, [batch], squares, sweep, "example", micro_batch=micro_batch)
    values, each = answered(oracle, proposal), by_hand(proposal, batch, squares)
    rows = [range(12 * (j * shares // k) // shares, 12 * (j * shares // k + 1) // shares) for j in range(k)]
    np.testing.assert_allclose(values, [each[j, rows[j]].mean() for j in range(k)], rtol=2e-6, atol=3e-7)


def test_groups_must_divide_the_batch() -> None:
    model = net()
    oracle = LossOracle(model, [regression(12)], squares, directions_per="example")
    words = (
        "shares 12 examples among 40 directions in 5 groups of 8, but 5 does not divide 12. Use `n_directions=96`, 8 "
    )
    with pytest.raises(ValueError, match=re.escape(words)):
        oracle.answer(ask(model, RV(0.1, 40, "lowrank", "relative", group=8)))


@pytest.mark.parametrize("per", ["example", "step"])
def test_relative_differences_lower_the_loss(per: Any) -> None:
    model = net()
    search = bz.Search(bz.Module(model), RV(1e-3, 32, "lowrank", "relative", group=8), bz.SGD(0.2), seed=1)
    oracle = LossOracle(model, [regression(8)], squares, directions_per=per)
    reports = list(search.run(oracle, steps=40))
    assert reports[-1].value < 0.3 * reports[0].value and reports[-1].failed == 0


@pytest.mark.parametrize("difference", ["central", "forward"])
def test_a_direction_an_example_is_unbiased_with_less_variance(difference: Any) -> None:
    """Against one direction for the whole batch, which costs as many forward passes of an example."""
    model, batch, n = made(lambda: nn.Linear(4, 1, bias=False))(), regression(12), 250
    exact = torch.autograd.grad(squares(model, batch).mean(), list(model.parameters()))[0].flatten().numpy()
    module = bz.Module(model)

    def estimates(estimator: bz.RandomVector, per: Any) -> Floats:
        oracle, out = LossOracle(model, [batch], squares, "batched", per), []
        for seed in range(n):
            queries = estimator.sample(estimator.start(module), module, bz.Key(seed, 0))
            feedback = oracle.answer(bz.Proposal.numbered(0, 0, queries, module))
            out.append(estimator.estimate(estimator.start(module), module, queries, feedback)[1].dense())
        return np.array(out)

    each = estimates(RV(1e-2, 12, "rademacher", difference), "example")
    one = estimates(RV(1e-2, 1, "rademacher", difference), "step")
    error = each.std(0) / np.sqrt(n)
    bias = 0.02 * np.abs(exact).max() if difference == "forward" else 1e-4
    assert (np.abs(each.mean(0) - exact) < 5 * error + bias).all()
    assert each.var(0).sum() < 0.8 * one.var(0).sum()


@pytest.mark.parametrize(("k", "size"), [(5, 12), (24, 12)])
def test_directions_must_divide_the_batch(k: int, size: int) -> None:
    model = net()
    oracle = LossOracle(model, [regression(size)], squares, directions_per="example")
    words = f"shares {size} examples among {k} directions, but {k} does not divide {size}. Use `n_directions={size}`"
    with pytest.raises(ValueError, match=re.escape(words)):
        oracle.answer(ask(model, RV(0.1, k, "lowrank")))


def test_labels_of_one_column_are_scored() -> None:
    """A loss of one's own need not shift them as a causal language model does."""

    def of(model: Any, batch: Any) -> torch.Tensor:
        return nn.functional.cross_entropy(model(batch["x"]), batch["labels"][:, 0], reduction="none")

    model = made(lambda: nn.Linear(4, 3))()
    batch = {"x": regression(6)["x"], "labels": torch.arange(6)[:, None] % 3}
    proposal = ask(model)
    np.testing.assert_allclose(
        answered(LossOracle(model, [batch], of), proposal), by_hand(proposal, batch, of).mean(1), rtol=2e-6
    )
