"""`Training`: a search of a policy, step by step; `train` runs one to its end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import blackbox_zo as bz
from blackbox_zo._checks import check_at_least
from blackbox_zo._replay import replay
from blackbox_zo.journal import read
from blackbox_zo.oracle import Oracle
from oracles.rl._environment import name_of, versions_of
from oracles.rl._episodes import Episode
from oracles.rl._statistics import Statistics
from oracles.rl.oracle import EpisodeOracle
from oracles.rl.policies import LinearPolicy, Policy
from oracles.rl.presets import Preset, preset
from oracles.rl.rollouts import Rollouts
from oracles.rl.trained import Trained
from oracles.wrappers import RankOnly

__all__ = ["Progress", "Training", "train"]


class Progress(NamedTuple):
    """Where a training stands after a step.

    Attributes:
        step: Number of the step, from 0.
        score: Mean score of the step's candidates, in what they played of their episodes; NaN where only their order is
            known.
        episodes: Episodes played so far.
        steps: Steps of the environment so far.
        evaluated: Mean return of the present policy in episodes of its own, NaN where it was not evaluated, or one of
            them failed.
        failed: Candidates that failed so far.
    """

    step: int
    score: float
    episodes: int
    steps: int
    evaluated: float
    failed: int


class Training:
    """A policy, an oracle and a search that fit each other.

    Args:
        env: What `EpisodeOracle` takes.
        method: The name of a preset, or a `Preset`.
        policy: Who acts; none takes a `LinearPolicy`.
        workers: See `EpisodeOracle`.
        seed: All randomness is a function of it.
        journal: A file that records every answer; if it holds a run, that run goes on.
        evaluate: Episodes after every `every` steps by which the present policy is evaluated; 0 for never. They have
            seeds of their own, are played where the others are, and do not change the training.
        every: See `evaluate`.
        **episodes: More arguments of `EpisodeOracle`.

    Attributes:
        problem: What is searched, JSON-able: equal for two runs if one may go on with the other's journal.
        best: The policy that was evaluated best, and its mean return.

    Raises:
        ValueError: An argument is out of its range, or things do not fit each other; see `EpisodeOracle`.
        JournalError: The journal is of another environment, version, policy or method.
    """

    def __init__(
        self,
        env: Any,
        method: str | Preset = "auto",
        policy: Policy | None = None,
        *,
        workers: int = 1,
        seed: int = 0,
        journal: str | Path | None = None,
        evaluate: int = 0,
        every: int = 10,
        **episodes: Any,
    ) -> None:
        check_at_least("Training", 0, evaluate=evaluate)
        check_at_least("Training", 1, every=every)
        named = LinearPolicy.for_env(env) if policy is None else policy
        self.preset = preset(method, named.size) if isinstance(method, str) else method
        if policy is None:
            named.normalize = self.preset.normalize
        self.env, self.policy, self.evaluate, self.every = env, named, int(evaluate), int(every)
        given = {"episodes": self.preset.episodes, **episodes}
        if not isinstance(env, Rollouts) and given.get("score") is None:
            given.setdefault("horizon", self.preset.horizon)
        self.oracle = EpisodeOracle(env, named, workers=workers, seed=seed, **given)
        self.best: tuple[Trained, float] | None = None
        try:
            self.problem = _problem(self.oracle, self.preset)
            self.search = self._searched(seed)
            if journal is not None:
                self.record(journal)
        except BaseException:
            self.oracle.close()
            raise

    def _searched(self, seed: int, journal: bz.Journal | None = None) -> bz.Search:
        return bz.Search(self.policy.x0, self.preset.estimator, self.preset.rule, seed=seed, journal=journal)

    def record(self, path: str | Path, settings: dict[str, Any] | None = None) -> None:
        """Have every answer recorded, before the first step; if the file holds this run, it goes on from there.

        Args:
            path: Of the journal.
            settings: Worth keeping in it, but free to change; JSON-able.

        Raises:
            JournalError: It is of another run, damaged, or in use.
        """
        self.search = self._searched(self.search.seed, bz.Journal(path, self.problem, settings))
        for _ in self.search.run(self.oracle, 0):  # the oracle is shown what it answered
            pass

    @property
    def trained(self) -> Trained:
        """The present policy, normalised by all complete steps."""
        self.oracle.enter(self.search.steps)
        return self._trained(self.search, self.oracle.seen)

    def after(self, step: int) -> Trained:
        """The policy as it was after so many steps, rebuilt from the journal's answers.

        Raises:
            ValueError: There is no journal.
        """
        if self.search.journal is None:
            raise ValueError("Without a journal earlier policies are not known.")
        _, records = read(self.search.journal.path)
        search = self._searched(self.search.seed)
        replay(search, records, moves=step)
        with contextlib.closing(EpisodeOracle(self.env, self.policy, self.oracle.episodes, workers=0)) as oracle:
            oracle.recall([record for record in records if record["step"] < step])
            oracle.enter(step)
        return self._trained(search, oracle.seen)

    def _trained(self, search: bz.Search, seen: Statistics) -> Trained:
        assert isinstance(search.variable, bz.Vector)
        x = np.array(search.variable.value)
        return Trained(self.env, self.policy, x, seen if self.policy.normalize else None)

    def run(self, steps: int | None = None, env_steps: int | None = None) -> Iterator[Progress]:
        """Search on.

        Args:
            steps: Of the search, those of an earlier run not counted.
            env_steps: Steps of the environment after which it ends, those of an earlier run counted.

        Raises:
            ValueError: Neither is given.
        """
        if steps is None and env_steps is None:
            raise ValueError("`run` needs `steps` or `env_steps`; it would never end.")
        oracle: Oracle = RankOnly(self.oracle) if self.preset.rank else self.oracle
        for report in self.search.run(oracle, steps if steps is not None else 1 << 62):
            played = self.oracle
            yield Progress(
                report.step,
                -report.value,
                played.episodes_played,
                played.steps_played,
                self._evaluated(report.step),
                report.failed,
            )
            if env_steps is not None and played.steps_played >= env_steps:
                return

    def _evaluated(self, step: int) -> float:
        if not self.evaluate or (step + 1) % self.every:
            return np.nan
        now = self.trained
        played = self.oracle.evaluate(now.x, now.seen, self.evaluate)
        value = float(np.mean([e.total if isinstance(e, Episode) else np.nan for e in played]))
        if value > (-np.inf if self.best is None else self.best[1]):
            self.best = now, value
        return value

    def close(self) -> None:
        """End the workers and close the journal."""
        self.oracle.close()
        self.search.close()

    def __enter__(self) -> Training:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()


def train(
    env: Any,
    method: str | Preset = "auto",
    policy: Policy | None = None,
    *,
    steps: int | None = None,
    env_steps: int | None = None,
    callback: Callable[[Progress], Any] | None = None,
    **arguments: Any,
) -> Trained:
    """Search a policy.

    Args:
        env: An id, an `EnvSpec`, or a function that makes an environment.
        method: The name of a preset, or a `Preset`.
        policy: Who acts; none takes a `LinearPolicy`.
        steps: Of the search; see `Training.run`.
        env_steps: See `Training.run`.
        callback: Called after each step; if it returns true, the training ends.
        **arguments: Of `Training`.

    Returns:
        The best policy that was evaluated, or without evaluation the last.
    """
    with Training(env, method, policy, **arguments) as training:
        for progress in training.run(steps, env_steps):
            if callback is not None and callback(progress):
                break
        return training.trained if training.best is None else training.best[0]


def _problem(oracle: EpisodeOracle, how: Preset) -> dict[str, Any]:
    """What a journal's run is about."""
    policy, rules = oracle.policy, oracle.rules
    out: dict[str, Any] = {
        "env": name_of(oracle.env),
        "versions": versions_of(oracle.env),
        "policy": type(policy).__name__,
    }
    out |= {"normalize": policy.normalize, "episodes": oracle.episodes, "common": oracle.common, "rank": how.rank}
    out["num_envs"] = oracle.num_envs
    if oracle.horizon is not None:
        out["horizon"] = [oracle.horizon.first, oracle.horizon.growth]
    out |= {"survival_bonus": rules.survival_bonus, "max_steps": rules.max_steps, "clip": rules.clip}
    out |= {"score": None if rules.score is None else name_of(rules.score), "seed": oracle.seed}
    return out
