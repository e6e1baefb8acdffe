"""A function on somebody's executor: threads, processes, and a real Dask cluster whose workers are killed."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest

import blackbox_zo as bz
from blackbox_zo.errors import WorkerError
from blackbox_zo.workers._cancel import Cancelled, CancelScope
from oracles import FunctionOracle
from tests.oracles.helpers import proposal_of, wait_for

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # so that workers need not import pytest

POINTS = np.linspace(0.0, 1.0, 8)[:, None]


def proposal(n: int = 4) -> bz.Proposal:
    return bz.Search(np.zeros(2), bz.RankBased(0.1, n)).ask()


def total(x: Any) -> float:
    return float(np.sum(x))


def power(x: Any, a: float) -> float:
    return float((np.abs(x) ** a).sum())


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        yield pool


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


def test_the_executor_path_is_linear(request: pytest.FixtureRequest) -> None:
    """It was quadratic: each answer cost a look at all that were waited for."""

    class Backwards(Executor):
        """Does nothing until all is there, then the last first."""

        def __init__(self) -> None:
            self.calls: list[tuple[Future[Any], Any]] = []

        def submit(self, fn: Any, /, *args: Any, **more: Any) -> Future[Any]:
            self.calls.append((Future(), lambda: fn(*args)))
            if len(self.calls) == n:
                for future, call in reversed(self.calls):
                    future.set_result(call())
            return self.calls[-1][0]

    took = []
    gc.collect()
    gc.freeze()  # what other tests left would be looked at again and again
    request.addfinalizer(gc.unfreeze)
    for n in (500, 8000):
        begun = time.process_time()
        answer = FunctionOracle(lambda x: float(x[0]), executor=Backwards()).answer(proposal_of(np.ones((n, 1))))
        took.append(time.process_time() - begun)
        assert answer.values.tolist() == [1.0] * n
    assert took[1] < 60 * took[0]  # 16 times as many; it was 200 times as much


def test_what_a_function_on_threads_holds_is_the_parents() -> None:
    seen: list[float] = []
    lock = threading.Lock()

    def fun(x: Any) -> float:
        with lock:
            seen.append(float(x[0]))
        return total(x)

    with ThreadPoolExecutor(2) as pool:
        FunctionOracle(fun, executor=pool).answer(proposal_of(POINTS))
    assert sorted(seen) == POINTS[:, 0].tolist()


def test_processes_take_lambdas_and_arguments(processes: ProcessPoolExecutor) -> None:
    assert FunctionOracle(power, args=(2,), executor=processes).answer(proposal_of(POINTS)).values.tolist() == [
        power(x, 2) for x in POINTS
    ]
    scale = np.full(1, 3.0)
    where: list[Any] = [lambda x: total(x * scale), lambda x: float(os.getpid())]
    asked = [FunctionOracle(fun, executor=processes).answer(proposal_of(POINTS)).values for fun in where]
    np.testing.assert_array_equal(asked[0], 3 * POINTS[:, 0])
    assert os.getpid() not in asked[1]


def test_an_exception_of_a_process_comes_back_with_its_traceback(processes: ProcessPoolExecutor) -> None:
    class Diverged(Exception):
        def __init__(self, step: int, residual: float) -> None:
            super().__init__(f"diverged at {step}: {residual}")

    def fun(x: Any) -> float:
        raise Diverged(3, 1.5)

    with pytest.raises(Diverged, match=r"diverged at 3: 1\.5") as caught:
        FunctionOracle(fun, executor=processes).answer(proposal_of(POINTS))
    assert "raise Diverged(3, 1.5)" in caught.value.__notes__[0]
    answer = FunctionOracle(fun, executor=processes, on_error="skip").answer(proposal_of(POINTS))
    assert answer.info == ({"error": "Diverged: diverged at 3: 1.5"},) * 8


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_an_executor_that_was_shut_down_is_named(on_error: Any) -> None:
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    with pytest.raises(
        WorkerError, match=r"The executor <.*ThreadPoolExecutor.*> accepts no calls: RuntimeError: cannot"
    ):
        FunctionOracle(total, executor=pool, on_error=on_error).answer(proposal_of(POINTS))


def test_one_that_gives_no_futures_is_named() -> None:
    """As an adapter of Ray that forgets `.future()`."""

    class Forgetful(Executor):
        def submit(self, fn: Any, /, *args: Any, **more: Any) -> Any:
            return "ObjectRef"

    with pytest.raises(TypeError, match=r"The executor <.* must return a future .*; its `submit` returned 'ObjectRef'"):
        FunctionOracle(total, executor=Forgetful(), on_error="skip").answer(proposal_of(POINTS))


def test_one_that_is_shut_down_meanwhile_is_named() -> None:
    pool, go = ThreadPoolExecutor(1), threading.Event()

    def end() -> None:
        pool.shutdown(wait=False, cancel_futures=True)
        go.set()

    threading.Timer(0.3, end).start()
    with pytest.raises(WorkerError, match="has cancelled a query; was it shut down"):
        FunctionOracle(lambda x: go.wait(30) * 1.0, executor=pool).answer(proposal_of(POINTS))


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_process_pool_that_breaks_is_named_and_no_list_of_failures(on_error: Any) -> None:
    """It cannot be used again, and it is not ours to replace; what was answered before is not lost."""

    def fun(x: Any) -> float:
        if x[0] == 1.0:
            os.kill(os.getpid(), signal.SIGKILL)
        return total(x)

    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        oracle, came = FunctionOracle(fun, executor=pool, on_error=on_error), list[float]()
        with pytest.raises(WorkerError, match=r"ProcessPool.* is broken: BrokenProcessPool: .*: make a new one"):
            for _, answer in oracle.parts(proposal_of([[0.25], [0.5], [1.0], [0.75]])):
                assert isinstance(answer, bz.Values)
                came += answer.values.tolist()
        assert came == [0.25, 0.5]
        with pytest.raises(WorkerError, match=r"BrokenProcessPool: .*With `workers=` instead of `executor=`"):
            oracle.answer(proposal_of([[0.0]]))


def test_workers_that_cannot_import_the_function_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "only_in_the_parent.py").write_text("def f(x):\n    return 1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import only_in_the_parent  # type: ignore[import-not-found]

    with ProcessPoolExecutor(
        1, mp_context=get_context("spawn"), initializer=_no_path, initargs=(str(tmp_path),)
    ) as pool:
        oracle = FunctionOracle(only_in_the_parent.f, executor=pool, on_error="skip")
        with pytest.raises(WorkerError, match=r"could not run `fun`: ModuleNotFoundError: .*only_in_the_parent"):
            oracle.answer(proposal_of(POINTS))
        assert FunctionOracle(total, executor=pool).answer(proposal_of(POINTS)).values.tolist() == POINTS[:, 0].tolist()


def _no_path(path: str) -> None:
    sys.path.remove(path)


def test_what_cannot_travel_is_named(processes: ProcessPoolExecutor) -> None:
    lock = threading.Lock()
    with pytest.raises(WorkerError, match=r"could not run `fun`: TypeError: cannot pickle '_thread.lock' object"):
        FunctionOracle(lambda x: float(lock.locked()), executor=processes, on_error="skip").answer(proposal_of(POINTS))


@pytest.mark.parametrize("deadline", [True, False])
def test_a_stop_ends_the_wait_for_an_executor(deadline: bool) -> None:
    go = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        oracle = FunctionOracle(lambda x: go.wait(60) * 1.0, executor=pool)
        stop = CancelScope(time.monotonic() + 0.5) if deadline else CancelScope()
        if not deadline:
            threading.Timer(0.5, stop.cancel).start()
        begun = time.monotonic()
        with stop, pytest.raises(Cancelled):
            oracle.answer(proposal_of(POINTS))
        assert time.monotonic() - begun < 10 and oracle.calls == 1  # the rest was cancelled
        go.set()


# ---------------------------------------------------------------------------------------------------------- Dask


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    distributed = pytest.importorskip("distributed", reason="distributed is not installed: pip install distributed")
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, memory_limit=0, silence_logs=logging.CRITICAL
    ) as made:
        yield made


@pytest.fixture
def client(cluster: Any) -> Iterator[Any]:
    from distributed import Client

    with Client(cluster) as made:  # type: ignore[no-untyped-call]
        yield made


def bowl(x: Any) -> float:
    time.sleep(0.02)
    return float(((x - 0.3) ** 2).sum())


dask = pytest.mark.filterwarnings("ignore")  # its own, of sockets and tasks of a cluster that is closed
"""Warnings are Dask's own affair here."""


@dask
def test_dask_runs_stop_and_run_again_on_one_client(client: Any) -> None:
    """Calls that were cancelled must not be met again: each is another, though function and points are equal."""
    alone = bz.minimize(bowl, [1.0, 2.0], budget=60)
    for make in (client.get_executor, lambda: client.get_executor(pure=True)):
        executor = make()
        for _ in range(2):
            stopped = bz.minimize(bowl, [1.0, 2.0], budget=60, executor=executor, time_limit=0.05)
            assert stopped.status == 2 and 0 <= stopped.nfev < 60
            whole = bz.minimize(bowl, [1.0, 2.0], budget=60, executor=executor)
            assert whole.status == 0 and whole.nfev == 60
            np.testing.assert_array_equal(whole.x, alone.x)


@dask
def test_dask_runs_at_the_same_time_on_one_client(client: Any) -> None:
    found: dict[int, Any] = {}

    def run(i: int) -> None:
        found[i] = bz.minimize(bowl, [1.0, 2.0], budget=40, executor=client.get_executor()).x

    threads = [threading.Thread(target=run, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(3):
        np.testing.assert_array_equal(found[i], bz.minimize(bowl, [1.0, 2.0], budget=40).x)


@dask
def test_dask_loses_a_worker(client: Any, tmp_path: Path) -> None:
    def slow(x: Any) -> float:
        (tmp_path / str(os.getpid())).touch()
        time.sleep(0.2)
        return total(x)

    def kill() -> None:
        wait_for(lambda: list(tmp_path.iterdir()))
        os.kill(int(next(tmp_path.iterdir()).name), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    answer = FunctionOracle(slow, executor=client.get_executor()).answer(proposal_of(POINTS))
    killer.join()
    assert answer.values.tolist() == POINTS[:, 0].tolist()


@dask
@pytest.mark.parametrize(("on_error", "workers", "threads"), [("raise", 2, 1), ("skip", 1, 3)])
def test_dask_gives_a_query_up_that_kills_every_worker_and_no_other(
    on_error: Any, workers: int, threads: int, tmp_path: Path
) -> None:
    """With three threads, the innocent are at work whenever the guilty one kills their worker, and given up with it."""
    distributed = pytest.importorskip("distributed", reason="distributed is not installed: pip install distributed")
    import dask

    def fun(x: Any) -> float:
        begun = time.monotonic()
        time.sleep(0.5 if x[0] < 0 else 1.5)  # sooner, and the nanny would take it for a worker that cannot start
        if x[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        (tmp_path / f"{x[0]} {begun} {time.monotonic()}").touch()
        return total(x)

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        distributed.LocalCluster(
            n_workers=workers, threads_per_worker=threads, dashboard_address=None, memory_limit=0,
            silence_logs=logging.CRITICAL,
        ) as cluster,
        distributed.Client(cluster) as client,
        CancelScope(time.monotonic() + 120),
    ):  # fmt: skip
        oracle = FunctionOracle(fun, executor=client.get_executor(), on_error=on_error)
        answer = oracle.answer(proposal_of([[1.0], [-1.0], [2.0]]))
    assert answer.info is not None and not answer.info[0] and not answer.info[2]
    assert str(answer.info[1]).startswith("{'error': \"KilledWorker: ")
    assert answer.values[[0, 2]].tolist() == [1.0, 2.0] and np.isnan(answer.values[1])
    assert oracle.calls == 3
    if threads == 3:
        first, second = sorted([float(word) for word in path.name.split()][1:] for path in tmp_path.iterdir())
        assert first[1] <= second[0]  # each was asked alone


@dask
def test_dask_passes_exceptions_on(client: Any) -> None:
    def bad(x: Any) -> float:
        raise KeyError("over there")

    with pytest.raises(KeyError, match="over there") as caught:
        FunctionOracle(bad, executor=client.get_executor()).answer(proposal_of(POINTS))
    assert 'raise KeyError("over there")' in caught.value.__notes__[0]


@dask
def test_dask_whose_client_closes_is_named(cluster: Any) -> None:
    from distributed import Client

    client: Any = Client(cluster)  # type: ignore[no-untyped-call]
    executor = client.get_executor()
    threading.Timer(0.5, client.close).start()
    begun = time.monotonic()

    def slow(x: Any) -> float:
        time.sleep(3)
        return 1.0

    with pytest.raises(WorkerError, match="has cancelled a query; was it shut down, or its client closed"):
        FunctionOracle(slow, executor=executor).answer(proposal_of(POINTS))
    assert time.monotonic() - begun < 20
    with pytest.raises(WorkerError, match=r"accepts no calls: .*[Cc]losed"):
        FunctionOracle(total, executor=executor).answer(proposal_of(POINTS))


@dask
def test_dask_executor_that_was_shut_down_is_named(client: Any) -> None:
    executor = client.get_executor()
    executor.shutdown()
    with pytest.raises(WorkerError, match="accepts no calls: RuntimeError: cannot schedule new futures after shutdown"):
        FunctionOracle(total, executor=executor).answer(proposal_of(POINTS))
