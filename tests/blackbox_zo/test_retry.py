"""Failed queries that are asked again."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import blackbox_zo as bz
from blackbox_zo._typing import Floats


class Flaky:
    """Fails the first `failures` times at each point, by NaN or by an exception."""

    def __init__(self, failures: int, raises: bool = False) -> None:
        self.failures, self.raises, self.calls = failures, raises, 0
        self.seen: dict[bytes, int] = {}

    def __call__(self, x: Floats) -> float:
        self.calls += 1
        key = x.tobytes()
        self.seen[key] = self.seen.get(key, 0) + 1
        if self.seen[key] <= self.failures:
            if self.raises:
                raise RuntimeError("no licence")
            return math.nan
        return float(x @ x)


METHOD = bz.EvolutionStrategy(0.3, 8)  # never asks a point again by itself


@pytest.mark.parametrize("raises", [False, True])
def test_a_failure_that_passes_is_no_failure(raises: bool) -> None:
    fun = Flaky(2, raises)
    result = bz.minimize(fun, np.ones(3), METHOD, budget=16, retries=2, on_error="skip")
    plain = bz.minimize(lambda x: x @ x, np.ones(3), METHOD, budget=16)
    assert result.nfailed == 0 and result.nfev == fun.calls == 48 and np.array_equal(result.x, plain.x)


def test_one_that_stays_fails_after_all_tries_and_says_how_many() -> None:
    search = bz.Search(np.ones(3), METHOD)
    oracle = bz.FunctionOracle(Flaky(99, raises=True), on_error="skip", retries=3)
    answer = oracle.answer(search.ask())
    assert answer.n_failed == 8 and oracle.calls == 32
    assert answer.info is not None and answer.info[0] == {"error": "RuntimeError: no licence", "tries": 4}


def test_an_exception_that_is_raised_is_not_retried() -> None:
    fun = Flaky(1, raises=True)
    with pytest.raises(RuntimeError, match="no licence"):
        bz.minimize(fun, np.ones(3), METHOD, budget=16, retries=5)
    assert fun.calls == 1


@pytest.mark.parametrize("options", [{"vectorized": True}, {"workers": 2}, {"timeout": 30.0}])
def test_also_vectorised_and_on_workers(options: dict[str, Any], tmp_path: Path) -> None:
    log = str(tmp_path / "log")

    def fun(x: Floats) -> Any:
        rows = np.atleast_2d(x)
        values = []
        for row in rows:
            name = f"{log}{abs(hash(row.tobytes()))}"
            if os.path.exists(name):  # noqa: PTH110
                values.append(float(row @ row))
            else:
                open(name, "w").close()  # noqa: PTH123
                values.append(math.nan)
        return np.array(values) if x.ndim == 2 else values[0]

    environ = os.environ.get("PYTHONHASHSEED")
    os.environ["PYTHONHASHSEED"] = "0"
    try:
        result = bz.minimize(fun, np.ones(3), METHOD, budget=8, retries=1, **options)
    finally:
        os.environ.pop("PYTHONHASHSEED") if environ is None else os.environ.update(PYTHONHASHSEED=environ)
    assert result.nfailed == 0 and result.nfev == 16


def test_each_try_has_its_own_time_limit_and_a_lost_worker_is_tried_again(tmp_path: Path) -> None:
    mark = tmp_path / "first"

    def slow_once(x: Floats) -> float:
        if not mark.exists():
            mark.touch()
            time.sleep(60)
        return float(x @ x)

    result = bz.minimize(slow_once, np.ones(2), METHOD, budget=8, timeout=1.0, retries=1)
    assert result.nfailed == 0 and result.nfev == 9


def test_the_count_of_calls_survives_a_resume(tmp_path: Path) -> None:
    path, fun = tmp_path / "run.jsonl", Flaky(1)
    bz.minimize(fun, np.ones(3), METHOD, budget=8, retries=1, journal=path)
    infos = [json.loads(line).get("info") for line in path.read_text().splitlines()[1:]]
    assert infos == [{"tries": 2}] * 8
    result = bz.minimize(fun, np.ones(3), METHOD, budget=16, retries=1, journal=path)
    assert result.nfev == fun.calls == 32


def test_the_answers_of_a_step_come_before_its_retries() -> None:
    fun = Flaky(0)
    order: list[int] = []

    def third(x: Floats) -> float:
        order.append(fun.calls)
        return math.nan if fun(x) is None or (fun.calls == 3) else float(x @ x)

    search = bz.Search(np.ones(3), METHOD)
    parts = list(bz.Retry(bz.FunctionOracle(third), 2).parts(search.ask()))
    ids = [int(i) for part, _ in parts for i in part]
    assert ids == [0, 1, 3, 4, 5, 6, 7, 2] and parts[-1][1].info == ({"tries": 2},)


def test_around_any_oracle_and_below_other_wrappers() -> None:
    fun = Flaky(1)
    oracle = bz.Repeat(bz.Retry(bz.FunctionOracle(fun), 1), 3)
    result = bz.minimize(oracle, np.ones(3), METHOD, budget=16)
    assert result.nfailed == 0 and fun.calls == 16 * 2 + 16 * 2 and oracle.calls == fun.calls
    inside, outside = Flaky(1), Flaky(1)
    assert bz.minimize(bz.Cache(bz.Retry(bz.FunctionOracle(inside), 1)), np.ones(3), METHOD, budget=16).nfailed == 0
    assert bz.minimize(bz.Retry(bz.Cache(bz.FunctionOracle(outside)), 1), np.ones(3), METHOD, budget=16).nfailed == 0


def test_what_is_under_way_ends_with_the_iterator() -> None:
    ended, kept = list[int](), list[Iterator[bz.Part]]()

    class Slow(bz.Oracle):
        def answer(self, proposal: bz.Proposal) -> bz.Values:
            raise AssertionError

        def parts(self, proposal: bz.Proposal) -> Iterator[bz.Part]:
            kept.append(self.one_by_one(proposal))  # not ended by losing its last name
            return kept[-1]

        def one_by_one(self, proposal: bz.Proposal) -> Iterator[bz.Part]:
            try:
                for i in proposal.ids.tolist():
                    yield np.array([i]), bz.Values([math.nan if i == 0 else 1.0])
            finally:
                ended.append(proposal.n)

    parts = bz.Retry(Slow(), 2).parts(bz.Search(np.ones(3), METHOD).ask())
    assert next(parts)[0].tolist() == [1] and not ended
    parts.close()  # type: ignore[attr-defined]
    assert ended == [8]


def test_without_retries_nothing_changes() -> None:
    search = bz.Search(np.ones(3), METHOD)
    answer = bz.Retry(bz.FunctionOracle(Flaky(1)), 0).answer(search.ask())
    assert answer.n_failed == 8 and answer.info is None


@pytest.mark.parametrize("retries", [-1, 1.5, "2", None, math.nan, True])
def test_a_number_of_retries_that_is_none_is_named(retries: Any) -> None:
    for made in (
        lambda: bz.minimize(lambda x: 0.0, [1.0], retries=retries),
        lambda: bz.FunctionOracle(lambda x: 0.0, retries=retries),
        lambda: bz.Retry(bz.FunctionOracle(lambda x: 0.0), retries),
    ):
        with pytest.raises(ValueError, match=r"must be a whole number of at least 0, got"):
            made()


def test_retries_are_of_a_function_and_rankings_have_no_value() -> None:
    with pytest.raises(ValueError, match="`retries` says how a function is asked, but `fun` is an oracle"):
        bz.minimize(bz.FunctionOracle(lambda x: 0.0), [1.0], retries=1)
    with pytest.raises(TypeError, match="`Retry\\(oracle\\)` needs an oracle"):
        bz.Retry(lambda x: 0.0, 1)  # type: ignore[arg-type]
    oracle = bz.Retry(bz.RankOnly(bz.FunctionOracle(lambda x: 0.0)), 1)
    with pytest.raises(bz.FeedbackError, match="Cannot use `Retry`"):
        oracle.answer(bz.Search(np.ones(2), bz.RankBased(0.1, 4)).ask())
