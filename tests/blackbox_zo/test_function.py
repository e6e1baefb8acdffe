"""Python functions as oracles: what they may return, and how they are asked."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fun": 3}, "`fun` must be a function of x, got 3"),
        ({"workers": 0}, r"`FunctionOracle\(workers=...\)` must be a whole number of at least 1, got 0"),
        ({"vectorized": True, "executor": ThreadPoolExecutor(1)}, "use `workers` with it, not `executor`"),
        ({"workers": 2, "executor": ThreadPoolExecutor(1)}, "Give either `workers` or `executor`, not both"),
        ({"executor": 4}, r"`executor` must be an executor, such as `ThreadPoolExecutor\(4\)`, got 4"),
        ({"executor": ThreadPoolExecutor}, "`executor` must be an executor, such as .*got <class"),
        ({"args": 3}, r"`args` must be a tuple of further arguments of `fun`, got 3; write `\(a,\)` for one"),
        ({"timeout": 0.0}, r"`FunctionOracle\(timeout=...\)` must be a positive number, got 0"),
        ({"memory_growth": -1}, r"`FunctionOracle\(memory_growth=...\)` must be a positive number, got -1"),
        ({"timeout": 1.0, "executor": ThreadPoolExecutor(1)}, "`timeout` is for worker processes"),
        ({"args": (threading.Lock(),), "workers": 2}, "`fun` and `args` cannot be sent to worker processes: .*lock"),
        ({"on_error": "explode"}, "must be one of 'raise', 'skip'; got 'explode'"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        FunctionOracle(**{"fun": total, **arguments})
