"""Running mean and variance of observations, merged episode by episode."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from blackbox_zo._typing import Floats

__all__ = ["Statistics"]

LEAST_STD = 1e-7
"""Observations with a smaller standard deviation are set to 0 (Mania et al. 2018)."""


class Statistics(NamedTuple):
    """Count, mean and sum of squared deviations of observations.

    Attributes:
        n: Number of observations.
        mean: Mean, shape (o,).
        squares: Sum of squared deviations from the mean, shape (o,).
    """

    n: int
    mean: Floats
    squares: Floats

    @classmethod
    def none(cls, size: int) -> Statistics:
        """The statistics of no observations."""
        return cls(0, np.zeros(size), np.zeros(size))

    @classmethod
    def of(cls, observations: Floats) -> Statistics:
        """The statistics of observations, shape (n, o), n ≥ 1."""
        mean = np.add.reduce(observations, 0) / len(observations)
        away = observations - mean
        return cls(len(observations), mean, np.einsum("ij,ij->j", away, away))

    def merged(self, other: Statistics) -> Statistics:
        """The statistics of both together (Chan, Golub & LeVeque 1979). The order matters in the last bits."""
        if not other.n:
            return self
        n = self.n + other.n
        away = other.mean - self.mean
        mean = self.mean + away * (other.n / n)
        squares = self.squares + other.squares + away * away * (self.n * other.n / n)
        return Statistics(n, mean, squares)

    def scale(self) -> Floats:
        """1 / standard deviation, shape (o,): 0 where observations do not vary, 1 with fewer than two observations."""
        if self.n < 2:
            return np.ones(len(self.mean))
        std = np.sqrt(self.squares / (self.n - 1))
        scale: Floats = np.where(std < LEAST_STD, 0.0, 1.0 / np.maximum(std, LEAST_STD))
        return scale

    def to_json(self) -> dict[str, Any]:
        """The statistics for a journal, exact to the last bit."""
        return {"n": self.n, "mean": self.mean.tolist(), "squares": self.squares.tolist()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Statistics:
        """The inverse of `to_json`."""
        return cls(int(data["n"]), np.array(data["mean"], dtype=float), np.array(data["squares"], dtype=float))
