"""`Training`: earlier policies, journals that are opened again, evaluations that crash."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from oracles.rl import Training
from oracles.rl._seeds import evaluation_seeds
from tests.oracles.rl.environments import Line


@pytest.mark.parametrize("method", ["ars", "rank", "cma"])
def test_the_policy_after_an_earlier_step_is_rebuilt(method: str, tmp_path: Path) -> None:
    with Training("CartPole-v1", method, workers=0, journal=tmp_path / "run.jsonl") as training:
        then = [training.trained for _ in training.run(4)]
        for step, policy in enumerate(then, 1):
            rebuilt = training.after(step)
            assert np.array_equal(rebuilt.x, policy.x) and (rebuilt.seen is None) == (policy.seen is None)
            if policy.seen is not None and rebuilt.seen is not None:
                assert rebuilt.seen.to_json() == policy.seen.to_json()


def test_a_training_that_is_opened_again_has_its_policy_at_once(tmp_path: Path) -> None:
    with Training("CartPole-v1", "ars", workers=0, journal=tmp_path / "run.jsonl") as training:
        for _ in training.run(3):
            then = training.trained
    with Training("CartPole-v1", "ars", workers=0, journal=tmp_path / "run.jsonl") as training:
        again = training.trained
    assert then.seen is not None and again.seen is not None and then.seen.n > 0
    assert np.array_equal(then.x, again.x) and then.seen.to_json() == again.seen.to_json()


class Aborts(gymnasium.Env[Any, Any]):
    """Ends its process in episodes that no search meets, and in no other."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1,))
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        if seed in evaluation_seeds(0, 2):
            os.abort()
        return np.zeros(1, dtype=np.float32), {}

    def step(self, action: Any) -> Any:
        return np.zeros(1, dtype=np.float32), 1.0, True, False, {}


def test_an_evaluation_that_crashes_does_not_end_a_training() -> None:
    with Training(Aborts, "cma", workers=1, evaluate=2, every=1) as training:
        told = list(training.run(2))
    assert [p.value for p in told] == [-1.0, -1.0] and training.best is None and training.best_step is None
    assert [m.step for m in training.search.measured] == [0, 1, 2] and all(m.error for m in training.search.measured)


def test_the_policy_is_normalised_by_all_complete_steps(tmp_path: Path) -> None:
    with Training(Line, "ars", workers=0, journal=tmp_path / "run.jsonl") as training:
        for _ in training.run(3):
            seen, steps = training.trained.seen, training.experience.steps
            assert seen is not None and seen.n == steps
    with Training(Line, "ars", workers=0, journal=tmp_path / "run.jsonl") as again:
        middle, last, resumed = again.after(2).seen, again.after(3).seen, again.trained.seen
        assert middle is not None and last is not None and resumed is not None
        assert (middle.n, last.n, resumed.n) == (2 * 16 * 6, steps, steps)
        assert np.array_equal(resumed.mean, last.mean) and np.array_equal(resumed.squares, last.squares)
