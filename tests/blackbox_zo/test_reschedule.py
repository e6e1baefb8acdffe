"""Other learning rates mid-run: what they are, what goes on, and the same bits from the journal."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import blackbox_zo as bz
from blackbox_zo._horizon import horizon, recorded_rule
from blackbox_zo.journal import read_journal
from blackbox_zo.tally import StepTally


def f(x: Any) -> float:
    return float(np.sum((x - 1.0) ** 2 * [1.0, 10.0, 3.0]))


@dataclass(frozen=True)
class Switched:
    """One schedule up to a move, another from there on."""

    at: int
    first: Any
    then: Any

    def __call__(self, step: int) -> float:
        return float((self.first if step < self.at else self.then)(step))


def rule(kind: str, rate: Any) -> Any:
    if kind == "adam":
        return bz.chain(bz.WeightDecay(0.01), bz.Adam(rate))
    return bz.SGD(rate) if kind == "sgd" else bz.Momentum(rate, memory=5)


SHORT, LONG = bz.Cosine(0.05, 0.0, 10), bz.Cosine(0.05, 0.0, 30)


def search(kind: str, rate: Any, journal: Path | None = None) -> bz.Search:
    return bz.Search(np.zeros(3), bz.RandomVector(1e-2, 2), rule(kind, rate), seed=3, journal=journal)


def steps(s: bz.Search, count: int) -> None:
    for _ in s.run(bz.FunctionOracle(f), steps=count):
        pass


@pytest.mark.parametrize("kind", ["sgd", "adam", "momentum"])
@pytest.mark.parametrize("at", [0, 4, 10])
def test_rates_are_those_of_the_new_schedule_and_states_go_on(tmp_path: Path, kind: str, at: int) -> None:
    plain = search(kind, Switched(at, SHORT, LONG))
    steps(plain, 20)
    with search(kind, SHORT, tmp_path / "a") as s:
        steps(s, at)
        s.reschedule(rule(kind, LONG))
        steps(s, 8)
    with search(kind, recorded(tmp_path / "a", kind), tmp_path / "a") as s:  # killed, and goes on
        steps(s, 12 - at)
        assert np.array_equal(s.x, plain.x) and horizon_of(s) == 30
    again = search(kind, SHORT)
    again.replay(read_journal(tmp_path / "a"))
    assert np.array_equal(again.x, plain.x)


def recorded(path: Path, kind: str) -> Any:
    """The learning rate by which a journal's run goes."""
    found: Any = recorded_rule(path, rule(kind, SHORT))
    return (found.rules[1] if kind == "adam" else found).learning_rate


def horizon_of(s: bz.Search) -> int | None:
    from blackbox_zo._describe import describe

    return horizon(describe(s.rule))


def test_a_step_that_is_half_answered_goes_on(tmp_path: Path) -> None:
    plain = search("sgd", Switched(1, SHORT, LONG))
    steps(plain, 3)
    with search("sgd", SHORT, tmp_path / "a") as s:
        steps(s, 1)
        proposal = s.ask()
        values = [f(x) for x in proposal.points]
        s.tell(proposal, bz.Values(values[:1]), proposal.ids[:1])
        s.reschedule(bz.SGD(LONG))
    with search("sgd", LONG, tmp_path / "a") as s:
        rest = s.ask()
        assert rest.step == 1 and rest.n == proposal.n - 1
        s.tell(rest, bz.Values(values[1:]))
        steps(s, 1)
        assert np.array_equal(s.x, plain.x)


def test_what_differs_in_more_than_rates_is_refused(tmp_path: Path) -> None:
    s = search("adam", SHORT)
    for other in (bz.Adam(LONG), bz.chain(bz.WeightDecay(0.02), bz.Adam(LONG)), bz.SGD(LONG)):
        with pytest.raises(ValueError, match="`reschedule` changes learning rates only: the rule is Chain"):
            s.reschedule(other)
    with search("sgd", SHORT, tmp_path / "a") as s:
        steps(s, 1)
    for other in (bz.SGD(bz.Cosine(0.06, 0.0, 30)), bz.SGD(bz.Linear(0.05, 0.0, 30)), bz.SGD(0.05), bz.Adam(LONG)):
        assert recorded_rule(tmp_path / "a", other) is other  # which its journal refuses
        with pytest.raises(bz.JournalError, match="belongs to another run: its rule is SGD"):
            bz.Search(np.zeros(3), bz.RandomVector(1e-2, 2), other, seed=3, journal=tmp_path / "a")
    assert recorded_rule(tmp_path / "a", bz.SGD(LONG)) == bz.SGD(SHORT)
    assert recorded_rule(tmp_path / "none", bz.SGD(LONG)) == bz.SGD(LONG)


def test_the_line_of_it(tmp_path: Path) -> None:
    with search("sgd", SHORT, tmp_path / "a") as s:
        steps(s, 2)
        s.reschedule(bz.SGD(LONG))
    last = json.loads((tmp_path / "a").read_text().splitlines()[-1])
    assert last["steps"] == 2 and last["change"]["keeps"] is True
    line = list(read_journal(tmp_path / "a"))[-1]
    assert "".join(StepTally(None).told(line)).startswith(
        "after 2 steps the learning rate changed: SGD(learning_rate=Cosine("
    )
