"""How good a policy is by some episodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from oracles.rl._episodes import Episode, Failure

__all__ = ["Evaluated", "evaluated"]


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


def evaluated(played: Sequence[Episode | Failure]) -> Evaluated:
    """What episodes say, as `EpisodeOracle.evaluate` gave them."""
    from oracles.rl._episodes import Episode

    returns = np.array([r.total for r in played if isinstance(r, Episode)])
    errors = [r.reason for r in played if not isinstance(r, Episode)]
    if errors:
        return Evaluated(np.nan, np.nan, errors[0])
    stderr = float(returns.std(ddof=1) / np.sqrt(len(returns))) if len(returns) > 1 else np.nan
    return Evaluated(float(returns.mean()), stderr, "")
