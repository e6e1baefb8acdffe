"""Python functions as oracles: what they may return, workers that die, executors."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import blackbox_zo as bz
from oracles import FunctionOracle


def proposal(n: int = 4, x0: Any = (0.0, 0.0)) -> bz.Proposal:
    return bz.Search(x0 if isinstance(x0, dict) else np.array(x0), bz.RankBased(0.1, n)).ask()


def total(x: Any) -> float:
    return float(np.sum(x))


@pytest.mark.parametrize("value", [3, 3.0, np.float32(3), np.int64(3), np.array(3.0), True and 3])
def test_anything_that_is_one_number_will_do(value: Any) -> None:
    assert FunctionOracle(lambda x: value).answer(proposal()).values.tolist() == [3.0] * 4


def test_a_torch_scalar_will_do() -> None:
    import torch

    assert FunctionOracle(lambda x: torch.tensor(2.0)).answer(proposal()).values.tolist() == [2.0] * 4


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros(2), r"`fun` returned an array of shape \(2,\); it must return one number. Sum or average it"),
        (np.zeros(1), r"`fun` returned an array of shape \(1,\)"),
        ("0.5", r"`fun` returned '0.5' \(str\); it must return one number"),
        (None, "`fun` returned None; it must return one number. Is a `return` missing?"),
        ([1.0], r"`fun` returned \[1.0\] \(list\)"),
        (1j, r"`fun` returned 1j \(complex\)"),
    ],
)
def test_anything_else_is_named(value: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        FunctionOracle(lambda x: value).answer(proposal())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_a_failed_query(value: float) -> None:
    answer = FunctionOracle(lambda x: value).answer(proposal())
    assert np.isnan(answer.values).all()
    assert answer.n_failed == 4


def test_an_exception_is_raised_or_skipped() -> None:
    def bad(x: Any) -> float:
        raise ZeroDivisionError("by design")

    with pytest.raises(ZeroDivisionError, match="by design"):
        FunctionOracle(bad).answer(proposal())
    answer = FunctionOracle(bad, on_error="skip").answer(proposal())
    assert np.isnan(answer.values).all()
    assert answer.info is not None
    assert answer.info[0] == {"error": "ZeroDivisionError: by design"}


def test_the_function_may_write_to_its_argument() -> None:
    def rude(x: Any) -> float:
        x[:] = 7.0
        return 7.0

    p = proposal()
    points = p.points.copy()
    FunctionOracle(rude).answer(p)
    FunctionOracle(lambda x: np.full(len(x), rude(x)), vectorized=True).answer(p)
    np.testing.assert_array_equal(p.points, points)


def test_structured_points_arrive_in_their_structure() -> None:
    seen: list[Any] = []

    def fun(x: Any) -> float:
        seen.append(x)
        return 1.0

    FunctionOracle(fun).answer(proposal(3, {"w": np.zeros((2, 2)), "b": [1.0, 2.0], "s": 3}))
    assert seen[0]["w"].shape == (2, 2)
    assert seen[0]["b"].shape == (2,)
    assert isinstance(seen[0]["s"], float)


def test_vectorized_points_arrive_at_once() -> None:
    seen: list[Any] = []
    p = proposal(5, {"w": np.zeros((2, 2)), "s": 3.0})

    def fun(x: Any) -> Any:
        seen.append(x)
        return x["s"]

    FunctionOracle(fun, vectorized=True).answer(p)
    assert len(seen) == 1
    assert seen[0]["w"].shape == (5, 2, 2)
    assert seen[0]["s"].shape == (5,)


@pytest.mark.parametrize(
    ("value", "message"), [(1.0, r"shape \(\)"), (np.zeros(3), r"shape \(3,\)"), ("no", "'no'"), (None, "None")]
)
def test_a_vectorized_function_must_answer_every_point(value: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        FunctionOracle(lambda x: value, vectorized=True).answer(proposal())


def test_workers_take_lambdas_and_answer_in_order() -> None:
    p = proposal(6)
    oracle = FunctionOracle(lambda x: total(x), workers=2)
    try:
        np.testing.assert_array_equal(oracle.answer(p).values, [total(x) for x in p.points])
        assert oracle.calls == 6
    finally:
        oracle.close()


def test_workers_really_are_other_processes() -> None:
    oracle = FunctionOracle(lambda x: float(os.getpid()), workers=2)
    try:
        assert os.getpid() not in oracle.answer(proposal(6)).values.astype(int)
    finally:
        oracle.close()


def test_a_worker_killed_by_a_signal_costs_only_its_query() -> None:
    p = proposal(8)
    victim = p.points[3].copy()

    def fatal(x: Any) -> float:
        if np.array_equal(x, victim):
            os.kill(os.getpid(), signal.SIGKILL)
        return total(x)

    oracle = FunctionOracle(fatal, workers=2)
    try:
        answer = oracle.answer(p)
        assert np.flatnonzero(np.isnan(answer.values)).tolist() == [3]
        assert answer.info is not None
        assert "worker process died" in str(answer.info[3])
        np.testing.assert_array_equal(np.delete(answer.values, 3), [total(x) for i, x in enumerate(p.points) if i != 3])
        assert oracle.answer(proposal(8)).n_failed == 1  # and the pool lives on
    finally:
        oracle.close()


def test_a_worker_killed_from_outside_loses_nothing(tmp_path: Path) -> None:
    """The query it was on is asked again on a fresh worker."""

    def slow(x: Any) -> float:
        (tmp_path / str(os.getpid())).touch()
        time.sleep(0.15)
        return total(x)

    p = proposal(6)
    oracle = FunctionOracle(slow, workers=2)

    def kill_one() -> None:
        while not any(tmp_path.iterdir()):
            time.sleep(0.005)
        os.kill(int(next(tmp_path.iterdir()).name), signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    try:
        np.testing.assert_array_equal(oracle.answer(p).values, [total(x) for x in p.points])
    finally:
        killer.join()
        oracle.close()


def test_an_exception_in_a_worker_comes_back() -> None:
    def bad(x: Any) -> float:
        raise KeyError("in the worker")

    oracle = FunctionOracle(bad, workers=2)
    try:
        with pytest.raises(KeyError, match="in the worker"):
            oracle.answer(proposal())
    finally:
        oracle.close()


def test_an_executor_is_used_and_left_open() -> None:
    with ThreadPoolExecutor(2) as executor:
        names: set[str] = set()

        def fun(x: Any) -> float:
            names.add(threading.current_thread().name)
            return total(x)

        oracle = FunctionOracle(fun, executor=executor)
        p = proposal(5)
        np.testing.assert_array_equal(oracle.answer(p).values, [total(x) for x in p.points])
        oracle.close()
        assert executor.submit(int, 3).result() == 3
        assert threading.current_thread().name not in names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fun": 3}, "`fun` must be a function of x, got 3"),
        ({"workers": 0}, r"`FunctionOracle\(workers=...\)` must be a whole number of at least 1, got 0"),
        ({"vectorized": True, "workers": 2}, "leave `workers` and `executor` out"),
        ({"on_error": "explode"}, "must be one of 'raise', 'skip'; got 'explode'"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        FunctionOracle(**{"fun": total, **arguments})
