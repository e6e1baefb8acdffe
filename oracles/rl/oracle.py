"""`EpisodeOracle`: evaluates policies by episodes in an environment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, final

import numpy as np

from blackbox_zo._checks import check_at_least, check_positive
from blackbox_zo._typing import Floats, override
from blackbox_zo.feedback import Values
from blackbox_zo.oracle import Oracle, Part, gather
from blackbox_zo.proposal import Proposal
from blackbox_zo.randomness import Key
from oracles.rl._environment import said
from oracles.rl._episodes import Episode, Failure, Player, Rules, Trajectory, groups
from oracles.rl._horizon import Horizon
from oracles.rl._players import player
from oracles.rl._pool import TRIES, Pool, Task
from oracles.rl._seeds import evaluation_seeds, seed_of
from oracles.rl._statistics import Statistics
from oracles.rl.policies import Policy
from oracles.rl.rollouts import Rollouts

__all__ = ["EpisodeOracle", "Experience"]


class Experience(NamedTuple):
    """What an `EpisodeOracle` has learnt from all complete steps of a search.

    Attributes:
        seen: Statistics of the observations, if the policy normalises them.
        ended: Whether an episode has terminated before its horizon; whole episodes are played from then on.
        episodes: Number of episodes.
        steps: Number of environment steps.
    """

    seen: Statistics
    ended: bool
    episodes: int
    steps: int


@final
class EpisodeOracle(Oracle):
    """Plays episodes with each candidate's parameters, and answers with minus their mean score.

    All candidates of a step meet the same episodes: the environment's seeds depend on the run's seed, the step and the
    number of the episode only (common random numbers). Observations are normalised by the statistics of all earlier
    steps, which are fixed within a step and merged in the order of queries. So answers are bit-identical for any number
    of workers, and after a resume: the journal records the statistics beside each answer.

    An episode that raises, hangs, kills its process or returns a reward that is not finite is played once more in a new
    process; if it fails again, its query fails.

    Args:
        env: An id, an `EnvSpec`, or a function that makes an environment, or several that step together; or
            `Rollouts`.
        policy: The policy; the search starts from its x0.
        episodes: Episodes per candidate; the answer is their mean.
        workers: Worker processes; 0 plays in the calling process, without protection from crashes and hangs.
        num_envs: Environments stepped together in one process (`gymnasium.make_vec`); an error in one of them fails
            the episodes of all.
        seed: Determines the environments' seeds.
        common: Whether the candidates of a step meet the same episodes.
        score: Maps a `Trajectory` to the score, which is maximised; None takes the return minus any survival bonus.
        horizon: Cuts episodes short, and later with each step of the search; None plays whole episodes.
        survival_bonus: Subtracted from each reward, for environments that pay an alive bonus.
        max_steps: Maximum steps of an episode; None leaves it to the environment.
        clip: Whether to clip actions to the bounds of their space.
        timeout: Seconds allowed for an episode, or for the episodes stepped together; None is no limit.
        memory_growth: MiB by which a worker's memory may grow before it is replaced.

    Attributes:
        num_envs: Episodes played at once in a process; None is all of them.
        episodes_played: Episodes played so far, failed ones included.
        steps_played: Environment steps in the episodes that did not fail.

    Raises:
        EnvError: The environment cannot be made.
        SpaceError: The policy does not fit it.
        ValueError: An argument is out of its range.
    """

    def __init__(
        self,
        env: Any,
        policy: Policy,
        episodes: int = 1,
        workers: int = 1,
        *,
        num_envs: int = 1,
        seed: int = 0,
        common: bool = True,
        score: Callable[[Trajectory], float] | None = None,
        horizon: Horizon | None = None,
        survival_bonus: float = 0.0,
        max_steps: int | None = None,
        clip: bool = True,
        timeout: float | None = 300.0,
        memory_growth: float = 512.0,
    ) -> None:
        if not isinstance(policy, Policy):
            raise TypeError(f"`policy` must be a policy such as `LinearPolicy.for_env(env)`, got {policy!r:.60}.")
        check_at_least("EpisodeOracle", 1, episodes=episodes)
        check_at_least("EpisodeOracle", 1, num_envs=num_envs)
        check_at_least("EpisodeOracle", 0, workers=workers)
        if max_steps is not None:
            check_at_least("EpisodeOracle", 1, max_steps=max_steps)
        if timeout is not None:
            check_positive("EpisodeOracle", timeout=timeout)
        check_positive("EpisodeOracle", memory_growth=memory_growth)
        if not np.isfinite(survival_bonus):
            raise ValueError(f"`EpisodeOracle(survival_bonus=...)` must be a finite number, got {survival_bonus!r}.")
        if score is not None and survival_bonus:
            raise ValueError("`survival_bonus` applies to the return; a `score` function must subtract it itself.")
        if horizon is not None and not isinstance(horizon, Horizon):
            raise TypeError(
                f"`horizon` must be a `Horizon`, such as `Horizon({horizon!r:.20}, growth=0)`, got {horizon!r:.60}."
            )
        if horizon is not None and isinstance(env, Rollouts):
            raise ValueError("`horizon` is for environments; the function in `Rollouts` must apply its own.")
        self.env, self.policy, self.episodes, self.workers = env, policy, int(episodes), int(workers)
        self.seed, self.common, self.horizon = seed, common, horizon
        self.rules = Rules(score, float(survival_bonus), max_steps, clip)
        self._setup = (env, policy, self.rules, int(num_envs))
        self._player: Player | None = player(*self._setup)  # raises now if something does not fit
        self.num_envs = self._player.num_envs
        if workers:
            self._player.close()
            self._player = None
        self._pool = Pool(self._setup, workers, timeout, memory_growth) if workers else None
        self.episodes_played = self.steps_played = 0

    @property
    def x0(self) -> Any:
        """Where a search starts: the policy's x0."""
        return self.policy.x0

    @override
    def answer(self, proposal: Proposal) -> Values:
        return gather(proposal, self.parts(proposal))

    @override
    def parts(self, proposal: Proposal) -> Iterator[Part]:
        """Yield one part per query, as soon as its episodes end.

        Raises:
            ValueError: The points and the policy differ in size.
        """
        points = proposal.points
        if points.shape[1] != self.policy.size:
            raise ValueError(
                f"The search is over {points.shape[1]} numbers, but the policy has {self.policy.size}; start it from "
                "`oracle.x0`."
            )
        known: Experience = proposal.state(self)
        played: dict[int, dict[int, Episode | Failure]] = {i: {} for i in range(proposal.n)}
        rows = np.repeat(points, self.episodes, axis=0)
        seen = known.seen if self.policy.normalize else None
        horizon = None if known.ended or self.horizon is None else self.horizon(proposal.step)
        for number, result in self._play(rows, seen, self._seeds(proposal), horizon):
            i, episode = divmod(number, self.episodes)
            played[i][episode] = result
            if len(played[i]) == self.episodes:
                done = played.pop(i)
                values, evidence = self._values([done[e] for e in sorted(done)], horizon is not None)
                proposal.learn(self, int(proposal.ids[i]), evidence)
                yield proposal.ids[i : i + 1], values

    def _seeds(self, proposal: Proposal) -> list[int]:
        key, out = Key(self.seed, proposal.step), []
        for i in range(proposal.n):
            query = 0 if self.common else 1 + int(proposal.ids[i])
            out += [seed_of(key, "episode", e, query) for e in range(self.episodes)]
        return out

    def evaluate(self, x: Floats, seen: Statistics | None, episodes: int, seed: int = 0) -> list[Episode | Failure]:
        """Play episodes with separate seeds, on the workers of the search, so that a crash does no harm.

        They change neither the search nor the statistics.

        Args:
            x: Parameters, shape (size,).
            seen: Statistics to normalise by.
            episodes: Number of episodes.
            seed: Determines their seeds, as in `Trained.evaluate`.
        """
        seeds = evaluation_seeds(seed, episodes)
        played = dict(self._play(np.tile(x, (episodes, 1)), seen, seeds))
        return [played[e] for e in range(episodes)]

    def _play(
        self, xs: Floats, seen: Statistics | None, seeds: list[int], horizon: int | None = None
    ) -> Iterator[tuple[int, Episode | Failure]]:
        """Yield the index and result of each episode, as it ends."""
        tasks = (
            Task(group.start, xs[group], seen, seeds[group], horizon) for group in groups(len(seeds), self.num_envs)
        )
        played = ((task, self._here(task)) for task in tasks) if self._pool is None else self._pool.play(tasks)
        for task, results in played:
            yield from enumerate(results, task.number)

    def _here(self, task: Task) -> list[Episode | Failure]:
        """Play in this process; after an error, make the environment again."""
        reason = ""
        for _ in range(TRIES):
            try:
                if self._player is None:
                    self._player = player(*self._setup)
                return self._player.play_all(task.x, task.seen, task.seeds, task.horizon)
            except Exception as error:  # any error fails only these episodes
                reason = said(error)
                if self._player is not None:
                    self._player.close()
                    self._player = None
        return [Failure(reason)] * len(task.seeds)

    def _values(self, results: list[Episode | Failure], cut_short: bool) -> tuple[Values, dict[str, Any]]:
        """Minus the mean score of a query's episodes, NaN if one failed; and the evidence from them."""
        episodes = [r for r in results if isinstance(r, Episode)]
        self.episodes_played += len(results)
        self.steps_played += sum(e.steps for e in episodes)
        info: dict[str, Any] = {"steps": sum(e.steps for e in episodes)}
        evidence = dict(info)
        if self.policy.normalize:
            seen = Statistics.none(self.policy.n_inputs)
            for e in episodes:
                assert e.seen is not None
                seen = seen.merged(e.seen)
            evidence["seen"] = seen.to_json()
        if cut_short:
            if any(e.terminated for e in episodes):
                evidence["ended"] = True
            if any(e.cut for e in episodes):
                info["cut"] = max(e.steps for e in episodes)
        failures = [r for r in results if isinstance(r, Failure)]
        if failures:
            return Values([np.nan], info=[info | {"error": failures[0].reason}]), evidence
        scores = np.array([e.score for e in episodes])
        info["return"] = float(np.mean([e.episode_return for e in episodes]))
        stderr = [scores.std(ddof=1) / np.sqrt(len(scores))] if len(scores) > 1 else None
        return Values([-scores.mean()], stderr, [info]), evidence

    # ---------------------------------------------------------------------------------------------------- learning

    @override
    def start(self) -> Experience:
        return Experience(Statistics.none(self.policy.n_inputs), False, 0, 0)

    @override
    def absorb(self, state: Experience, evidence: Mapping[int, Any]) -> Experience:
        # Statistics are merged in the order of the queries
        seen, ended, episodes, steps = state
        for found in evidence.values():
            if "seen" in found:
                seen = seen.merged(Statistics.from_json(found["seen"]))
            ended = ended or bool(found.get("ended"))
            episodes, steps = episodes + self.episodes, steps + int(found["steps"])
        return Experience(seen, ended, episodes, steps)

    @override
    def load(self, saved: Mapping[str, Any]) -> Experience:
        state: Experience = super().load(saved)
        if len(state.seen.mean) != self.policy.n_inputs:
            raise ValueError(
                f"The state holds statistics of {len(state.seen.mean)} observations, but the policy sees "
                f"{self.policy.n_inputs}: it belongs to another environment or policy."
            )
        return state

    @override
    def close(self) -> None:
        """End the worker processes."""
        if self._pool is not None:
            self._pool.close()
        if self._player is not None:
            self._player.close()
            self._player = None
