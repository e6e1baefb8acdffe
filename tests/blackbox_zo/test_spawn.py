"""`workers=` on systems without supervised processes, as Windows: a real `ProcessPoolExecutor` that is replaced."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest

import blackbox_zo as bz
from blackbox_zo.errors import WorkerError
from blackbox_zo.workers import _supervised
from oracles import FunctionOracle
from tests.oracles.helpers import alive, environment, proposal_of, wait_for

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # so that workers need not import pytest

POINTS = np.linspace(0.0, 1.0, 8)[:, None]


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system without supervised processes."""
    monkeypatch.setattr(_supervised, "SYSTEM", "nt")


def total(x: Any) -> float:
    return float(np.sum(x))


def test_a_run_is_the_same_to_the_last_bit() -> None:
    def fun(x: Any, a: float) -> float:
        return float(((x - a) ** 2).sum())

    alone = bz.minimize(fun, [1.0, 2.0], args=(0.3,), budget=60)
    result = bz.minimize(fun, [1.0, 2.0], args=(0.3,), budget=60, workers=2)
    np.testing.assert_array_equal(result.x, alone.x)
    assert result.nfev == 60


def test_it_asks_other_processes_and_ends_them(tmp_path: Path) -> None:
    def fun(x: Any) -> float:
        time.sleep(0.05)
        return float(os.getpid())

    oracle = FunctionOracle(fun, workers=2)
    pids = {int(pid) for pid in oracle.answer(proposal_of(POINTS)).values}
    assert len(pids) == 2 and os.getpid() not in pids and all(map(alive, pids)) and oracle.calls == 8
    oracle.close()
    oracle.close()
    wait_for(lambda: not any(map(alive, pids)), 10)
    again = {int(pid) for pid in oracle.answer(proposal_of(POINTS)).values}
    assert not again & pids
    del oracle
    gc.collect()
    wait_for(lambda: not any(map(alive, again)), 10)


@pytest.mark.parametrize("n", [1, 5])
def test_vectorized_points_are_shared_out(n: int) -> None:
    points = np.arange(2.0 * n).reshape(n, 2)
    oracle = FunctionOracle(lambda x: x.sum(axis=1) + 1000 * len(x), vectorized=True, workers=2)
    values = oracle.answer(proposal_of(points)).values
    np.testing.assert_array_equal(values % 1000, points.sum(axis=1))
    assert (values // 1000).tolist() == {1: [1], 5: [3, 3, 3, 2, 2]}[n] and oracle.calls == n
    oracle.close()


def test_vectorized_tensors_and_what_is_no_number_a_point() -> None:
    import torch

    def fun(x: Any) -> Any:
        return (torch.tensor(x, requires_grad=True) * 2).sum(dim=1)  # PyTorch does not send it as it is

    points = np.arange(8.0).reshape(4, 2)
    oracle = FunctionOracle(fun, vectorized=True, workers=2)
    np.testing.assert_array_equal(oracle.answer(proposal_of(points)).values, 2 * points.sum(axis=1))
    oracle.close()
    with pytest.raises(TypeError, match=r"`fun` returned shape \(\); with `vectorized=True` one number a point"):
        FunctionOracle(lambda x: 1.0, vectorized=True, workers=2).answer(proposal_of(points))


def test_a_process_that_dies_costs_the_query_that_killed_it(tmp_path: Path) -> None:
    """Those lost with it are asked once more, each with nothing else under way."""

    def fun(x: Any) -> float:
        began = time.monotonic()
        if x[0] == 0.0 or x[0] == 1.0:
            (tmp_path / f"{x[0]} {began}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.1)
        (tmp_path / f"{x[0]} {began} {time.monotonic()}").touch()
        return total(x)

    oracle = FunctionOracle(fun, workers=2)
    answer = oracle.answer(proposal_of(POINTS))
    assert answer.info is not None
    assert [str(info) if info else "" for info in answer.info[1:7]] == [""] * 6
    for i in (0, 7):
        assert str(answer.info[i]).startswith("{'error': 'BrokenProcessPool: ")
    np.testing.assert_array_equal(answer.values[1:7], POINTS[1:7, 0])
    calls = [[float(word) for word in path.name.split()] for path in tmp_path.iterdir()]
    for guilty in (0.0, 1.0):
        tries = [begun for x, begun, *_ in calls if x == guilty]
        assert len(tries) == 2
        assert not any(begun < max(tries) < ended for _, begun, ended in (c for c in calls if len(c) == 3))
    assert oracle.answer(proposal_of(POINTS[1:7])).values.tolist() == POINTS[1:7, 0].tolist()
    oracle.close()


def test_a_process_that_dies_by_bad_luck_costs_nothing(tmp_path: Path) -> None:
    def fun(x: Any) -> float:
        if not (tmp_path / "died").exists():
            (tmp_path / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return total(x)

    oracle = FunctionOracle(fun, workers=2)
    assert oracle.answer(proposal_of([[3.0]])).values.tolist() == [3.0]
    oracle.close()


def test_exceptions_come_back_with_their_traceback() -> None:
    def bad(x: Any) -> float:
        raise KeyError("over there")

    with pytest.raises(KeyError, match="over there") as caught:
        FunctionOracle(bad, workers=2).answer(proposal_of(POINTS))
    assert 'raise KeyError("over there")' in caught.value.__notes__[0]
    answer = FunctionOracle(bad, workers=2, on_error="skip").answer(proposal_of(POINTS))
    assert answer.info == ({"error": "KeyError: 'over there'"},) * 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"timeout": 5}, r"`timeout=5` needs Linux or macOS: .* Leave it out, and make `fun` itself stop in time\.$"),
        ({"workers": 1, "timeout": 0.5}, "`timeout=0.5` needs Linux or macOS"),
        ({"memory_growth": 100}, "`memory_growth=100` needs Linux or macOS"),
        (
            {"args": (threading.Lock(),)},
            "`fun` and `args` cannot be sent to worker processes: .*lock.* Let `fun` create",
        ),
    ],
)
def test_what_it_cannot_do_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FunctionOracle(total, **{"workers": 2, **arguments})


def test_a_module_that_only_this_process_finds_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "only_here.py").write_text("def f(x):\n    return 1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import only_here  # type: ignore[import-not-found]

    oracle = FunctionOracle(only_here.f, workers=2)
    sys.path.remove(str(tmp_path))
    with pytest.raises(WorkerError, match="could not run `fun`: ModuleNotFoundError: No module named 'only_here'"):
        oracle.answer(proposal_of(POINTS))
    oracle.close()


SCRIPT = """
import blackbox_zo as bz
from blackbox_zo.workers import _supervised

_supervised.SYSTEM = "nt"
def main():
    print(bz.minimize(lambda x: float(x @ x), [1.0, 2.0], budget=20, workers=2).nfev)
"""


def test_a_script_without_a_main_block_is_told_of_it(tmp_path: Path) -> None:
    for name, last in (("good", 'if __name__ == "__main__":\n    main()'), ("bad", "main()")):
        (tmp_path / f"{name}.py").write_text(SCRIPT + last)
    run = [
        subprocess.run(
            [sys.executable, tmp_path / name],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        for name in ("good.py", "bad.py")
    ]
    assert (run[0].returncode, run[0].stdout, run[0].stderr) == (0, "20\n", "")
    assert run[1].returncode == 1
    *_, last = run[1].stderr.splitlines()
    assert last.startswith("blackbox_zo.errors.WorkerError: Worker processes cannot be started: BrokenProcessPool: ")
    assert last.endswith('put the code to run below `if __name__ == "__main__":`.')


def test_episodes_are_played_here_where_no_worker_can_be_watched() -> None:
    pytest.importorskip("gymnasium")
    from oracles.rl import EpisodeOracle, LinearPolicy

    with pytest.raises(ValueError, match=r"^`workers=2` needs Linux or macOS; play here with `workers=0`\.$"):
        EpisodeOracle("CartPole-v1", LinearPolicy.for_env("CartPole-v1"), workers=2)
