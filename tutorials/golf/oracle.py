"""A toy simulator of golf strokes in the wind. The oracle learns the mean drift."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

import blackbox_zo as bz

HOLE = np.array([30.0, 2.0])
"""Position of the hole: metres ahead of the tee, and metres aside."""


class Wind(NamedTuple):
    """What is known about the wind: the number of strokes so far, and their mean sideways drift in metres."""

    strokes: int
    drift: float


class Golf(bz.Oracle):
    """The distance between ball and hole, in metres. x is the angle in degrees and the speed in m/s."""

    def __init__(self, wind: float = 1.5) -> None:
        self.wind = wind

    def answer(self, proposal: bz.Proposal) -> bz.Values:
        """Strike once for each query, corrected for the known drift."""
        known: Wind = proposal.state(self)
        distances, notes = [], []
        for query, (angle, speed) in zip(proposal.ids.tolist(), proposal.points, strict=True):
            rng = bz.Key(5, query).generator("gust")  # a function of the query: a resumed run meets the same gust
            gust = self.wind + rng.standard_normal() * 0.3
            way = speed**2 / 10.0 * np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
            rest = way + np.array([0.0, gust - known.drift])
            proposal.learn(self, query, gust)
            distances.append(float(np.hypot(*(rest - HOLE))) if speed < 40 else np.nan)
            notes.append({"rest": rest.tolist()} if speed < 40 else {"error": "the club broke"})
        return bz.Values(distances, info=notes)

    def start(self) -> Wind:
        """No strokes yet."""
        return Wind(0, 0.0)

    def absorb(self, state: Wind, evidence: Mapping[int, Any]) -> Wind:
        """Update the mean drift over all strokes."""
        n = state.strokes + len(evidence)
        return Wind(n, (state.drift * state.strokes + sum(evidence.values())) / n)
