"""`Training`: policy search, step by step; `train`: a whole training in one call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np

import blackbox_zo as bz
from blackbox_zo._checks import check_at_least
from blackbox_zo._stop import Stop
from blackbox_zo._typing import override
from blackbox_zo.observers import Callback
from blackbox_zo.oracle import gather, parts_of
from blackbox_zo.wrappers import RankOnly, Wrapper
from oracles.rl._environment import name_of, spelled, versions_of
from oracles.rl._episodes import Episode, Failure
from oracles.rl._names import KIND, RETURN, best_of
from oracles.rl.oracle import EpisodeOracle, Experience
from oracles.rl.policies import LinearPolicy, Policy
from oracles.rl.presets import Preset, preset
from oracles.rl.rollouts import Rollouts
from oracles.rl.trained import Trained

__all__ = ["RETURN", "Training", "train"]


class Training:
    """A policy, its oracle and its search.

    Args:
        env: The environment, as in `EpisodeOracle`.
        method: The name of a preset, or a `Preset`.
        policy: The policy; None takes a `LinearPolicy`.
        workers: See `EpisodeOracle`.
        seed: Seed of all randomness.
        journal: A file that records every answer; if it already holds this run, the run continues.
        evaluate: Episodes in each evaluation of the current policy, before the first step and after every `every`
            steps; 0 turns evaluation off. They have separate seeds, run on the same workers, and do not change the
            training.
        every: Steps between evaluations.
        **episodes: Further arguments of `EpisodeOracle`.

    Attributes:
        problem: Environment, policy and method, as JSON data. Two runs can share a journal only if these are equal.

    Raises:
        ValueError: An argument is out of its range, or arguments conflict; see `EpisodeOracle`.
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
        self._best: tuple[int, float, Trained | None] | None = None
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

    def record(self, path: str | Path, settings: dict[str, Any] | None = None, **more: Any) -> None:
        """Record every answer; call this before the first step. If the file already holds this run, continue it.

        Args:
            path: Path of the journal.
            settings: JSON data, recorded but free to change when a run resumes.
            **more: Further arguments of `Journal`.

        Raises:
            JournalError: The journal is of another run, damaged, or in use.
        """
        self.search = self._searched(self.search.seed, bz.Journal(path, self.problem, settings, **more))
        found = best_of(self.search.measured)
        self._best = None if found is None else (found.step, found.values[RETURN], None)

    @property
    def experience(self) -> Experience:
        """What was learnt from all complete steps: statistics, and the numbers of episodes and environment steps."""
        known: Experience = self.search.state_of(self.oracle)
        return known

    @property
    def trained(self) -> Trained:
        """The current policy, normalised by the statistics of all complete steps."""
        return self._trained(self.search)

    @property
    def best(self) -> tuple[Trained, float] | None:
        """The policy with the best evaluation of the whole run, and its mean return; None without evaluations."""
        if self._best is None:
            return None
        step, value, policy = self._best
        if policy is None:
            policy = self.after(step)
            self._best = step, value, policy
        return policy, value

    @property
    def best_step(self) -> int | None:
        """The step after which `best` was evaluated."""
        return None if self._best is None else self._best[0]

    def after(self, step: int) -> Trained:
        """The policy after step `step`, rebuilt from the journal's answers.

        Raises:
            ValueError: There is no journal.
        """
        if self.search.journal is None:
            raise ValueError("Only a journal holds earlier policies; give `journal=`.")
        search = self._searched(self.search.seed)
        search.replay(bz.read_journal(self.search.journal.path), moves=step)
        return self._trained(search)

    def _trained(self, search: bz.Search) -> Trained:
        assert isinstance(search.variable, bz.Vector)
        seen = search.state_of(self.oracle).seen if self.policy.normalize else None
        return Trained(self.env, self.policy, np.array(search.variable.value), seen)

    def run(
        self,
        steps: int | None = None,
        env_steps: int | None = None,
        *,
        last: bool = False,
        observers: Sequence[bz.Observer] = (),
        stop: Stop | None = None,
        **limits: Any,
    ) -> bz.Run:
        """Continue the search: a `Run`, which yields a `Report` for each step.

        Args:
            steps: Maximum steps of the search, not counting those already made.
            env_steps: Ends the run after this many environment steps, including those already made.
            last: Whether to evaluate after the last step too.
            observers: See `Run`.
            stop: See `Run`.
            **limits: Further limits of `Run`; `patience` defaults to ten steps.

        Raises:
            ValueError: Neither `steps` nor `env_steps` is given.
        """
        if steps is None and env_steps is None:
            raise ValueError("`run` would never end: give `steps` or `env_steps`.")
        oracle: bz.Oracle = self.oracle
        if self.preset.rank:  # all answers come at once, so check for signals in between
            oracle = RankOnly(oracle if stop is None else _Interruptible(oracle, stop))
        until = None if env_steps is None else lambda: self.experience.steps >= env_steps
        measures = [bz.Measure(RETURN, self._evaluated, self.every, last=last)] if self.evaluate else []
        limits = {"patience": 10, **limits}
        return bz.Run(
            self.search, oracle, steps=steps, until=until, measures=measures, observers=observers, stop=stop, **limits
        )

    def _evaluated(self, search: bz.Search) -> dict[str, Any]:
        """The mean return of the current policy over evaluation episodes."""
        now, so_far = self.trained, self.experience
        results = self.oracle.evaluate(now.x, now.seen, self.evaluate)
        found: dict[str, Any] = {"episodes": so_far.episodes, "steps": so_far.steps}
        failures = [r for r in results if isinstance(r, Failure)]
        if failures:
            return {RETURN: np.nan, "error": failures[0].reason, **found}
        returns = np.array([r.episode_return for r in results if isinstance(r, Episode)])
        if len(returns) > 1:
            found["stderr"] = float(returns.std(ddof=1) / np.sqrt(len(returns)))
        value = float(returns.mean())
        if self._best is None or value > self._best[1]:
            self._best = self.search.moves, value, now
        return {RETURN: value, **found}

    def close(self) -> None:
        """End the workers and close the journal."""
        self.oracle.close()
        self.search.close()

    def __enter__(self) -> Training:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()


@final
class _Interruptible(Wrapper):
    """Lets a signal end the run after each answer.

    Args:
        oracle: The oracle.
        stop: Catches signals.
    """

    def __init__(self, oracle: bz.Oracle, stop: Stop) -> None:
        super().__init__(oracle)
        self.stop = stop

    @override
    def answer(self, proposal: bz.Proposal) -> bz.Values:
        return gather(proposal, self.parts(proposal))

    @override
    def parts(self, proposal: bz.Proposal) -> Iterator[bz.Part]:
        for part in parts_of(self.oracle, proposal):
            yield part
            self.stop.check()


def train(
    env: Any,
    method: str | Preset = "auto",
    policy: Policy | None = None,
    *,
    steps: int | None = None,
    env_steps: int | None = None,
    callback: Callable[[bz.Report], Any] | None = None,
    **arguments: Any,
) -> Trained:
    """Train a policy by black-box search.

    Args:
        env: An id, an `EnvSpec`, or a function that makes an environment.
        method: The name of a preset, or a `Preset`.
        policy: The policy; None takes a `LinearPolicy`.
        steps: Steps of the search; see `Training.run`.
        env_steps: See `Training.run`.
        callback: Called after each step with a `Report`; if it returns true, the training ends.
        **arguments: Arguments of `Training`.

    Returns:
        The policy with the best evaluation; without evaluations, the last one.

    Raises:
        OracleError: All candidates failed, in every step or in ten steps in a row.
    """
    with Training(env, method, policy, **arguments) as training:
        run = training.run(steps, env_steps, last=True, observers=[] if callback is None else [Callback(callback)])
        run.to_the_end()
        if run.ended in (bz.Ended.BARREN, bz.Ended.FAILED):
            raise bz.OracleError(run.message)
        best = training.best
        return training.trained if best is None else best[0]


def _problem(oracle: EpisodeOracle, how: Preset) -> dict[str, Any]:
    """The problem, for the journal's header."""
    rules, horizon = oracle.rules, oracle.horizon
    return {
        "kind": KIND,
        "env": spelled(oracle.env),
        "versions": versions_of(oracle.env),
        **oracle.policy.described(),
        "episodes": oracle.episodes,
        "common": oracle.common,
        "rank": how.rank,
        "num_envs": oracle.num_envs,
        "horizon": None if horizon is None else [horizon.first, horizon.growth],
        "survival_bonus": rules.survival_bonus,
        "max_steps": rules.max_steps,
        "clip": rules.clip,
        "score": None if rules.score is None else name_of(rules.score),
        "seed": oracle.seed,
    }
