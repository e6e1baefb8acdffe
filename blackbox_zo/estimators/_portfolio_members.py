"""The members of a `Portfolio`: which may be, and how they change from restart to restart."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from blackbox_zo._checks import all_finite, check_number
from blackbox_zo._typing import Bools
from blackbox_zo.directions import Coordinates, Dense, Directions
from blackbox_zo.estimators._asynchronous import Asynchronous
from blackbox_zo.estimators._base import Estimator
from blackbox_zo.feedback import Ranking, Values
from blackbox_zo.rules import SGD

__all__ = ["Failed", "all_asynchronous", "check_growth", "check_member", "finite", "restarted", "tuple_of", "usable"]


def tuple_of(given: Any, n: int = 1) -> tuple[Any, ...]:
    """A tuple or list as a tuple; anything else n times."""
    return tuple(given) if isinstance(given, tuple | list) else (given,) * n


def check_member(member: Any) -> None:
    """Raise ValueError unless it is an estimator that makes its own moves."""
    if not isinstance(member, Estimator):
        raise ValueError(f"`Portfolio(members=...)` must be estimators, such as `QuasiNewton()`, got {member!r:.80}.")
    if member.rule() != SGD(1.0):
        kind = type(member).__name__
        raise ValueError(
            f"`Portfolio(members=...)` must be estimators that make their own moves, as `EvolutionStrategy` does; "
            f"`{kind}` estimates a gradient, which {member.rule()!r} turns into a move."
        )


def all_asynchronous(members: tuple[Estimator, ...]) -> bool:
    """Whether all members are `Asynchronous`; ValueError where only some are."""
    which = [isinstance(member, Asynchronous) for member in members]
    if any(which) and not all(which):
        kind = type(members[which.index(False)]).__name__
        raise ValueError(
            f"`Portfolio(members=...)` must all be `Asynchronous`, or none; `{kind}` answers only to whole steps."
        )
    return any(which)


def check_growth(member: Estimator, growth: Any) -> float:
    """The growth of a member as a number; ValueError where there is nothing that it could change."""
    check_number("Portfolio", growth=growth)
    if not growth >= 0:
        raise ValueError(f"`Portfolio(growth=...)` must be numbers of at least 0, got {growth!r}.")
    name = "radius" if growth == 0.0 else "n_queries"
    if growth != 1.0 and not hasattr(member.estimator if isinstance(member, Asynchronous) else member, name):
        kind = type(member).__name__
        raise ValueError(f"`Portfolio(growth=...)` is {growth:g} for `{kind}`, which has no `{name}`; give 1.")
    return float(growth)


@lru_cache(maxsize=256)
def restarted(member: Any, growth: float, run: int, d: int) -> Estimator:
    """A member as it is on its run-th restart."""
    if isinstance(member, Asynchronous):
        return Asynchronous(restarted(member.estimator, growth, run, d))  # type: ignore[arg-type]
    out: Estimator = member
    if run > 0 and growth == 0.0:
        out = replace(member, radius=member.radius * 10 ** (-2 * (0.618034 * run % 1.0)))
    elif run > 0 and growth != 1.0:
        out = replace(member, n_queries=round((member.n_queries or member.population(d)) * growth**run))
    return out


def usable(members: tuple[Estimator, ...], dropped: Bools, *, noise: bool, ranked: bool, kinds: bool) -> Bools:
    """Which members can use the answers, shape (m,).

    Args:
        members: All of them.
        dropped: Which are left out, shape (m,).
        noise: Whether answers have noise.
        ranked: Whether they are rankings.
        kinds: Whether one of several that are the same is enough, as where nothing restarts.
    """
    can = ~dropped & [(Ranking if ranked else Values) in member.accepts for member in members]
    out: Bools = can & [not (member.exact if noise else member.noisy) for member in members]
    if not (noise or out.any()):  # what is meant for noise works without it
        return can
    return out & [member not in members[:i] for i, member in enumerate(members)] if kinds else out


class Failed(Coordinates):
    """Stands for the queries of a member that raised."""

    def __init__(self, blocks: Any, error: Exception) -> None:
        super().__init__(blocks, np.arange(1))
        self.error = error


def finite(directions: Directions) -> bool:
    """Whether rows that are given, and not drawn, are finite."""
    return not isinstance(directions, Dense) or all_finite(directions.rows)
