"""`Portfolio`: several methods in turn, with one incumbent, restarted until the budget ends."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import final

import numpy as np

from blackbox_zo._checks import all_finite, check_positive
from blackbox_zo._typing import Bools, Floats, Ints, override
from blackbox_zo.directions import Coordinates, Dense, Directions, Gaussian
from blackbox_zo.estimators._asynchronous import Asynchronous
from blackbox_zo.estimators._base import Estimator, vector_of
from blackbox_zo.estimators._portfolio_known import informed, listened
from blackbox_zo.estimators._portfolio_members import (
    Failed,
    all_asynchronous,
    check_growth,
    check_member,
    finite,
    restarted,
    tuple_of,
    usable,
)
from blackbox_zo.estimators._portfolio_state import (
    AGAIN,
    JUMP,
    LOOK,
    MEMBER,
    PROBE,
    ROUNDING,
    PortfolioState,
    Spent,
    ended,
    seen,
    seen_at_x,
    seen_late,
    spent,
    told,
    trace,
    with_centre,
    with_inner,
    without,
)
from blackbox_zo.estimators._portfolio_turns import at_x, heard, next_turn, recommended, standing, turn_is_over
from blackbox_zo.estimators._stages import move_by, still
from blackbox_zo.feedback import Feedback, Ranking, Values
from blackbox_zo.randomness import Key
from blackbox_zo.steps import Queries, Step
from blackbox_zo.variables import Variable, Vector

__all__ = ["Portfolio"]

LOOKED_AT = 8
"""Points a step while none has answered."""

REPEATS = 4
"""Values at x0 from which noise is known."""

BACK = 1e-9
"""By what share of all that was gained f may differ where x has come back to a point but for rounding."""

NO_ANSWER = 30
"""After so many queries without any answer an asynchronous portfolio goes elsewhere."""

AT_X = -1
"""The tag of a query at x."""


@final
@dataclass(frozen=True)
class Portfolio(Estimator):
    """Members in turn, each from the best point so far, then restarts: what `minimize` does by default.

    x0 is asked first, and again, unless the first answer is what was known. If it fails, points around it are asked,
    ever further away, until one answers. The best point is asked again whenever a member begins for the first time.

    A difference above rounding is noise, as is a standard error. Then members that need exact values are left out, and
    nothing restarts. The others take turns, each twice as long as the last: who has spent less than half of what the
    first has goes on, else who stands lowest. Each step asks x, too, and the mean of its newest values is f(x). Members
    that are `noisy` take part only then.

    Each member runs once, in order, until it is over (`Estimator.over`), or has gained nothing for 100 + 10 d queries
    and 30 steps. Then the member that has spent the least restarts at a random point: uniform within bounds, normal
    around x0 with standard deviation `spread` otherwise. Other starts, and points that were told to be better than any
    found, come before random places. So members share the budget evenly, and it is always used
    (Hansen 2009, BIPOP-CMA-ES, does the same with two population sizes). A member that looks `everywhere` runs once,
    unless no other is left.

    A member that raises, or whose points or moves are not finite, is dropped with a warning, and the others go on.
    Only members that accept the answers take part. Where these are rankings, nothing restarts, and only a member that
    looks `everywhere` is followed by the next.

    If the members are `Asynchronous`, so is the portfolio: nothing waits for an answer. x0 is asked by the first two
    steps, but the first member begins at once; if the first 30 queries fail, it jumps. Answers to a run that is over
    count for the best point, and not for the run that has begun. Under noise, one step of each generation asks x.

    The estimate is minus the move, for `SGD(1.0)`.

    Args:
        members: One method or several that make their own moves: their rule is `SGD(1.0)`.
        growth: For each member, or for all, by what `n_queries` is multiplied from restart to restart; 0 varies the
            radius between 1/100 and all of it instead. By default 1.
        spread: How far from x0 to restart in directions without bounds, in units of the variable.

    Raises:
        ValueError: There is no member, an argument is out of its range, a member estimates a gradient, or a restart
            could not change what it should.
    """

    members: tuple[Estimator, ...]
    growth: tuple[float, ...] = ()
    spread: float = 1.0

    accepts = (Values, Ranking)

    def __post_init__(self) -> None:
        members = tuple_of(self.members)
        growth = tuple_of(self.growth, len(members)) or (1.0,) * len(members)
        if not members:
            raise ValueError("`Portfolio(members=...)` must be at least one estimator, got none.")
        if len(growth) != len(members):
            raise ValueError(f"`Portfolio(growth=...)` has {len(growth)} numbers for {len(members)} members.")
        for member in members:
            check_member(member)
        object.__setattr__(self, "members", members)
        object.__setattr__(self, "growth", tuple(map(check_growth, members, growth)))
        check_positive("Portfolio", spread=self.spread)
        object.__setattr__(self, "any_age", all_asynchronous(members))
        if self.any_age:
            object.__setattr__(self, "accepts", (Values,))
        object.__setattr__(self, "warmup", 2 + max(member.warmup for member in self.members))

    @override
    def start(self, variable: Variable) -> PortfolioState:
        variable, m = vector_of(self, variable), len(self.members)
        runs = np.zeros(m, dtype=np.intp)
        runs[0] = self.any_age
        return PortfolioState(
            MEMBER if self.any_age else PROBE, 0, runs, np.zeros(m, dtype=np.bool_),
            tuple(member.start(variable) for member in self.members), variable.value, math.nan, 0.1 * self.spread, 0.0,
            np.zeros(0), False, 0, math.nan, 0, math.nan, np.zeros((0, 4)), np.zeros(0, dtype=np.uint8),
            np.zeros((0, variable.size)), np.zeros(0), np.zeros((0, variable.size)), np.zeros(0),
            np.zeros((m, variable.size)), np.full(m, math.nan), np.full(m, math.nan),
        )  # fmt: skip

    @override
    def inform(self, state: PortfolioState, variable: Variable, points: Floats, values: Floats) -> PortfolioState:
        # The incumbent, the places to restart from, and the member that runs; others are told when they begin
        variable = vector_of(self, variable)
        state = informed(state, variable, points, values)
        if state.phase != MEMBER or state.member < 0:
            return state
        member = self._member(state, variable.size)
        return with_inner(state, listened(member, state.inner[state.member], variable, points, values))

    def trace(self, state: PortfolioState) -> list[Spent]:
        """Which member spent what, and gained what, in order; the present run last."""
        return trace(state, [type(member).__name__ for member in self.members])

    def recommended(self, state: PortfolioState, variable: Vector) -> tuple[Vector, float, float]:
        """Under noise: the point of the lowest mean value, that mean of up to 10 values, and its standard error."""
        place, value, error = recommended(state, variable.value)
        return variable.at(place), state.best if math.isnan(value) else value, error

    def _member(self, state: PortfolioState, d: int) -> Estimator:
        i = state.member
        return restarted(self.members[i], self.growth[i], int(state.runs[i]) - 1, d)

    # -------------------------------------------------------------------------------------------------------- asking

    @override
    def sample(self, state: PortfolioState, variable: Variable, key: Key) -> Queries:
        variable = vector_of(self, variable)
        directions, index, scale, tag = self._asked(state, variable, key)
        return Queries(directions, index, scale, variable.value, (len(state.ledger), state.phase, *tag))

    def _asked(self, s: PortfolioState, variable: Vector, key: Key) -> tuple[Directions, Ints, Floats, tuple[int, ...]]:
        """Directions, index, scale and the member's own tag of the next queries."""
        x, blocks, one = variable.value, variable.blocks, np.zeros(1, dtype=np.intp)
        if self.any_age and self._at_x(s, variable.size, key.step):
            return Coordinates(blocks, np.arange(1)), one, np.zeros(1), (AT_X,)
        if s.phase == MEMBER:
            try:
                q = self._member(s, variable.size).sample(s.inner[s.member], variable, key)
                if not (all_finite(q.scale) and finite(q.directions)):
                    raise FloatingPointError("its points are not finite")
            except Exception as error:
                return Failed(blocks, error), one, np.zeros(1), ()
            if not s.noise or self.any_age:
                return q.directions, q.index, q.scale, q.tag
            return q.directions, np.append(q.index, 0), np.append(q.scale, 0.0), q.tag  # x itself, too
        if s.phase in (PROBE, AGAIN):
            return Coordinates(blocks, np.arange(1)), one, np.zeros(1), ()
        if s.phase == LOOK:
            rows = s.radius * Gaussian(blocks, LOOKED_AT, key).rows
            if variable.bounded:
                rows[::2] = self._anywhere(variable, key, LOOKED_AT)[::2] - x
            return Dense(blocks, rows), np.arange(LOOKED_AT), np.ones(LOOKED_AT), ()
        return Dense(blocks, self._anywhere(variable, key, 1) - x), one, np.ones(1), ()

    def _at_x(self, s: PortfolioState, d: int, step: int) -> bool:
        """Whether an asynchronous step asks x: the first two, then under noise one in each generation."""
        member = self._member(s, d)
        assert isinstance(member, Asynchronous)
        return step < 2 or (s.noise > 0 and step % (member.population(d) + 1) == 0)

    def _anywhere(self, variable: Vector, key: Key, n: int) -> Floats:
        """Random places to begin, shape (n, d)."""
        low, high = variable.box
        rng = key.generator("portfolio")
        normal = variable.start + self.spread * rng.standard_normal((n, variable.size))
        with np.errstate(invalid="ignore"):
            uniform = low + (high - low) * rng.random((n, variable.size))
        out: Floats = variable.project(np.where(np.isfinite(high - low), uniform, normal))
        return out

    # ----------------------------------------------------------------------------------------------------- answering

    @override
    def estimate(
        self, state: PortfolioState, variable: Variable, queries: Queries, feedback: Feedback
    ) -> tuple[PortfolioState, Step]:
        variable = vector_of(self, variable)
        late = queries.tag[:2] != (len(state.ledger), state.phase)  # asked by a run that is over
        if isinstance(feedback, Values):
            state = (seen_late if late and self.any_age else seen)(state, variable, queries, feedback.values)
        else:
            state = state._replace(ranked=True, asked=state.asked + feedback.n, incumbent=variable.value)
        if late:
            return state, still(variable)
        if queries.tag[2:] == (AT_X,):
            assert isinstance(feedback, Values)
            return seen_at_x(state, feedback), still(variable)
        if state.phase != MEMBER:
            return self._began(state, variable, queries, feedback)
        queries = queries.tagged(queries.tag[2:])
        if state.noise and queries.n > 1 and queries.scale[-1] == 0.0:  # the last step may be cut short before it
            assert isinstance(feedback, Values)
            state = heard(state, feedback.values[at_x(queries)])
            errors = None if feedback.stderr is None else feedback.stderr[:-1]
            queries, feedback = queries.take(slice(queries.n - 1)), Values(feedback.values[:-1], errors)
        try:
            if isinstance(queries.directions, Failed):
                raise queries.directions.error
            member = self._member(state, variable.size)
            after, step = member.estimate(state.inner[state.member], variable, queries, feedback)
            if not (all_finite(step.w) and finite(step.directions)):
                raise FloatingPointError("its move is not finite")
            why = member.over(after, variable)
        except Exception as error:
            return self._drop(state, variable, error)
        state = with_inner(state, after)
        if state.noise and not self.any_age:
            return self._under_noise(state, variable, step, why)
        if state.ranked and why and member.everywhere:  # the next goes on from where it ends
            there = variable.at(variable.value - step.dense())
            return self._next(state._replace(incumbent=there.value), variable, why)
        if state.noise or state.ranked:  # the values of two runs cannot be compared
            return state, step
        n = member.population(variable.size) if isinstance(member, Asynchronous) else queries.directions.k
        if not why and state.asked - state.gained > 100 + 10 * variable.size + 30 * n:
            why = f"no gain in {state.asked - state.gained} queries"
        if self.any_age:
            assert isinstance(feedback, Values)
            if math.isnan(state.best) and state.asked >= NO_ANSWER:
                why = f"no answer to {state.asked} queries"
            elif feedback.n_failed:  # a failure cannot move x to where another run begins
                why = ""
        return self._next(state, variable, why) if why else (state, step)

    def _began(
        self, s: PortfolioState, variable: Vector, queries: Queries, feedback: Feedback
    ) -> tuple[PortfolioState, Step]:
        """After the first answers, or a jump: begin with a member, or look further."""
        if not isinstance(feedback, Values):
            return self._next(s._replace(phase=MEMBER, member=-1), variable, "")
        value = float(feedback.values[0])
        agrees = s.phase == PROBE and abs(value - s.before) <= ROUNDING * abs(value) and feedback.stderr is None
        if s.phase == PROBE and not math.isnan(value) and not agrees:
            known = 0.0 if feedback.stderr is None else float(np.nan_to_num(feedback.stderr[0]))
            return s._replace(phase=AGAIN, noise=known, before=value), still(variable)
        if s.phase == AGAIN:
            gap, rounding = abs(value - s.before), ROUNDING * abs(value)
            if len(s.ledger):  # x came back to the best point, but for rounding
                rounding = max(rounding, BACK * abs(float(s.ledger[0, 2]) - s.before))
            s = s._replace(noise=max(s.noise, gap if gap > rounding else 0.0))
            if s.noise:
                s = with_centre(s if len(s.centre) else with_centre(s, s.before), value)
                if len(s.centre) < REPEATS and not math.isnan(value):
                    return s, still(variable)
                s = s._replace(noise=max(s.noise if feedback.stderr is not None else 0.0, float(s.centre.std(ddof=1))))
        if math.isnan(s.best):
            radius = s.radius if s.phase == PROBE else min(2 * s.radius, 1e6 * self.spread)
            return s._replace(phase=LOOK, radius=radius), still(variable)
        if s.phase != JUMP:
            return self._next(s._replace(phase=MEMBER, member=-1), variable, "")
        if math.isnan(value):  # another place
            return s, still(variable)
        return self._begin(s, variable, variable.project(queries.points()[0]), value)

    def _usable(self, s: PortfolioState) -> Bools:
        return usable(
            self.members, s.dropped, noise=s.noise > 0, ranked=s.ranked, kinds=s.noise > 0 and not self.any_age
        )

    def _under_noise(self, s: PortfolioState, variable: Vector, step: Step, why: str) -> tuple[PortfolioState, Step]:
        """After a step of a member: where it stands, and whether another goes on."""
        if len(s.centre):
            s = standing(s, variable.value)
        over = bool(why)
        if not (over or turn_is_over(s, variable.size)) or self._usable(s).sum() == 1:
            return s, step
        return self._turn(without(s) if over else s, variable, why or "its turn was over")

    def _turn(self, s: PortfolioState, variable: Vector, why: str) -> tuple[PortfolioState, Step]:
        """Under noise: the present member stops, and another begins at x, or goes on from where it stands."""
        s, able = ended(s, why), self._usable(s)
        if not able.any():
            raise RuntimeError(f"No member of the portfolio is left. {told(s.reasons)}")
        if (unused := np.flatnonzero(able & (s.runs == 0))).size:
            return self._begin(s._replace(member=int(unused[0])), variable, variable.value, s.best)
        s = s._replace(member=next_turn(s, able), asked=0, gained=0, before=s.best, centre=s.centre[:0])
        return s, move_by(variable, s.stands[s.member] - variable.value)

    def _next(self, s: PortfolioState, variable: Vector, why: str) -> tuple[PortfolioState, Step]:
        """End the present run, and choose who is next."""
        if s.noise and not self.any_age:
            return self._turn(s, variable, why)
        s, able = ended(s, why), self._usable(s)
        if not able.any():
            raise RuntimeError(f"No member of the portfolio is left. {told(s.reasons)}")
        if (unused := np.flatnonzero(able & (s.runs == 0))).size:
            if s.phase == MEMBER and s.member >= 0 and not (self.any_age or s.ranked):  # noise may show later
                s = s._replace(phase=AGAIN, member=-1, before=s.best)
                return s, move_by(variable, s.incumbent - variable.value)
            s = s._replace(member=int(unused[0]))
            if not (self.any_age and math.isnan(s.best)):
                return self._begin(s, variable, s.incumbent, s.best)
        else:
            once = np.array([member.everywhere for member in self.members])
            able &= ~once | once[able].all()
            s = s._replace(member=int(np.argmin(np.where(able, spent(s), np.inf))))
            if len(s.places):
                (place, *_), (value, *_) = s.places, s.place_values.tolist()
                s = s._replace(places=s.places[1:], place_values=s.place_values[1:])
                return self._begin(s, variable, place, value)
        return s._replace(phase=JUMP), still(variable)

    def _begin(self, s: PortfolioState, variable: Vector, place: Floats, value: float) -> tuple[PortfolioState, Step]:
        """Start a member where the value is known, and move x there."""
        runs = s.runs.copy()
        runs[s.member] += 1
        there = variable.at(place)
        s = s._replace(
            phase=MEMBER, runs=runs, asked=0, gained=0, run_best=value, before=s.best,
            stands=np.where((np.arange(len(runs)) == s.member)[:, None], there.value, s.stands),
        )  # fmt: skip
        try:
            member = self._member(s, variable.size)
            fresh = member.start(there)
            if not s.ranked:
                at_x = s.centre if s.noise and len(s.centre) else np.array([value])
                fresh = member.inform(fresh, there, np.tile(there.value, (len(at_x), 1)), at_x)
                fresh = listened(member, fresh, there, s.points, s.values)
        except Exception as error:
            return self._drop(s, variable, error)
        return with_inner(s, fresh), move_by(variable, there.value - variable.value)

    def _drop(self, s: PortfolioState, variable: Vector, error: Exception) -> tuple[PortfolioState, Step]:
        """Leave the present member out from now on."""
        what = f"{type(error).__name__}: {error}"
        name = type(self.members[s.member]).__name__
        warnings.warn(f"`{name}` was dropped from the portfolio, and the others go on: {what}", stacklevel=2)
        return self._next(without(s), variable, f"dropped: {what}")
