"""The one call: what it finds, what it returns at every exit, what it refuses."""

from __future__ import annotations

import errno
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.optimize

import blackbox_zo as bz
from blackbox_zo._typing import Floats
from oracles import FunctionOracle, Repeat


def bowl(x: Floats) -> float:
    return float(((x - 1.0) ** 2).sum())


def rosenbrock(x: Floats) -> float:
    return float((100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum())


class Counted:
    """A function that counts its calls and remembers where they were."""

    def __init__(self, fun: Any = bowl) -> None:
        self.fun, self.seen = fun, list[tuple[Floats, float]]()

    def __call__(self, x: Any) -> float:
        value = self.fun(x)
        self.seen.append((np.array(x), value))
        return float(value)


# ------------------------------------------------------------------------------------------- auto


@pytest.mark.parametrize("x0", [np.zeros(6), np.array([-1.2, 1.0] * 3), np.full(6, 2.0), np.full(6, -1.0)], ids=str)
def test_auto_takes_rosenbrock_in_six_dimensions_below_a_hundredth(x0: Floats) -> None:
    budget = 4000 if x0[1] == 1 else 1500  # from there it is in the local minimum of 3.97 first, and restarts
    found = [bz.minimize(rosenbrock, x0, budget=budget, seed=seed).fun for seed in range(4)]
    assert max(found) < 1e-2


def test_auto_stands_noise() -> None:
    noise = np.random.default_rng(0)
    r = bz.minimize(lambda x: bowl(x) + noise.normal(), np.full(10, 3.0), budget=2000)
    assert bowl(np.full(10, 3.0)) == 40.0
    assert bowl(r.center) < 1.5


def test_auto_stands_failures_and_plateaus() -> None:
    def rugged(x: Floats) -> float:
        return float("nan") if x[0] < -0.1 else float(np.floor(bowl(x) * 20))

    r = bz.minimize(rugged, np.zeros(4), budget=800)
    assert r.fun <= 1.0
    assert r.nfailed > 0


@pytest.mark.parametrize("d", [1, 2, 30, 150])
def test_auto_works_in_any_dimension(d: int) -> None:
    r = bz.minimize(bowl, np.zeros(d), budget=60 * d + 200)
    assert r.fun < 0.1 * d


def test_auto_under_bounds_searches_in_their_width() -> None:
    r = bz.minimize(
        lambda x: (x[0] / 1e6 - 0.3) ** 2 + (x[1] / 1e-3 - 0.7) ** 2,
        [5e5, 5e-4],
        bounds=[(0, 1e6), (0, 1e-3)],
        budget=500,
    )
    np.testing.assert_allclose(r.x, [3e5, 7e-4], rtol=1e-3)


def test_an_optimum_on_the_bound_is_found() -> None:
    fun = Counted()
    r = bz.minimize(fun, np.zeros(3), bounds=(-0.5, 0.25), budget=400)
    np.testing.assert_allclose(r.x, 0.25, atol=1e-6)
    asked = np.array([x for x, _ in fun.seen])
    assert asked.min() >= -0.5
    assert asked.max() <= 0.25


def test_auto_finds_an_optimum_on_several_bounds_that_pull_on_each_other() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((5, 5)), 5 * rng.standard_normal(5)
    a = a @ a.T + np.eye(5)

    def fun(x: Floats) -> float:
        return float(0.5 * x @ a @ x - b @ x)

    least = scipy.optimize.minimize(fun, np.zeros(5), bounds=[(-0.5, 0.5)] * 5).fun
    for seed in range(4):
        assert bz.minimize(fun, np.zeros(5), bounds=(-0.5, 0.5), budget=1000, seed=seed).fun - least < 1e-3


# ------------------------------------------------------------------------------------------- inputs


def test_a_scalar_start_gives_a_scalar() -> None:
    r = bz.minimize(lambda x: (x - 2.0) ** 2, 0.0, budget=200)
    assert isinstance(r.x, float)
    assert r.x == pytest.approx(2.0, abs=1e-3)


def test_a_structured_start_gives_its_structure() -> None:
    def fun(x: Any) -> float:
        return float(((x["layers"][0] - 1) ** 2).sum() + (x["layers"][1] ** 2).sum() + (x["rate"] - 0.5) ** 2)

    r = bz.minimize(fun, {"layers": [np.zeros((2, 2)), np.zeros(3)], "rate": 0.0}, bounds={"rate": (0, 1)}, budget=1500)
    assert r.x["layers"][0].shape == (2, 2)
    assert fun(r.x) == r.fun < 1e-3


def test_vectorized_workers_and_executor_ask_the_same_points() -> None:
    plain = bz.minimize(bowl, np.zeros(3), budget=50)
    rows = bz.minimize(lambda x: ((x - 1.0) ** 2).sum(axis=1), np.zeros(3), budget=50, vectorized=True)
    forked = bz.minimize(bowl, np.zeros(3), budget=50, workers=2)
    with ThreadPoolExecutor(3) as executor:
        threads = bz.minimize(bowl, np.zeros(3), budget=50, executor=executor)
    for other in (rows, forked, threads):
        np.testing.assert_array_equal(plain.x, other.x)
        assert (plain.fun, plain.nfev, plain.nit) == (other.fun, other.nfev, other.nit)


def test_more_arguments_reach_the_function() -> None:
    r = bz.minimize(lambda x, shift: float(((x - shift) ** 2).sum()), np.zeros(2), budget=300, args=(3.0,))
    np.testing.assert_allclose(r.x, 3.0, atol=1e-2)


@pytest.mark.parametrize(
    "method",
    [
        bz.RandomVector(0.01, 4),
        (bz.RandomVector(0.01, 4, "orthogonal"), bz.SGD(0.1)),
        bz.Coordinatewise(0.01),
        bz.RankBased(0.1, 8),
        bz.Surrogate(0.1, 4, 40),
        bz.EvolutionStrategy(0.3, covariance="diagonal"),
        bz.ConsensusBased(1.0, 20),
    ],
    ids=str,
)  # fmt: skip
def test_every_method_goes_down(method: Any) -> None:
    assert bz.minimize(bowl, np.zeros(4), method, budget=600).fun < 0.2 * bowl(np.zeros(4))


# ------------------------------------------------------------------------------------------- exits


@pytest.mark.parametrize("budget", [1, 2, 13, 100])
@pytest.mark.parametrize(
    "method", ["auto", bz.RandomVector(0.1, 7), bz.Coordinatewise(0.1, difference="forward")], ids=str
)
def test_the_budget_is_spent_exactly_and_the_best_point_comes_back(budget: int, method: Any) -> None:
    fun = Counted()
    r = bz.minimize(fun, np.zeros(5), method, budget=budget)
    assert r.nfev == len(fun.seen) == budget
    best = min(fun.seen, key=lambda pair: pair[1])
    assert r.fun == best[1]
    np.testing.assert_array_equal(r.x, best[0])
    assert (r.success, r.status) == (True, 0)


@pytest.mark.parametrize(
    "option",
    [{"workers": 2}, {"timeout": 1.0}, {"vectorized": True}, {"args": (1,)}, {"executor": ThreadPoolExecutor(1)}],
)
def test_how_a_function_is_asked_is_no_affair_of_an_oracle(option: dict[str, Any]) -> None:
    (name,) = option
    with pytest.raises(ValueError, match=f"`{name}` says how a function is asked, but `fun` is an oracle; give it to"):
        bz.minimize(FunctionOracle(bowl), np.zeros(3), budget=40, **option)


def test_an_oracle_is_counted_in_queries_whatever_one_costs_it() -> None:
    r = bz.minimize(Repeat(FunctionOracle(bowl), 4), np.zeros(3), budget=40)
    assert r.nfev == 40


def best_of(fun: Counted) -> float:
    return min(value for _, value in fun.seen)


def test_a_time_limit_stops_within_a_step() -> None:
    def slow(x: Floats) -> float:
        time.sleep(0.1)
        return bowl(x)

    fun = Counted(slow)
    start = time.monotonic()
    r = bz.minimize(fun, np.zeros(3), bz.RandomVector(0.1, 100), time_limit=0.3)
    assert time.monotonic() - start < 10.0  # the step takes 20 s
    assert (r.success, r.status) == (True, 2)
    assert r.nfev == len(fun.seen) < 200
    assert r.fun == best_of(fun)


def test_an_interrupt_keeps_the_best() -> None:
    def fun(x: Floats) -> float:
        if len(counted.seen) == 20:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
        return bowl(x)

    counted = Counted(fun)
    r = bz.minimize(counted, np.zeros(3))
    assert (r.success, r.status) == (False, 3)
    assert r.fun == best_of(counted)
    assert r.nfev == 21  # the call that was interrupted was a call


def raising(x: Floats) -> float:
    if bowl(x) < 1.0:
        raise RuntimeError("too good")
    return bowl(x)


def test_an_exception_is_raised_with_the_best_so_far_in_a_note() -> None:
    with pytest.raises(RuntimeError, match="too good") as caught:
        bz.minimize(raising, np.zeros(3))
    assert re.search(r"Best so far, after \d+ queries: f = [12]\.\d+ at", caught.value.__notes__[0])


@pytest.mark.parametrize("workers", [1, 2])
def test_an_exception_can_be_an_exit(workers: int) -> None:
    r = bz.minimize(raising, np.zeros(3), on_error="fail", workers=workers)
    assert (r.success, r.status) == (False, 4)
    assert r.message == "`fun` raised RuntimeError: too good"
    assert 1.0 <= r.fun < 3.0


@pytest.mark.parametrize("true", [True, np.True_, np.array(True), np.array([True])], ids=repr)
def test_a_callback_stops_by_any_truth_and_by_nothing_else(true: Any) -> None:
    seven = bz.EvolutionStrategy(0.3, 7)
    for name in ("callback", "progress"):
        yes: dict[str, Any] = {name: lambda now: true}
        no: dict[str, Any] = {name: lambda now: true & False}
        stopped = bz.minimize(bowl, np.zeros(3), seven, budget=70, **yes)
        assert (stopped.status, stopped.nfev) == (bz.Ended.STOPPED, 7)
        assert bz.minimize(bowl, np.zeros(3), seven, budget=70, **no).nfev == 70
    assert bz.minimize(bowl, np.zeros(3), seven, budget=70, callback=lambda now: now.x).nfev == 70


class Careless(bz.Observer):
    """Raises in one of its methods."""

    def __init__(self, event: str) -> None:
        setattr(self, event, self.fail)

    def fail(self, run: bz.Run, *what: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def careless(*what: Any) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("on_error", ["raise", "fail", "skip"])
@pytest.mark.parametrize(
    ("who", "given"),
    [
        ("the callback", {"callback": careless}),
        ("the callback", {"progress": careless}),
        *(
            ("the observer `Careless`", {"progress": Careless(event)})
            for event in ("begin", "answered", "measured", "stepped", "end")
        ),
    ],
)
def test_what_a_callback_or_an_observer_raises_is_its_own(who: str, given: dict[str, Any], on_error: Any) -> None:
    """Even if `fun` could have raised the same."""
    noting = bz.Measure("centre", lambda search: 0.0)
    with pytest.raises(OSError, match="No space left on device") as caught:
        bz.minimize(bowl, np.zeros(3), budget=30, on_error=on_error, measures=[noting], **given)
    assert re.fullmatch(rf"Raised by {re.escape(who)}, after \d+ queries\.", caught.value.__notes__[0])
    assert "`fun` raised" not in "".join(caught.value.__notes__)


def test_a_run_says_who_raised() -> None:
    for given, said in (
        ({"observers": [Careless("stepped")]}, "The observer `Careless` raised OSError: [Errno 28] No space"),
        ({"until": careless}, "`until` raised OSError: [Errno 28] No space"),
        (
            {"measures": [bz.Measure("centre", lambda search: careless() or 0.0)]},
            "MeasureError: The measure 'centre' raised OSError: [Errno 28]",
        ),
    ):
        run = bz.Run(bz.Search(np.zeros(3), bz.RandomVector(0.1), budget=20), FunctionOracle(bowl), **given)
        with pytest.raises((OSError, bz.MeasureError)):
            run.to_the_end()
        assert run.ended is bz.Ended.RAISED
        assert run.message.startswith(said)


@pytest.mark.parametrize("on_error", ["raise", "skip", "fail"])
def test_an_executor_that_breaks_is_no_error_of_the_function(on_error: Any) -> None:
    def fun(x: Floats) -> float:
        if bowl(x) < 1.0:
            os.kill(os.getpid(), signal.SIGKILL)
        return bowl(x)

    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        if on_error == "fail":
            r = bz.minimize(fun, np.zeros(3), executor=pool, on_error=on_error)
            assert r.status == 4
            assert re.match(r"The executor <.*ProcessPool.*> is broken: .* make a new one", r.message)
            assert 1.0 <= r.fun < 3.0
        else:
            with pytest.raises(bz.WorkerError, match="make a new one") as caught:
                bz.minimize(fun, np.zeros(3), executor=pool, on_error=on_error)
            assert "Best so far, after" in caught.value.__notes__[-1]


def test_an_oracle_or_a_wrong_value_is_named_as_such() -> None:
    class Broken(bz.Oracle):
        def answer(self, proposal: bz.Proposal) -> bz.Values:
            raise RuntimeError("no link")

    assert bz.minimize(Broken(), np.zeros(3), on_error="fail").message == "The oracle raised RuntimeError: no link"
    r = bz.minimize(lambda x: None, np.zeros(3), on_error="fail")
    assert r.message == "`fun` returned None; it must return one number. Is a `return` missing?"


def test_an_exception_can_be_a_failed_query() -> None:
    fun = Counted(raising)
    r = bz.minimize(fun, np.zeros(3), budget=300, on_error="skip")
    assert r.nfev == 300
    assert r.nfailed == 300 - len(fun.seen) > 0
    assert 1.0 <= r.fun < 1.5


def test_nan_is_counted_and_fails() -> None:
    r = bz.minimize(lambda x: float("nan") if x[0] > 0.2 else bowl(x), np.zeros(2), budget=200)
    assert r.nfev == 200
    assert r.nfailed > 0
    assert r.x[0] <= 0.2


def test_where_every_query_fails_the_start_comes_back_with_the_first_reason() -> None:
    r = bz.minimize(lambda x: 1 / 0, np.ones(2), budget=20, on_error="skip")
    assert (r.success, r.status, r.nfev, r.nfailed) == (False, 5, 20, 20)
    assert (
        r.message == "All 20 queries failed (NaN or infinite). The first failure: ZeroDivisionError: division by zero"
    )
    np.testing.assert_array_equal(r.x, np.ones(2))
    assert np.isnan(r.fun)


def test_callbacks_see_each_step_and_can_stop() -> None:
    seen: list[int] = []

    def by_keyword(intermediate_result: Any) -> None:
        seen.append(intermediate_result.nfev)
        if len(seen) == 3:
            raise StopIteration

    r = bz.minimize(bowl, np.zeros(3), bz.RandomVector(0.1, 4), callback=by_keyword)
    assert seen == [8, 16, 24]
    assert (r.status, r.nfev) == (1, 24)
    assert bz.minimize(bowl, np.zeros(3), bz.RandomVector(0.1, 4), callback=lambda r: r.nfev >= 16).nfev == 16


def test_progress_may_be_a_function_or_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    reports: list[bz.Report] = []
    bz.minimize(bowl, np.zeros(3), budget=30, progress=reports.append)
    assert [r.step for r in reports] == list(range(len(reports)))
    bz.minimize(bowl, np.zeros(3), budget=30, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert re.search(r"^30/30 queries, best \S+$", err, re.MULTILINE)


def test_progress_is_a_live_bar_on_a_terminal() -> None:
    import pty

    code = "import time, numpy as np, blackbox_zo as bz\n"
    code += "bz.minimize(lambda x: time.sleep(0.01) or float(x @ x), np.ones(3), budget=40, progress=True)"
    main, other = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code], stderr=other, env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    )
    os.close(other)
    shown = b""
    while True:
        try:
            some = os.read(main, 4096)
        except OSError:
            break
        if not some:
            break
        shown += some
    assert process.wait() == 0
    assert b"40/40" in shown
    assert "━".encode() in shown


# ------------------------------------------------------------------------------------------- journal


def test_a_second_call_with_the_journal_goes_on_and_asks_nothing_again(tmp_path: Path) -> None:
    first, second = Counted(), Counted()
    path = tmp_path / "run.jsonl"
    a = bz.minimize(first, np.zeros(3), budget=45, journal=path)
    b = bz.minimize(second, np.zeros(3), budget=100, journal=path)
    unbroken = bz.minimize(bowl, np.zeros(3), budget=100)
    assert (a.nfev, len(second.seen), b.nfev) == (45, 55, 100)
    np.testing.assert_array_equal(b.center, unbroken.center)
    assert b.fun == unbroken.fun


def test_a_finished_journal_answers_at_once(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    done = bz.minimize(bowl, np.zeros(3), budget=45, journal=path)
    again = bz.minimize(lambda x: 1 / 0, np.zeros(3), budget=45, journal=path)
    assert (again.fun, again.nfev) == (done.fun, 45)


def test_an_exception_is_not_an_answer_so_a_mended_function_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with pytest.raises(RuntimeError):
        bz.minimize(raising, np.zeros(3), budget=60, journal=path)
    r = bz.minimize(bowl, np.zeros(3), budget=60, journal=path)
    assert (r.nfailed, r.fun) == (0, bz.minimize(bowl, np.zeros(3), budget=60).fun)


# ------------------------------------------------------------------------------------------- fixed elements


@pytest.mark.parametrize(
    "method", ["auto", bz.RandomVector(0.01, 3), bz.Coordinatewise(1e-3), bz.RankBased(0.1, 6)], ids=str
)
def test_an_element_with_equal_bounds_stays_and_costs_nothing(method: Any, tmp_path: Path) -> None:
    fun, path = Counted(lambda x: float(((x["a"] - 1) ** 2).sum() + (x["b"] - 1) ** 2)), tmp_path / "run.jsonl"
    given: dict[str, Any] = {"bounds": {"a": [(0, 2), (0.5, 0.5), (None, None)], "b": (3, 3)}, "budget": 100, "seed": 1}
    start = {"a": np.array([0.0, 0.5, 0.0]), "b": 3.0}
    r = bz.minimize(fun, start, method, journal=path, **given)
    assert r.x["a"][1] == 0.5 and r.x["b"] == 3.0
    free = bz.minimize(lambda x: bowl(x) + 4.25, np.zeros(2), method, bounds=[(0, 2), (None, None)], budget=100, seed=1)
    assert r.nfev == free.nfev == 100
    if isinstance(method, bz.Coordinatewise):  # which draws nothing
        assert r.fun == free.fun
    assert abs(r.fun - 4.25) < 0.5
    again = bz.minimize(fun, start, method, journal=path, **given)
    assert again.fun == r.fun and len(fun.seen) == 100


def test_with_every_element_fixed_the_start_is_asked_about_once(tmp_path: Path) -> None:
    for method in ("auto", bz.RandomVector(0.1)):
        fun = Counted()
        r = bz.minimize(fun, [0.0, 2.0], method, bounds=[(0, 0), (2, 2)])
        assert (r.x.tolist(), r.fun, r.nfev, r.success) == ([0.0, 2.0], 2.0, 1, True)
        assert r.message == "`bounds` fix every element of `x0`, so it was asked about once."
    r = scipy.optimize.minimize(
        bowl, [0.0, 2.0], method=bz.scipy_method(), bounds=scipy.optimize.Bounds([0, 2], [0, 2])
    )
    assert (r.fun, r.nfev) == (2.0, 1)


# ------------------------------------------------------------------------------------------- scipy


def test_scipy_minimize_takes_it_as_a_method() -> None:
    r = scipy.optimize.minimize(bowl, np.zeros(3), method=bz.scipy_method(budget=300))
    assert r.nfev == 300
    np.testing.assert_allclose(r.x, 1.0, atol=1e-4)


def test_scipys_arguments_are_understood() -> None:
    seen: list[Floats] = []
    r = scipy.optimize.minimize(
        lambda x, shift: float(((x - shift) ** 2).sum()),
        np.zeros(2),
        args=(3.0,),
        method=bz.scipy_method((bz.RandomVector(0.01, 2), bz.SGD(0.1)), budget=1000),
        bounds=scipy.optimize.Bounds([-1, -1], [2, 4]),
        callback=seen.append,
        options={"maxfev": 200, "seed": 3},
    )
    assert r.nfev == 200
    np.testing.assert_allclose(r.x, [2, 3], atol=0.1)
    assert len(seen) == 50
    assert seen[0].shape == (2,)


def test_scipys_maxiter_is_the_most_iterations() -> None:
    method = bz.scipy_method((bz.RandomVector(0.01, 2), bz.SGD(0.1)))
    r = scipy.optimize.minimize(bowl, np.zeros(2), method=method, options={"maxiter": 7})
    assert (r.nit, r.nfev, r.status, r.success) == (7, 28, bz.Ended.STEPS, True)
    r = scipy.optimize.minimize(bowl, np.zeros(2), method=method, options={"maxiter": 700.0})
    assert (r.nit, r.nfev) == (700, 2800)  # a number of iterations alone leaves the calls free
    for name in ("maxfev", "maxfun", "budget"):
        r = scipy.optimize.minimize(bowl, np.zeros(2), method=method, options={"maxiter": 7, name: 10})
        assert (r.nit, r.nfev, r.status) == (3, 10, bz.Ended.BUDGET)
    with pytest.raises(ValueError, match=r"`minimize\(maxiter=...\)` must be a whole number of at least 1, got 0"):
        scipy.optimize.minimize(bowl, np.zeros(2), method=method, options={"maxiter": 0})


def test_scipy_is_warned_of_options_that_do_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    method, warned = bz.scipy_method(budget=20), scipy.optimize.OptimizeWarning
    with pytest.warns(warned, match="Unknown solver options: gtol, eps") as seen:
        r = scipy.optimize.minimize(bowl, np.zeros(2), method=method, options={"gtol": 1e-3, "eps": 1, "maxfev": None})
    assert r.nfev == 20
    assert seen[0].filename == __file__
    with pytest.warns(warned, match="`tol` is not used: the run ends with its budget"):
        scipy.optimize.minimize(bowl, np.zeros(2), method=method, tol=1e-3)
    with pytest.raises(TypeError, match=r"`scipy_method` has no option 'bugdet'; there are .*budget"):
        bz.scipy_method(bugdet=20)
    assert not capsys.readouterr().out
    scipy.optimize.minimize(bowl, np.zeros(2), method=method, options={"disp": True})
    assert "The budget of 20 queries is spent.\n         Current function value: " in capsys.readouterr().out


def test_steps_are_counted_over_all_parts_of_a_run(tmp_path: Path) -> None:
    method, path = (bz.RandomVector(0.01, 2), bz.SGD(0.1)), tmp_path / "run.jsonl"
    for steps, nfev in ((3, 12), (5, 20), (5, 20), (4, 20)):
        r = bz.minimize(bowl, np.zeros(2), method, budget=None, steps=steps, journal=path)
        assert (r.nfev, r.status) == (nfev, bz.Ended.STEPS)
    with pytest.raises(ValueError, match="without a budget or another limit, the run would never end"):
        bz.minimize(bowl, np.zeros(2), budget=None)


def test_whole_numbers_may_be_given_as_floats() -> None:
    given: dict[str, Any] = {"budget": 1e2, "seed": np.float64(3)}
    assert bz.minimize(bowl, np.zeros(2), **given).nfev == 100
    search = bz.Search(np.zeros(2), bz.RandomVector(0.1, 3), seed=2.0, budget=1e1)  # type: ignore[arg-type]
    assert bz.Run(search, Repeat(FunctionOracle(bowl), 2.0)).to_the_end() is bz.Ended.BUDGET  # type: ignore[arg-type]
    assert (search.nfev, search.budget, search.seed) == (10, 10, 2)
    seeds: list[Any] = [2, 2.0, 3]
    slopes = [bz.gradient(lambda x: x**3, 1.0, bz.RandomVector(0.1, 3, difference="forward"), seed=s) for s in seeds]
    assert slopes[0] == slopes[1] != slopes[2]


def test_constraints_are_refused() -> None:
    with pytest.raises(ValueError, match="`constraints` cannot be used with blackbox_zo; add a penalty"):
        scipy.optimize.minimize(bowl, np.zeros(2), method=bz.scipy_method(), constraints={"type": "eq", "fun": bowl})


# ------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x0": []}, "`x0` is empty"),
        ({"x0": {}}, "`x0` is empty"),
        ({"x0": [0.0, np.nan]}, "`x0` holds nan at flat index 1"),
        ({"x0": "start"}, "`x0` is 'start', which is not a number"),
        ({"x0": [[1.0], [1.0, 2.0], "a"]}, "`x0` at '2' is 'a'"),
        ({"bounds": (1, 0)}, "`bounds` cross at x\\[0\\]: low 1.0 is not below high 0.0"),
        ({"bounds": (2, 3)}, "`x0` is outside `bounds` at x\\[0\\]: 0.0 is not in \\[2.0, 3.0\\]"),
        ({"bounds": [(0, 1)] * 3}, "`bounds` must be one \\(low, high\\) pair or 2 of them"),
        ({"budget": 0}, "`minimize\\(budget=...\\)` must be a whole number of at least 1, got 0"),
        ({"budget": 0.5}, "`minimize\\(budget=...\\)` .* got 0.5"),
        ({"method": "bfgs"}, "`method` must be \"auto\", an estimator, or \\(estimator, rule\\); got 'bfgs'"),
        ({"method": 3}, '`method` must be "auto", an estimator, or \\(estimator, rule\\); got 3'),
        ({"method": (bz.RandomVector(0.1), 3)}, "`method` must be .* got \\(RandomVector"),
        ({"unit": 0}, "`unit` must be positive and finite, got 0"),
        ({"unit": [1, 2, 3]}, "`unit` has shape \\(3,\\)"),
        ({"time_limit": -1}, "`minimize\\(time_limit=...\\)` must be a positive number, got -1"),
        ({"on_error": "x"}, "`minimize\\(on_error=...\\)` must be one of .* got 'x'"),
        ({"progress": "yes"}, "`progress` must be True, False, None, a function of a report, or observers; got 'yes'"),
        ({"fun": 3}, "`fun` must be a function of x, got 3"),
        ({"workers": 0}, "workers=...\\)` must be a whole number of at least 1, got 0"),
        ({"executor": 4}, "`executor` must be an executor, .* got 4. Say `workers=4` for so many processes"),
        ({"executor": ThreadPoolExecutor}, "`executor` must be an executor, .* got <class '.*ThreadPoolExecutor'>.$"),
        ({"steps": 0}, "`minimize\\(steps=...\\)` must be a whole number of at least 1, got 0"),
        ({"callback": 3}, "`callback` must be a function of an `OptimizeResult`, got 3"),
        ({"target": np.nan}, "target=...\\)` must be a number, got nan"),
        ({"target": np.complex128(1)}, "target=...\\)` must be a number, got np.complex"),
        ({"time_limit": np.complex128(1)}, "time_limit=...\\)` must be a positive number, got np.complex"),
        ({"seed": 0.5}, "`seed` must be a whole number, got 0.5"),
        ({"seed": 2**63}, "`seed` must fit 64 bits"),
        ({"seed": "a"}, "`seed` must be a whole number, got 'a'"),
        ({"fun": lambda x: x}, "`fun` returned an array of shape \\(2,\\); it must return one number"),
        ({"fun": lambda x: None}, "`fun` returned None"),
        ({"fun": lambda x: "0.1"}, "`fun` returned '0.1'"),
    ],
)
def test_bad_input_is_a_sentence(change: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        bz.minimize(**{"fun": bowl, "x0": np.zeros(2), **change})


def test_pandas_is_not_imported_where_the_user_has_not() -> None:
    code = (
        "import sys, blackbox_zo as bz; bz.minimize(lambda x: x @ x, [1.0], budget=9); print('pandas' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "False\n"


def test_importing_is_light() -> None:
    heavy = {"torch", "scipy", "pandas", "gymnasium", "rich", "matplotlib"}
    code = f"import sys, blackbox_zo; print(sorted({heavy} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "[]\n"
