"""`LossOracle` where the loss, the model, the memory or the caller does not do as hoped."""

from __future__ import annotations

import itertools
import re
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import blackbox_zo as bz
from blackbox_zo._typing import Floats
from oracles.llm import LossOracle

from ...blackbox_zo.modules.helpers import CASES, SWEEPS, made
from .loss_helpers import RV, Runs, answered, ask, by_hand, loss, net, regression, squares, texts

sweeps = pytest.mark.parametrize("sweep", SWEEPS)


def mean_of(model: Any, batch: Any) -> torch.Tensor:
    return squares(model, batch).mean()


@pytest.mark.parametrize("micro_batch", [None, 5])
def test_a_mean_is_enough_for_scratch_alone(micro_batch: int | None) -> None:
    model, batch = net(), regression(12)
    proposal = ask(model)
    expected = by_hand(proposal, batch, squares).mean(1)
    for sweep in ("scratch", "auto"):
        oracle = LossOracle(model, [batch], mean_of, sweep, micro_batch=micro_batch)
        np.testing.assert_allclose(answered(oracle, proposal), expected, rtol=2e-6, atol=3e-7)
        assert oracle.sweep == "scratch" and ("one number for the whole batch" in oracle.reason) == (sweep == "auto")
    with pytest.raises(bz.OracleError, match=r"one number for the whole batch. Return one value per example"):
        LossOracle(model, [batch], mean_of, "batched").answer(proposal)


def centred(model: Any, batch: Any) -> torch.Tensor:
    """Uses the mean over the batch, so that an example's loss depends on the other rows."""
    z = model(batch["x"])[:, 0]
    return (z - z.mean() - batch["y"]) ** 2  # type: ignore[no-any-return]


def of_one_number(model: Any, batch: Any) -> torch.Tensor:
    return squares(model, batch) * float(model[0].bias[0])


@pytest.mark.parametrize(
    ("of", "words"),
    [
        (centred, "The loss of an example depends on other rows of the batch: that of 6 rows alone differs by "),
        (of_one_number, "takes a number out of a tensor that depends on the query"),
    ],
)
def test_auto_falls_back_and_says_why(of: Any, words: str) -> None:
    model, batch = net(), regression(12)
    proposal = ask(model, RV(0.3, 2, "lowrank"))
    oracle = LossOracle(model, [batch], of)
    expected = by_hand(proposal, batch, of).mean(1)
    np.testing.assert_allclose(answered(oracle, proposal), expected, rtol=2e-6, atol=3e-7)
    assert oracle.sweep == "scratch" and re.search(words, oracle.reason)
    with pytest.raises(bz.OracleError, match=words):
        LossOracle(model, [batch], of, "batched").answer(proposal)


class OfItsSize(nn.Module):
    """Adds a buffer with a row for each of at most three examples."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.rows = nn.Linear(4, 1), torch.ones(3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) + self.rows[: len(x)]  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", ["lstm", "encoder layer", "of its size"])
def test_models_that_cannot_be_stacked_go_by_scratch(name: str) -> None:
    case = CASES.get(name)
    model = case.make() if case else made(OfItsSize)()
    batch = {**texts(3), "x": case.inputs() if case else torch.ones(3, 4)}

    def of(model: Any, batch: Any) -> torch.Tensor:
        return model(batch["x"]).flatten(1).square().mean(1)  # type: ignore[no-any-return]

    proposal = ask(model)
    oracle = LossOracle(model, [batch], of)
    np.testing.assert_allclose(answered(oracle, proposal), by_hand(proposal, batch, of).mean(1), rtol=3e-6, atol=3e-7)
    assert oracle.sweep == "scratch" and oracle.reason
    with pytest.raises(bz.OracleError):
        LossOracle(model, [batch], of, "batched").answer(proposal)


def test_what_a_later_step_searches_is_tried_too() -> None:
    """With a few blocks a step, the one that cannot be stacked comes later."""
    model = made(lambda: nn.ModuleDict({"first": nn.Linear(4, 4), "rnn": nn.LSTM(4, 4, batch_first=True)}))()

    def of(model: Any, batch: Any) -> torch.Tensor:
        return model["rnn"](model["first"](batch["x"])[:, None])[0].square().sum((1, 2))  # type: ignore[no-any-return]

    search = bz.Search(bz.Module(model), RV(0.1, 2, "lowrank", n_blocks=1), bz.SGD(0.01), seed=2)
    oracle, met, used = LossOracle(model, [regression(3)], of), False, set()
    for _ in range(12):
        proposal = search.ask()
        met |= any(proposal.queries.directions.touches(b) for b in search.variable.blocks if "rnn" in b.name)
        values = answered(oracle, proposal)
        np.testing.assert_allclose(values, by_hand(proposal, regression(3), of).mean(1), rtol=3e-6, atol=3e-7)
        search.tell(proposal, bz.Values(values))
        assert oracle.sweep == ("scratch" if met else "auto")
        used.add(oracle.sweep)
    assert used == {"auto", "scratch"}


@sweeps
def test_dropout_is_refused_while_training(sweep: Any) -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.1), nn.Linear(6, 1))
    oracle = LossOracle(model, [regression()], squares, sweep)
    with pytest.raises(RuntimeError, match=r"in training mode and uses `dropout`.* Call `model.eval\(\)`"):
        oracle.answer(ask(model))
    model.eval()
    assert np.isfinite(answered(oracle, ask(model))).all()


# ------------------------------------------------------------------------------------------------------------- NaN


def weights(model: Any) -> Floats:
    return np.concatenate([p.detach().double().numpy().ravel() for p in model.parameters()])


def test_ten_steps_without_a_finite_loss_end_the_run() -> None:
    model, bad = net(), {"is": False}

    def of(model: Any, batch: Any) -> torch.Tensor:
        return squares(model, batch) * (float("nan") if bad["is"] else 1.0)

    search = bz.Search(bz.Module(model), RV(1e-3, 2, "lowrank"), bz.SGD(0.01))
    oracle = LossOracle(model, [regression()], of)
    assert len(list(search.run(oracle, steps=3))) == 3 and search.barren_steps == 0
    bad["is"] = True
    before = weights(model)
    reports = list(search.run(oracle, steps=9))
    assert search.barren_steps == 9 and reports[-1].failed == 36 and np.isnan(reports[-1].value)
    bad["is"] = False
    assert np.array_equal(weights(model), before)
    list(search.run(oracle, steps=1))
    after, made_so_far = weights(model), []
    assert not np.array_equal(after, before)
    bad["is"] = True
    with pytest.raises(bz.OracleError, match=r"last 10 steps failed.* NaN or infinite; use a smaller learning rate"):
        for report in search.run(oracle, steps=50):
            made_so_far.append(report)
    assert len(made_so_far) == 10 and np.array_equal(weights(model), after) and search.barren_steps == 19


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@sweeps
def test_a_query_without_a_finite_loss_is_a_failed_one(value: float, sweep: Any) -> None:
    def of(model: Any, batch: Any) -> torch.Tensor:
        z = squares(model, batch)
        return torch.where(batch["x"][:, 0] == largest, z + value, z)

    model, batch = net(), regression(2)
    largest = batch["x"][:, 0].max()
    search = bz.Search(bz.Module(model), RV(0.1, 2, "lowrank"), bz.SGD(0.01))
    oracle = LossOracle(model, [batch], of, sweep, "example")
    report = next(search.run(oracle, steps=1))
    assert report.failed == 2 and np.isfinite(report.value) and search.barren_steps == 0


def test_a_step_that_could_not_be_compared_is_compared_later() -> None:
    model, bad = net(), {"is": True}

    def of(model: Any, batch: Any) -> torch.Tensor:
        return centred(model, batch) * (float("nan") if bad["is"] else 1.0)

    oracle = LossOracle(model, [regression()], of)
    assert np.isnan(answered(oracle, ask(model, RV(0.3, 2, "lowrank")))).all() and not oracle.reason
    bad["is"] = False
    proposal = ask(model, RV(0.3, 2, "lowrank"))
    np.testing.assert_allclose(answered(oracle, proposal), by_hand(proposal, regression(), of).mean(1), rtol=3e-6)
    assert "The loss of an example depends on other rows" in oracle.reason


# ---------------------------------------------------------------------------------------------------------- memory


@pytest.mark.parametrize("reuse", [False, True])
@pytest.mark.parametrize("most", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("sweep", [*SWEEPS, "auto"])
def test_runs_get_smaller_when_memory_runs_out(sweep: Any, most: int, reuse: bool) -> None:
    errors = itertools.cycle([torch.OutOfMemoryError("out"), MemoryError(), RuntimeError("CUDA out of memory.")])

    def of(model: Any, batch: Any) -> torch.Tensor:
        if len(batch["label"]) > most:
            raise next(errors)
        return loss(model, batch)

    runs, model = Runs(of), CASES["llama"].make()
    proposal = ask(model, select=r"layers\.1\.|^model\.norm")
    oracle = LossOracle(model, [texts(6)], runs, sweep, reuse=reuse)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        values = answered(oracle, proposal)
        runs.rows.clear()
        again = answered(oracle, proposal)
    words = [str(w.message) for w in caught]
    assert all(re.fullmatch(r"Out of memory with \d+ examples in a pass; continuing with \d+\.", w) for w in words)
    assert 1 <= len(words) <= 6 or (most == 9 and sweep == "scratch" and not words)
    np.testing.assert_allclose(values, by_hand(proposal, texts(6), loss).mean(1), rtol=2e-6)
    assert values.tolist() == again.tolist() and oracle.sweep == sweep
    assert max(runs.rows) <= most


def test_one_example_that_does_not_fit_is_an_error_as_others_are() -> None:
    class OutOfMemoryOnce(Exception):
        pass

    for error in (torch.OutOfMemoryError("no"), OutOfMemoryOnce("out of memory"), ValueError("out of memory")):

        def of(model: Any, batch: Any, error: Exception = error) -> torch.Tensor:
            raise error

        model = net()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(type(error)):
                LossOracle(model, [regression()], of).answer(ask(model))


# ------------------------------------------------------------------------------------------------- wrong arguments


@sweeps
@pytest.mark.parametrize(
    ("of", "words"),
    [
        (lambda m, b: squares(m, b)[:, None], "12 examples; it must be one value per example."),
        (lambda m, b: squares(m, b)[:1], "returned shape (1,) for "),
        (lambda m, b: float(squares(m, b).sum()), "must return a tensor with one value per example, got "),
        (lambda m, b: None, "must return a tensor with one value per example, got None."),
    ],
)  # fmt: skip
def test_losses_of_a_wrong_shape(of: Any, words: str, sweep: Any) -> None:
    model = net()
    with pytest.raises(TypeError, match=re.escape(words)):
        LossOracle(model, [regression(12)], of, sweep).answer(ask(model))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"sweep": "fast"}, "`LossOracle(sweep=...)` must be 'auto', 'batched' or 'scratch', got 'fast'."),
        ({"directions_per": "token"}, "`LossOracle(directions_per=...)` must be 'step' or 'example', got 'token'."),
        ({"micro_batch": 0}, "`LossOracle(micro_batch=...)` must be at least 1, got 0."),
        ({"reuse": "always"}, "`LossOracle(reuse=...)` must be True, False or 'keep', got 'always'."),
        ({"batches": []}, "`LossOracle(batches=...)` is empty; give at least one batch."),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        LossOracle(**{"model": net(), "batches": [regression()], "loss": squares, **arguments})


def test_what_is_not_a_module_of_this_model() -> None:
    with pytest.raises(TypeError, match=r"`LossOracle\(loss=...\)` must be a function of \(model, batch\), got 3"):
        LossOracle(net(), [regression()], 3)  # type: ignore[arg-type]
    oracle = LossOracle(net(), [regression()], squares)
    vector = bz.Search(np.zeros(3), RV(0.1), bz.SGD(0.1)).ask()
    with pytest.raises(TypeError, match=r"search a `bz.Module` of that model, not a Vector"):
        oracle.answer(vector)
    with pytest.raises(TypeError, match=r"search a `bz.Module` of that model, not another model"):
        oracle.answer(ask(net()))
    empty: list[Any] = [{}, {"k": 3}, (), {"words": []}]
    for batch in empty:
        with pytest.raises(TypeError, match="A batch must hold a tensor whose first axis is the examples"):
            LossOracle(oracle.model, [batch], squares).answer(ask(oracle.model))


def test_weights_that_moved_since_the_proposal_are_refused() -> None:
    model = net()
    search = bz.Search(bz.Module(model), RV(0.1, 2, "lowrank"), bz.SGD(0.01))
    oracle, late = LossOracle(model, [regression()], squares), search.ask()
    list(search.run(oracle, steps=1))
    with pytest.raises(bz.OracleError, match=r"the weights after 0 moves, but the module has made 1. Answer each"):
        oracle.answer(late)
