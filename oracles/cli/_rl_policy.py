"""How good a training's policy is in episodes of its own, and the policy after an earlier step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from blackbox_zo import _replay
from blackbox_zo.journal import read
from blackbox_zo.randomness import Key

if TYPE_CHECKING:
    from oracles.rl import Trained, Training

__all__ = ["Evaluated", "evaluated", "trained_at"]


class Evaluated(NamedTuple):
    """What the present policy got.

    Attributes:
        mean: Mean return; NaN if an episode failed.
        stderr: Its standard error; NaN of one episode.
        error: Why an episode failed; empty if none did.
    """

    mean: float
    stderr: float
    error: str


def evaluated(training: Training, now: Trained, episodes: int) -> Evaluated:
    """Play the episodes of `Trained.evaluate`, but where the training's are played, so that a crash harms nothing."""
    from oracles.rl._environment import Episode
    from oracles.rl._pool import Task

    key = Key(0, 0)
    seeds = [int.from_bytes(key.digest("evaluation", e, size=4), "little") >> 1 for e in range(episodes)]
    played = dict(training.oracle._play(Task(e, now.x, now.seen, seed) for e, seed in enumerate(seeds)))
    results = [played[e] for e in range(episodes)]
    returns = np.array([r.total for r in results if isinstance(r, Episode)])
    errors = [r.reason for r in results if not isinstance(r, Episode)]
    if errors:
        return Evaluated(np.nan, np.nan, errors[0])
    stderr = float(returns.std(ddof=1) / np.sqrt(episodes)) if episodes > 1 else np.nan
    return Evaluated(float(returns.mean()), stderr, "")


def trained_at(training: Training, journal: Path, step: int) -> Trained:
    """The policy as it was evaluated after so many steps, rebuilt from the answers."""
    import blackbox_zo as bz
    from oracles.rl import EpisodeOracle, Trained
    from oracles.rl.training import _flat

    _, records = read(journal)
    how, policy = training.preset, training.policy
    search = bz.Search(policy.x0, how.estimator, how.rule, seed=training.search.seed)
    _replay.replay(search, records, moves=step)
    seen = None
    if policy.normalize:
        oracle = EpisodeOracle(training.env, policy, training.oracle.episodes, workers=0)
        oracle.recall([record for record in records if record["step"] < step])
        oracle.close()
        seen = oracle.seen
    return Trained(training.env, policy, _flat(search), seen)
