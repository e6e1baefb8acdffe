"""The state of a `Portfolio`: which member runs, what was found, and the ledger of the runs."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from blackbox_zo._typing import Bools, Floats, Ints
from blackbox_zo.feedback import Values
from blackbox_zo.steps import Queries
from blackbox_zo.variables import Vector

__all__ = [
    "AGAIN", "JUMP", "LOOK", "MEMBER", "PROBE", "ROUNDING", "PortfolioState", "Spent",
    "ended", "seen", "seen_at_x", "seen_late", "spent", "told", "trace", "with_centre", "with_inner", "without",
]  # fmt: skip

ROUNDING = 1e-12
"""A relative difference that the order of a sum explains, as where threads share it, and no noise."""

NEWEST = 10
"""Values at x that are averaged under noise."""

PROBE, AGAIN, LOOK, MEMBER, JUMP = range(5)
"""What the next queries are for."""


class Spent(NamedTuple):
    """One run of one member.

    Attributes:
        member: Its name.
        queries: How many it has asked.
        before: The best value when it began; NaN where answers are rankings.
        after: The best value now, or when it ended.
        ended: Why it ended; empty while it runs.
    """

    member: str
    queries: int
    before: float
    after: float
    ended: str


class PortfolioState(NamedTuple):
    """Which member runs, and what was found.

    Attributes:
        phase: What the next queries are for.
        member: Index of the member that runs, or is to run after the jump.
        runs: Runs that each member has begun, shape (m,).
        dropped: Which members raised, gave nonsense, or under noise were over, shape (m,).
        inner: The state of each member.
        incumbent: The best point, in the coordinates of the variable, shape (d,).
        best: Its value; NaN before the first answer.
        radius: How far to look around a start that failed.
        noise: The standard deviation of answers at one point, or their standard error; 0 for none.
        centre: Under noise, the newest values at x, one a step, shape (≤ 10,).
        ranked: Whether answers are rankings.
        asked: Queries of this run.
        run_best: The best value of this run.
        gained: `asked` at the last gain of this run.
        before: `best` when this run began; before any run, the first value at x0.
        ledger: Member, queries, `before` and `best` after it, of each run that has ended, shape (r, 4).
        reasons: Why each ended, a line each, as bytes of UTF-8.
        points: Points whose values were told without being asked, shape (n, d), for each member that begins.
        values: Their values, NaN for a failure, shape (n,).
        places: Where to restart before random places, shape (p, d): the other starts, and better points told later.
        place_values: Their values, shape (p,).
        stands: Under noise, where each member has stopped, shape (m, d).
        heights: The mean value there, NaN before, shape (m,).
        errors: Its standard error, shape (m,).
    """

    phase: int
    member: int
    runs: Ints
    dropped: Bools
    inner: tuple[Any, ...]
    incumbent: Floats
    best: float
    radius: float
    noise: float
    centre: Floats
    ranked: bool
    asked: int
    run_best: float
    gained: int
    before: float
    ledger: Floats
    reasons: NDArray[np.uint8]
    points: Floats
    values: Floats
    places: Floats
    place_values: Floats
    stands: Floats
    heights: Floats
    errors: Floats


def trace(s: PortfolioState, names: list[str]) -> list[Spent]:
    """The runs in order, the present one last."""
    done = zip(s.ledger.tolist(), told(s.reasons).split("\n"), strict=False)
    out = [Spent(names[int(i)], int(n), before, after, why) for (i, n, before, after), why in done]
    if s.phase == MEMBER:
        out.append(Spent(names[s.member], s.asked, s.before, s.best, ""))
    return out


def ended(s: PortfolioState, why: str) -> PortfolioState:
    """The state after the end of the present run, if there is one."""
    if s.phase != MEMBER or s.member < 0:
        return s
    row = np.array([[s.member, s.asked, s.before, s.best]])
    line = np.frombuffer(f"{' '.join(why.split())}\n".encode(), dtype=np.uint8)
    ledger, reasons = np.concatenate((s.ledger, row)), np.concatenate((s.reasons, line))
    return s._replace(ledger=ledger, reasons=reasons)


def spent(s: PortfolioState) -> Floats:
    """Queries of each member in the runs that have ended, shape (m,)."""
    out = np.zeros(len(s.runs))
    np.add.at(out, s.ledger[:, 0].astype(np.intp), s.ledger[:, 1])
    return out


def with_centre(s: PortfolioState, value: float) -> PortfolioState:
    """With one more value at x; NaN for a failed query."""
    return s if math.isnan(value) else s._replace(centre=np.append(s.centre, value)[-NEWEST:])


def with_inner(s: PortfolioState, inner: Any) -> PortfolioState:
    """With a new state of the present member."""
    return s._replace(inner=(*s.inner[: s.member], inner, *s.inner[s.member + 1 :]))


def without(s: PortfolioState) -> PortfolioState:
    """With the present member left out from now on."""
    return s._replace(dropped=s.dropped | (np.arange(len(s.dropped)) == s.member))


def seen(s: PortfolioState, variable: Vector, queries: Queries, values: Floats) -> PortfolioState:
    """The state after values: they are counted, and the best point is kept."""
    asked = s.asked + len(values)
    best = float(np.fmin.reduce(values))  # NaN if all failed
    if not (best < s.run_best or (math.isnan(s.run_best) and best == best)):
        return s._replace(asked=asked)
    gained = s.gained if s.run_best - best <= 1e-12 * abs(best) else asked
    s = s._replace(asked=asked, gained=gained, run_best=best)
    if best >= s.best:
        return s
    first = int((values == best).argmax())
    return s._replace(best=best, incumbent=variable.project(queries.take(slice(first, first + 1)).points()[0]))


def seen_late(s: PortfolioState, variable: Vector, queries: Queries, values: Floats) -> PortfolioState:
    """The state after values that another run asked for: the present one has gained nothing by them."""
    return seen(s, variable, queries, values)._replace(run_best=s.run_best, gained=s.gained)


def seen_at_x(s: PortfolioState, values: Values) -> PortfolioState:
    """The state after one more value at x: of the first two any difference is noise, then it is one of `centre`."""
    value = float(values.values[0])
    if math.isnan(s.before):
        known = 0.0 if values.stderr is None else float(np.nan_to_num(values.stderr[0]))
        return s._replace(before=value, noise=max(s.noise, known))
    if s.noise:
        return with_centre(s, value)
    gap = abs(value - s.before)
    return s._replace(noise=gap if gap > ROUNDING * abs(value) else 0.0)


def told(characters: NDArray[np.uint8]) -> str:
    """The reasons as text."""
    return characters.tobytes().decode()
