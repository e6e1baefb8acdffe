"""Worker processes: what environments do wrong costs their own episodes only, and no process is ever left behind."""

from __future__ import annotations

import functools
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from blackbox_zo.workers import _pool
from oracles.rl import EnvError, EpisodeOracle, LinearPolicy, MLPPolicy
from tests.oracles.helpers import alive, environment, proposal_of, wait_for
from tests.oracles.rl import environments as env
from tests.oracles.rl.environments import Line, Misdeed
from tests.oracles.rl.helpers import BAD, POINTS, ask, errors, line_oracle, of_bad, right

MISDEEDS: list[tuple[Misdeed, str]] = [
    (env.raises, "RuntimeError: the motor is on fire"),
    (env.hangs, "no end within 1 s"),
    (env.aborts, "the worker process ended with signal 6 (SIGABRT)"),
    (env.exits, "the worker process ended with exit code 3"),
    (env.is_blind, "EnvError: The observation before step 4 is not finite."),
    (env.poisons, "EnvError: The reward of step 3 is not finite."),
    (env.forks_and_dies, "the worker process ended with exit code 5"),
]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where processes leave their numbers."""
    path = tmp_path / "pids"
    path.mkdir()
    return path


def pids(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in folder.iterdir())


def gone(pid: int) -> bool:
    """Not even a zombie is left."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def wrongdoers(misdeeds: list[Misdeed]) -> tuple[Misdeed, Any]:
    """A misdeed for each of some policies that always push the same way, and those policies."""
    actions = [round(-0.9 + 0.1 * i, 2) for i in range(len(misdeeds))]
    return env.by_action(dict(zip(actions, misdeeds, strict=True))), [[0.0, 0.0, action / 7] for action in actions]


def test_every_misdeed_costs_its_query_only() -> None:
    misdeed, points = wrongdoers([m for m, _ in MISDEEDS])
    oracle = EpisodeOracle(lambda: Line(misdeed=misdeed), LinearPolicy(3, 1), workers=2, timeout=1.0)
    try:
        answer = ask(oracle, points=[*POINTS[:2], *points, *POINTS[2:]])
        alone = EpisodeOracle(Line, LinearPolicy(3, 1), workers=0)
        np.testing.assert_array_equal(answer.values[[0, 1, -2, -1]], ask(alone).values)
        assert np.isnan(answer.values[2:-2]).all()
        assert errors(answer) == [None, None, *[words for _, words in MISDEEDS], None, None]
        assert oracle._pool is not None and oracle._pool.replaced >= 2 * len(MISDEEDS)
        assert oracle.episodes_played == 4 + len(MISDEEDS) and oracle.steps_played == 4 * 6
    finally:
        oracle.close()


def test_what_goes_wrong_once_is_as_if_it_had_not(tmp_path: Path) -> None:
    some = [m for m, _ in MISDEEDS if m in (env.raises, env.hangs, env.exits)]
    misdeed, points = wrongdoers([env.once(tmp_path / f"{i}", m) for i, m in enumerate(some)])
    oracle = EpisodeOracle(lambda: Line(misdeed=misdeed), LinearPolicy(3, 1), workers=2, timeout=1.0)
    answer = ask(oracle, points=points)
    oracle.close()
    assert len(list(tmp_path.glob("[0-9]"))) == len(some)
    assert errors(answer) == [None] * len(some)
    expected = ask(EpisodeOracle(Line, LinearPolicy(3, 1), workers=0), points=points)
    np.testing.assert_array_equal(answer.values, expected.values)


def killer(folder: Path) -> threading.Thread:
    """Kills the first process that leaves its number."""

    def kill() -> None:
        wait_for(lambda: pids(folder))
        os.kill(pids(folder)[0], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


def test_a_worker_killed_in_mid_episode_and_one_killed_in_between(tmp_path: Path, folder: Path) -> None:
    held = env.once(tmp_path / "held", env.says_where(folder, env.hangs))
    oracle = line_oracle(held, timeout=None)
    thread = killer(folder)
    try:
        answer = ask(oracle)
        thread.join()
        assert errors(answer) == [None] * 4
        np.testing.assert_array_equal(answer.values, right(oracle))
        assert oracle._pool is not None
        before = oracle._pool.pids
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        answer = ask(oracle, 1)
        assert errors(answer) == [None] * 4
        np.testing.assert_array_equal(answer.values, right(oracle, 1))
        assert all(map(gone, before))
    finally:
        oracle.close()


def test_a_dead_worker_is_seen_though_a_child_of_it_holds_its_connection(tmp_path: Path) -> None:
    oracle = line_oracle(env.once(tmp_path / "forked", env.forks_and_dies), workers=1, timeout=None)
    np.testing.assert_array_equal(ask(oracle).values, right(oracle))
    oracle.close()


def test_memory_that_an_environment_keeps_is_bounded(folder: Path) -> None:
    oracle = line_oracle(env.keeps_memory([], folder, 60), workers=1, memory_growth=150.0)
    try:
        np.testing.assert_array_equal(ask(oracle).values, right(oracle))
    finally:
        oracle.close()
    episodes = [int(path.suffix[1:]) for path in folder.iterdir()]
    assert max(episodes) == 4 and len({path.stem for path in folder.iterdir()}) == 2  # 8 episodes


def test_what_an_environment_has_started_ends_with_it(folder: Path) -> None:
    oracle = EpisodeOracle(
        lambda: Line(misdeed=of_bad(env.starts_a_program(folder))), LinearPolicy(3, 1), workers=1, timeout=1.0
    )
    answer = ask(oracle)
    assert errors(answer)[BAD] == "no end within 1 s"
    started = pids(folder)
    assert len(started) == 4
    wait_for(lambda: not any(map(alive, started)))
    oracle.close()


def test_parameters_larger_than_a_pipe_do_not_make_it_wait_for_a_worker_that_hangs(tmp_path: Path) -> None:
    policy = MLPPolicy(3, 1, (200, 200))
    assert policy.size * 8 > 300_000
    points = np.random.default_rng(0).normal(0, 0.1, (6, policy.size))
    oracles = [
        EpisodeOracle(lambda m=m: Line(misdeed=m), policy, workers=w, timeout=1.0)
        for w, m in ((2, env.once(tmp_path / "hung", env.hangs)), (0, None))
    ]
    answers = [ask(oracle, points=points) for oracle in oracles]
    oracles[0].close()
    assert (tmp_path / "hung").exists() and errors(answers[0]) == [None] * 6
    np.testing.assert_array_equal(answers[0].values, answers[1].values)


# ------------------------------------------------------------------------------------------------------- the end


def test_close_ends_all_and_may_come_again_and_before_more(folder: Path, tmp_path: Path) -> None:
    misdeed, closed = env.says_where(folder, env.nothing), tmp_path / "closed"
    closed.mkdir()

    def at_close() -> None:
        (closed / str(os.getpid())).touch()
        raise RuntimeError("no")

    oracle = EpisodeOracle(lambda: Line(misdeed=misdeed, at_close=at_close), LinearPolicy(3, 1), 2, 1)
    for step in range(2):
        np.testing.assert_array_equal(ask(oracle, step).values, right(oracle, step))
        oracle.close()
        oracle.close()
        assert all(map(gone, pids(folder)))
    assert len(pids(folder)) >= 2
    assert set(pids(folder)) <= set(pids(closed)) and os.getpid() in pids(closed)


def test_close_does_not_wait_for_an_environment_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pool, "GRACE", 0.3)
    here = os.getpid()
    oracle = EpisodeOracle(
        lambda: Line(at_close=lambda: time.sleep(600) if os.getpid() != here else None), LinearPolicy(3, 1), workers=1
    )
    ask(oracle)
    assert oracle._pool is not None
    (worker,) = oracle._pool.pids
    begun = time.monotonic()
    oracle.close()
    assert gone(worker) and time.monotonic() - begun < 20


def test_an_answer_given_up_ends_the_workers(folder: Path) -> None:
    oracle = line_oracle(env.says_where(folder, env.nothing), workers=1)
    parts = oracle.parts(proposal_of(POINTS))
    next(parts)
    parts.close()  # type: ignore[attr-defined]
    assert pids(folder) and all(map(gone, pids(folder)))
    np.testing.assert_array_equal(ask(oracle, 1).values, right(oracle, 1))
    oracle.close()


def test_an_answer_that_is_still_held_does_not_mix_with_a_later_one() -> None:
    """An error's traceback holds the generator, as in a notebook."""
    oracle = EpisodeOracle(Line, LinearPolicy(3, 1))
    held = oracle.parts(proposal_of(POINTS))
    next(held)
    np.testing.assert_array_equal(ask(oracle, 1).values, right(oracle, 1))
    with pytest.raises(RuntimeError, match="were abandoned, because `run` or `close` was called in the meantime"):
        next(held)
    np.testing.assert_array_equal(ask(oracle, 2).values, right(oracle, 2))
    held = oracle.parts(proposal_of(POINTS, 3))
    next(held)
    oracle.close()
    with pytest.raises(RuntimeError, match="were abandoned"):
        next(held)


def test_a_forgotten_oracle_leaves_no_process(folder: Path) -> None:
    oracle = line_oracle(env.says_where(folder, env.nothing), workers=1)
    ask(oracle)
    del oracle
    gc.collect()
    assert pids(folder) and all(map(gone, pids(folder)))


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")  # a worker of pytest has two
def test_a_fork_leaves_its_parents_workers_alone() -> None:
    oracle = line_oracle(workers=1)
    ask(oracle)
    child = os.fork()
    if not child:
        oracle._pool = None
        gc.collect()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert oracle._pool is not None
    (worker,) = oracle._pool.pids
    np.testing.assert_array_equal(ask(oracle, 1).values, right(oracle, 1))
    assert oracle._pool.pids == [worker]
    oracle.close()


PROGRAM = """
import os, subprocess, sys, time
from pathlib import Path
import numpy as np
from oracles.rl import EpisodeOracle, LinearPolicy
from tests.oracles.helpers import proposal_of
from tests.oracles.rl.environments import Line

class Mine(Line):
    def step(self, action):
        program = subprocess.Popen(["sleep", "600"])
        for pid in (program.pid, os.getpid()):
            (folder / str(pid)).touch()
        time.sleep(600)

folder = Path(sys.argv[1])
EpisodeOracle(Mine, LinearPolicy(3, 1), workers=2).answer(proposal_of(np.zeros((4, 3))))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_program_that_ends_takes_its_workers_with_it(number: signal.Signals, folder: Path, tmp_path: Path) -> None:
    """Environments defined in `__main__` that hang, with programs of their own."""
    script = tmp_path / "script.py"
    script.write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, str(script), str(folder)], env=environment(), stderr=subprocess.PIPE, text=True
    )
    try:
        wait_for(lambda: len(pids(folder)) == 4 or process.poll() is not None)
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
    assert len(pids(folder)) == 4, said
    assert process.returncode == -number, said
    wait_for(lambda: not any(map(alive, pids(folder))), 10)
    assert "ResourceWarning" not in said


# ---------------------------------------------------------------------------------------- environments of all kinds


@pytest.fixture
def _registered() -> Iterator[None]:
    gymnasium.register("tests/Line-v0", lambda **given: Line(**given), max_episode_steps=4, kwargs={"length": 9})
    yield
    del gymnasium.registry["tests/Line-v0"]


def closure(length: int) -> Any:
    return lambda: gymnasium.wrappers.TimeLimit(Line(length), 4)


@pytest.mark.usefixtures("_registered")
def test_environments_of_all_kinds_reach_the_workers() -> None:
    expected = None
    for given in (
        closure(9),
        "tests/Line-v0",
        gymnasium.spec("tests/Line-v0"),
        functools.partial(gymnasium.make, "tests/Line-v0"),
    ):
        for workers in (1, 0):
            oracle = EpisodeOracle(given, LinearPolicy(3, 1), workers=workers)
            answer = ask(oracle)
            oracle.close()
            expected = answer.values if expected is None else expected
            assert answer.n_failed == 0 and oracle.steps_played == 16
            np.testing.assert_array_equal(answer.values, expected)


def test_an_environment_that_cannot_be_made_in_a_worker() -> None:
    here = os.getpid()

    def make() -> Any:
        if os.getpid() != here:
            raise OSError("no display")
        return Line()

    oracle = EpisodeOracle(make, LinearPolicy(3, 1), workers=1)
    with pytest.raises(EnvError, match=r"3 workers in a row could not make .*, the last because: OSError: no display"):
        ask(oracle)
    assert oracle._pool is not None and not oracle._pool.pids
    oracle.close()


def test_one_that_cannot_be_made_once_is_made_again(tmp_path: Path) -> None:
    here, mark = os.getpid(), tmp_path / "mark"

    def make() -> Any:
        if os.getpid() != here and not mark.exists():
            mark.touch()
            os._exit(7)
        return Line()

    oracle = EpisodeOracle(make, LinearPolicy(3, 1), 2, 1)
    answer = ask(oracle)
    oracle.close()
    np.testing.assert_array_equal(answer.values, right(oracle))


def test_what_cannot_be_sent_to_a_worker_is_refused() -> None:
    lock = threading.Lock()
    with pytest.raises(ValueError, match=r"cannot be sent to worker processes: .*lock.*or use `workers=0`"):
        EpisodeOracle(lambda: Line() if lock else None, LinearPolicy(3, 1), workers=1)
