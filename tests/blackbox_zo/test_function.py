"""Python functions as oracles: what they may return, and how they are asked."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from fractions import Fraction
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


ONE = [
    3, 3.0, np.float32(3), np.int64(3), np.array(3.0), Decimal(3), Fraction(3), np.longdouble(3),
    np.ones(1) * 3, np.ones((1, 1)) * 3, np.array(Decimal(3), dtype=object), np.array([Fraction(3)]),
    3 + 0j, np.complex128(3), np.complex64(3), np.array(3 + 0j), np.array([[3 + 0j]]),
]  # fmt: skip


@pytest.mark.parametrize("value", ONE, ids=repr)
@pytest.mark.parametrize("timeout", [None, 60.0], ids=["here", "worker"])
def test_anything_that_is_one_number_will_do(value: Any, timeout: float | None) -> None:
    oracle = FunctionOracle(lambda x: value, timeout=timeout)
    assert oracle.answer(proposal()).values.tolist() == [3.0] * 4
    oracle.close()


@pytest.mark.parametrize("timeout", [None, 60.0], ids=["here", "worker"])
@pytest.mark.parametrize("kind", ["float32", "bfloat16", "complex64"])
@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_a_tensor_of_one_element_will_do_with_a_gradient_too(
    shape: tuple[int, ...], kind: str, timeout: float | None
) -> None:
    def fun(x: Any) -> Any:
        import torch

        return torch.full(shape, 2.0, dtype=getattr(torch, kind), requires_grad=True) * 1

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        oracle = FunctionOracle(fun, timeout=timeout)
        assert oracle.answer(proposal()).values.tolist() == [2.0] * 4
        oracle.close()


def test_what_is_too_large_for_a_float_or_missing_is_a_failed_query() -> None:
    masked: Any = np.ma.array([1.0], mask=True)  # type: ignore[no-untyped-call]
    for value in (
        10**400,
        -(10**400),
        Decimal("sNaN"),
        Decimal("1e400"),
        complex(np.nan, np.nan),
        np.ma.masked,
        masked,
    ):
        assert FunctionOracle(lambda x, value=value: value).answer(proposal()).n_failed == 4


@pytest.mark.parametrize(
    "fun",
    [
        lambda x: x.sum(axis=1, keepdims=True),
        lambda x: x.sum(axis=1) + 0j,
        lambda x: [Decimal(v) for v in x.sum(axis=1).tolist()],
        lambda x: [[Fraction(v)] for v in x.sum(axis=1).tolist()],
        lambda x: __import__("torch").tensor(x, requires_grad=True).sum(1),
        lambda x: [__import__("torch").tensor(v, requires_grad=True) for v in x.sum(axis=1)],
    ],
)
@pytest.mark.parametrize("timeout", [None, 60.0], ids=["here", "worker"])
def test_vectorised_any_n_numbers_will_do(fun: Any, timeout: float | None) -> None:
    asked = proposal()
    oracle = FunctionOracle(fun, vectorized=True, timeout=timeout)
    np.testing.assert_allclose(oracle.answer(asked).values, asked.points.sum(axis=1))
    oracle.close()


@pytest.mark.parametrize(
    "fun", [lambda x: x.sum(axis=1) + 1j, lambda x: [str(v) for v in x.sum(axis=1)], lambda x: "four", lambda x: {}]
)
def test_vectorised_anything_else_is_named(fun: Any) -> None:
    with pytest.raises(TypeError, match=r"`fun` returned .*; with `vectorized=True` it must return 4 real numbers"):
        FunctionOracle(fun, vectorized=True).answer(proposal())


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros(2), r"`fun` returned an array of shape \(2,\); it must return one number. Sum or average it"),
        ("0.5", r"`fun` returned '0.5' \(str\); it must return one number"),
        (None, "`fun` returned None; it must return one number. Is a `return` missing?"),
        ([1.0], r"`fun` returned \[1.0\] \(list\)"),
        (1j, r"`fun` returned 1j \(complex\); it must return one real number. Return its real part or its absolute"),
        (np.complex128(2 + 1j), r"must return one real number. Return its real part or its absolute value"),
        (np.array([3 + 1e-30j]), "must return one real number"),
        (np.array("3.0"), r"`fun` returned '3.0' \(str\)"),
        (np.str_("3.0"), r"`fun` returned np.str_\('3.0'\)"),
        (np.timedelta64(3, "s"), "must return one number. Divide it by a unit of time"),
        (np.array([3], "m8[s]"), "must return one number. Divide it by a unit of time"),
        ({"loss": 3.0}, r"`fun` returned \{'loss': 3.0\} \(dict\)"),
        (np.array([]), r"`fun` returned an array of shape \(0,\)"),
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


def test_answers_of_very_short_calls_come_together_and_others_at_once() -> None:
    short, asked = list(FunctionOracle(total).parts(proposal())), proposal()
    assert [len(ids) for ids, _ in short] == [4]

    def slow(x: Any) -> float:
        time.sleep(0.01)
        return total(x)

    long = list(FunctionOracle(slow).parts(asked))
    assert [ids.tolist() for ids, _ in long] == [[i] for i in asked.ids]


def test_with_a_journal_each_answer_is_told_at_once(tmp_path: Path) -> None:
    """So that a process that is killed loses none."""
    with bz.Search(np.zeros(2), bz.RankBased(0.1, 4), journal=tmp_path / "run.jsonl") as search:
        asked = search.ask()
        assert [ids.tolist() for ids, _ in FunctionOracle(total).parts(asked)] == [[i] for i in asked.ids]


@pytest.mark.parametrize("raised", [ZeroDivisionError, KeyboardInterrupt])
def test_what_was_answered_before_an_exception_comes_first(raised: type[BaseException]) -> None:
    calls = []

    def third(x: Any) -> float:
        calls.append(x)
        if len(calls) == 3:
            raise raised("by design")
        return total(x)

    asked, oracle = proposal(), FunctionOracle(third)
    parts = oracle.parts(asked)
    ids, answer = next(parts)
    assert ids.tolist() == asked.ids[:2].tolist() and isinstance(answer, bz.Values)
    np.testing.assert_array_equal(answer.values, [total(x) for x in asked.points[:2]])
    with pytest.raises(raised, match="by design"):
        next(parts)
    assert oracle.calls == 3


def test_an_interrupt_is_not_lost_where_nobody_asks_on() -> None:
    def second(x: Any) -> float:
        calls.append(x)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return total(x)

    calls: list[Any] = []
    parts = FunctionOracle(second).parts(proposal())
    assert isinstance(parts, Generator) and len(next(parts)[0]) == 1
    with pytest.raises(KeyboardInterrupt):
        parts.close()


def test_failures_are_skipped_one_by_one_among_short_calls() -> None:
    calls: list[Any] = []

    def odd(x: Any) -> float:
        calls.append(x)
        if len(calls) % 2:
            raise ZeroDivisionError("by design")
        return total(x)

    asked = proposal(5)
    parts = list(FunctionOracle(odd, on_error="skip").parts(asked))
    assert np.concatenate([ids for ids, _ in parts]).tolist() == asked.ids.tolist()
    failed = [part.n_failed for _, part in parts if isinstance(part, bz.Values)]
    assert failed == [1, 0, 1, 0, 1]


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
