"""Early stopping: reports of functions here and on workers, what rules decide, and what a resumed run knows."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest

import blackbox_zo as bz
from blackbox_zo.errors import JournalError
from blackbox_zo.stopping import Curve, Stopped, _reports
from blackbox_zo.testing import check_oracle
from oracles import FunctionOracle, Repeat

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # so that workers need not import pytest

STRATEGY = bz.EvolutionStrategy(0.3)


def train(x: Any) -> float:
    """27 epochs of a loss that falls."""
    loss = float("nan")
    for epoch in range(1, 28):
        loss = float((x - 0.3) @ (x - 0.3)) + 1 / epoch
        bz.report(loss)
    return loss


def infos(path: Path) -> dict[int, dict[str, Any]]:
    """What the journal notes of each query."""
    found: dict[int, dict[str, Any]] = {}
    for line in bz.read_journal(path).answers():
        for i, info in zip(line.ids, line.info or [None] * len(line.ids), strict=True):
            found[i] = dict(info or {})
    return found


# --------------------------------------------------------------------------------------------------------------- rules


def test_successive_halving_lets_the_best_third_go_on() -> None:
    rule = bz.SuccessiveHalving(eta=3)
    others = [Curve([(1, v)]) for v in (1.0, 2.0, 3.0, 4.0, 5.0)]
    assert [rule.stops(Curve([(1, v)]), others) for v in (0.5, 1.5, 2.5)] == [False, False, True]  # 2 of 6 go on
    assert not rule.stops(Curve([(1, 9.0)]), others[:1])  # fewer than eta know too little
    assert not rule.stops(Curve([(1, 9.0), (2, 9.0)]), others)  # no rung at 2
    assert not rule.stops(Curve([(1, 9.0), (2, 9.0), (3, 9.0)]), others)  # none of the others has come to 3
    far = [Curve([(1, 1.0), (3, v)]) for v in (1.0, 2.0)]
    assert rule.stops(Curve([(1, 1.0), (2, 1.0), (3, 1.5)]), far)
    assert not rule.stops(Curve([(1, 1.0), (2, 1.0), (3, 0.5)]), far)


def test_a_report_that_skips_a_rung_is_judged_at_it() -> None:
    rule = bz.SuccessiveHalving(eta=2, first=4)
    others = [Curve([(5, 1.0)]), Curve([(7, 2.0)])]
    assert rule.stops(Curve([(6, 3.0)]), others) and not rule.stops(Curve([(3, 3.0)]), others)


def test_the_median_rule_compares_with_the_means_of_those_that_ended() -> None:
    rule = bz.MedianRule(least=3)
    ended = [Curve([(1, v), (2, v - 2)], ended=True) for v in (3.0, 4.0, 5.0)]  # means 2, 3, 4 at step 2
    assert rule.stops(Curve([(1, 9.0), (2, 3.1)]), ended)
    assert not rule.stops(Curve([(1, 2.9), (2, 9.0)]), ended)  # its best counts
    assert not rule.stops(Curve([(1, 9.0), (2, 9.0)]), ended[:2])
    assert not rule.stops(Curve([(3, 9.0)]), ended)  # none has come as far
    running = [Curve([(1, v)]) for v in (1.0, 1.0, 1.0)]
    assert not rule.stops(Curve([(1, 9.0)]), running)
    assert not bz.MedianRule(least=3, first=2).stops(Curve([(1, 9.0)]), ended)


@pytest.mark.parametrize("eta", [-1, 0, 1, 0.5, float("nan"), "2", None])
def test_eta_must_be_above_one(eta: Any) -> None:
    with pytest.raises(ValueError, match=r"`SuccessiveHalving\(eta=...\)` must be (above 1|a positive number), got"):
        bz.SuccessiveHalving(eta)


def test_other_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match=r"`SuccessiveHalving\(first=...\)` must be a positive number, got 0"):
        bz.SuccessiveHalving(first=0)
    with pytest.raises(ValueError, match=r"`MedianRule\(least=...\)` must be a whole number of at least 1, got 0"):
        bz.MedianRule(least=0)
    with pytest.raises(ValueError, match=r"`MedianRule\(first=...\)` must be a finite number of at least 0, got -1"):
        bz.MedianRule(first=-1)


# ------------------------------------------------------------------------------------------------------------ functions


@pytest.mark.parametrize("how", [{}, {"workers": 3}, {"workers": 3, "asynchronous": True}, {"timeout": 30.0}])
def test_queries_that_report_worse_are_stopped(tmp_path: Path, how: dict[str, Any]) -> None:
    path = tmp_path / "run.jsonl"
    result = bz.minimize(
        train, [1.0, 1.0], STRATEGY, budget=60, journal=path, stopping=bz.SuccessiveHalving(), **how
    )  # fmt: skip
    notes = infos(path)
    stopped = [note for note in notes.values() if note.get("stopped")]
    assert 20 <= len(stopped) < 60 and all(note["reports"] in (1, 3, 9, 27) for note in stopped)
    assert all(note["reports"] == 27 for note in notes.values() if not note.get("stopped"))
    assert result.nfailed == 0 and result.fun < 0.2
    for line in bz.read_journal(path).answers():  # the value of one that was stopped is its last report
        for i, value in zip(line.ids, line.values or (), strict=True):
            assert line.learnt is not None
            reports = line.learnt["FunctionOracle"][line.ids.index(i)]
            assert reports[-1][1] == value and len(reports) == notes[i]["reports"]


def test_stopping_saves_time_on_workers() -> None:
    def slow(x: Any) -> float:
        loss = 0.0
        for epoch in range(1, 28):
            time.sleep(0.01)
            loss = float(x @ x) + 1 / epoch
            bz.report(loss)
        return loss

    calls = 40
    begun = time.monotonic()
    bz.minimize(slow, np.ones(2), STRATEGY, budget=calls, workers=2, stopping=bz.SuccessiveHalving(first=1))
    assert time.monotonic() - begun < 0.75 * calls * 27 * 0.01 / 2 + 4


def test_an_except_clause_does_not_swallow_the_signal_but_a_bare_one_does() -> None:
    seen: list[str] = []

    def careful(x: Any) -> float:
        try:
            return train(x)
        except Exception:
            seen.append("exception")
            return 0.0
        finally:
            seen.append("finally")

    bz.minimize(careful, [1.0, 1.0], STRATEGY, budget=40, stopping=bz.SuccessiveHalving())
    assert "exception" not in seen and seen.count("finally") == 40

    def stubborn(x: Any) -> float:
        for epoch in range(1, 28):
            try:
                bz.report(float(x @ x) + 1 / epoch)
            except BaseException:
                seen.append("caught")
        return float(x @ x)  # it went on to its end, so this counts

    oracle = FunctionOracle(stubborn, stopping=bz.SuccessiveHalving())
    search = bz.Search([1.0, 1.0], STRATEGY, budget=40)
    told: list[float] = []
    for _ in search.run(oracle):
        told.append(search.best.value)
    assert seen.count("caught") > 10
    assert search.best.value == pytest.approx(float(search.best.x @ search.best.x))


def test_a_stopped_worker_is_used_again(tmp_path: Path) -> None:
    def fun(x: Any) -> float:
        with (tmp_path / "pids").open("a") as file:
            file.write(f"{os.getpid()}\n")
        return train(x)

    bz.minimize(fun, [1.0, 1.0], STRATEGY, budget=60, workers=2, stopping=bz.SuccessiveHalving())
    assert len(set((tmp_path / "pids").read_text().split())) == 2


def test_reports_do_not_extend_the_time_limit_of_a_call() -> None:
    def fun(x: Any) -> float:
        for epoch in range(100):
            time.sleep(0.05)
            bz.report(1.0 - epoch)
        return 0.0

    begun = time.monotonic()
    result = bz.minimize(fun, [1.0], STRATEGY, budget=2, workers=2, timeout=0.5, stopping=bz.SuccessiveHalving())
    assert result.nfailed == 2 and time.monotonic() - begun < 15


def test_threads_of_a_query_report_for_it(tmp_path: Path) -> None:
    def fun(x: Any) -> float:
        def run() -> None:
            for epoch in range(1, 5):
                bz.report(float(x @ x) + 1 / epoch)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        return float(x @ x)

    path = tmp_path / "run.jsonl"
    bz.minimize(fun, [1.0, 1.0], STRATEGY, budget=12, journal=path, stopping=bz.SuccessiveHalving())
    assert all(note["reports"] == 4 and "stopped" not in note for note in infos(path).values())


@pytest.mark.parametrize("how", [{}, {"workers": 2}])
def test_a_thread_that_outlives_its_query_is_ignored_with_one_warning(
    how: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fun(x: Any) -> float:
        def late() -> None:
            time.sleep(0.3)
            for _ in range(3):
                bz.report(-1e9)

        threading.Thread(target=late).start()
        bz.report(float(x @ x))
        if x[0] < 0.9:
            time.sleep(0.05)
        return float(x @ x)

    monkeypatch.setattr(_reports, "_warned", [False])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = bz.minimize(fun, [1.0, 1.0], STRATEGY, budget=20, stopping=bz.MedianRule(), **how)
        time.sleep(0.6)
    assert result.fun >= 0.0
    if not how:  # a worker's warning goes to stderr, as any of its output
        assert [str(w.message) for w in caught if "after its query had ended" in str(w.message)] == [
            "`report` was called by a thread after its query had ended, or by one that is older than the query; such "
            "reports are ignored."
        ]


def test_outside_a_run_or_without_a_rule_a_report_does_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bz.report(1.0)
        bz.report(0.5, step=3)
        assert bz.minimize(train, [1.0, 1.0], STRATEGY, budget=12).nfev == 12
        assert bz.minimize(train, [1.0, 1.0], STRATEGY, budget=12, workers=2).nfev == 12
        with ThreadPoolExecutor(2) as threads:
            assert bz.minimize(train, [1.0, 1.0], STRATEGY, budget=12, executor=threads).nfev == 12
        train(np.ones(2))


@pytest.mark.parametrize(
    ("value", "step", "kind", "message"),
    [
        (float("nan"), None, ValueError, r"`report\(value=...\)` must be a finite number, got nan"),
        (float("inf"), None, ValueError, r"`report\(value=...\)` must be a finite number, got inf"),
        ("0.3", None, TypeError, r"`report\(value=...\)` must be a number, got '0.3'"),
        (None, None, TypeError, r"`report\(value=...\)` must be a number, got None"),
        ([1.0, 2.0], None, TypeError, r"`report\(value=...\)` must be a number"),
        (1.0, float("nan"), ValueError, r"`report\(step=...\)` must be a finite number, got nan"),
        (1.0, "two", TypeError, r"`report\(step=...\)` must be a number, got 'two'"),
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_no_number_is_refused_by_name(value: Any, step: Any, kind: Any, message: str, workers: int) -> None:
    with pytest.raises(kind, match=message):
        bz.report(value, step)

    def fun(x: Any) -> float:
        bz.report(value, step)
        return float(x @ x)

    with pytest.raises(kind, match=message):
        bz.minimize(fun, [1.0], STRATEGY, budget=4, workers=workers, stopping=bz.MedianRule())


def test_steps_must_grow() -> None:
    def fun(x: Any) -> float:
        bz.report(1.0, step=5)
        bz.report(1.0, step=5)
        return 1.0

    with pytest.raises(ValueError, match=r"`report\(step=...\)` must grow within a query, got 5 after 5"):
        bz.minimize(fun, [1.0], STRATEGY, budget=4, stopping=bz.MedianRule())


def test_a_function_that_never_reports_is_told_so_once() -> None:
    ways: tuple[dict[str, Any], ...] = ({}, {"workers": 2}, {"workers": 2, "asynchronous": True})
    for how in ways:
        with pytest.warns(UserWarning, match="has nothing to decide by: `fun` reported nothing in the first step") as w:
            bz.minimize(
                lambda x: float(x @ x), [1.0, 1.0], STRATEGY, budget=30, stopping=bz.MedianRule(), **how
            )  # fmt: skip
        assert len(w) == 1


def test_what_cannot_be_stopped_is_refused() -> None:
    rule = bz.MedianRule()
    with ThreadPoolExecutor(1) as threads, pytest.raises(ValueError, match="calls on an `executor` cannot be stopped"):
        bz.minimize(train, [1.0], budget=4, executor=threads, stopping=rule)
    with pytest.raises(ValueError, match="`vectorized=True` asks all points in one call"):
        bz.minimize(train, [1.0], budget=4, vectorized=True, stopping=rule)
    with pytest.raises(ValueError, match="`stopping` says how a function is asked, but `fun` is an oracle"):
        bz.minimize(FunctionOracle(train), [1.0], budget=4, stopping=rule)
    with pytest.raises(TypeError, match="`stopping` must be a rule such as `SuccessiveHalving"):
        bz.minimize(train, [1.0], budget=4, stopping="median")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`stopping` does not go with `QuasiNewton`, which takes differences"):
        bz.minimize(train, [1.0], bz.QuasiNewton(0.1), budget=4, stopping=rule)


def test_repetitions_of_a_query_report_each_for_itself() -> None:
    oracle = Repeat(FunctionOracle(train, stopping=bz.SuccessiveHalving()), 2)
    result = bz.minimize(oracle, [1.0, 1.0], STRATEGY, budget=24)
    assert result.nfev == 24 and oracle.calls == 48 and result.nfailed == 0


def test_an_oracle_forgets_the_reports_of_another_search() -> None:
    """Else the second search would be stopped by values of the first."""

    def fun(x: Any) -> float:
        for _ in range(3):
            bz.report(float(x @ x))
        return float(x @ x)

    oracle = FunctionOracle(fun, stopping=bz.MedianRule(least=1))
    bz.minimize(oracle, [0.0, 0.0], bz.EvolutionStrategy(1e-3), budget=12)
    search = bz.Search([9.0, 9.0], bz.RankBased(1e-3, 2), budget=2)
    proposal = search.ask()
    _, first = next(oracle.parts(proposal))
    assert first.info is None or "stopped" not in (first.info[0] or {})


# --------------------------------------------------------------------------------------------------------------- resume

RUN = """
import sys, time
import blackbox_zo as bz
def fun(x):
    for epoch in range(1, 10):
        time.sleep(0.01)
        bz.report(float(x @ x) + 1 / epoch)
    return float(x @ x)
if __name__ == "__main__":
    bz.minimize(fun, [1.0, 1.0], bz.EvolutionStrategy(0.3), budget=60, workers=2, journal=sys.argv[1],
                stopping=bz.MedianRule(least=6))
"""


def test_a_killed_run_decides_by_the_same_reports(tmp_path: Path) -> None:
    """With least=6 a resumed run that knew nothing would stop nobody among its next queries."""
    script, path = tmp_path / "run.py", tmp_path / "run.jsonl"
    script.write_text(RUN)
    process = subprocess.Popen([sys.executable, str(script), str(path)])
    deadline = time.monotonic() + 60
    while not path.exists() or path.read_bytes().count(b"\n") < 27:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    answered = infos(path)
    known: list[int] = []

    class Spy(bz.stopping.StoppingRule):
        def stops(self, mine: Curve, others: Any) -> bool:
            known.append(sum(other.ended for other in others))
            return False

    oracle = FunctionOracle(train, stopping=Spy())
    search = bz.Search([1.0, 1.0], STRATEGY, budget=60, journal=path)
    for _, _ in oracle.parts(search.ask()):
        break
    search.close()
    assert known[0] == len(answered)  # also those of the step that was open
    subprocess.run([sys.executable, str(script), str(path)], check=True, timeout=60)
    assert sorted(infos(path)) == list(range(60))


def test_reports_are_in_a_checkpoint() -> None:
    oracle = FunctionOracle(train, stopping=bz.MedianRule())
    first = bz.Search([1.0, 1.0], STRATEGY, budget=60)
    for _ in first.run(oracle, steps=3):
        pass
    second = bz.Search([1.0, 1.0], STRATEGY, budget=60)
    second.load_state_dict(first.state_dict())
    assert second.state_of(FunctionOracle(train, stopping=bz.MedianRule())) == first.state_of(oracle)
    assert len(first.state_of(oracle)) == first.nfev


def test_a_journal_without_reports_goes_on_with_a_rule_and_the_other_way_round(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    bz.minimize(train, [1.0, 1.0], STRATEGY, budget=12, journal=path)
    bz.minimize(train, [1.0, 1.0], STRATEGY, budget=24, journal=path, stopping=bz.SuccessiveHalving())
    result = bz.minimize(train, [1.0, 1.0], STRATEGY, budget=30, journal=path)
    assert result.nfev == 30
    with pytest.raises(JournalError):
        bz.minimize(train, [1.0, 2.0], STRATEGY, budget=30, journal=path)


def test_stopped_is_no_exception() -> None:
    assert issubclass(Stopped, BaseException) and not issubclass(Stopped, Exception)


@pytest.mark.parametrize("rule", [None, bz.SuccessiveHalving()])
def test_the_laws_of_oracles_hold_with_a_rule_and_without(rule: bz.stopping.StoppingRule | None) -> None:
    def reporting(x: Any) -> float:
        bz.report(float(x @ x))
        return float(x @ x)

    check_oracle(FunctionOracle(reporting, stopping=rule), np.ones(3))
