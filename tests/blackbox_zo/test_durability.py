"""Whatever is done to a search, it stands where an unbroken twin stands that was driven in the same order."""

from __future__ import annotations

import io
import itertools
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import Phase, seed, settings, strategies
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import blackbox_zo as bz
from blackbox_zo._typing import Floats
from blackbox_zo.timeout import Timeout
from blackbox_zo.wrappers import Cache, RankOnly, Repeat

from .estimators.test_contract import ROWS, Row


class Belief(NamedTuple):
    """What `Adaptive` knows."""

    n: int
    total: float
    mean: Floats


class Adaptive(bz.Oracle):
    """Its answers depend on all that it has learnt; it fails at some queries, and in some steps at all."""

    def start(self) -> Belief:
        return Belief(0, 0.0, np.zeros(4))

    def answer(self, proposal: bz.Proposal) -> bz.Values:
        n, total, mean = proposal.state(self)
        values = ((proposal.points - 0.1 * mean) ** 2).sum(axis=1) + np.tanh(total / max(n, 1))
        values[(proposal.ids * 7919) % 13 == 5] = np.nan
        if proposal.step % 5 == 3:
            values[:] = np.nan
        for i, value, x in zip(proposal.ids.tolist(), values.tolist(), proposal.points, strict=True):
            proposal.learn(self, i, {"value": value if value == value else None, "x": x.tolist()})
        return bz.Values(values)

    def absorb(self, state: Belief, evidence: Mapping[int, Any]) -> Belief:
        n, total, mean = state
        for i, seen in evidence.items():
            n += 1
            total += i * 1e-3 + (seen["value"] or 0.0)
            mean = mean + (np.array(seen["x"]) - mean) / n
        return Belief(n, total, mean)


class Bare:
    """A wrapper of a user's own: it has `answer`, and that is all."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def answer(self, proposal: bz.Proposal) -> bz.Feedback:
        found: bz.Feedback = self.inner.answer(proposal)
        return found


WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "none": lambda oracle: oracle,
    "repeat": lambda oracle: Repeat(oracle, 2),
    "rank": RankOnly,
    "cache": Cache,
    "timeout": lambda oracle: Timeout(oracle, 60.0),
    "bare": Bare,
    "several": lambda oracle: Timeout(Cache(Repeat(Bare(oracle), 2)), 60.0),
}


class Side:
    """A search, who answers it, and what it waits for."""

    def __init__(self, machine: Durable, journal: Path | None = None) -> None:
        self.learner = Adaptive()
        self.outer = WRAPPERS[machine.wrapper](self.learner)
        self.oracle = self.outer
        if bz.Values not in machine.row.estimator.accepts:
            self.oracle = RankOnly(self.outer)
        self.search = bz.Search(
            np.linspace(-1.0, 1.0, 4), machine.row.estimator, machine.row.rule, seed=6, budget=machine.budget,
            journal=machine.opened(journal), max_staleness=2,
        )  # fmt: skip
        self.open: dict[int, bz.Proposal] = {}

    def do(self, event: Event) -> None:
        if event.kind == "ask":
            p = self.search.ask(repeats=True)
            assert p.step == event.step
            self.open[p.step] = p
        elif event.kind == "tell":
            p = self.open[event.step]
            some = p.take(np.searchsorted(p.ids, np.array(event.ids, dtype=np.intp)))
            whole = len(event.ids) == p.n and list(event.ids) == p.ids.tolist()
            self.search.tell(p, self.oracle.answer(some), None if whole else some.ids)
            if event.step not in self.search.waiting:
                del self.open[event.step]
        elif event.kind == "run":
            list(self.search.run(self.oracle, steps=1, patience=None))
        else:
            self.search.record(bz.Measured("m", self.search.moves, {"m": float(event.step)}))

    def hand_out(self) -> None:
        """After a resume: all that is open, again."""
        self.open = {step: self.search.ask() for step in self.search.waiting}
        assert [p.step for p in self.open.values()] == list(self.open)

    def stands(self) -> dict[str, Any]:
        """Where the search stands, apart from how it writes down what oracles learnt."""
        saved = {k: np.asarray(v) for k, v in self.search.state_dict().items()}
        out: dict[str, Any] = {
            k: (v.dtype.kind, v.shape, v.tobytes())
            for k, v in saved.items()
            if not k.startswith("oracle/") and "/oracle/" not in k and not k.endswith(("/then", "/learnt"))
        }
        out |= {k: json.loads(str(v)) for k, v in saved.items() if k.endswith("/learnt")}
        out["measured"] = [(m.name, m.step, m.values) for m in self.search.measured]
        return out

    def knows(self) -> Any:
        """What the oracles have learnt."""
        learners = [self.learner] + ([self.outer] if isinstance(self.outer, bz.Oracle) else [])
        states = [oracle.save(self.search.state_of(oracle)) for oracle in learners]
        return [{k: (np.asarray(v).dtype.kind, np.asarray(v).tobytes()) for k, v in state.items()} for state in states]


class Event(NamedTuple):
    """Something that was done to both."""

    kind: str
    step: int
    ids: tuple[int, ...] = ()


class Durable(RuleBasedStateMachine):
    """Ask, tell, break and mend; `twin` is only asked and told."""

    row: Row

    @initialize(
        wrapper=strategies.sampled_from(sorted(WRAPPERS)), journaled=strategies.booleans(), cut=strategies.booleans()
    )
    def begin(self, wrapper: str, journaled: bool, cut: bool) -> None:
        if wrapper == "rank" and not {bz.Values, bz.Ranking} <= set(self.row.estimator.accepts):
            wrapper = "bare"
        self.wrapper, self.budget, self.journaled = wrapper, None, False
        n = Side(self).search.ask().n
        self.budget = 5 * n + n // 2 if cut else None
        self.journaled, self.log, self.marks = journaled, list[Event](), list[tuple[Any, list[Event], int]]()
        self.folder = tempfile.TemporaryDirectory()
        self.names = itertools.count()
        self.path = self.new_path()
        self.broken = Side(self, self.path if journaled else None)
        self.twin = Side(self)

    def opened(self, path: Path | None) -> Path | bz.Journal | None:
        """What a search gets for the path of its journal."""
        return path

    def carry(self, before: Path) -> None:
        """What else a killed run leaves beside its journal."""

    def new_path(self) -> Path:
        return Path(self.folder.name) / f"{next(self.names)}.jsonl"

    def teardown(self) -> None:
        if hasattr(self, "broken"):
            try:
                self.same_knowledge()
            finally:
                self.broken.search.close()
                self.folder.cleanup()

    def both(self, event: Event) -> None:
        for side in (self.broken, self.twin):
            side.do(event)
        self.log.append(event)

    def drive_twin(self) -> None:
        """An unbroken one that was driven as the log says."""
        self.twin = Side(self)
        for event in self.log:
            self.twin.do(event)

    # --------------------------------------------------------------------------------------------- asked and told

    @precondition(lambda self: len(self.broken.open) < 3 and not self.spent())
    @rule()
    def ask(self) -> None:
        self.both(Event("ask", self.broken.search.steps))

    def spent(self) -> bool:
        return self.budget is not None and int(self.broken.search.state_dict()["asked"]) >= self.budget

    @precondition(lambda self: self.broken.open)
    @rule(order=strategies.integers(0, 999))
    def tell_all(self, order: int) -> None:
        self.tell(order, whole=True)

    @precondition(lambda self: self.broken.open)
    @rule(order=strategies.integers(0, 999))
    def tell_some(self, order: int) -> None:
        self.tell(order, whole=False)

    def tell(self, order: int, whole: bool) -> None:
        rng = np.random.default_rng(order)
        step = int(rng.choice(sorted(self.broken.open)))
        p = self.broken.open[step]
        rest = p.ids[self.broken.search.state_dict()[f"open/{step}/waiting"][p.ids - self.first_id(step)]]
        ids = rest if whole else rng.permutation(rest)[: rng.integers(1, rest.size + 1)]
        self.both(Event("tell", step, tuple(ids.tolist())))

    def first_id(self, step: int) -> int:
        return int(self.broken.search.state_dict()[f"open/{step}/first_id"])

    @precondition(lambda self: not self.broken.open and not self.spent())
    @rule()
    def run(self) -> None:
        step, first = self.broken.search.steps, self.broken.search.nfev
        for side in (self.broken, self.twin):
            side.do(Event("run", step))
        ids = tuple(range(first, self.broken.search.nfev))
        self.log += [Event("ask", step), Event("tell", step, ids)]

    @precondition(lambda self: self.log and self.log[-1].kind != "measure")
    @rule()
    def measure(self) -> None:
        self.both(Event("measure", len(self.log)))

    # --------------------------------------------------------------------------------------------- broken and mended

    @precondition(lambda self: self.journaled)
    @rule(torn=strategies.floats(0.0, 1.0), whole=strategies.booleans())
    def kill(self, torn: float, whole: bool) -> None:
        """As the file stands, or with the last line torn."""
        header, *lines = self.path.read_bytes().splitlines(keepends=True)
        if lines and not whole:
            self.forget(json.loads(lines[-1]))
            lines[-1] = lines[-1][: int(torn * (len(lines[-1]) - 1))]
        before, self.path = self.path, self.new_path()
        self.path.write_bytes(b"".join([header, *lines]))
        self.carry(before)
        self.broken.search.close()  # the file that it had is not looked at again
        self.broken = Side(self, self.path)
        self.log = kept(self.log)
        self.drive_twin()
        self.resumed()

    def forget(self, line: dict[str, Any]) -> None:
        """What the last line said was never said."""
        at = max(i for i, event in enumerate(self.log) if event.kind != "ask")
        event = self.log[at]
        kept = tuple(i for i in event.ids if "value" in line and i != line["id"])
        self.log[at : at + 1] = [event._replace(ids=kept)] if kept else []

    def resumed(self) -> None:
        self.broken.hand_out()
        assert list(self.broken.open) == sorted(self.twin.open)
        for step, p in self.broken.open.items():
            twin = self.twin.open[step]
            where = np.searchsorted(twin.ids, p.ids)
            np.testing.assert_array_equal(twin.ids[where], p.ids)
            np.testing.assert_array_equal(twin.points[where], p.points)

    @rule()
    def save_and_load(self) -> None:
        """A search with a journal goes on; what it saved must stand where it stands."""
        file = io.BytesIO()
        np.savez(file, **self.broken.search.state_dict())
        file.seek(0)
        loaded = Side(self)
        loaded.search.load_state_dict(dict(np.load(file, allow_pickle=False)))
        for m in self.broken.search.measured:  # these are the caller's to keep
            loaded.search.record(m)
        before, self.broken = self.broken, loaded
        self.resumed()
        self.same_place()
        if self.journaled:
            self.same_knowledge()
            self.broken = before
        else:
            self.marks = []

    @precondition(lambda self: not self.journaled)
    @rule()
    def mark(self) -> None:
        self.marks.append((self.broken.search.snapshot(), list(self.log), self.broken.search.moves))

    @precondition(lambda self: self.marks)
    @rule(which=strategies.integers(0, 9))
    def rewind(self, which: int) -> None:
        then, log, moves = self.marks[which % len(self.marks)]
        measured = [m for m in self.broken.search.measured if m.step <= moves]
        self.broken.search.restore(then)
        self.log = [e for e in log if e.kind != "measure"]
        self.drive_twin()
        for m in measured:  # what was measured of a place that is kept is kept
            self.twin.search.record(m)
        self.resumed()

    # --------------------------------------------------------------------------------------------- compared

    @invariant()
    def same_place(self) -> None:
        if hasattr(self, "broken"):
            broken, twin = self.broken.stands(), self.twin.stands()
            assert broken.keys() == twin.keys()
            assert not [name for name in broken if broken[name] != twin[name]]

    @rule()
    def same_knowledge(self) -> None:
        assert self.broken.knows() == self.twin.knows()
        told: dict[int, int] = {}
        for event in self.log:
            if event.kind == "tell":
                told[event.step] = told.get(event.step, 0) + len(event.ids)
        ended = sum(n for step, n in told.items() if step not in self.broken.search.waiting)
        known = self.broken.search.state_of(self.broken.learner).n
        if self.wrapper in ("cache", "several"):  # equal points are asked about once
            assert known <= ended
        else:  # each query has taught its lesson, and once
            assert known == ended


def kept(log: list[Event]) -> list[Event]:
    """What a journal tells of: a step that was asked after its last answer is asked anew, around the same x."""
    last = max((i for i, event in enumerate(log) if event.kind == "tell"), default=-1)
    return [event for i, event in enumerate(log) if i < last or event.kind != "ask"]


# without shrinking, which takes minutes where steps depend on each other
bounded = settings(
    deadline=None, derandomize=True, max_examples=7, stateful_step_count=35, database=None, phases=[Phase.generate]
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: repr(row.estimator))
def test_broken_and_mended_it_stands_where_an_unbroken_twin_stands(row: Row) -> None:
    machine = seed(ROWS.index(row))(type("Durable", (Durable,), {"row": row}))  # other examples for each
    run_state_machine_as_test(machine, settings=bounded)


# ----------------------------------------------------------------------------------- what the machine seldom comes upon


def both(estimator: bz.Estimator, path: Path, **options: Any) -> tuple[bz.Search, bz.Search, bz.Oracle]:
    x0 = np.linspace(-1.0, 1.0, 4)
    broken, twin = (bz.Search(x0, estimator, seed=1, journal=j, **options) for j in (path, None))
    return broken, twin, Adaptive()


def test_a_step_that_was_asked_and_never_answered_is_handed_out_again_around_the_x_it_was_asked_at(
    tmp_path: Path,
) -> None:
    """So what was proposed before a kill, to a person or a laboratory, can be told after it."""
    path, estimator, x0 = tmp_path / "run.jsonl", bz.EvolutionStrategy(0.3, 6), np.linspace(-1.0, 1.0, 4)
    broken, twin, oracle = both(estimator, path)
    for s in (broken, twin):
        first, *held = (s.ask() for _ in range(3))  # the first search loses two of them
        s.tell(first, oracle.answer(first))
        list(s.run(oracle, steps=1))
        held += [s.ask()]
        list(s.run(oracle, steps=1))
    broken.close()
    besides = [[(1, 0, 0), (2, 0, 0)], [(4, 2, 2)]]
    assert [line.asked for line in bz.read_journal(path).answers() if line.asked] == besides
    with bz.Search(x0, estimator, seed=1, journal=path) as again:  # nothing is answered before it is killed again
        assert [again.ask().step for _ in range(3)] == [1, 2, 4]
    with bz.Search(x0, estimator, seed=1, journal=path) as resumed:
        assert (resumed.waiting, resumed.steps, resumed.nfev) == ([1, 2, 4], 6, 18)
        for p in held:
            q = resumed.ask()
            assert (q.step, q.ids.tolist()) == (p.step, p.ids.tolist())
            np.testing.assert_array_equal(q.points, p.points)
        for p in reversed(held):
            resumed.tell(p, oracle.answer(p))
            twin.tell(p, oracle.answer(p))
        for s in (resumed, twin):
            list(s.run(oracle, steps=2))
        np.testing.assert_array_equal(resumed.x, twin.x)
        np.testing.assert_array_equal(resumed.state_of(oracle).mean, twin.state_of(oracle).mean)
    assert [line.asked for line in bz.read_journal(path).answers() if line.asked] == besides  # it is told once


@pytest.mark.parametrize("k", [0, 4, 5, 8, 11, 12, 30])
def test_a_run_that_asks_ahead_and_is_broken_off_anywhere_ends_as_if_it_had_not_been(k: int, tmp_path: Path) -> None:
    """Between two steps, the next one has been asked around an x that is no more."""
    x0, asked = np.linspace(-1.0, 1.0, 4), [0]

    def fun(x: Floats) -> float:
        asked[0] += 1
        if asked[0] == k + 1:
            raise KeyboardInterrupt
        return float((x - 0.3) @ (x - 0.3))

    def end(journal: Path | None) -> Floats:
        with bz.Search(x0, bz.RandomVector(0.1, 2), bz.SGD(0.1), seed=1, budget=40, journal=journal) as s:
            list(s.run(bz.FunctionOracle(fun), ahead=2))
            return np.array(s.x)

    with pytest.raises(KeyboardInterrupt):
        end(tmp_path / "run.jsonl")
    resumed, asked[0] = end(tmp_path / "run.jsonl"), k + 1
    np.testing.assert_array_equal(resumed, end(None))


@pytest.mark.parametrize("answered", [True, False])
def test_what_was_learnt_from_a_step_that_moved_nothing_is_known_to_the_same_steps_after_a_resume(
    answered: bool, tmp_path: Path
) -> None:
    """It comes too late to move x, so the number of moves does not tell whether a step was asked before or after it."""
    path, estimator = tmp_path / "run.jsonl", bz.RandomVector(0.1, 2)
    broken, twin, oracle = both(estimator, path, max_staleness=1)
    for s in (broken, twin):
        late = s.ask()
        list(s.run(oracle, steps=2))
        before = s.ask()
        s.tell(late, oracle.answer(late))
        after = s.ask()
        assert s.moves == 2
        assert before.state(oracle).n == 8 and after.state(oracle).n == 12
        if not answered:
            list(s.run(oracle, steps=1))
        for p in (after, before):
            half = p.take(np.arange(2)) if s is broken else p  # the other half is told after the resume
            if answered or s is twin:
                s.tell(p, oracle.answer(half), half.ids)
    broken.close()
    with bz.Search(np.linspace(-1.0, 1.0, 4), estimator, seed=1, journal=path, max_staleness=1) as resumed:
        before, after = resumed.ask(), resumed.ask()
        assert before.state(oracle).n == 8 and after.state(oracle).n == 12
        for p in (after, before):
            resumed.tell(p, oracle.answer(p))
        np.testing.assert_array_equal(resumed.x, twin.x)
        np.testing.assert_array_equal(resumed.state_of(oracle).mean, twin.state_of(oracle).mean)


@pytest.mark.parametrize("saved", [False, True])
def test_what_a_journal_or_a_checkpoint_tells_is_absorbed_once_however_many_runs_follow(
    tmp_path: Path, saved: bool
) -> None:
    class Counting(Adaptive):
        absorbed = 0

        def absorb(self, state: Belief, evidence: Mapping[int, Any]) -> Belief:
            self.absorbed += 1
            return super().absorb(state, evidence)

    x0, path, estimator = np.zeros(4), tmp_path / "run.jsonl", bz.RandomVector(0.1, 2)
    with bz.Search(x0, estimator, journal=path) as s:
        list(s.run(Counting(), steps=8))
    oracle = Counting()
    with bz.Search(x0, estimator, journal=path) as resumed:
        s = resumed
        if saved:  # saved before anyone knew whose evidence this is
            s = bz.Search(x0, estimator)
            s.load_state_dict(resumed.state_dict())
        for _ in range(3):
            list(s.run(oracle, steps=2))
        assert oracle.absorbed == 8 + 6
        assert s.state_of(oracle).n == 4 * 14


def test_what_was_learnt_in_an_open_step_is_forgotten_where_the_search_goes_back() -> None:
    oracle = Cache(bz.FunctionOracle(lambda x: float(x @ x)))
    search = bz.Search(np.ones(3), bz.SPSA(0.2, 3), seed=0)
    p = search.ask()
    same = np.flatnonzero((p.points == p.points[0]).all(axis=1))  # x itself, four times
    then, twice = search.snapshot(), p.take(same[:2])
    search.tell(p, oracle.answer(twice.take(np.array([1]))), twice.ids[1:])
    search.restore(then)
    p = search.ask()
    twice = p.take(same[:2])
    search.tell(p, oracle.answer(twice), twice.ids)  # together they are one lesson
    (learnt,) = json.loads(str(search.state_dict()["open/0/learnt"])).values()
    assert len(learnt) == 1
