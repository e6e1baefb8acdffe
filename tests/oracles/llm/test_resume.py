"""A run that goes on, from its journal or from a saved state: what its oracle had tried, and what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import blackbox_zo as bz
from blackbox_zo._stop import Stop
from blackbox_zo.errors import MeasureError
from oracles.llm import Examples, LabelWords, LossOracle, Tuning, finetune
from tests.journals import measures
from tests.oracles.llm.helpers import llama

from ...blackbox_zo.modules.helpers import made
from .loss_helpers import TWO, Runs, net, regression, squares
from .test_loss_trouble import OfItsSize, weights

EXAMPLES = Examples([[i % 90 + 1, i % 7 + 1, i % 5 + 1] for i in range(24)], pad=0, label=[i % 2 for i in range(24)])
WORDS = LabelWords((3, 4))


def of_its_size() -> tuple[Any, Any, Any]:
    """A model that cannot be run stacked, a batch, and its loss."""
    return made(OfItsSize)(), {"x": torch.ones(3, 4)}, lambda m, batch: m(batch["x"]).flatten(1).square().mean(1)


def a_net() -> tuple[Any, Any, Any]:
    return net(), regression(4), squares


@pytest.mark.parametrize("by", ["journal", "state"])
@pytest.mark.parametrize(("case", "sweep"), [(of_its_size, "scratch"), (a_net, "auto")])
def test_what_was_tried_is_not_tried_again(tmp_path: Path, case: Any, sweep: str, by: str) -> None:
    def part(path: Path | None, state: Any, steps: int) -> tuple[bz.Search, LossOracle, list[int], Any]:
        model, batch, of = case()
        runs = Runs(of)
        oracle = LossOracle(model, [batch], runs, reuse=False)
        oracle.ownership.of(batch)  # what the loss says of the batch is found out by each oracle
        runs.rows.clear()
        with bz.Search(
            bz.Module(model),
            TWO,
            bz.SGD(
                0.02,
            ),
            seed=3,
            journal=path,
        ) as search:
            if state is not None:
                search.load_state_dict(state)
            list(search.run(oracle, steps))
        return search, oracle, runs.rows, model

    _, whole, rows, want = part(None, None, 4)
    assert whole.sweep == sweep and bool(whole.reason) == (sweep == "scratch")
    path = tmp_path / "run.jsonl" if by == "journal" else None
    search, _, first, _ = part(path, None, 2)
    saved = None if path else {name: np.array(value) for name, value in search.state_dict().items()}
    _, again, second, model = part(path, saved, 2)
    assert first + second == rows and len(first) > len(second)  # the trial is of the first part alone
    assert again.sweep == sweep and again.reason == whole.reason
    np.testing.assert_array_equal(weights(model), weights(want))


class Moody:
    """A measure that fails where it is told to."""

    def __init__(self, bad: set[int], value: float | None = None) -> None:
        self.bad, self.value, self.calls = bad, value, 0

    def __call__(self, model: Any, batch: Any) -> torch.Tensor:
        call, self.calls = self.calls, self.calls + 1
        if call in self.bad:
            if self.value is None:
                raise RuntimeError("no such luck")
            return torch.full((len(batch["label"]),), self.value)
        return torch.ones(len(batch["label"]))


def tuned(path: Path, moody: Moody, steps: int = 4) -> Any:
    return finetune(
        llama(), EXAMPLES, WORDS, steps=steps, rule=bz.SGD(1e-3), batch_size=4, validation=EXAMPLES.take(8),
        measures={"mood": moody}, evaluate_every=1, journal=path, sweep="scratch",
    )  # fmt: skip


def test_a_measure_that_fails_at_once_ends_the_run_and_later_it_is_noted(tmp_path: Path) -> None:
    with pytest.raises(MeasureError, match="The measure 'validation' raised RuntimeError: no such luck"):
        tuned(tmp_path / "first.jsonl", Moody({0}))
    calls = Moody(set())
    tuned(tmp_path / "all.jsonl", calls, steps=0)
    each = calls.calls  # one validation, with what is found out about the model before it
    run = tuned(tmp_path / "run.jsonl", Moody({each}))
    found = measures(tmp_path / "run.jsonl")
    assert [line["step"] for line in found] == [0, 1, 2, 3, 4] and len(run.reports) == 4
    assert [line.get("error", "") for line in found] == ["", "RuntimeError: no such luck", "", "", ""]
    assert [step for step, _ in run.validation] == [0, 2, 3, 4]


def test_a_measure_that_is_not_finite_is_kept_as_it_is(tmp_path: Path) -> None:
    run = tuned(tmp_path / "run.jsonl", Moody(set(range(99)), float("nan")), steps=1)
    assert [list(values) for _, values in run.validation] == [["mood"], ["mood"]]
    assert all(np.isnan(values["mood"]) for _, values in run.validation)
    assert [line["values"] for line in measures(tmp_path / "run.jsonl")] == [{"mood": None}] * 2


def test_a_tuning_knows_what_its_loss_looks_at() -> None:
    """Else `reuse="keep"` would keep every token of every example."""
    model = llama()
    tuning = Tuning(model, EXAMPLES, WORDS, rule=bz.SGD(1e-3), module="top", reuse="keep", batch_size=4)
    batch = EXAMPLES.batch([0, 1])
    assert tuning.oracle.loss.last_tokens(model, batch) == WORDS.last_tokens(model, batch) == 1  # type: ignore[attr-defined]
    assert not hasattr(Tuning(model, EXAMPLES, squares, rule=bz.SGD(1e-3)).oracle.loss, "last_tokens")
    with pytest.raises(TypeError, match=r"`LossOracle\(loss=...\)` must be a function"):
        Tuning(model, EXAMPLES, 3, rule=bz.SGD(1e-3))  # type: ignore[arg-type]


def test_a_signal_ends_a_tuning_before_the_next_forward_with_whole_weights() -> None:
    model, stop, calls, last = llama(), Stop(), [0], 13  # of 8 calls a step, and 2 before the first

    def loss(model: Any, batch: Any) -> torch.Tensor:
        calls[0] += 1
        if calls[0] == last:
            stop.number = 15  # as if SIGTERM had come
        return WORDS(model, batch)

    tuning = Tuning(model, EXAMPLES, loss, rule=bz.SGD(1e-3), batch_size=4, sweep="scratch", reuse=False)
    run = tuning.run(5, stop=stop)
    steps = iter(run)
    next(steps)
    moved = weights(model)
    assert calls == [10]
    with pytest.raises(KeyboardInterrupt):
        next(steps)
    assert run.ended is bz.Ended.INTERRUPTED and not stop.abrupt
    assert calls == [last] and np.array_equal(weights(model), moved)
