"""Episodes against a plain loop of steps; spaces against gymnasium's own; what cannot be used is refused in words."""

from __future__ import annotations

import functools
import importlib
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces, wrappers

from blackbox_zo._typing import Floats
from blackbox_zo.learning import Learning
from oracles.rl import EnvError, EpisodeOracle, LinearPolicy, MLPPolicy, SpaceError, Statistics, Trajectory
from oracles.rl._episodes import Rules
from oracles.rl._single import SinglePlayer
from oracles.rl._spaces import actions_of, observations_of
from tests.oracles.rl.environments import Line, Seedless, Spaces, is_blind, overflows, raises
from tests.oracles.rl.helpers import BAD, POINTS, ask, errors, line_oracle, of_bad, right

RNG = np.random.default_rng(5)
ENDLESS_LINE = 10**9


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo writes a log wherever it is


def plain(env: Any, act: Any, seed: int) -> tuple[list[float], bool, bool]:
    """Rewards, terminated and truncated of the loop that gymnasium's documentation shows."""
    observation, _ = env.reset(seed=seed)
    rewards: list[float] = []
    terminated = truncated = False
    while not (terminated or truncated):
        observation, reward, terminated, truncated, _ = env.step(act(np.asarray(observation, dtype=float)))
        rewards.append(float(reward))
    return rewards, bool(terminated), bool(truncated)


def boxed(space: Any, out: Floats) -> Any:
    return np.clip(out, space.low, space.high).astype(space.dtype)


ENVS = [
    ("CartPole-v1", 3),
    ("Pendulum-v1", 2),
    pytest.param(functools.partial(gymnasium.make, "CartPole-v1", max_episode_steps=20), 5, id="made CartPole"),
    pytest.param(functools.partial(gymnasium.make, "InvertedPendulum-v5", max_episode_steps=50), 3, id="made Pendulum"),
    pytest.param(functools.partial(gymnasium.make, "Hopper-v5", max_episode_steps=40), 3, id="made Hopper"),
    pytest.param(gymnasium.spec("Acrobot-v1"), 1, id="spec of Acrobot"),
]


@pytest.mark.parametrize(("env", "seeds"), ENVS)
@pytest.mark.filterwarnings("ignore:.*settotalmass")
def test_episodes_are_those_of_a_plain_loop(env: Any, seeds: int) -> None:
    policy = LinearPolicy.for_env(env)
    made = gymnasium.make(env) if not callable(env) else env()
    player = SinglePlayer(env, policy, Rules(score=lambda t: float(len(t.rewards) + 0.5 * t.terminated)))
    ends = set()
    for seed in range(seeds):
        x = RNG.normal(0, 0.5, policy.size)
        w = x.reshape(policy.n_outputs, -1)

        def act(o: Floats, w: Floats = w) -> Any:
            out = w @ o
            return (
                int(out.argmax()) if isinstance(made.action_space, spaces.Discrete) else boxed(made.action_space, out)
            )

        rewards, terminated, truncated = plain(made, act, seed)
        episode = player.play(x, None, seed)
        assert episode.steps == len(rewards)
        assert episode.episode_return == np.array(rewards).sum()
        assert (episode.terminated, episode.score) == (terminated, len(rewards) + 0.5 * terminated)
        ends.add((terminated, truncated))
    assert ends
    made.close()
    player.close()


def test_a_limit_of_time_is_no_end() -> None:
    """CartPole falls within 200 steps or not; a limit of 9 steps is reached by all."""
    for steps, ended in ((9, False), (200, True)):
        env = functools.partial(gymnasium.make, "CartPole-v1", max_episode_steps=steps)
        policy = LinearPolicy.for_env(env)
        player = SinglePlayer(env, policy)
        assert type(player._env).__name__ == "CartPoleEnv"
        episode = player.play(np.zeros(policy.size), None, 0)
        assert (episode.terminated, episode.steps < steps) == (ended, ended)
        player.close()


class Doubled(gymnasium.RewardWrapper[Any, Any]):
    def reward(self, reward: Any) -> Any:
        return 2 * reward


def test_the_users_own_wrappers_are_kept_wherever_the_limit_is() -> None:
    def outside() -> Any:
        return Doubled(gymnasium.make("CartPole-v1", max_episode_steps=7))

    def inside() -> Any:
        return wrappers.TimeLimit(Doubled(gymnasium.make("CartPole-v1", max_episode_steps=9)), 7)

    for env in (outside, inside):
        player = SinglePlayer(env, LinearPolicy.for_env(env))
        episode = player.play(np.zeros(8), None, 3)
        assert (episode.steps, episode.episode_return, episode.terminated) == (7, 14.0, False)
        player.close()


@pytest.mark.parametrize(
    ("limit", "max_steps", "steps"), [(None, None, 6), (None, 2, 2), (4, None, 4), (4, 2, 2), (4, 5, 4), (4, 100, 4)]
)
def test_the_least_limit_holds(limit: int | None, max_steps: int | None, steps: int) -> None:
    def env() -> Any:
        return Line() if limit is None else wrappers.TimeLimit(Line(), limit)

    player = SinglePlayer(env, LinearPolicy(3, 1), Rules(max_steps=max_steps))
    assert player.play(POINTS[0], None, 1).steps == steps


def test_an_episode_without_any_limit_is_cut_and_one_with_a_long_limit_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oracles.rl._single.ENDLESS", 30)
    for env, rules, steps in (
        (lambda: Line(ENDLESS_LINE), Rules(), 30),
        (lambda: Line(ENDLESS_LINE), Rules(max_steps=40), 40),
        (lambda: wrappers.TimeLimit(Line(ENDLESS_LINE), 50), Rules(), 50),
    ):
        episode = SinglePlayer(env, LinearPolicy(3, 1), rules).play(POINTS[0], None, 1)
        assert (episode.steps, episode.terminated) == (steps, False)


def test_score_and_survival_bonus() -> None:
    kept: list[Trajectory] = []

    def score(trajectory: Trajectory) -> float:
        kept.append(trajectory)
        return float(trajectory.info["at"])

    episode = SinglePlayer(Line, LinearPolicy(3, 1), Rules(score=score)).play(POINTS[0], None, 4)
    (trajectory,) = kept
    made = Line()
    observation, _ = made.reset(seed=4)
    for t in range(6):
        np.testing.assert_array_equal(trajectory.observations[t], observation.astype(float))
        assert np.array_equal(
            trajectory.actions[t], boxed(made.action_space, POINTS[0] @ observation.astype(float)[:, None])
        )
        observation, reward, *_, info = made.step(trajectory.actions[t])
        assert trajectory.rewards[t] == reward
    assert episode.score == info["at"] and trajectory.terminated and len(trajectory.actions) == 6
    bonus = SinglePlayer(Line, LinearPolicy(3, 1), Rules(survival_bonus=0.25)).play(POINTS[0], None, 4)
    assert (bonus.episode_return, bonus.score) == (episode.episode_return, episode.episode_return - 1.5)


def test_statistics_are_those_of_what_was_acted_on() -> None:
    kept: list[Trajectory] = []

    def score(trajectory: Trajectory) -> float:
        kept.append(trajectory)
        return 0.0

    episode = SinglePlayer(Line, LinearPolicy(3, 1, normalize=True), Rules(score=score)).play(POINTS[0], None, 4)
    expected = Statistics.of(kept[0].observations)
    assert episode.seen is not None and episode.seen.n == 6 and kept[0].observations.shape == (6, 3)
    assert np.array_equal(episode.seen.mean, expected.mean) and np.array_equal(episode.seen.squares, expected.squares)
    assert SinglePlayer(Line, LinearPolicy(3, 1)).play(POINTS[0], None, 4).seen is None


# ------------------------------------------------------------------------------------------------------- spaces

BOX = spaces.Box(-1.0, 1.0, (2,))


@pytest.mark.parametrize(
    ("space", "n_outputs"),
    [
        (spaces.Discrete(3), 3),
        (spaces.Discrete(4, start=-2), 4),
        (spaces.Box(-1.0, 1.0, (2,)), 2),
        (spaces.Box(-1.0, 1.0, (2, 3)), 6),
        (spaces.Box(-1.0, 1.0, ()), 1),
        (spaces.Box(-np.inf, np.inf, (2,)), 2),
        (spaces.Box(np.array([-np.inf, 0.1], np.float32), np.array([0.3, np.inf], np.float32)), 2),
        (spaces.Box(-0.1, 0.1, (2,), np.float64), 2),
        (spaces.Box(-0.1, 0.1, (2,), np.float16), 2),
        (spaces.MultiDiscrete([2, 3]), 5),
        (spaces.MultiDiscrete([2, 3], start=[5, -1]), 5),
        (spaces.MultiDiscrete(np.array([[2, 3], [2, 2]])), 9),
        (spaces.MultiBinary(3), 3),
        (spaces.MultiBinary((2, 2)), 4),
    ],
    ids=str,
)
def test_actions_are_in_their_space_and_reach_all_of_it(space: Any, n_outputs: int) -> None:
    n, to_action = actions_of(space, True)
    assert n == n_outputs
    seen = set()
    for _ in range(300):
        action = to_action(RNG.normal(size=n))
        assert space.contains(action), action
        seen.add(np.asarray(action).tobytes())
    if not isinstance(space, spaces.Box):
        size = space.nvec.prod() if isinstance(space, spaces.MultiDiscrete) else None
        assert len(seen) == (size or (space.n if isinstance(space, spaces.Discrete) else 2**n))
    answer = ask(
        EpisodeOracle(lambda: Spaces(BOX, space), LinearPolicy(2, n), workers=0), points=RNG.normal(size=(3, 2 * n))
    )
    assert answer.values.tolist() == [-2.0] * 3


def test_what_an_action_is_made_of() -> None:
    out = np.array([0.1, 0.9, -5.0, 0.2, 0.2])
    assert actions_of(spaces.Discrete(5, start=3), True)[1](out) == 4
    assert actions_of(spaces.MultiDiscrete([2, 3], start=[0, 7]), True)[1](out).tolist() == [1, 8]
    assert actions_of(spaces.MultiBinary(5), True)[1](out).tolist() == [1, 1, 0, 1, 1]
    box = spaces.Box(-1.0, 0.5, (5,))
    assert actions_of(box, True)[1](out).tolist() == np.array([0.1, 0.5, -1.0, 0.2, 0.2], np.float32).tolist()
    assert actions_of(box, False)[1](out).tolist() == out.astype(np.float32).tolist()


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-1.0, 1.0, (3,)),
        spaces.Box(-1.0, 1.0, ()),
        spaces.Box(0, 255, (2, 3, 2), np.uint8),
        spaces.Discrete(4, start=2),
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiBinary((2, 2)),
        spaces.Dict({"b": spaces.Discrete(3), "a": spaces.Box(-1.0, 1.0, (2, 2))}),
        spaces.Tuple((spaces.Discrete(2), spaces.Dict({"x": spaces.Box(-1.0, 1.0, (1,))}))),
    ],
    ids=str,
)
def test_observations_are_flattened_as_gymnasium_does(space: Any) -> None:
    n, flat = observations_of(space)
    assert n == spaces.flatdim(space)
    space.seed(1)
    for _ in range(5):
        observation = space.sample()
        row = np.empty(n)
        row[:] = flat(observation)
        np.testing.assert_array_equal(row, spaces.flatten(space, observation))
    assert (
        ask(
            EpisodeOracle(lambda: Spaces(space, BOX), LinearPolicy(n, 2), workers=0), points=RNG.normal(size=(2, 2 * n))
        ).n_failed
        == 0
    )


@pytest.mark.parametrize(
    ("observation_space", "action_space", "words"),
    [
        (spaces.Sequence(BOX), BOX, "Observations of `Sequence.*cannot be flattened"),
        (spaces.Graph(BOX, None), BOX, "Observations of `Graph.*cannot be flattened"),
        (spaces.Dict({"a": spaces.Sequence(BOX)}), BOX, "Observations of `Dict.*cannot be flattened"),
        (
            BOX,
            spaces.Box(0, 9, (2,), np.int64),
            r"supports the action space `Box\(0, 9, \(2,\), int64\)`; it must be a Box of floats",
        ),
        (BOX, spaces.Dict({"a": BOX}), "supports the action space `Dict.*it must be a Box of floats"),
        (BOX, spaces.Tuple((BOX,)), "supports the action space `Tuple.*it must be"),
        (
            spaces.Box(-1.0, 1.0, (3,)),
            BOX,
            r"policy's n_inputs is 2, but .* needs 3. Make it with `LinearPolicy.for_env`",
        ),
        (BOX, spaces.Discrete(3), r"policy's n_outputs is 2, but .* needs 3. Make it with `LinearPolicy.for_env`"),
    ],
    ids=str,
)
def test_spaces_that_do_not_fit(observation_space: Any, action_space: Any, words: str) -> None:
    with pytest.raises(SpaceError, match=words):
        EpisodeOracle(lambda: Spaces(observation_space, action_space), LinearPolicy(2, 2), workers=0)


# ------------------------------------------------------------------------------------------------- what is refused


def misses_a_module() -> Any:
    importlib.import_module("no_such_simulator")


def forgets_to_return() -> None:
    Line()


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ("swimmer", r"Unknown environment .swimmer.: .*doesn.t exist. Did you mean Swimmer-v5\?$"),
        ("HalfCheeta-v3", r"Unknown environment .HalfCheeta-v3.: .* Did you mean HalfCheetah-v5\?$"),
        ("CartPol-v1", r"Unknown environment 'CartPol-v1': .*doesn't exist. Did you mean CartPole-v1"),
        ("CartPole-v9", r"Unknown environment 'CartPole-v9': .*versioned environments.* Did you mean CartPole-v1"),
        ("nowhere/Thing-v0", r"Unknown environment 'nowhere/Thing-v0': Namespace nowhere not found"),
        (
            "no_module:Thing-v0",
            r"'no_module:Thing-v0' needs a package that is not installed: No module named 'no_module'",
        ),
        pytest.param(
            misses_a_module,
            r"'misses_a_module' needs a package that is not installed: No module named 'no_such_simulator'",
            id="misses a module",
        ),
        pytest.param(
            forgets_to_return, r"`forgets_to_return` made a `NoneType` without reset, step", id="forgets to return"
        ),
        pytest.param(
            Seedless,
            r"'Seedless' has no `reset\(seed=...\)`, so its episodes cannot be repeated. Give it one",
            id="class",
        ),
        pytest.param(lambda: Doubled(Seedless()), r"has no `reset\(seed=...\)`", id="wrapped"),
    ],
)
def test_environments_that_cannot_be_used(env: Any, words: str) -> None:
    with pytest.raises(EnvError, match=words):
        EpisodeOracle(env, LinearPolicy(3, 1), workers=0)


@pytest.mark.parametrize(
    ("env", "words"),
    [(Line(), "not the environment itself"), (3, "`env` must be an id, an EnvSpec, or a function .* got 3")],
)
def test_environments_of_a_wrong_type(env: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        EpisodeOracle(env, LinearPolicy(3, 1), workers=0)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"episodes": 0}, r"EpisodeOracle\(episodes=...\)` must be a whole number of at least 1, got 0"),
        ({"workers": -1}, r"EpisodeOracle\(workers=...\)` must be a whole number of at least 0, got -1"),
        ({"max_steps": 0}, r"EpisodeOracle\(max_steps=...\)` must be a whole number of at least 1, got 0"),
        ({"timeout": 0}, r"EpisodeOracle\(timeout=...\)` must be a positive number, got 0"),
        ({"memory_growth": -1.0}, r"memory_growth=...\)` must be a positive number, got -1"),
        ({"survival_bonus": np.nan}, r"survival_bonus=...\)` must be a finite number, got nan"),
        ({"survival_bonus": 1.0, "score": len}, r"`survival_bonus` applies to the return; a `score`"),
    ],
)
def test_bad_arguments(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        EpisodeOracle(Line, LinearPolicy(3, 1), **{"workers": 0, **given})


def test_arguments_of_a_wrong_kind() -> None:
    with pytest.raises(
        TypeError, match=r"`policy` must be a policy such as `LinearPolicy.for_env\(env\)`, got 'linear'"
    ):
        EpisodeOracle(Line, "linear")  # type: ignore[arg-type]
    oracle = line_oracle(workers=0)
    with pytest.raises(ValueError, match=r"search is over 4 numbers, but the policy has 3; start it from `oracle.x0`"):
        ask(oracle, points=np.zeros((2, 4)))


class Heedless(Line):
    """Goes on whatever the action is."""

    def step(self, action: Any) -> Any:
        return super().step(np.nan_to_num(action))


@pytest.mark.parametrize(
    ("env", "rules", "words"),
    [
        (lambda: Line(misdeed=raises), {}, "RuntimeError: the motor is on fire"),
        (lambda: Line(misdeed=is_blind), {}, "EnvError: The observation before step 4 is not finite."),
        (lambda: Line(126, is_blind), {}, "EnvError: The observation before step 64 is not finite."),
        (lambda: Line(128, is_blind), {}, "EnvError: The observation before step 65 is not finite."),
        (lambda: Heedless(300, is_blind), {}, "EnvError: The observation before step 151 is not finite."),
        (lambda: Line(misdeed=overflows), {}, "EnvError: The observation before step 4 is not finite."),
        (lambda: Line(reward=np.nan), {}, "EnvError: The reward of step 3 is not finite."),
        (lambda: Line(reward=-np.inf), {}, "EnvError: The reward of step 3 is not finite."),
        (Line, {"score": lambda t: np.nan}, "EnvError: `score` returned nan; it must return a finite number."),
        (Line, {"score": lambda t: t.info["nothing"]}, "KeyError: 'nothing'"),
    ],
)
def test_episodes_that_fail_say_why(env: Any, rules: Any, words: str) -> None:
    for policy in (LinearPolicy(3, 1, normalize=True), MLPPolicy(3, 1, (2,), "tanh")):
        points = [np.full(policy.size, 0.1)]
        oracle = EpisodeOracle(env, policy, workers=0, **rules)
        answer = ask(oracle, points=points)
        assert np.isnan(answer.values).all() and errors(answer) == [words]
        learning = Learning()
        ask(oracle, 0, points, learning)
        known = learning.of(oracle)
        assert known.seen.n == 0 and known.steps == 0 and known.episodes == 1  # nothing else of it is left


def test_a_failure_here_costs_its_query_only() -> None:
    oracle = line_oracle(of_bad(raises), workers=0)
    answer, expected = ask(oracle), right(oracle)
    expected[BAD] = np.nan
    np.testing.assert_array_equal(answer.values, expected)
    assert len(set(expected.tolist())) == 4
