"""Asynchronous runs: no worker waits for another, and all that a run promises holds as it does step by step."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest

import blackbox_zo as bz
from blackbox_zo.errors import OracleError
from oracles import Cache, CommandOracle, FunctionOracle, RankOnly, Repeat, Timeout

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # so that workers need not import pytest

METHOD = bz.Asynchronous(bz.EvolutionStrategy(0.3, model=True))


def sphere(x: Any) -> float:
    return float(x @ x)


def uneven(x: Any) -> float:
    """Heavy-tailed times, which depend on x alone."""
    law = np.random.default_rng(int.from_bytes(x.tobytes()[:8], "little"))
    time.sleep(min(0.01 * law.lognormal(0.0, 1.5), 1.0))
    return float(x @ x)


def sleeping(seconds: float) -> Callable[[Any], float]:
    def fun(x: Any) -> float:
        time.sleep(seconds)
        return 1.0

    return fun


class Sized(Executor):
    """Threads that do not say how many they are, and count how many calls are open."""

    def __init__(self, n: int) -> None:
        self.inner, self.open, self.most = ThreadPoolExecutor(n), 0, None
        self.peak, self._lock = 0, threading.Lock()

    def submit(self, fn: Any, /, *args: Any, **more: Any) -> Future[Any]:
        with self._lock:
            self.open += 1
            self.peak = max(self.peak, self.open)
        future = self.inner.submit(fn, *args, **more)
        future.add_done_callback(lambda _: self._closed())
        return future

    def _closed(self) -> None:
        with self._lock:
            self.open -= 1


# ---------------------------------------------------------------------------------------------------- no worker waits


def test_no_worker_waits_for_the_slowest() -> None:
    """The first query takes a second; step by step a generation of 6 would wait for it, and do nothing else."""

    def slow_at_first(x: Any) -> float:
        if np.array_equal(x, np.ones(2)):
            time.sleep(1.5)
        return float(x @ x)

    with ThreadPoolExecutor(4) as threads:
        begun, done = time.monotonic(), list[float]()

        def fun(x: Any) -> float:
            value = slow_at_first(x)
            done.append(time.monotonic() - begun)
            return value

        result = bz.minimize(fun, np.ones(2), budget=60, executor=threads, asynchronous=True)
    assert result.nfev == 60 and sum(t < 1.4 for t in done) == 58  # both queries at x0 are slow


@pytest.mark.parametrize("executor", [False, True])
def test_workers_are_busy_and_the_result_is_no_worse(executor: bool) -> None:
    if executor:
        with ThreadPoolExecutor(8) as threads:
            result = bz.minimize(uneven, np.ones(5), budget=150, executor=threads, asynchronous=True)
    else:
        result = bz.minimize(uneven, np.ones(5), budget=150, workers=8, asynchronous=True)
    assert result.nfev == result.nit == 150 and result.status is not None
    assert result.fun < 1e-8 and result.success
    assert [spent.member for spent in result.trace] == ["Asynchronous"]


def test_programs_run_without_generations(tmp_path: Path) -> None:
    oracle = CommandOracle("{python} -c 'print(({x} - 3) ** 2)'", ["x=0:10"], workers=3)
    result = bz.minimize(oracle, oracle.x0, bounds=oracle.bounds, budget=25, asynchronous=True)
    assert result.nfev == oracle.calls == 25
    assert abs(float(oracle.decode(result.x)["x"]) - 3) < 0.5


def test_brisk_calls_keep_workers_busy_and_a_stuck_one_gives_its_next_query_back() -> None:
    def fun(x: Any) -> float:
        if np.array_equal(x, np.ones(2)):
            time.sleep(1.0)
        return float(x @ x)

    begun = time.monotonic()
    result = bz.minimize(fun, np.ones(2), budget=400, workers=3, asynchronous=True)
    assert result.nfev == 400 and time.monotonic() - begun < 30


def test_a_worker_that_dies_costs_nothing_the_first_time(tmp_path: Path) -> None:
    def fun(x: Any) -> float:
        mark = tmp_path / "died"
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return float(x @ x)

    result = bz.minimize(fun, np.ones(2), budget=40, workers=2, asynchronous=True)
    assert result.nfev >= 40 and result.nfailed == 0 and result.status == 0


def test_failures_and_timeouts_cost_their_own_query() -> None:
    def fun(x: Any) -> float:
        if x[0] > 1.2:
            time.sleep(60)
        if x[1] > 1.2:
            raise ValueError("too large")
        return float(x @ x)

    result = bz.minimize(fun, np.ones(2), budget=60, workers=3, timeout=0.3, on_error="skip", asynchronous=True)
    assert result.status == 0 and 0 < result.nfailed < 60 and result.fun < 0.1


# ----------------------------------------------------------------------------------------------- limits hold


def test_the_budget_is_exact_and_every_query_is_told_once(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    bz.minimize(uneven, np.ones(3), budget=47, workers=4, asynchronous=True, journal=path)
    ids = [i for line in bz.read_journal(path).answers() for i in line.ids]
    assert sorted(ids) == list(range(47))
    assert ids != sorted(ids)  # in the order in which they came


def test_target_steps_time_and_callback_end_the_run() -> None:
    with ThreadPoolExecutor(3) as threads:
        common: dict[str, Any] = {"executor": threads, "asynchronous": True, "method": METHOD}
        reached = bz.minimize(sphere, np.ones(2), target=1.0, budget=500, **common)
        assert reached.status == 6 and reached.fun <= 1.0
        steps = bz.minimize(sphere, np.ones(2), steps=13, budget=None, **common)
        assert steps.status == 7 and steps.nit == steps.nfev == 13
        begun = time.monotonic()
        late = bz.minimize(sleeping(0.05), np.ones(2), time_limit=0.4, budget=None, **common)
        assert late.status == 2 and time.monotonic() - begun < 5
        stopped = bz.minimize(sphere, np.ones(2), callback=lambda r: r.nfev >= 5, budget=500, **common)
        assert stopped.status == 1 and stopped.nit <= 9


def test_the_time_limit_ends_workers_at_once() -> None:
    begun = time.monotonic()
    result = bz.minimize(sleeping(60.0), np.ones(2), workers=2, time_limit=2.0, budget=10, asynchronous=True)
    assert result.status == 2 and time.monotonic() - begun < 10


def test_an_exception_of_fun_is_raised_and_keeps_what_came_before() -> None:
    def fun(x: Any) -> float:
        if x @ x < 1.0:
            raise ArithmeticError("no")
        return float(x @ x)

    with pytest.raises(ArithmeticError, match="no") as caught:
        bz.minimize(fun, np.ones(2), workers=3, budget=300, asynchronous=True)
    assert any("Best so far" in note for note in caught.value.__notes__)
    result = bz.minimize(fun, np.ones(2), workers=3, budget=300, asynchronous=True, on_error="fail")
    assert result.status == 4 and result.message == "`fun` raised ArithmeticError: no"


def test_measures_are_taken_between_answers() -> None:
    taken: list[int] = []

    def best(search: Any) -> float:
        taken.append(search.moves)
        return float(search.best.value)

    measure = bz.Measure("best", best, every=10)
    bz.minimize(sphere, np.ones(2), METHOD, budget=50, workers=2, measures=[measure], asynchronous=True)
    assert taken == [0, 10, 20, 30, 40, 50]


# ------------------------------------------------------------------------------------------------------------ journals

RUN = """
import sys, time
import numpy as np
import blackbox_zo as bz
def fun(x):
    law = np.random.default_rng(int.from_bytes(x.tobytes()[:8], "little"))
    time.sleep(min(0.02 * law.lognormal(0.0, 1.5), 0.5))
    with open(sys.argv[2], "a") as log:
        log.write(x.tobytes().hex() + chr(10))
    return float(x @ x)
if __name__ == "__main__":
    r = bz.minimize(fun, np.ones(4), budget=150, workers=4, journal=sys.argv[1], asynchronous=True, seed=5)
    print(r.nfev, r.fun)
"""


def test_a_run_killed_twice_resumes_with_the_same_points_and_asks_nothing_twice(tmp_path: Path) -> None:
    script, path, log = tmp_path / "run.py", tmp_path / "run.jsonl", tmp_path / "calls"
    script.write_text(RUN)
    words = [sys.executable, str(script), str(path), str(log)]
    opened: set[bytes] = set()
    for answers in (30, 80):
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while not path.exists() or path.read_bytes().count(b"\n") < answers + 1:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        reader = bz.read_journal(path)
        told = {i for line in reader.answers() for i in line.ids}
        search = bz.Search(
            np.ones(4), _auto(np.ones(4)), seed=5, budget=150, journal=bz.Journal(_copy(path, tmp_path)),
        )  # fmt: skip
        opened = {search.ask().points[0].tobytes() for _ in search.waiting}
        assert len(told) >= answers - 1
        search.close()
    out = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True).stdout.split()
    assert int(out[0]) >= 150 and float(out[1]) < 1e-6
    ids = [i for line in bz.read_journal(path).answers() for i in line.ids]
    assert sorted(ids) == list(range(150))
    calls = log.read_text().split()
    assert opened <= {bytes.fromhex(call) for call in calls}  # those under way were asked again, at the same points
    assert 150 <= len(calls) <= 150 + 2 * 4  # at each kill a call of each worker may have been lost


def _auto(x0: Any) -> bz.Estimator:
    from blackbox_zo._auto import auto

    return auto(bz.Vector(x0), x0, None, None, asynchronous=True)[1]


def _copy(path: Path, folder: Path) -> Path:
    there = folder / "copy.jsonl"
    there.write_bytes(path.read_bytes())
    return there


def test_a_replayed_run_stands_where_it_stood(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    first = bz.minimize(uneven, np.ones(3), budget=80, workers=4, asynchronous=True, journal=path)
    again = bz.minimize(uneven, np.ones(3), budget=80, workers=4, asynchronous=True, journal=path)
    np.testing.assert_array_equal(first.center, again.center)
    np.testing.assert_array_equal(first.x, again.x)
    assert first.trace == again.trace and first.fun == again.fun and first.nit == again.nit


def test_a_run_step_by_step_does_not_resume_as_an_asynchronous_one(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    bz.minimize(sphere, np.ones(3), METHOD.estimator, budget=20, journal=path)
    with pytest.raises(bz.JournalError, match="estimator"):
        bz.minimize(sphere, np.ones(3), METHOD.estimator, budget=40, workers=2, asynchronous=True, journal=path)


# ------------------------------------------------------------------------------------------------------------ wrappers


def test_repetitions_run_on_all_workers() -> None:
    with ThreadPoolExecutor(4) as threads:
        oracle = Repeat(FunctionOracle(sphere, executor=threads), 3)
        result = bz.minimize(oracle, np.ones(2), budget=30, asynchronous=True)
    assert result.nfev == 30 and oracle.calls == 90


@pytest.mark.parametrize("wrap", [Cache, lambda o: Timeout(o, 1.0), RankOnly])
def test_wrappers_of_whole_steps_are_refused_by_name(wrap: Any) -> None:
    oracle = wrap(FunctionOracle(sphere, workers=2))
    with pytest.raises(OracleError, match=rf"`{type(oracle).__name__}` cannot answer asynchronously"):
        bz.minimize(oracle, np.ones(2), budget=20, asynchronous=True)


# ----------------------------------------------------------------------------------------------------------- bad input


def test_oracles_that_answer_whole_steps_are_refused() -> None:
    class Plain:
        def answer(self, proposal: bz.Proposal) -> bz.Values:
            return bz.Values((proposal.points**2).sum(axis=1))

    with pytest.raises(OracleError, match="`Plain` cannot answer asynchronously"):
        bz.minimize(Plain(), np.ones(2), budget=20, asynchronous=True)  # type: ignore[arg-type]


def test_a_vectorized_function_is_refused() -> None:
    with pytest.raises(ValueError, match="`vectorized=True` asks all points of a step in one call"):
        bz.minimize(lambda x: (x**2).sum(1), np.ones(2), vectorized=True, budget=20, asynchronous=True)


def test_one_worker_in_this_process_says_what_it_does() -> None:
    with pytest.warns(UserWarning, match="asks one point at a time here, as there is one worker, this process"):
        result = bz.minimize(sphere, np.ones(2), budget=60, asynchronous=True)
    assert result.nfev == 60 and result.fun < 1e-6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bz.minimize(sphere, np.ones(2), budget=5, workers=2, asynchronous=True)


def test_an_executor_of_unknown_size_is_refused_and_can_be_told() -> None:
    def slow(x: Any) -> float:
        time.sleep(0.02)  # so that a call is still open when the next is made
        return float(sphere(x))

    executor = Sized(3)
    with pytest.raises(
        ValueError, match=r"does not say how many calls it runs at a time.*Give the number: `workers=8`"
    ):
        bz.minimize(sphere, np.ones(2), budget=20, executor=executor, asynchronous=True)
    result = bz.minimize(slow, np.ones(2), budget=40, executor=executor, workers=3, asynchronous=True)
    assert result.nfev == 40 and executor.peak == 3
    executor.peak = 0
    result = bz.minimize(slow, np.ones(2), METHOD.estimator, budget=40, executor=executor, workers=2)
    assert result.nfev == 40 and executor.peak == 2  # step by step it holds too


@pytest.mark.parametrize("method", [bz.QuasiNewton(0.1), bz.RandomVector(0.1, 4), bz.PGPE(0.1, 4)])
def test_methods_of_whole_steps_are_refused_with_the_mend(method: bz.Estimator) -> None:
    name = type(method).__name__
    with pytest.raises(
        ValueError, match=rf'`{name}` needs those of a whole step. Use "auto" or an `EvolutionStrategy`'
    ):
        bz.minimize(sphere, np.ones(2), method, budget=20, workers=2, asynchronous=True)


def test_finitely_many_points_are_refused() -> None:
    oracle = CommandOracle("{python} -c 'print({k})'", ["k=1:9:int"], workers=2)
    with pytest.raises(ValueError, match="finitely many points"):
        bz.minimize(oracle, oracle.x0, bounds=oracle.bounds, budget=20, asynchronous=True)


def test_proposals_ahead_are_for_runs_step_by_step() -> None:
    search = bz.Search(np.ones(2), METHOD, budget=10)
    with pytest.raises(ValueError, match="is for runs step by step"):
        bz.Run(search, FunctionOracle(sphere, workers=2), ahead=2, asynchronous=True)


def test_any_estimator_runs_asynchronously_below_minimize() -> None:
    """`Run` keeps as many steps open as the workers can take on; old estimates are dropped by `max_staleness`."""
    search = bz.Search(np.ones(3), bz.RandomVector(1e-3, 2), bz.SGD(0.05), budget=200, max_staleness=50)
    with ThreadPoolExecutor(4) as threads:
        run = bz.Run(search, FunctionOracle(sphere, executor=threads), asynchronous=True)
        assert run.to_the_end() is bz.Ended.BUDGET
    assert search.nfev == 200 and search.best.value < 0.1
