"""A toy simulator: a golf ball is struck, and the wind blows. The oracle learns how the wind blows on average."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

import blackbox_zo as bz

HOLE = np.array([30.0, 2.0])
"""Metres from the tee."""


class Wind(NamedTuple):
    """What is known of the wind: how many strokes have been seen, and their mean drift to the side in metres."""

    strokes: int
    drift: float


class Golf(bz.Oracle):
    """How far from the hole the ball comes to rest, in metres. x is the angle in degrees and the speed in m/s."""

    def __init__(self, wind: float = 1.5) -> None:
        self.wind = wind

    def answer(self, proposal: bz.Proposal) -> bz.Values:
        """Strike once for each query, aimed against the drift that is known."""
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
        """Nothing is known."""
        return Wind(0, 0.0)

    def absorb(self, state: Wind, evidence: Mapping[int, Any]) -> Wind:
        """The mean over all strokes so far."""
        n = state.strokes + len(evidence)
        return Wind(n, (state.drift * state.strokes + sum(evidence.values())) / n)
