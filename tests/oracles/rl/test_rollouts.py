"""Functions that play the episodes of all candidates at once."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from blackbox_zo._typing import Floats
from oracles.rl import (
    EnvError,
    EpisodeOracle,
    LinearPolicy,
    Played,
    Rollouts,
    Statistics,
    Training,
    train,
)
from tests.oracles.rl.environments import Line
from tests.oracles.rl.helpers import POINTS, ask, errors, right


def line(xs: Floats, seeds: Any, seen: Statistics | None) -> Played:
    """`Line`, all episodes step by step together."""
    k = len(seeds)
    mean, scale = (np.zeros(3), np.ones(3)) if seen is None or not seen.n else (seen.mean, seen.scale())
    rngs = [np.random.Generator(np.random.PCG64(np.random.SeedSequence(int(seed)))) for seed in seeds]
    at = np.array([rng.normal() for rng in rngs])
    total, observations = np.zeros(k), []
    for _ in range(6):
        o = np.stack([at, at**2, np.full(k, 7.0)], axis=1).astype(np.float32).astype(float)
        observations.append(o)
        action = np.clip(np.einsum("ki,ki->k", xs, (o - mean) * scale), -1, 1).astype(np.float32).astype(float)
        at = at + 0.3 * action + 0.1 * np.array([rng.normal() for rng in rngs])
        total -= abs(at - 1.0)
    saw = np.stack(observations)
    return Played(total, np.full(k, 6), saw.mean(0), saw.var(0))


def test_answers_are_those_of_the_environment() -> None:
    with contextlib.closing(EpisodeOracle(Rollouts(line), LinearPolicy(3, 1), 2, 0)) as oracle:
        np.testing.assert_allclose(ask(oracle).values, right(oracle), rtol=1e-9)
        np.testing.assert_allclose(ask(oracle, 1).values, right(oracle, 1), rtol=1e-9)
        assert (oracle.episodes_played, oracle.steps_played) == (16, 96)


def test_training_is_that_of_the_environment(tmp_path: Path) -> None:
    def policy() -> LinearPolicy:
        return LinearPolicy(3, 1, normalize=True)

    found = []
    for env in (Line, Rollouts(line)):
        with Training(
            env, "ars", policy(), workers=0, evaluate=3, every=2, journal=tmp_path / type(env).__name__
        ) as run:
            values = [(p.value, run.experience.steps) for p in run.run(4)]
            evaluated = [m.values["return"] for m in run.search.measured]
            found.append((values, evaluated, run.trained.x, run.trained.evaluate(4)))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    with Training(Rollouts(line), "ars", policy(), workers=0, journal=tmp_path / "Rollouts") as run:
        np.testing.assert_allclose(run.trained.x, found[1][2], rtol=1e-12)


def test_a_worker_may_play_them() -> None:
    here, there = (train(Rollouts(line), "ars-v1", LinearPolicy(3, 1), steps=3, workers=workers) for workers in (0, 1))
    np.testing.assert_array_equal(there.x, here.x)


def test_a_function_of_torch() -> None:
    def play(xs: Floats, seeds: Any, seen: Any) -> Any:
        return -(torch.from_numpy(xs) ** 2).sum(1).requires_grad_()

    with contextlib.closing(EpisodeOracle(Rollouts(play), LinearPolicy(3, 1), workers=0, survival_bonus=2.0)) as oracle:
        np.testing.assert_allclose(ask(oracle).values, (POINTS**2).sum(1) + 2.0)


def test_what_is_not_finite_costs_the_episode_it_is_of() -> None:
    def play(xs: Floats, seeds: Any, seen: Any) -> Any:
        returns = xs.sum(1)
        returns[1] = np.nan
        return returns

    with contextlib.closing(EpisodeOracle(Rollouts(play), LinearPolicy(3, 1), workers=0)) as oracle:
        answer = ask(oracle)
    assert np.isnan(answer.values).tolist() == [False, True, False, False]
    assert "is not finite" in str(errors(answer)[1])


@pytest.mark.parametrize(
    ("gives", "normalize", "says"),
    [
        (lambda k: np.zeros((k, 1)), False, "returned returns of shape (4, 1); the shape must be (4,)"),
        (lambda k: None, False, "returned returns"),
        (lambda k: ["a"] * k, False, "returned returns that are not numbers"),
        (lambda k: np.zeros(k), True, "must return `Played` with steps, mean and variance"),
        (lambda k: Played(np.zeros(k), np.ones(k), np.zeros(k), np.zeros(k)), True, "returned mean of shape (4,)"),
        (lambda k: 1 / 0, False, "ZeroDivisionError"),
    ],
)
def test_what_it_must_not_give(gives: Any, normalize: bool, says: str) -> None:
    policy = LinearPolicy(3, 1, normalize=normalize)
    env = Rollouts(lambda xs, seeds, seen: gives(len(xs)))
    with contextlib.closing(EpisodeOracle(env, policy, workers=0)) as oracle:
        answer = ask(oracle)
    assert np.isnan(answer.values).all()
    assert all(says in str(error) for error in errors(answer))


def test_bad_arguments() -> None:
    with pytest.raises(EnvError, match="give the policy its sizes"):
        train(Rollouts(line), steps=1)
    with pytest.raises(ValueError, match="`score` and `max_steps` are for environments"):
        EpisodeOracle(Rollouts(line), LinearPolicy(3, 1), max_steps=3, workers=0)
    with pytest.raises(EnvError, match="has no spaces"):
        train(Rollouts(line), "ars", LinearPolicy(3, 1), steps=1, workers=0).act(np.zeros(3))
