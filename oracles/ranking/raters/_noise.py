"""Noise models of the answer to "which of these two is better?"."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import numpy as np

from blackbox_zo._checks import check_positive
from blackbox_zo._typing import Floats, override

__all__ = ["BradleyTerry", "Exact", "FixedFlip", "GapDependent", "Noise", "PlackettLuce", "Thurstone"]


class Noise(ABC):
    """A model of the comparison of f(x) and f(y); lower is better."""

    @abstractmethod
    def chance(self, gap: float) -> float:
        """The probability of a right answer; `gap` is the absolute difference of f(x) and f(y)."""

    def heard(self, values: Floats, uniforms: Floats) -> Floats:
        """The values that one answer compares: f itself, or f with noise drawn once per candidate.

        Args:
            values: Shape (n,).
            uniforms: One number per candidate, drawn from (0, 1), shape (n,).
        """
        return values


@final
@dataclass(frozen=True)
class Exact(Noise):
    """Always right."""

    @override
    def chance(self, gap: float) -> float:
        return 1.0


@final
@dataclass(frozen=True)
class FixedFlip(Noise):
    """Wrong with probability `p` for any gap (SCOBO's model with kappa = 1; Cai et al. 2022).

    Args:
        p: From 0 to 0.5; at 0.5 an answer carries no information.

    Raises:
        ValueError: `p` is out of its range.
    """

    p: float

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 0.5:
            raise ValueError(f"`FixedFlip(p=...)` must be from 0 to 0.5, got {self.p!r}.")

    @override
    def chance(self, gap: float) -> float:
        return 1.0 - self.p


@final
@dataclass(frozen=True)
class GapDependent(Noise):
    """Right with probability `1/2 + min(delta, mu gap^(kappa - 1))` (the comparison oracle of SCOBO; Cai et al. 2022).

    Args:
        mu: Positive, in units of f^(1 - kappa).
        kappa: At least 1; 1 is a fixed probability.
        delta: Largest advantage over guessing, in (0, 0.5].

    Raises:
        ValueError: An argument is out of its range.
    """

    mu: float = 1.0
    kappa: float = 1.5
    delta: float = 0.5

    def __post_init__(self) -> None:
        check_positive("GapDependent", mu=self.mu, delta=self.delta)
        if not self.kappa >= 1:
            raise ValueError(f"`GapDependent(kappa=...)` must be at least 1, got {self.kappa!r}.")
        if self.delta > 0.5:
            raise ValueError(f"`GapDependent(delta=...)` must be at most 0.5, got {self.delta!r}.")

    @override
    def chance(self, gap: float) -> float:
        return 0.5 + min(self.delta, self.mu * float(gap ** (self.kappa - 1)))


@final
@dataclass(frozen=True)
class BradleyTerry(Noise):
    """Right with probability `1 / (1 + exp(-gap / temperature))` (Bradley & Terry 1952).

    Args:
        temperature: Positive, in units of f: at this gap, 73 % of the answers are right.

    Raises:
        ValueError: `temperature` is not positive.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_positive("BradleyTerry", temperature=self.temperature)

    @override
    def chance(self, gap: float) -> float:
        return 1.0 / (1.0 + math.exp(-min(gap / self.temperature, 700.0)))


@final
@dataclass(frozen=True)
class Thurstone(Noise):
    """Right with probability `Phi(gap / scale)`, Phi the standard normal cdf (Thurstone 1927, case V).

    Args:
        scale: Positive, in units of f: the standard deviation of the noise in the difference of two values.

    Raises:
        ValueError: `scale` is not positive.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        check_positive("Thurstone", scale=self.scale)

    @override
    def chance(self, gap: float) -> float:
        return 0.5 * math.erfc(-gap / (self.scale * math.sqrt(2.0)))


@final
@dataclass(frozen=True)
class PlackettLuce(Noise):
    """Candidates are ordered by `-f / temperature + Gumbel noise` (Luce 1959, Plackett 1975).

    The noise is drawn once per answer, so its comparisons never contradict each other. Each pair is ordered correctly
    with the probability of `BradleyTerry`.

    Args:
        temperature: Positive, in units of f.

    Raises:
        ValueError: `temperature` is not positive.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_positive("PlackettLuce", temperature=self.temperature)

    @override
    def heard(self, values: Floats, uniforms: Floats) -> Floats:
        out: Floats = values + self.temperature * np.log(-np.log(uniforms))
        return out

    @override
    def chance(self, gap: float) -> float:
        # `heard` holds the noise; the comparison itself is exact
        return 1.0
