"""What the tests of episodes share."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import numpy as np

import blackbox_zo as bz
from blackbox_zo._typing import Floats
from blackbox_zo.learning import Learning
from blackbox_zo.oracle import Oracle
from oracles import RankOnly
from oracles.rl import EpisodeOracle, LinearPolicy, MLPPolicy, Policy
from tests.oracles.helpers import ended, proposal_of
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


def ask(
    oracle: EpisodeOracle, step: int = 0, points: Any = POINTS, learning: Learning | None = None, over: bool = True
) -> bz.Values:
    """The answer to a step; `learning` takes in what it teaches, unless the step is not `over`."""
    proposal = proposal_of(points, step, 4 * step, learning)
    answer = oracle.answer(proposal)
    if over:
        ended(proposal)
    return answer


def evidence_of(oracle: EpisodeOracle, points: Any = POINTS) -> dict[int, Any]:
    """What the answers to a step teach, by query, as a journal keeps it."""
    proposal = proposal_of(points)
    oracle.answer(proposal)
    found = proposal.moment.of(proposal.ids)
    assert found is not None
    return {query: json.loads(json.dumps(taught)) for query, taught in found["EpisodeOracle"].items()}


def errors(answer: bz.Values) -> list[str | None]:
    assert answer.info is not None
    return [(note or {}).get("error") for note in answer.info]


def dawdles(env: Line, observation: Any) -> Any:
    """So that episodes do not end in the order in which they were begun."""
    time.sleep(random.SystemRandom().uniform(0.0, 0.01))
    return observation


def oracle_of(workers: int, policy: Policy | None = None, **more: Any) -> EpisodeOracle:
    policy = MLPPolicy(3, 1, (4,), normalize=True, seed=2) if policy is None else policy
    return EpisodeOracle(lambda: Line(misdeed=dawdles if workers else None), policy, 2, workers, seed=11, **more)


def search_of(oracle: EpisodeOracle, journal: Path | None = None) -> bz.Search:
    return bz.Search(oracle.x0, bz.RankBased(0.3, 6), bz.SGD(0.5), seed=3, journal=journal)


def run(oracle: EpisodeOracle, steps: int, rank: bool, journal: Path | None = None) -> bytes:
    """All bits at the end of so many steps, those in the journal among them."""
    asked: Oracle = RankOnly(oracle) if rank else oracle
    with search_of(oracle, journal) as search:
        left = steps - search.variable.version
        for _ in search.run(asked, left) if left else ():
            pass
        end = search.ask()
        oracle.close()
        return bits(np.asarray(end.points), search, oracle)


def bits(x: Any, search: bz.Search, oracle: EpisodeOracle) -> bytes:
    known = search.state_of(oracle)
    assert known.seen.n == known.steps > 0
    return b"".join(np.asarray(part).tobytes() for part in (x, *known.seen, known.ended, known.episodes, known.steps))
