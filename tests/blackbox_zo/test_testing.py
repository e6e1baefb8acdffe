"""The checkers find what they are made to find: each broken law, with a sentence that names it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import blackbox_zo as bz
from blackbox_zo import testing
from blackbox_zo._typing import Floats
from blackbox_zo.feedback import Feedback, Ranking, Values
from blackbox_zo.function import FunctionOracle
from blackbox_zo.oracle import Part
from blackbox_zo.proposal import Proposal
from blackbox_zo.randomness import Key, combine

Blocks = tuple[bz.Block, ...]


def complaint(check: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(AssertionError) as error:
        check(*arguments, **options)
    sentence = str(error.value)
    assert sentence[-1] in ".?`" and " " in sentence
    return sentence


# ----------------------------------------------------------------------------------------------------- directions


class Overwriting(bz.Gaussian):
    def add_(self, out: Floats, block: bz.Block, weights: Floats) -> None:
        out[:] = 0.0
        super().add_(out, block, weights)


class Nonlinear(bz.Gaussian):
    def add_(self, out: Floats, block: bz.Block, weights: Floats) -> None:
        super().add_(out, block, np.abs(weights))


class Streaming(bz.Directions):
    """Draws from a generator that is carried along."""

    def __init__(self, blocks: Blocks, k: int, key: Key) -> None:
        super().__init__(blocks, k)
        self.generator = np.random.default_rng((key.seed, key.step))

    def add_(self, out: Floats, block: bz.Block, weights: Floats) -> None:
        out += combine(weights, self.generator.standard_normal((self.k, block.size)))


class Ordered(Streaming):
    """Keeps what it drew, but in the order of the asking."""

    def add_(self, out: Floats, block: bz.Block, weights: Floats) -> None:
        kept: dict[str, Floats] = self.__dict__.setdefault("kept", {})
        if block.name not in kept:
            kept[block.name] = self.generator.standard_normal((self.k, block.size))
        out += combine(weights, kept[block.name])


class Writable(bz.Gaussian):
    @property
    def rows(self) -> Floats:
        return self.draw()


class OtherRows(bz.Gaussian):
    def draw(self) -> Floats:
        return 1.001 * super().draw()


class OtherBits(bz.Gaussian):
    def combine(self, weights: Floats) -> Floats:
        if "rows" in self.__dict__:
            return np.asarray(weights[::-1] @ self.rows[::-1])
        return super().combine(weights)


class OtherPoints(bz.Gaussian):
    def points(self, origin: Floats, index: Any, scale: Floats) -> Floats:
        return super().points(origin, index, np.abs(scale))


class WritingPoints(bz.Gaussian):
    def points(self, origin: Floats, index: Any, scale: Floats) -> Floats:
        out = super().points(origin, index, scale)
        origin += 1.0
        return out


class IgnoringTheStep(bz.Gaussian):
    def __init__(self, blocks: Blocks, k: int, key: Key) -> None:
        super().__init__(blocks, k, Key(key.seed, 0))


class ChangingWeights(bz.Gaussian):
    def add_(self, out: Floats, block: bz.Block, weights: Floats) -> None:
        super().add_(out, block, weights)
        weights *= 2.0


class OtherPieces(bz.Gaussian):
    def part(self, block: bz.Block, j: int, start: int, stop: int) -> Floats:
        return super().part(block, j, start, stop)[::-1]


class OneBuffer(bz.Gaussian):
    """What one thread was given, the next call overwrites."""

    def part(self, block: bz.Block, j: int, start: int, stop: int) -> Floats:
        here: Floats = self.__dict__.setdefault("buffer", np.zeros(100))[: stop - start]
        here[:] = super().part(block, j, start, stop)
        return here


class CountingParts(bz.Gaussian):
    def part(self, block: bz.Block, j: int, start: int, stop: int) -> Floats:
        self.calls = self.__dict__.get("calls", 0) + 1
        return np.asarray(super().part(block, j, start, stop) * (1.0 + 1e-14 * self.calls))


class WrongCount(bz.Gaussian):
    def __init__(self, blocks: Blocks, k: int, key: Key) -> None:
        super().__init__(blocks, k + 1, key)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (Overwriting, "overwrites what is in `out`; it must add to it"),
        (Nonlinear, "is not linear in the weights"),
        (Streaming, "gives other bits the second time"),
        (Ordered, "gives other bits when the order of blocks changes"),
        (Writable, "`Writable.rows` can be written to"),
        (OtherRows, "Row 0 of `OtherRows.rows` differs from what `add_` gives"),
        (OtherBits, "gives other bits once `rows` has been read"),
        (OtherPoints, "is not `origin + scale * rows[index]`"),
        (WritingPoints, "writes to `origin`"),
        (IgnoringTheStep, "the same directions for Key(seed=3, step=5) and Key(seed=3, step=6)"),
        (ChangingWeights, "changes the weights"),
        (OtherPieces, "`OtherPieces.part('matrix', 0, 0, 3)` differs from that piece of `rows`"),
        (OneBuffer, "differs from that piece of `rows`"),
        (CountingParts, "`CountingParts.part` gives other bits when several threads ask at once"),
        (WrongCount, "`WrongCount.k` is 4, but 3 directions were asked for."),
        (bz.Orthogonal, "The first 3 of 5 directions of `Orthogonal` differ"),
        (bz.Sphere, "in block 'matrix' depend on which other blocks there are"),
    ],
)
def test_broken_directions(make: Any, words: str) -> None:
    assert words in complaint(testing.check_directions, make)


def test_wrong_moments() -> None:
    found = complaint(testing.check_directions, bz.Sphere, local=False, variance=1.0)
    assert "E u u' of `Sphere` over 6000 draws is not 1 I" in found and "with 0.09" in found

    class Shifted(bz.Dense):
        def __init__(self, blocks: Blocks, k: int, key: Key) -> None:
            super().__init__(blocks, bz.Gaussian(blocks, k, key).draw() + 0.1)

    assert "The mean of `Shifted`" in complaint(testing.check_directions, Shifted, variance=1.0)


# ------------------------------------------------------------------------------------------------------ estimators


@dataclass(frozen=True)
class TwoPoint(bz.Estimator):
    """A correct one, which each of the others breaks in one place."""

    radius: float = 0.1

    def start(self, variable: Any) -> Any:
        return ()

    def sample(self, state: Any, variable: Any, key: Key) -> bz.Queries:
        u = bz.Gaussian(variable.blocks, 1, key)
        return bz.Queries(u, np.array([0, 0]), np.array([self.radius, -self.radius]), variable.value)

    def estimate(self, state: Any, variable: Any, queries: bz.Queries, feedback: Feedback) -> tuple[Any, bz.Step]:
        assert isinstance(feedback, Values)
        f = feedback.values
        slope = (f[0] - f[1]) / (2 * self.radius) if len(f) == 2 else 0.0
        return state, bz.Step(queries.directions, np.array([slope if np.isfinite(slope) else 0.0]))

    def rule(self) -> bz.Rule:
        return bz.Adam(0.02)


def test_correct_estimator() -> None:
    testing.check_estimator(TwoPoint())


class Thawed(bz.Estimator):
    start, sample, estimate, rule = TwoPoint.start, TwoPoint.sample, TwoPoint.estimate, TwoPoint.rule
    radius = 0.1


@dataclass(frozen=True)
class Unhashable(TwoPoint):
    axes: Any = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "axes", [1, 2])


class InformedAtRandom(TwoPoint):
    generator = np.random.default_rng(0)

    def inform(self, state: Any, variable: Any, points: Floats, values: Floats) -> Any:
        return (float(self.generator.random()),)


class WritingToWhatIsKnown(TwoPoint):
    def inform(self, state: Any, variable: Any, points: Floats, values: Floats) -> Any:
        values[np.isnan(values)] = 0.0
        return state


class BelievingFailures(TwoPoint):
    def inform(self, state: Any, variable: Any, points: Floats, values: Floats) -> Any:
        return (float(values.mean()),)

    def sample(self, state: Any, variable: Any, key: Key) -> bz.Queries:
        queries = super().sample((), variable, key)
        length = 1.0 + 0.0 * state[0] if state else 1.0
        return bz.Queries(queries.directions, queries.index, length * queries.scale, queries.origin)


class WeighingFailures(TwoPoint):
    def inform(self, state: Any, variable: Any, points: Floats, values: Floats) -> Any:
        return (float(values.mean()),)

    def estimate(self, state: Any, variable: Any, queries: bz.Queries, feedback: Feedback) -> tuple[Any, bz.Step]:
        _, step = super().estimate((), variable, queries, feedback)
        return state, step.scaled(1.0 + 0.0 * state[0] if state else 1.0)


class Blank(TwoPoint):
    def sample(self, state: Any, variable: Any, key: Key) -> bz.Queries:
        return super().sample(state, variable, key).take(slice(0))


class Carrying(TwoPoint):
    generator = np.random.default_rng(0)

    def sample(self, state: Any, variable: Any, key: Key) -> bz.Queries:
        return super().sample(state, variable, Key(int(self.generator.integers(1000)), 0))


class CopyingTheOrigin(TwoPoint):
    def sample(self, state: Any, variable: Any, key: Key) -> bz.Queries:
        q = super().sample(state, variable, key)
        return bz.Queries(q.directions, q.index, q.scale, q.origin.copy())


class ListState(TwoPoint):
    def start(self, variable: Any) -> Any:
        return (1, [2.0])


class SinglePrecisionState(TwoPoint):
    def start(self, variable: Any) -> Any:
        return (np.ones(2, dtype=np.float32), "text")


class PassingNaN(TwoPoint):
    def estimate(self, state: Any, variable: Any, queries: bz.Queries, feedback: Feedback) -> tuple[Any, bz.Step]:
        assert isinstance(feedback, Values)
        f = feedback.values
        return state, bz.Step(queries.directions, (f[:1] - f[-1:]) / (2 * self.radius))


class KeepingNaN(TwoPoint):
    def start(self, variable: Any) -> Any:
        return (0.0,)

    def estimate(self, state: Any, variable: Any, queries: bz.Queries, feedback: Feedback) -> tuple[Any, bz.Step]:
        assert isinstance(feedback, Values)
        _, step = super().estimate(state, variable, queries, feedback)
        return (float(feedback.values.sum()),), step


class ManyWeights(TwoPoint):
    def estimate(self, state: Any, variable: Any, queries: bz.Queries, feedback: Feedback) -> tuple[Any, bz.Step]:
        state, step = super().estimate(state, variable, queries, feedback)
        return state, bz.Step(step.directions, np.repeat(step.w, 2))


class MovingWithoutAnswers(TwoPoint):
    def estimate(self, state: Any, variable: Any, queries: bz.Queries, feedback: Feedback) -> tuple[Any, bz.Step]:
        state, step = super().estimate(state, variable, queries, feedback)
        return state, bz.Step(step.directions, step.w + 0.1)


class WritingToFeedback(TwoPoint):
    def estimate(self, state: Any, variable: Any, queries: bz.Queries, feedback: Feedback) -> tuple[Any, bz.Step]:
        found = super().estimate(state, variable, queries, feedback)
        assert isinstance(feedback, Values)
        feedback.values[:] = 0.0
        return found


class WritingToState(TwoPoint):
    def start(self, variable: Any) -> Any:
        return (np.zeros(1),)

    def estimate(self, state: Any, variable: Any, queries: bz.Queries, feedback: Feedback) -> tuple[Any, bz.Step]:
        state[0][:] = 1.0
        return super().estimate(state, variable, queries, feedback)


class Remembering(TwoPoint):
    """What it depends on is not in the state."""

    memory: dict[str, float] = {}  # noqa: RUF012

    def start(self, variable: Any) -> Any:
        self.memory["count"] = 0.0
        return ()

    def sample(self, state: Any, variable: Any, key: Key) -> bz.Queries:
        q = super().sample(state, variable, key)
        return bz.Queries(q.directions, q.index, q.scale * (1.0 + self.memory["count"]), q.origin)

    def estimate(self, state: Any, variable: Any, queries: bz.Queries, feedback: Feedback) -> tuple[Any, bz.Step]:
        found = super().estimate(state, variable, queries, feedback)
        self.memory["count"] += 0.125
        return found


class IntegerAtTheStart(TwoPoint):
    """A saved state is rebuilt with the types of the first one."""

    def start(self, variable: Any) -> Any:
        return (0,)

    def sample(self, state: Any, variable: Any, key: Key) -> bz.Queries:
        q = super().sample(state, variable, key)
        return bz.Queries(q.directions, q.index, q.scale * (1.0 + state[0]), q.origin)

    def estimate(self, state: Any, variable: Any, queries: bz.Queries, feedback: Feedback) -> tuple[Any, bz.Step]:
        return (state[0] + 0.125,), super().estimate(state, variable, queries, feedback)[1]


class RanksInName(TwoPoint):
    accepts = (Values, Ranking)

    def estimate(self, state: Any, variable: Any, queries: bz.Queries, feedback: Feedback) -> tuple[Any, bz.Step]:
        values = feedback if isinstance(feedback, Values) else Values(feedback.net_losses())
        return super().estimate(state, variable, queries, values)


class OnePoint(TwoPoint):
    def estimate(self, state: Any, variable: Any, queries: bz.Queries, feedback: Feedback) -> tuple[Any, bz.Step]:
        assert isinstance(feedback, Values)
        f = float(np.nan_to_num(feedback.values[0]))
        return state, bz.Step(queries.directions, np.array([f / self.radius]))


class Uphill(TwoPoint):
    def estimate(self, state: Any, variable: Any, queries: bz.Queries, feedback: Feedback) -> tuple[Any, bz.Step]:
        state, step = super().estimate(state, variable, queries, feedback)
        return state, step.scaled(-1.0)


class Slow(TwoPoint):
    """Gives no estimate in its first two steps, and does not say so."""

    def start(self, variable: Any) -> Any:
        return (0,)

    def estimate(self, state: Any, variable: Any, queries: bz.Queries, feedback: Feedback) -> tuple[Any, bz.Step]:
        _, step = super().estimate(state, variable, queries, feedback)
        return (state[0] + 1,), step.scaled(float(state[0] >= 2))


class AcceptsNothing(TwoPoint):
    accepts = ()


class RulesNothing(TwoPoint):
    def rule(self) -> Any:
        return 0.1


@pytest.mark.parametrize(
    ("estimator", "words"),
    [
        (3.0, "`3.0` is not an `Estimator`"),
        (Thawed(), "is not a frozen dataclass"),
        (Unhashable(), "cannot be hashed (unhashable type: 'list')"),
        (Blank(), "asks nothing; every step has at least one query"),
        (Carrying(), "gives other points the second time"),
        (CopyingTheOrigin(), "gives another `origin` than `variable.value`"),
        (ListState(), "holds list at `state.1`"),
        (SinglePrecisionState(), "holds str at `state.1`"),
        (PassingNaN(), "gives the weights [nan] for 1 directions"),
        (KeepingNaN(), "holds NaN at {'state/0'}; it would stay there forever"),
        (ManyWeights(), "for 1 directions; it must be one finite number for each"),
        (MovingWithoutAnswers(), "although all queries of the run so far failed; the weights must be 0"),
        (WritingToFeedback(), "writes to the feedback or the queries"),
        (WritingToState(), "writes to the state or the variable"),
        (Remembering(), "the second time"),
        (IntegerAtTheStart(), "asks about other points after `load_state_dict` than before `state_dict`"),
        (RanksInName(), "makes another step from a ranking than from values in that order"),
        (OnePoint(), "when 1024 is added to f"),
        (Uphill(), "brings the sum of squares from"),
        (Slow(), "is still 0 after `warmup` = 0 steps"),
        (InformedAtRandom(), "`inform` of `InformedAtRandom"),
        (WritingToWhatIsKnown(), "writes to its arguments; return a new state instead"),
        (BelievingFailures(), "asks about points that are not finite after it was informed of a failure"),
        (WeighingFailures(), "gives weights that are not finite after it was informed of a failure"),
        (AcceptsNothing(), "`AcceptsNothing.accepts` is ()"),
        (RulesNothing(), "which is not a `Rule`"),
    ],
    ids=lambda v: type(v).__name__ if not isinstance(v, str) else "",
)
def test_broken_estimators(estimator: Any, words: str) -> None:
    assert words in complaint(testing.check_estimator, estimator)


def test_what_is_so_by_design_can_be_said() -> None:
    testing.check_estimator(RanksInName(), order_only=False)
    testing.check_estimator(OnePoint(), shift_invariant=False, budget=0)
    testing.check_estimator(Uphill(), budget=0)


# ----------------------------------------------------------------------------------------------------------- rules


@dataclass(frozen=True)
class Plain(bz.Rule):
    """A correct one."""

    rate: float = 0.1

    def start(self, variable: Any) -> Any:
        return (0,)

    def update(self, state: Any, gradient: bz.Step) -> tuple[Any, bz.Step]:
        return (state[0] + 1,), gradient.scaled(self.rate)


class Ascending(Plain):
    def update(self, state: Any, gradient: bz.Step) -> tuple[Any, bz.Step]:
        state, step = super().update(state, gradient)
        return state, step.scaled(-1.0)


class DroppingThePull(Plain):
    def update(self, state: Any, gradient: bz.Step) -> tuple[Any, bz.Step]:
        state, step = super().update(state, gradient)
        return state, bz.Step(step.directions, step.w)


class Restless(Plain):
    def update(self, state: Any, gradient: bz.Step) -> tuple[Any, bz.Step]:
        state, step = super().update(state, gradient)
        return state, bz.Step(step.directions, step.w + 1e-3, step.shrink)


class Counting(Plain):
    calls: list[int] = []  # noqa: RUF012

    def update(self, state: Any, gradient: bz.Step) -> tuple[Any, bz.Step]:
        self.calls.append(0)
        state, step = super().update(state, gradient)
        return state, step.scaled(1.0 + len(self.calls))


class WritingToGradient(Plain):
    def update(self, state: Any, gradient: bz.Step) -> tuple[Any, bz.Step]:
        found = super().update(state, bz.Step(gradient.directions, gradient.w.copy(), gradient.shrink))
        gradient.w[:] = 0.0
        return found


class TextState(Plain):
    def start(self, variable: Any) -> Any:
        return (0, "begun")


class Unbounded(Plain):
    def update(self, state: Any, gradient: bz.Step) -> tuple[Any, bz.Step]:
        return state, bz.Step(gradient.directions, gradient.w * np.inf, gradient.shrink)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (0.1, "`0.1` is not a `Rule`"),
        (Ascending(), "points away from the gradient"),
        (DroppingThePull(), "drops the gradient's weight decay: `shrink` 0.25 becomes 0.0"),
        (Restless(), "at its first step although the gradient is 0"),
        (Counting(), "gives another step or state the second time"),
        (WritingToGradient(), "writes to the state or the gradient"),
        (TextState(), "holds str at `state.1`"),
        (Unbounded(), "they must be finite"),
        (bz.ClipScalar(0.1), "when it is split over other directions"),
        (bz.SGD(lambda step: 0.1), ""),
    ],
    ids=lambda v: type(v).__name__ if not isinstance(v, str) else "",
)
def test_broken_rules(rule: Any, words: str) -> None:
    if words:
        assert words in complaint(testing.check_rule, rule)
    else:
        testing.check_rule(rule)


def test_correct_rule() -> None:
    testing.check_rule(Plain())


# ------------------------------------------------------------------------------------------------------- variables


class WithoutShrink(bz.Vector):
    def add_(self, step: bz.Step) -> None:
        super().add_(bz.Step(step.directions, step.w))


class Uncounted(bz.Vector):
    def add_(self, step: bz.Step) -> None:
        super().add_(step)
        self.version -= 1


class InPlace(bz.Vector):
    def add_(self, step: bz.Step) -> None:
        old = self.value
        super().add_(step)
        old.flags.writeable = True
        old[:] = self.value


class SettlingTwice(bz.Vector):
    """Puts moves off, and forgets to forget them."""

    pending: tuple[bz.Step, ...] = ()

    def add_(self, step: bz.Step) -> None:
        self.pending = (*self.pending, step)
        self.version += 1

    def settle(self) -> None:
        for step in self.pending:
            super().add_(step)
            self.version -= 1


class Lazy(SettlingTwice):
    """A correct one."""

    def settle(self) -> None:
        super().settle()
        self.pending = ()


class Twins(bz.Vector):
    def __init__(self, x0: Any) -> None:
        super().__init__(x0)
        self.blocks = (bz.Block("a", (1,)), bz.Block("a", (2,)))


class Escaping(bz.Vector):
    def outside(self, z: Floats) -> Floats:
        return z + 1e-9


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        (WithoutShrink(np.ones(3)), "after `add_` with shrink=0.1; (1 - shrink) x + w U is"),
        (Uncounted(np.ones(3)), "`Uncounted.version` is 0 after 1 moves from 0"),
        (InPlace(np.ones(3)), "`Vector.add_` writes to `value`"),
        (SettlingTwice(np.ones(3)), "`SettlingTwice` is at"),
        (Twins(np.ones(3)), "repeats a name in ['a', 'a']"),
        (Escaping(np.ones(3), (0.0, 2.0)), "is outside the bounds"),
    ],
    ids=lambda v: type(v).__name__ if not isinstance(v, str) else "",
)
def test_broken_variables(variable: Any, words: str) -> None:
    assert words in complaint(testing.check_variable, variable)


def test_a_lazy_variable_that_is_correct() -> None:
    def read(variable: bz.Variable) -> Floats:
        assert isinstance(variable, Lazy)
        return variable.value

    class Wrapped(bz.Variable):
        """Not a `Vector`, so it must be told how to read it."""

        def __init__(self) -> None:
            self.inner = Lazy(np.ones(3))
            self.blocks = self.inner.blocks

        @property
        def version(self) -> int:  # type: ignore[override]
            return self.inner.version

        def add_(self, step: bz.Step) -> None:
            self.inner.add_(step)

        def settle(self) -> None:
            self.inner.settle()

        @property
        def origin(self) -> int:
            return self.version

        @property
        def x(self) -> Any:
            return self.inner.x

        def fingerprint(self) -> str:
            return self.inner.fingerprint()

        def state(self) -> dict[str, Any]:
            return self.inner.state()

        def load(self, state: Any, version: int) -> None:
            self.inner.load(state, version)

    testing.check_variable(Wrapped, read=lambda v: read(v.inner))  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match=r"`check_variable\(read=...\)` must say how to read"):
        testing.check_variable(Wrapped)


def test_checked_variables_are_left_alone() -> None:
    variable = bz.Vector(np.ones(3))
    testing.check_variable(variable)
    assert variable.x.tolist() == [1.0, 1.0, 1.0] and variable.version == 0


# --------------------------------------------------------------------------------------------------------- oracles


class Sphere(bz.Oracle):
    """A correct one; fails beyond 5."""

    def answer(self, proposal: Proposal) -> Any:
        values = (proposal.points**2).sum(axis=1)
        return Values(np.where(proposal.points[:, 0] > 5.0, np.nan, values))


class Raising(Sphere):
    def answer(self, proposal: Proposal) -> Any:
        raise RuntimeError("the program crashed")


class Short(Sphere):
    def answer(self, proposal: Proposal) -> Any:
        return Values(super().answer(proposal).values[1:])


class Bare(Sphere):
    def answer(self, proposal: Proposal) -> Any:
        return super().answer(proposal).values


class Noisy(Sphere):
    generator = np.random.default_rng(0)

    def answer(self, proposal: Proposal) -> Any:
        return Values(super().answer(proposal).values + self.generator.standard_normal(proposal.n))


class Relative(Sphere):
    """Answers depend on what else is asked."""

    def answer(self, proposal: Proposal) -> Any:
        values = super().answer(proposal).values
        return Values(values - values.mean())


class Sorting(Sphere):
    def answer(self, proposal: Proposal) -> Any:
        return Values(np.sort(super().answer(proposal).values))


class Scaling(Sphere):
    def answer(self, proposal: Proposal) -> Any:
        proposal.points.flags.writeable = True
        proposal.points[:] *= 2.0
        return super().answer(proposal)


class Twice(Sphere):
    def parts(self, proposal: Proposal) -> Iterator[Part]:
        yield proposal.ids, self.answer(proposal)
        yield proposal.ids[:1], Values([0.0])


class Missing(Sphere):
    def parts(self, proposal: Proposal) -> Iterator[Part]:
        yield proposal.ids[:-1], Values(self.answer(proposal).values[:-1])


class OtherIds(Sphere):
    def parts(self, proposal: Proposal) -> Iterator[Part]:
        yield proposal.ids + 1, self.answer(proposal)


class OtherParts(Sphere):
    def parts(self, proposal: Proposal) -> Iterator[Part]:
        yield proposal.ids, Values(self.answer(proposal).values + 1.0)


class Uneven(Sphere):
    def parts(self, proposal: Proposal) -> Iterator[Part]:
        yield proposal.ids[:2], self.answer(proposal)


class Finite(Sphere):
    def answer(self, proposal: Proposal) -> Any:
        return Values(np.nan_to_num(super().answer(proposal).values, nan=1e9))


class Contagious(Sphere):
    def answer(self, proposal: Proposal) -> Any:
        values = super().answer(proposal).values
        return Values(values + np.nan * np.isnan(values).any() if np.isnan(values).any() else values)


class Judge(Sphere):
    def answer(self, proposal: Proposal) -> Any:
        return super().answer(proposal).ranking()


class BadJudge(Sphere):
    def answer(self, proposal: Proposal) -> Any:
        return Values(np.nan_to_num(super().answer(proposal).values, nan=-1.0)).ranking()


FAILING = np.array([9.0, 0.0, 0.0])


@pytest.mark.parametrize(
    ("oracle", "words"),
    [
        (3.0, "`3.0` has no method `answer(proposal)`"),
        (Raising(), "`Raising` raised RuntimeError: the program crashed. A query that fails is NaN in `Values`"),
        (Short(), "gives 3 answers to 4 queries"),
        (Bare(), "it must answer `Values` or a `Ranking`"),
        (Noisy(), "about step 0, but"),
        (Relative(), "when it is asked about the whole step"),
        (Sorting(), "when it is asked about the whole step"),
        (Scaling(), "writes to `proposal.points`"),
        (Twice(), "answer id 0 twice"),
        (Missing(), "leave the ids [3] unanswered"),
        (OtherIds(), "names id 4, which is not one of [0 1 2 3]"),
        (OtherParts(), "The `parts` of `OtherParts` give"),
        (Uneven(), "has 2 ids, but 4 answers"),
        (Finite(), "where a query fails; it must be NaN"),
        (Contagious(), "one failure must not harm the others"),
        (BadJudge(), "the one that fails must be worst"),
    ],
    ids=lambda v: type(v).__name__ if not isinstance(v, str) else "",
)
def test_broken_oracles(oracle: Any, words: str) -> None:
    assert words in complaint(testing.check_oracle, oracle, np.ones(3), failing=FAILING)


class Duck:
    """Has `answer`, and that is all."""

    def answer(self, proposal: Proposal) -> Feedback:
        found: Feedback = Sphere().answer(proposal)
        return found


@pytest.mark.parametrize("oracle", [Sphere(), Judge(), Duck()], ids=lambda o: type(o).__name__)
def test_correct_oracles(oracle: Any) -> None:
    testing.check_oracle(oracle, np.ones(3), failing=FAILING)


class Learner(bz.Oracle):
    """A correct one: it adds the mean of all it has answered. The others break it in one place each."""

    def start(self) -> Any:
        return (0, 0.0)

    def answer(self, proposal: Proposal) -> Any:
        values = (proposal.points**2).sum(axis=1)
        for i, value in zip(proposal.ids.tolist(), values.tolist(), strict=True):
            proposal.learn(self, i, self.taught(value))
        return Values(values + self.offset(proposal.state(self)))

    def taught(self, value: float) -> Any:
        return value

    def offset(self, state: Any) -> float:
        return float(np.sum(state[1])) / float(max(state[0], 1))

    def absorb(self, state: Any, evidence: Any) -> Any:
        return state[0] + len(evidence), state[1] + sum(evidence.values())


class KeepingInItself(Learner):
    def __init__(self) -> None:
        self.total = 0.0

    def absorb(self, state: Any, evidence: Any) -> Any:
        self.total += sum(evidence.values())
        return (state[0] + len(evidence), self.total)


class Forgetful(Sphere):
    """It learns, but says nothing of it: a new process begins from nothing."""

    def __init__(self) -> None:
        self.steps: dict[int, float] = {}

    def answer(self, proposal: Proposal) -> Any:
        values = super().answer(proposal).values
        self.steps.setdefault(proposal.step, float(values[0]))
        return Values(values + sum(v for step, v in self.steps.items() if step < proposal.step))


class Lagging(Learner):
    """It reads the state, but uses the one it read at the call before."""

    def __init__(self) -> None:
        self.before = 0.0

    def offset(self, state: Any) -> float:
        before, self.before = self.before, super().offset(state)
        return before


class ChangingItsState(Learner):
    def start(self) -> Any:
        return (0, np.zeros(1))

    def absorb(self, state: Any, evidence: Any) -> Any:
        state[1][:] += sum(evidence.values())
        return (state[0] + len(evidence), state[1])


class ChangingItsEvidence(Learner):
    def absorb(self, state: Any, evidence: Any) -> Any:
        count = len(evidence)
        evidence[min(evidence)] = 0.0
        return (state[0] + count, state[1])


class RaisingAtEvidence(Learner):
    def absorb(self, state: Any, evidence: Any) -> Any:
        return state + sum(evidence.values())


class ListInItsState(Learner):
    def start(self) -> Any:
        return (0, 0.0, [])

    def absorb(self, state: Any, evidence: Any) -> Any:
        return (*super().absorb(state, evidence), [1.0])


class UnsavedState(Learner):
    """Saves half of what it knows."""

    def save(self, state: Any) -> dict[str, Any]:
        return {"n": state[0]}

    def load(self, saved: Any) -> Any:
        return (int(saved["n"]) + 1, 0.0)


class RoundedState(Learner):
    """The types of a state are those of its start."""

    def start(self) -> Any:
        return (0, 0)


class TeachingSets(Learner):
    def taught(self, value: float) -> Any:
        return {value}

    def absorb(self, state: Any, evidence: Any) -> Any:
        return (state[0] + len(evidence), state[1] + sum(map(sum, evidence.values())))


class TeachingKeys(Learner):
    """JSON makes text of the keys of a dict."""

    def taught(self, value: float) -> Any:
        return {7: value}

    def absorb(self, state: Any, evidence: Any) -> Any:
        return (state[0] + len(evidence), state[1] + sum(found.get(7, 0.0) for found in evidence.values()))


class TeachingTuples(Learner):
    """JSON makes lists of tuples."""

    def taught(self, value: float) -> Any:
        return (value,)

    def absorb(self, state: Any, evidence: Any) -> Any:
        return (
            state[0] + len(evidence),
            state[1] + sum(v.index(v[0]) + v[0] if type(v) is tuple else 0.0 for v in evidence.values()),
        )


class TeachingNothing(Learner):
    def taught(self, value: float) -> Any:
        return None


class Unreplayable(Learner):
    not_replayable = "it asks the weather"


class UnreadUnreplayable(Sphere):
    not_replayable = "it asks the weather"


class OwnProposals(bz.Oracle):
    """A wrapper that loses what the wrapped oracle knows."""

    def __init__(self, inner: bz.Oracle) -> None:
        self.inner = inner

    def answer(self, proposal: Proposal) -> Any:
        own = Proposal.numbered(proposal.step, int(proposal.ids[0]), proposal.queries, proposal.variable)
        return self.inner.answer(own)


class PassingOn(OwnProposals):
    """A correct one, which asks about mirrored points."""

    def answer(self, proposal: Proposal) -> Any:
        q = proposal.queries
        return self.inner.answer(
            proposal.about(bz.Queries(q.directions, q.index, -q.scale, q.origin), proposal.variable)
        )


LEARNERS: list[tuple[Any, str]] = [
    (KeepingInItself, "`KeepingInItself.absorb` makes another state from the same state and evidence the second time"),
    (Lagging, "Keep nothing that changes answers in the oracle itself: read the state with `proposal.state(self)`"),
    (ChangingItsState, "`ChangingItsState.absorb` changes the state it is given; make a new one"),
    (ChangingItsEvidence, "`ChangingItsEvidence.absorb` changes the evidence it is given"),
    (RaisingAtEvidence, "`RaisingAtEvidence.absorb` raised TypeError for the evidence"),
    (ListInItsState, "`ListInItsState.save` gives list at 'state/2', which `numpy.savez` cannot save without pickle"),
    (
        UnsavedState,
        "`UnsavedState.load` does not restore what `save` gave, after it has been through a file: another state",
    ),
    (RoundedState, "`RoundedState.load` does not restore what `save` gave"),
    (TeachingSets, "`TeachingSets` gives `proposal.learn` what cannot be written to a journal"),
    (TeachingKeys, "`TeachingKeys.absorb` makes another state from evidence that has been through JSON"),
    (TeachingTuples, "`TeachingTuples.absorb` makes another state from evidence that has been through JSON"),
    (UnreadUnreplayable, "Begin `answer` with `proposal.state(self)`"),
    (lambda: OwnProposals(Learner()), "`OwnProposals` never asks `Learner` about a proposal of the search"),
]


@pytest.mark.parametrize(("make", "words"), LEARNERS)
def test_broken_learners(make: Any, words: str) -> None:
    assert words in complaint(testing.check_learning, lambda: (make(), np.ones(3)))
    assert words in complaint(testing.check_oracle, make(), np.ones(3))


def test_what_an_oracle_keeps_in_itself_is_lost_with_it() -> None:
    found = complaint(testing.check_learning, lambda: (Forgetful(), np.ones(3)))
    assert "with its journal closed and opened again after each part is answered" in found
    assert "without interruption. Keep nothing that changes answers in the oracle itself" in found


def test_evidence_that_a_journal_cannot_tell_from_none_is_refused() -> None:
    with pytest.raises(
        bz.OracleError, match=r"`TeachingNothing` learns None from query 0.* Leave out `proposal.learn`"
    ):
        next(bz.Search(np.ones(3), bz.RankBased(0.1, 4)).run(TeachingNothing(), steps=1))


@pytest.mark.parametrize(
    "make", [Learner, Unreplayable, lambda: PassingOn(Learner()), lambda: PassingOn(PassingOn(Learner()))]
)
@pytest.mark.parametrize("estimator", [None, bz.EvolutionStrategy(0.3, 5), bz.RandomVector(0.1, 2)], ids=repr)
def test_correct_learners(make: Any, estimator: Any) -> None:
    testing.check_learning(lambda: (make(), bz.Vector([1.0, 2.0, 0.5], (0.0, 2.0))), estimator)
    testing.check_oracle(make(), [1.0, 2.0, 0.5], bounds=(0.0, 2.0))


def test_a_ranking_may_teach_too() -> None:
    class Ranked(Learner):
        def answer(self, proposal: Proposal) -> Any:
            found: Values = super().answer(proposal)
            return found.ranking()

    testing.check_learning(lambda: (Ranked(), np.ones(3)))


def test_wrappers_pass_on_what_the_oracle_inside_learns() -> None:
    testing.check_wrapper(PassingOn, np.ones(3))
    found = complaint(testing.check_wrapper, OwnProposals, np.ones(3))
    assert "by `proposal.take` or `proposal.about`" in found and "made from scratch" in found

    class Silent(OwnProposals):
        def answer(self, proposal: Proposal) -> Any:
            return Values(np.zeros(proposal.n))

    assert "without asking the wrapped oracle" in complaint(testing.check_wrapper, Silent, np.ones(3))

    class Stateful(PassingOn):
        total = 0.0

        def answer(self, proposal: Proposal) -> Any:
            found = super().answer(proposal)
            self.total += float(found.values[0])
            return Values(found.values + self.total)

    assert "Keep nothing that changes answers" in complaint(testing.check_wrapper, Stateful, np.ones(3))


def test_states_are_checked_where_answers_are_noisy_by_design() -> None:
    class NoisyLists(ListInItsState):
        generator = np.random.default_rng(0)

        def offset(self, state: Any) -> float:
            return float(self.generator.standard_normal())

    assert "cannot save without pickle" in complaint(testing.check_oracle, NoisyLists(), np.ones(3), repeatable=False)


def test_noise_can_be_by_design() -> None:
    testing.check_oracle(Noisy(), np.ones(3), repeatable=False)


def test_function_oracles() -> None:
    def fun(x: Any) -> float:
        if x["a"] > 5.0:
            raise ArithmeticError("too large")
        return float(x["a"] + x["b"].sum())

    x0, failing = {"a": 1.0, "b": np.ones(2)}, {"a": 9.0, "b": np.ones(2)}
    testing.check_oracle(FunctionOracle(fun, on_error="skip"), x0, failing=failing)
    testing.check_oracle(FunctionOracle(lambda x: x["a"] + x["b"].sum(axis=1), vectorized=True), x0)
    assert "raised ArithmeticError: too large" in complaint(
        testing.check_oracle, FunctionOracle(fun), x0, failing=failing
    )


def test_public_names() -> None:
    names = {name for name in vars(testing) if name.startswith("check_")}
    assert names == {
        "check_directions", "check_estimator", "check_learning", "check_oracle", "check_rule", "check_variable",
        "check_wrapper",
    }  # fmt: skip
