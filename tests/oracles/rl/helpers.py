"""What the tests of episodes share."""

from __future__ import annotations

from typing import Any

import numpy as np

import blackbox_zo as bz
from blackbox_zo._typing import Floats
from oracles.rl import EpisodeOracle, LinearPolicy
from tests.oracles.helpers import proposal_of
from tests.oracles.rl.environments import Line, Misdeed, by_action, played

POINTS = np.array([[-0.5, 0.1, 0.1], [0.0, 0.0, -1.0], [-1.0, 0.0, 0.2], [0.0, 0.0, 0.0]])
"""Four linear policies for `Line`; the second one always pushes to the left."""

BAD = 1

EPISODES = 2


def line_oracle(misdeed: Misdeed | None = None, workers: int = 2, **more: Any) -> EpisodeOracle:
    """`Line`, whose environment does wrong."""
    policy = LinearPolicy(3, 1, normalize=more.pop("normalize", False))
    return EpisodeOracle(lambda: Line(misdeed=misdeed), policy, EPISODES, workers, **more)


def of_bad(misdeed: Misdeed) -> Misdeed:
    """A misdeed that meets `BAD` only."""
    return by_action({-1.0: misdeed})


def seeds_of(oracle: EpisodeOracle, step: int = 0, query: int = 0) -> list[int]:
    """The environment's seeds in a step, as documented: a hash of the run's seed, the step and the episode."""
    key = bz.randomness.Key(oracle.seed, step)
    return [int.from_bytes(key.digest("episode", e, query, size=4), "little") >> 1 for e in range(oracle.episodes)]


def right(oracle: EpisodeOracle, step: int = 0) -> Floats:
    """What `POINTS` are worth in `Line`."""
    return np.array([-np.mean(played(seeds_of(oracle, step), x)) for x in POINTS])


def ask(oracle: EpisodeOracle, step: int = 0, points: Any = POINTS) -> bz.Values:
    return oracle.answer(proposal_of(points, step, 4 * step))


def errors(answer: bz.Values) -> list[str | None]:
    assert answer.info is not None
    return [(note or {}).get("error") for note in answer.info]
