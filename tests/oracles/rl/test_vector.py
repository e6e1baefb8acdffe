"""Environments that step together."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from torch import nn

from blackbox_zo._typing import Floats
from oracles.rl import (
    EnvError,
    EpisodeOracle,
    LinearPolicy,
    MLPPolicy,
    Policy,
    SpaceError,
    TorchPolicy,
    Training,
    Trajectory,
)
from oracles.rl._environment import make
from oracles.rl._episodes import Episode, Failure, Rules
from oracles.rl._players import player
from oracles.rl._single import SinglePlayer
from oracles.rl._vector import VectorPlayer, _info_of
from tests.oracles.helpers import proposal_of
from tests.oracles.rl.environments import Line, Spaces, by_action, is_blind, played, poisons, raises
from tests.oracles.rl.helpers import errors

RNG = np.random.default_rng(5)
SEEDS = [3, 1, 4, 1, 5]


def lines(n: int, mode: AutoresetMode = AutoresetMode.NEXT_STEP, **arguments: Any) -> Callable[[], Any]:
    return lambda: SyncVectorEnv([lambda: Line(**arguments)] * n, autoreset_mode=mode)


def test_each_environment_plays_the_episode_of_its_own_seed_and_parameters() -> None:
    xs = RNG.normal(size=(5, 3))
    for n in (5, 8):
        got = VectorPlayer(lines(n), LinearPolicy(3, 1)).play_all(xs, None, SEEDS)
        expected = [played([seed], x)[0] for x, seed in zip(xs, SEEDS, strict=True)]
        assert [e.episode_return for e in got if isinstance(e, Episode)] == pytest.approx(expected, rel=1e-9)
        assert all(isinstance(e, Episode) and e.steps == 6 and e.terminated for e in got)


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize(
    "policy",
    [
        LinearPolicy.for_env("CartPole-v1", normalize=True),
        MLPPolicy.for_env("CartPole-v1", normalize=True),
        TorchPolicy(nn.Sequential(nn.Linear(4, 3), nn.SiLU(), nn.Linear(3, 2)), 4, 2, normalize=True),
    ],
    ids=lambda policy: type(policy).__name__,
)
def test_episodes_of_many_lengths_are_as_if_played_alone(mode: AutoresetMode, policy: Policy) -> None:
    xs = RNG.normal(size=(6, policy.size))
    seeds = [7, 8, 9, 10, 11, 12]
    alone = SinglePlayer("CartPole-v1", policy).play_all(xs, None, seeds)
    seen = alone[0].seen  # type: ignore[union-attr]
    alone = SinglePlayer("CartPole-v1", policy).play_all(xs, seen, seeds)

    def many() -> Any:
        return SyncVectorEnv([lambda: gymnasium.make("CartPole-v1")] * 6, autoreset_mode=mode)

    together = VectorPlayer(many, policy).play_all(xs, seen, seeds)
    assert len({e.steps for e in alone if isinstance(e, Episode)}) > 2
    for one, other in zip(alone, together, strict=True):
        assert isinstance(one, Episode) and isinstance(other, Episode)
        assert one[:4] == other[:4] and one.seen is not None and other.seen is not None
        assert one.seen.n == other.seen.n
        np.testing.assert_allclose(other.seen.mean, one.seen.mean, rtol=1e-12)
        np.testing.assert_allclose(other.seen.squares, one.seen.squares, rtol=1e-12)


def test_a_score_sees_each_trajectory_as_if_alone() -> None:
    def score(kept: list[Trajectory]) -> Rules:
        return Rules(score=lambda t: kept.append(t) or float(t.rewards[-1]))  # type: ignore[func-returns-value]

    xs, alone, together = RNG.normal(size=(3, 3)), [], []  # type: ignore[var-annotated]
    for mode in AutoresetMode:
        one = SinglePlayer(Line, LinearPolicy(3, 1), score(alone)).play_all(xs, None, SEEDS[:3])
        many = VectorPlayer(lines(3, mode), LinearPolicy(3, 1), score(together)).play_all(xs, None, SEEDS[:3])
        assert one == many
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_array_equal(a.observations, b.observations)
        np.testing.assert_array_equal(a.actions, b.actions)
        np.testing.assert_array_equal(a.rewards, b.rewards)
        assert (a.terminated, a.info["at"], a.info["seed"]) == (b.terminated, b.info["at"], b.info["seed"])


def test_rules_hold() -> None:
    for rules in (Rules(max_steps=4), Rules(survival_bonus=0.25), Rules(clip=False)):
        x = np.full((2, 3), 0.02)
        alone = SinglePlayer(Line, LinearPolicy(3, 1), rules).play_all(x, None, [1, 2])
        assert VectorPlayer(lines(2), LinearPolicy(3, 1), rules).play_all(x, None, [1, 2]) == alone


@pytest.mark.parametrize(
    ("observation", "action"),
    [
        (spaces.Dict({"a": spaces.Discrete(3), "b": spaces.Box(-1, 1, (2, 2))}), spaces.MultiDiscrete([2, 3])),
        (spaces.Tuple([spaces.Discrete(2), spaces.Box(-1, 1)]), spaces.Discrete(3, start=1)),
        (spaces.Discrete(4), spaces.MultiBinary(3)),
        (spaces.Box(-1, 1, (2, 3)), spaces.Box(-1, 1, (2, 2))),
    ],
)
def test_spaces(observation: Any, action: Any) -> None:
    def one() -> Any:
        return Spaces(observation, action)

    policy = LinearPolicy.for_env(lambda: SyncVectorEnv([one] * 3), normalize=True)
    assert (policy.n_inputs, policy.n_outputs) == (
        LinearPolicy.for_env(one).n_inputs,
        LinearPolicy.for_env(one).n_outputs,
    )
    got = player(one, policy, Rules(), 3).play_all(RNG.normal(size=(2, policy.size)), None, [1, 2])
    assert [(e.episode_return, e.steps) for e in got if isinstance(e, Episode)] == [(2.0, 2)] * 2


def test_what_is_not_finite_costs_the_episode_it_is_of() -> None:
    misdeed = by_action({0.25: is_blind, 0.75: poisons})
    xs = np.array([[0.0, 0.0, p / 7] for p in (0.1, 0.25, 0.5, 0.75)])
    alone = VectorPlayer(lines(4), LinearPolicy(3, 1)).play_all(xs, None, SEEDS[:4])
    got = VectorPlayer(lines(4, misdeed=misdeed), LinearPolicy(3, 1)).play_all(xs, None, SEEDS[:4])
    assert got[0] == alone[0] and got[2] == alone[2]
    assert got[1] == Failure("EnvError: The observation before step 4 is not finite.")
    assert got[3] == Failure("EnvError: The reward of step 3 is not finite.")


def run(env: Any, num_envs: int, workers: int = 0, steps: int = 4, **arguments: Any) -> tuple[Floats, Training]:
    with Training(env, "ars-v2", workers=workers, num_envs=num_envs, **arguments) as training:
        for _ in training.run(steps):
            pass
        return training.trained.x, training


def test_training_is_the_same_for_any_number_that_step_together_and_of_processes() -> None:
    expected, alone = run(Line, 1)
    for num_envs, workers in ((3, 0), (4, 2), (16, 1)):
        x, training = run(Line, num_envs, workers)
        np.testing.assert_allclose(x, expected, rtol=1e-9)
        assert (training.oracle.steps_played, training.oracle.episodes_played) == (
            alone.oracle.steps_played,
            alone.oracle.episodes_played,
        )
    np.testing.assert_array_equal(run(Line, 4, 2)[0], run(Line, 4, 0)[0])


def test_gymnasiums_own_vector_environment_takes_one_seed_for_all() -> None:
    assert type(make("CartPole-v1", 8).unwrapped).__name__ == "CartPoleVectorEnv"
    x, _ = run("CartPole-v1", 8)
    np.testing.assert_array_equal(run("CartPole-v1", 8, 2)[0], x)
    assert not np.array_equal(run("CartPole-v1", 8, seed=1)[0], x)


def test_processes_of_gymnasium() -> None:
    got = VectorPlayer(lambda: AsyncVectorEnv([Line] * 2), LinearPolicy(3, 1)).play_all(np.ones((2, 3)), None, [1, 2])
    assert got == SinglePlayer(Line, LinearPolicy(3, 1)).play_all(np.ones((2, 3)), None, [1, 2])


@pytest.mark.parametrize("workers", [0, 1])
def test_an_environment_that_raises_costs_the_episodes_of_those_it_stepped_with(workers: int) -> None:
    env = lines(2, misdeed=by_action({0.5: raises}))
    points = np.array([[0.0, 0.0, p / 7] for p in (0.1, 0.5, 0.2, 0.3)])
    with contextlib.closing(EpisodeOracle(env, LinearPolicy(3, 1), workers=workers)) as oracle:
        answer = oracle.answer(proposal_of(points))
    assert np.isnan(answer.values).tolist() == [True, True, False, False]
    assert errors(answer)[:2] == ["RuntimeError: the motor is on fire"] * 2


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="makes a vector of 2 environments, but `num_envs=3`"):
        player(lines(2), LinearPolicy(3, 1), Rules(), 3)
    with pytest.raises(SpaceError, match=r"n_inputs is 4, but .* needs 3"):
        player(lines(2), LinearPolicy(4, 1), Rules())
    with pytest.raises(ValueError, match="num_envs"):
        Training(Line, num_envs=0)


def test_what_one_environment_said() -> None:
    said = {"a": np.array([1.0, 2.0]), "_a": np.array([True, False]), "b": {"c": np.array([3, 4])}, "speed": 7.0}
    assert _info_of(said, 0) == {"a": 1.0, "b": {"c": 3}, "speed": 7.0}
    assert _info_of(said, 1) == {"b": {"c": 4}, "speed": 7.0}
    assert _info_of({**said, "final_info": {"d": np.array([5, 6])}}, 1) == {"d": 6}
    ended = {**said, "final_info": {"d": np.array([5, 6])}, "_final_info": np.array([False, True])}
    assert _info_of(ended, 1) == {"d": 6} and "d" not in _info_of(ended, 0)


def test_environments_without_seeds_are_refused() -> None:
    class Unseeded(SyncVectorEnv):
        def reset(self, *, options: Any = None) -> Any:  # type: ignore[override]
            return super().reset(options=options)

    with pytest.raises(EnvError, match=r"has no `reset\(seed=...\)`"):
        VectorPlayer(lambda: Unseeded([Line] * 2), LinearPolicy(3, 1))
