"""The same bits for any number of workers, and after kills; common episodes; what a journal brings back."""

from __future__ import annotations

import functools
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blackbox_zo.learning import Learning
from blackbox_zo.testing import check_oracle
from oracles.rl import EpisodeOracle, LinearPolicy, MLPPolicy, Statistics
from oracles.rl._single import SinglePlayer
from tests.oracles.helpers import environment, wait_for
from tests.oracles.rl.environments import Line, raises
from tests.oracles.rl.helpers import (
    BAD,
    POINTS,
    ask,
    errors,
    evidence_of,
    line_oracle,
    of_bad,
    oracle_of,
    right,
    run,
    seeds_of,
)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_any_number_of_workers_gives_the_same_bits() -> None:
    expected = run(oracle_of(0), 4, False)
    for workers in (1, 2, 4):
        assert run(oracle_of(workers), 4, False) == expected
    assert run(oracle_of(0), 4, True) == expected  # `RankBased` sees the order only
    assert run(oracle_of(0, LinearPolicy(3, 1, normalize=True)), 4, False) != expected


@pytest.mark.filterwarnings("ignore:.*settotalmass")
def test_mujoco_in_workers_gives_the_same_bits() -> None:
    policy = MLPPolicy.for_env("HalfCheetah-v5", hidden=(8,), normalize=True)
    points = np.random.default_rng(1).normal(0, 0.3, (3, policy.size))
    found = []
    for workers in (0, 2):
        oracle = EpisodeOracle("HalfCheetah-v5", policy, 2, workers, max_steps=25)
        learning = Learning()
        answers = [ask(oracle, step, points, learning).values for step in range(2)]
        oracle.close()
        known = learning.of(oracle)
        found.append([part.tobytes() for part in (*answers, known.seen.mean, known.seen.squares)])
        assert known.seen.n == known.steps > 0
    assert found[0] == found[1]


def test_episodes_are_common_to_a_step_unless_told_otherwise() -> None:
    def score(trajectory: Any) -> float:
        return float(trajectory.info["seed"])

    for common in (True, False):
        oracle = EpisodeOracle(Line, LinearPolicy(3, 1), workers=0, seed=5, common=common, score=score)
        seen = [(-ask(oracle, step).values).tolist() for step in range(3)]
        expected = [[seeds_of(oracle, s, 0 if common else 1 + 4 * s + i)[0] for i in range(4)] for s in range(3)]
        assert seen == expected
        assert len({seed for seeds in seen for seed in seeds}) == (3 if common else 12)
    other = EpisodeOracle(Line, LinearPolicy(3, 1), workers=0, seed=6, score=score)
    assert -ask(other).values[0] != seen[0][0]
    both = EpisodeOracle(Line, LinearPolicy(3, 1), 2, 0, seed=5, score=score)
    answer = ask(both)
    assert len(set(seeds_of(both))) == 2 and answer.values.tolist() == [-np.mean(seeds_of(both))] * 4
    assert answer.stderr is not None
    assert answer.stderr.tolist() == pytest.approx([abs(np.diff(seeds_of(both))[0]) / 2] * 4)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_laws_of_oracles(workers: int) -> None:
    oracle = line_oracle(of_bad(raises) if workers else None, workers)
    check_oracle(oracle, oracle.x0, radius=0.01, failing=POINTS[BAD : BAD + 1] if workers else None)
    oracle.close()


def test_statistics_wait_for_the_end_of_the_step() -> None:
    kept: dict[int, list[Any]] = {}
    policy = LinearPolicy(3, 1, normalize=True)
    oracle = EpisodeOracle(Line, policy, 2, 0, score=lambda t: float(kept[step].append(t.observations) is None))  # type: ignore[func-returns-value]
    learning = Learning()
    for step in range(3):
        before = [o for s in range(step) for o in kept[s]]
        kept[step] = []
        first = ask(oracle, step, POINTS / 3, learning, over=False)
        seen = learning.of(oracle).seen
        assert seen.n == sum(map(len, before)) == 48 * step
        if step:
            expected = Statistics.of(np.concatenate(before))
            np.testing.assert_allclose(seen.mean, expected.mean, rtol=1e-12)
            np.testing.assert_allclose(seen.squares, expected.squares, rtol=1e-9, atol=1e-12)
        once, kept[step] = kept[step], []
        again = ask(oracle, step, POINTS / 3, learning)  # the step is not over before this
        np.testing.assert_array_equal(first.values, again.values)
        for one, other in zip(once, kept[step], strict=True):
            np.testing.assert_array_equal(one, other)


def test_answers_are_those_of_policies_normalised_by_the_steps_before() -> None:
    oracle, learning = line_oracle(workers=0, normalize=True), Learning()
    player = SinglePlayer(Line, oracle.policy)

    def expected(step: int, seen: Statistics | None) -> list[float]:
        seeds = seeds_of(oracle, step)
        return [-float(np.mean([player.play(x, seen, seed).episode_return for seed in seeds])) for x in POINTS]

    assert ask(oracle, 0, POINTS, learning).values.tolist() == expected(0, None)
    seen = learning.of(oracle).seen
    assert ask(oracle, 1, POINTS, learning).values.tolist() == expected(1, seen) != expected(1, None)


def test_what_a_journal_keeps_of_a_query() -> None:
    oracle = line_oracle(of_bad(raises), workers=0, normalize=True)
    answer, taught = ask(oracle), evidence_of(oracle)
    assert answer.info is not None
    notes = [json.loads(json.dumps(note)) for note in answer.info]
    assert notes[BAD] == {"steps": 0, "error": "RuntimeError: the motor is on fire"}
    assert taught[BAD] == {"steps": 0, "seen": Statistics.none(3).to_json()}
    assert notes[0] == {"steps": 12, "return": -right(oracle)[0]}
    assert taught[0].keys() == {"steps", "seen"} and taught[0]["steps"] == taught[0]["seen"]["n"] == 12
    assert errors(answer) == [None, "RuntimeError: the motor is on fire", None, None]


@pytest.mark.parametrize("rank", [False, True])
def test_wherever_a_run_is_cut_it_goes_on_with_the_same_bits(rank: bool, tmp_path: Path) -> None:
    """As after a kill: a journal that ends at any line, which with values is in mid-step."""
    expected = run(oracle_of(0), 4, rank, tmp_path / "whole.jsonl")
    lines = (tmp_path / "whole.jsonl").read_text().splitlines(keepends=True)
    assert len(lines) == 1 + (4 if rank else 24)
    for n in range(1, len(lines) + 1):
        path = tmp_path / f"{n}.jsonl"
        path.write_text("".join(lines[:n]))
        oracle = oracle_of(0)
        assert run(oracle, 4, rank, path) == expected
        assert path.read_text() == "".join(lines)


PROGRAM = """
import sys
from pathlib import Path
from tests.oracles.rl.helpers import oracle_of, run
path, workers, rank, out = sys.argv[1:]
Path(out).write_bytes(run(oracle_of(int(workers)), 12, rank == "True", Path(path)))
"""


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def grown(process: subprocess.Popen[str], path: Path, enough: int) -> bool:
    return process.poll() is not None or size(path) > enough


@pytest.mark.parametrize(("rank", "kills"), [(False, 2), (True, 1)])
def test_killed_at_random_instants_it_ends_as_if_never_killed(rank: bool, kills: int, tmp_path: Path) -> None:
    path, out = tmp_path / "run.jsonl", tmp_path / "out"
    command = [sys.executable, "-c", PROGRAM, str(path), "2", str(rank), str(out)]
    instants, left = random.Random(rank), kills
    while True:
        process = subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True)
        if left:
            wait_for(functools.partial(grown, process, path, size(path) + instants.randrange(400, 4000)))
            time.sleep(instants.uniform(0, 0.02))
            process.kill()
        _, said = process.communicate(timeout=60)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, said
        left -= 1
    assert not left
    assert out.read_bytes() == run(oracle_of(0), 12, rank)
