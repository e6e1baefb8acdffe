"""Worker processes of a function: they die, hang and leak for real, and it costs what it must and no more."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
import numpy as np
import pytest

import blackbox_zo as bz
from blackbox_zo.errors import WorkerError
from blackbox_zo.workers import _pool
from blackbox_zo.workers._by_value import by_value
from blackbox_zo.workers._cancel import Cancelled, CancelScope
from blackbox_zo.workers._pool import Pool
from oracles import FunctionOracle
from tests.oracles.helpers import alive, environment, proposal_of, wait_for

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # so that workers need not import pytest

POINTS = np.linspace(0.0, 1.0, 12)[:, None]


def total(x: Any) -> float:
    return float(np.sum(x))


class Diverged(Exception):
    """An exception that cannot be unpickled as it is."""

    def __init__(self, step: int, residual: float) -> None:
        super().__init__(f"diverged at {step}: {residual}")
        self.step, self.lock = step, threading.Lock()


@pytest.fixture
def oracle() -> Iterator[Callable[..., FunctionOracle]]:
    """Makes oracles, and closes them."""
    made: list[FunctionOracle] = []

    def make(fun: Callable[..., Any], workers: int = 2, **more: Any) -> FunctionOracle:
        made.append(FunctionOracle(fun, workers=workers, **more))
        return made[-1]

    yield make
    for one in made:
        one.close()


Make = Callable[..., FunctionOracle]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where processes leave their numbers."""
    path = tmp_path / "pids"
    path.mkdir()
    return path


def pids(folder: Path) -> list[int]:
    return sorted({int(path.stem) for path in folder.iterdir()})


def gone(pid: int) -> bool:
    """Not even a zombie is left."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def once(mark: Path) -> bool:
    """Whether this is the first call, among all processes."""
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def errors(answer: bz.Values) -> list[Any]:
    return [None if note is None else note.get("error") for note in answer.info or [None] * answer.n]


def ask(oracle: FunctionOracle, points: Any = POINTS) -> bz.Values:
    return oracle.answer(proposal_of(points))


def sums(points: Any = POINTS) -> list[float]:
    return [total(x) for x in points]


# ------------------------------------------------------------------------------------------------------- answers


def test_workers_take_lambdas_and_answer_in_order(oracle: Make) -> None:
    asked = oracle(lambda x: total(x))
    assert ask(asked).values.tolist() == sums()
    assert asked.calls == 12


def test_workers_are_other_processes_and_no_more_than_asked_for(oracle: Make) -> None:
    def where(x: Any) -> float:
        time.sleep(0.05)
        return float(os.getpid())

    found = set(ask(oracle(where)).values.tolist())
    assert os.getpid() not in found and len(found) == 2
    asked = oracle(where, workers=2)
    for _ in range(3):  # and the same ones go on
        found = set(ask(asked).values.tolist())
        assert isinstance(asked._pool, Pool) and found <= {float(worker.process.pid) for worker in asked._pool.workers}
    assert isinstance(asked._pool, Pool) and asked._pool.replaced == 0


def test_arguments_structure_and_numbers_of_libraries(oracle: Make) -> None:
    import torch

    def fun(x: Any, a: float, b: Any) -> Any:
        x["w"][:] += 1.0  # it may write to its argument
        return torch.tensor(x["w"].sum() * a + b["b"])

    p = bz.Search({"w": np.zeros((2, 2)), "s": 1.0}, bz.RankBased(0.1, 3), bz.SGD(0.1)).ask()
    alone = FunctionOracle(fun, args=(2.0, {"b": 1.0})).answer(p)
    assert oracle(fun, 1, timeout=60.0, args=(2.0, {"b": 1.0})).answer(p).values.tolist() == alone.values.tolist()


def test_thousands_of_tiny_calls_travel_together(oracle: Make) -> None:
    points = np.random.default_rng(0).normal(size=(4000, 2))
    asked = oracle(lambda x: float(x[0]))
    asked.answer(proposal_of(points[:20]))
    values: dict[int, float] = {}
    parts = 0
    for ids, part in asked.parts(proposal_of(points)):
        assert isinstance(part, bz.Values)
        values.update(zip(ids.tolist(), part.values.tolist(), strict=True))
        parts += 1
    assert [values[i] for i in range(4000)] == points[:, 0].tolist()
    assert parts < 400 and asked.calls == 4020


def test_points_larger_than_a_pipe_holds(oracle: Make) -> None:
    points = np.random.default_rng(0).normal(size=(6, 100_000))
    np.testing.assert_array_equal(ask(oracle(total), points).values, sums(points))


@pytest.mark.parametrize("n", [1, 3, 10])
def test_vectorized_points_are_shared_out(oracle: Make, n: int) -> None:
    def fun(x: Any) -> Any:
        return x[:, 0] + 1000 * len(x)

    points = POINTS[:n]
    asked = oracle(fun, workers=3, vectorized=True)
    shares = [len(share) for share in np.array_split(np.arange(n), min(3, n))]
    assert ask(asked, points).values.tolist() == (points[:, 0] + 1000.0 * np.repeat(shares, shares)).tolist()
    assert asked.calls == n


def test_a_share_that_fails_costs_its_points_only(oracle: Make) -> None:
    def fun(x: Any) -> Any:
        if x[0, 0] > 0.4:
            raise ValueError("too large")
        return x[:, 0]

    answer = ask(oracle(fun, vectorized=True, on_error="skip"))
    assert errors(answer) == [None] * 6 + ["ValueError: too large"] * 6


def test_it_starts_whatever_threads_the_parent_has(tmp_path: Path) -> None:
    """A fork of a process in which OpenMP has run hangs for ever in its next parallel region."""
    text = (
        "import torch, numpy as np, blackbox_zo as bz\n"
        "torch.set_num_threads(2)\n"
        "a = torch.randn(600, 600)\n"
        "def f(x): return float((a @ a).sum()) * 0 + float(x @ x)\n"
        "f(np.ones(2))\n"
        "print(bz.minimize(f, [1.0, 2.0], budget=12, workers=2).nfailed)\n"
    )
    (tmp_path / "script.py").write_text(text)
    env = {**environment(), "OMP_NUM_THREADS": "2", "PYTHONWARNINGS": "default"}
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py"], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout == "0\n", done.stderr


def test_functions_of_modules_that_only_this_process_has(oracle: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a runner of documents or notebooks makes them."""
    page = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", page)
    exec("a = 2.0\ndef g(x): return a * x[0]\ndef f(x): return g(x)", vars(page))
    assert ask(oracle(page.f)).values.tolist() == (2.0 * POINTS[:, 0]).tolist()
    assert "page" not in cloudpickle.list_registry_pickle_by_value()


def test_a_module_that_has_two_names_is_in_nobodys_way() -> None:
    import xml.parsers.expat  # whose `errors` stands in `sys.modules` under two names, without a file

    assert sys.modules["xml.parsers.expat.errors"] is sys.modules["pyexpat.errors"] is xml.parsers.expat.errors
    assert cloudpickle.loads(by_value(lambda: 3))() == 3


def test_a_worker_imports_next_to_nothing(oracle: Make) -> None:
    def modules(x: Any) -> float:
        return float(sum(name.split(".")[0] in ("blackbox_zo", "scipy", "cloudpickle.x") for name in sys.modules))

    assert ask(oracle(modules), POINTS[:1]).values.tolist() == [0.0]


# ------------------------------------------------------------------------------------------------------- failing


def test_a_worker_killed_by_a_signal_costs_only_its_query(oracle: Make, folder: Path) -> None:
    def fatal(x: Any) -> float:
        if x[0] == 1.0:
            (folder / f"{os.getpid()}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return total(x)

    asked = oracle(fatal)
    for step in range(2):  # and the pool lives on
        answer = ask(asked)
        assert errors(answer) == [None] * 11 + ["the worker process ended with signal 9 (SIGKILL)"]
        assert answer.values[:-1].tolist() == sums()[:-1]
        assert len(pids(folder)) == 2 * (step + 1)  # each on a fresh worker


def test_a_worker_killed_from_outside_loses_nothing(oracle: Make, folder: Path) -> None:
    def slow(x: Any) -> float:
        (folder / str(os.getpid())).touch()
        time.sleep(0.1)
        return total(x)

    def kill_one() -> None:
        wait_for(lambda: pids(folder))
        os.kill(pids(folder)[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    assert ask(oracle(slow)).values.tolist() == sums()
    killer.join()


def test_one_killed_between_two_steps_is_replaced(oracle: Make) -> None:
    asked = oracle(total)
    ask(asked)
    assert isinstance(asked._pool, Pool)
    for worker in asked._pool.workers:
        os.kill(worker.process.pid, signal.SIGKILL)
    for worker in asked._pool.workers:  # a query that two dying workers get one after the other has failed
        worker.process.wait(60)
    assert ask(asked).values.tolist() == sums()


def test_a_query_that_takes_too_long_fails_alone_and_is_not_asked_again(oracle: Make, folder: Path) -> None:
    def hangs(x: Any) -> float:
        if x[0] == 0.0:
            (folder / str(os.getpid())).touch()
            time.sleep(600)
        return total(x)

    begun = time.monotonic()
    asked = oracle(hangs, timeout=0.5)
    answer = ask(asked)
    assert errors(answer) == ["no answer within 0.5 s"] + [None] * 11
    assert answer.values[1:].tolist() == sums()[1:]
    assert time.monotonic() - begun < 30 and len(pids(folder)) == 1 and all(map(gone, pids(folder)))
    assert asked.calls == 12


def test_a_time_limit_of_a_query_needs_no_second_worker(oracle: Make) -> None:
    answer = ask(oracle(lambda x: time.sleep(600) if x[0] == 1.0 else total(x), workers=1, timeout=0.5))
    assert errors(answer) == [None] * 11 + ["no answer within 0.5 s"]


def test_what_it_has_started_ends_with_it(oracle: Make, folder: Path) -> None:
    def starts(x: Any) -> float:
        program = subprocess.Popen(["sleep", "600"])
        (folder / str(program.pid)).touch()
        time.sleep(600)
        return 0.0

    assert errors(ask(oracle(starts, workers=1, timeout=0.5), POINTS[:1])) == ["no answer within 0.5 s"]
    assert len(pids(folder)) == 1
    wait_for(lambda: not any(map(alive, pids(folder))))


def test_one_hung_query_does_not_hold_up_those_that_wait_behind_it(oracle: Make, folder: Path, tmp_path: Path) -> None:
    """Short calls travel together; the others take over what waits behind one that hangs, which then leaves it out."""
    points, go = np.arange(400.0)[:, None], tmp_path / "go"

    def fun(x: Any) -> float:
        with (folder / f"{os.getpid()}").open("a") as file:
            file.write(f"{int(x[0])}\n")
        deadline = time.monotonic() + 60
        while x[0] == 150.0 and not go.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        return float(x[0])

    asked = oracle(fun)
    ask(asked, points[:100] + 1000)
    answers: dict[int, float] = {}
    parts = asked.parts(proposal_of(points))
    begun = time.monotonic()
    while len(answers) < 399:
        ids, part = next(parts)
        assert isinstance(part, bz.Values)
        answers.update(zip(ids.tolist(), part.values.tolist(), strict=True))
    assert 150 not in answers and all(i == value for i, value in answers.items())
    assert time.monotonic() - begun < 30
    go.touch()
    assert [ids.tolist() for ids, _ in parts] == [[150]] and asked.calls == 500
    ask(asked, points[:100] + 2000)  # both have read all they were sent
    one, two = sorted(([int(x) for x in path.read_text().split()] for path in folder.iterdir()), key=lambda c: 150 in c)
    assert 150 in two and not set(one) & set(two[two.index(150) :])


def test_memory_is_bounded(oracle: Make, folder: Path) -> None:
    kept: list[Any] = []

    def leaks(x: Any) -> float:
        kept.append(np.ones(40 << 17))  # 40 MiB
        (folder / f"{os.getpid()}.{len(kept)}").touch()
        return total(x)

    assert ask(oracle(leaks, workers=1, memory_growth=100.0)).values.tolist() == sums()
    assert max(int(path.suffix[1:]) for path in folder.iterdir()) == 4 and len(pids(folder)) == 3


# ---------------------------------------------------------------------------------------------------- exceptions


def test_an_exception_comes_back_with_the_workers_traceback(oracle: Make) -> None:
    def inner(x: Any) -> float:
        raise KeyError("in the worker")

    with pytest.raises(KeyError, match="in the worker") as caught:
        ask(oracle(lambda x: inner(x)))
    note = "\n".join(caught.value.__notes__)
    assert "In a worker process:" in note and "in inner" in note and 'raise KeyError("in the worker")' in note
    assert "_worker.py" not in note


def test_an_exception_that_cannot_be_pickled_is_raised_all_the_same(oracle: Make) -> None:
    def diverges(x: Any) -> float:
        raise Diverged(3, 1e9)

    with pytest.raises(Diverged, match=r"^diverged at 3: 1000000000\.0") as caught:
        ask(oracle(diverges))
    assert caught.value.step == 3 and "in diverges" in "\n".join(caught.value.__notes__)
    answer = ask(oracle(diverges, on_error="skip"))
    assert errors(answer) == ["Diverged: diverged at 3: 1000000000.0"] * 12


def test_an_exception_whose_type_cannot_travel_is_named(oracle: Make) -> None:
    def odd(x: Any) -> float:
        lock = threading.Lock()

        class Odd(Exception):
            held = lock

        raise Odd("very odd")

    with pytest.raises(WorkerError, match=r"^Odd: very odd") as caught:
        ask(oracle(odd))
    assert "in odd" in "\n".join(caught.value.__notes__)


def test_what_was_answered_before_comes_before_the_exception(oracle: Make) -> None:
    def fun(x: Any) -> float:
        if x[0] == 1.0:
            raise ZeroDivisionError("one")
        return total(x)

    asked = oracle(fun, workers=1, timeout=60.0)
    came: list[int] = []
    with pytest.raises(ZeroDivisionError, match="one"):
        for ids, _ in asked.parts(proposal_of(POINTS)):
            came += ids.tolist()
    assert came == list(range(11)) and asked.calls == 12


def test_a_result_that_is_no_number_and_one_that_cannot_travel(oracle: Make) -> None:
    with pytest.raises(TypeError, match=r"`fun` returned an array of shape \(2,\)"):
        ask(oracle(lambda x: np.zeros(2)))
    with pytest.raises(TypeError, match=r"what was returned \(lock\) cannot be sent from the worker process"):
        ask(oracle(lambda x: threading.Lock()))


def test_a_program_that_calls_exit_is_not_kept_alive(oracle: Make) -> None:
    with pytest.raises(SystemExit, match="3"):
        ask(oracle(lambda x: sys.exit(3), on_error="skip"))


def test_a_worker_that_cannot_be_set_up_is_named(oracle: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "only_here.py").write_text("def f(x):\n    return 1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import only_here  # type: ignore[import-not-found]

    fun = only_here.f
    (tmp_path / "only_here.py").write_text("raise OSError('no licence')")
    asked = oracle(fun)
    for _ in range(2):
        with pytest.raises(WorkerError, match=r"3 workers in a row could not be set up.*: OSError: no licence"):
            ask(asked)


def test_one_that_fails_to_be_set_up_once_is_tried_again(tmp_path: Path) -> None:
    def setup() -> Any:
        if once(tmp_path / "mark"):
            os._exit(7)
        return lambda task: task + 1

    pool = Pool(setup, 1)
    assert sorted(result for found in pool.run(3, lambda i: i) for result in found) == [(0, 1), (1, 2), (2, 3)]
    assert pool.replaced == 1
    pool.close()


# -------------------------------------------------------------------------------------------------- how many wait


@pytest.mark.parametrize(("ahead", "most"), [(1, 1), (2, 2)])
def test_a_worker_holds_no_more_tasks_than_it_may(
    ahead: int, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a task hangs, at most `most` - 1 wait behind it; and no more processes are started than asked for."""
    monkeypatch.setattr(_pool, "LOOK", 0.01)

    def setup() -> Any:
        def work(task: int) -> int:
            deadline = time.monotonic() + 60
            while task == 0 and not (tmp_path / "go").exists() and time.monotonic() < deadline:
                time.sleep(0.005)
            return os.getpid()

        return work

    pool = Pool(setup, 1, ahead=ahead)
    came = pool.run(5, lambda i: i)
    held: list[int] = []

    def look() -> None:
        wait_for(lambda: pool.workers and pool.under_way() == [0])
        time.sleep(0.3)
        held.append(len(pool.workers[0].tasks))
        (tmp_path / "go").touch()

    looking = threading.Thread(target=look)
    looking.start()
    results = [result for found in came for result in found]
    looking.join()
    assert sorted(i for i, _ in results) == list(range(5))
    assert held == [most] and len({pid for _, pid in results}) == 1
    pool.close()


# ------------------------------------------------------------------------------------------------------- the end


def busy(folder: Path) -> Callable[[Any], float]:
    def fun(x: Any) -> float:
        (folder / str(os.getpid())).touch()
        time.sleep({0.0: 0.0, 0.5: 0.5}.get(float(x[0]), 600.0))
        return total(x)

    return fun


def test_closing_the_parts_ends_what_is_under_way_at_once(oracle: Make, folder: Path) -> None:
    asked = oracle(busy(folder))
    parts = asked.parts(proposal_of([[1.0], [0.5], [1.0], [1.0]]))
    assert next(parts)[0].tolist() == [1]
    begun = time.monotonic()
    parts.close()  # type: ignore[attr-defined]
    assert time.monotonic() - begun < 60  # the calls take ten minutes
    assert asked.calls == 2  # the call that was ended was a call too
    assert (
        isinstance(asked._pool, Pool)
        and len(pids(folder)) - sum(map(gone, pids(folder))) == len(asked._pool.workers) == 1
    )
    assert ask(asked, POINTS[:1]).values.tolist() == [0.0]


def test_idle_workers_outlive_a_stop(oracle: Make, folder: Path) -> None:
    asked = oracle(busy(folder))
    ask(asked, np.zeros((4, 1)))
    assert isinstance(asked._pool, Pool)
    wait_for(lambda: ask(asked, np.zeros((4, 1))) and all(worker.ready for worker in asked._pool.workers))  # type: ignore[union-attr]
    before = {worker.process.pid for worker in asked._pool.workers}
    parts = asked.parts(proposal_of([[0.0], [1.0]]))
    next(parts)
    parts.close()  # type: ignore[attr-defined]
    assert len(before & {worker.process.pid for worker in asked._pool.workers}) == 1


@pytest.mark.parametrize("how", ["asked", "deadline", "outer"])
def test_a_stop_ends_what_is_under_way(oracle: Make, folder: Path, how: str) -> None:
    asked = oracle(busy(folder), workers=1, timeout=60.0)
    begun = time.monotonic()
    outer = CancelScope(begun + (3.0 if how == "deadline" else 1e6))
    if how != "deadline":
        threading.Timer(3.0, outer.cancel).start()
    with outer, pytest.raises(Cancelled):
        if how == "outer":
            with CancelScope():
                ask(asked, POINTS[1:])
        else:
            ask(asked, POINTS[1:])
    assert time.monotonic() - begun < 20 and pids(folder) and all(map(gone, pids(folder)))


def test_close_may_come_again_and_before_more(oracle: Make, folder: Path) -> None:
    asked = oracle(busy(folder))
    for _ in range(2):
        ask(asked, np.zeros((2, 1)))
        asked.close()
        asked.close()
        assert pids(folder) and all(map(gone, pids(folder)))


def test_a_worker_has_time_to_tidy_up_but_not_for_ever(
    oracle: Make, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_pool, "GRACE", 1.0)

    def fun(x: Any) -> float:
        import atexit

        atexit.register(time.sleep, 600 * x[0])
        atexit.register((folder / str(os.getpid())).touch)
        return total(x)

    for x in (0.0, 1.0):
        asked = oracle(fun, workers=1, timeout=60.0)
        ask(asked, [[x]])
        begun = time.monotonic()
        asked.close()
        assert time.monotonic() - begun < 15 and all(map(gone, pids(folder)))
    assert len(pids(folder)) == 2


def test_an_answer_that_is_still_held_does_not_mix_with_a_later_one(oracle: Make) -> None:
    asked = oracle(total)
    held = asked.parts(proposal_of(POINTS))
    next(held)
    assert ask(asked).values.tolist() == sums()
    with pytest.raises(RuntimeError, match="were abandoned, because `run` or `close` was called in the meantime"):
        next(held)
    assert ask(asked).values.tolist() == sums()


def test_a_forgotten_oracle_leaves_no_process(folder: Path) -> None:
    asked = FunctionOracle(busy(folder), workers=2)
    ask(asked, np.zeros((2, 1)))
    assert isinstance(asked._pool, Pool)
    processes = [worker.process.pid for worker in asked._pool.workers]
    del asked
    gc.collect()
    assert len(processes) == 2 and all(map(gone, processes))


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")  # a worker of pytest has two
def test_a_fork_leaves_its_parents_workers_alone_and_may_have_its_own(oracle: Make) -> None:
    asked = oracle(lambda x: float(os.getpid()), workers=1, timeout=60.0)
    before = ask(asked, POINTS[:1]).values.tolist()
    child = os.fork()
    if not child:
        try:
            other = ask(asked, POINTS[:1]).values.tolist()
            asked.close()
            gc.collect()
            os._exit(0 if other != before else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert ask(asked, POINTS[:1]).values.tolist() == before
