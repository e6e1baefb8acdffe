"""Snapshots beside a journal: what they save, when they are taken, and which of them are used."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import blackbox_zo as bz
from blackbox_zo import _replay
from blackbox_zo._snapshot import Keeper
from blackbox_zo._typing import Floats
from blackbox_zo.journal._snapshots import Snapshots

METHOD = bz.RandomVector(0.1, 2)
PORTFOLIO = bz.Portfolio((bz.QuasiNewton(), bz.EvolutionStrategy(0.3, model=True)), (1.0, 2.0))


def f(x: Floats) -> float:
    return float((x - 0.3) @ (x - 0.3)) + float(np.sin(40 * x).sum())


ORACLE = bz.FunctionOracle(f)


def search(path: Path, every: Any = 5, x0: Any = None, method: bz.Estimator = METHOD, **more: Any) -> bz.Search:
    start = np.linspace(-1.0, 1.0, 4) if x0 is None else x0
    return bz.Search(start, method, seed=1, journal=bz.Journal(path, snapshot_every=every), **more)


def steps(path: Path, n: int, every: Any = 5, ahead: int = 0, **more: Any) -> bz.Search:
    with search(path, every, **more) as s:
        list(s.run(ORACLE, n, ahead=ahead))
    return s


def moves_of(path: Path) -> list[int]:
    return list(Snapshots(path).found())


def at(path: Path, moves: int) -> Path:
    return Snapshots(path).found()[moves]


@pytest.fixture
def replayed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps that were told again."""
    seen = list[int]()
    told = _replay._told

    def counted(lines: Any, keep: bool) -> Any:
        seen.append(lines[0].step)
        return told(lines, keep)

    monkeypatch.setattr(_replay, "_told", counted)
    return seen


@contextmanager
def told(*texts: str) -> Iterator[None]:
    """So many warnings, which hold these words in turn."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        yield
    said = [str(w.message) for w in found]
    assert len(said) == len(texts) and all(text in line for text, line in zip(texts, said, strict=True)), said


def same(a: bz.Search, b: bz.Search) -> bool:
    one, other = a.state_dict(), b.state_dict()
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k], equal_nan=True) for k in one)


# ------------------------------------------------------------------------------------------------------------- resumed


@pytest.mark.parametrize("ahead", [0, 2])
def test_a_run_that_resumes_from_a_snapshot_writes_the_same_bytes_as_one_that_was_never_broken(
    tmp_path: Path, replayed: list[int], ahead: int
) -> None:
    broken, whole = tmp_path / "broken.jsonl", tmp_path / "whole.jsonl"
    steps(broken, 23, ahead=ahead)
    # as if it had been killed: what was taken at the end is gone
    shutil.copy(broken, tmp_path / "copy")
    assert moves_of(broken) == [20, 23]
    at(broken, 23).unlink()
    a = steps(broken, 7, ahead=ahead)
    assert min(replayed) in (20, 21)  # the first that was not complete
    plain = tmp_path / "plain.jsonl"
    shutil.copy(tmp_path / "copy", plain)
    b = steps(plain, 7, every=0, ahead=ahead)
    assert broken.read_bytes() == plain.read_bytes() and same(a, b)
    if not ahead:
        steps(whole, 30, every=0)
        assert broken.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("n", [3, 20, 22, 23, None])
def test_a_replay_up_to_any_move_is_the_same_with_snapshots_and_without(
    tmp_path: Path, n: int | None, replayed: list[int]
) -> None:
    path, bare = tmp_path / "run.jsonl", tmp_path / "bare.jsonl"
    steps(path, 23)
    shutil.copy(path, bare)
    fresh = [bz.Search(np.linspace(-1.0, 1.0, 4), METHOD, seed=1) for _ in range(2)]
    fresh[0].replay(bz.read_journal(path), n)
    assert replayed == list(range({3: 0, 20: 20, 22: 20}.get(n or 0, 23), 23))
    fresh[1].replay(bz.read_journal(bare), n)
    assert same(*fresh) and fresh[0].moves == (23 if n is None else n)


def test_what_a_change_of_method_learns_from_is_the_same(tmp_path: Path) -> None:
    """A new method is told all values so far, those before the snapshot too."""
    ends = []
    for every in (0, 1):
        path = tmp_path / f"{every}.jsonl"
        steps(path, 6, every=every)
        for method in (bz.EvolutionStrategy(0.3, model=True), PORTFOLIO):
            ends.append(steps(path, 4, every=every, method=method, change=True))
        ends.append(steps(path, 3, every=every, method=PORTFOLIO))
    assert all(same(a, b) for a, b in zip(ends[:3], ends[3:], strict=True))
    assert (tmp_path / "0.jsonl").read_bytes() == (tmp_path / "1.jsonl").read_bytes()


def test_what_was_known_what_is_doubted_and_several_starts_are_the_same(tmp_path: Path) -> None:
    starts = bz.Starts([np.full(4, v) for v in (-1.0, 0.0, 0.5)])
    known = [(np.full(4, 0.25), f(np.full(4, 0.25))), (np.full(4, 0.5), 99.0)]
    ends = []
    for every in (0, 1):
        with search(tmp_path / f"{every}.jsonl", every, starts, bz.EvolutionStrategy(0.3)) as s:
            s.tell_known([x for x, _ in known], [v for _, v in known])
            list(s.run(ORACLE, 5))
        with search(tmp_path / f"{every}.jsonl", every, starts, bz.EvolutionStrategy(0.3)) as s:
            s.tell_known([x for x, _ in known], [v for _, v in known])  # told already
            list(s.run(ORACLE, 5))
            s.change(bz.QuasiNewton(0.1))
            list(s.run(ORACLE, 2))
        ends.append(s)
    assert same(*ends) and ends[0].doubt == ends[1].doubt and len(moves_of(tmp_path / "1.jsonl")) == 2
    assert (tmp_path / "0.jsonl").read_bytes() == (tmp_path / "1.jsonl").read_bytes()


def test_doubts_about_known_values_outlive_a_snapshot(tmp_path: Path) -> None:
    doubts = []
    for every in (0, 1):
        path = tmp_path / f"{every}.jsonl"
        with pytest.warns(UserWarning, match="disagrees"), search(path, every, method=PORTFOLIO) as s:
            s.tell_known([np.linspace(-1.0, 1.0, 4)], [99.0])
            for _ in range(6):
                p = s.ask()
                s.tell(p, bz.Values([f(x) for x in p.points], stderr=[1e-9] * p.n))
        with search(path, every, method=PORTFOLIO) as s:
            doubts.append(s.doubt)
    assert doubts[0] is not None and repr(doubts[0]) == repr(doubts[1])


@pytest.mark.parametrize("later", [43, 100])
def test_a_step_that_the_budget_cut_short_is_whole_after_a_resume_with_a_larger_one(tmp_path: Path, later: int) -> None:
    ends = []
    for every in (0, 1):
        path = tmp_path / f"{every}.jsonl"
        with search(path, every, budget=42) as s:  # the last step has two of four queries
            list(s.run(ORACLE))
        with search(path, every, budget=later) as s:
            list(s.run(ORACLE))
        ends.append(s)
    assert same(*ends) and (tmp_path / "0.jsonl").read_bytes() == (tmp_path / "1.jsonl").read_bytes()
    with pytest.raises(bz.JournalError, match="more than budget=20"):
        search(tmp_path / "1.jsonl", budget=20)


def test_measures_tries_and_lines_are_known_as_without(tmp_path: Path) -> None:
    centre = bz.Measure("centre", lambda s: f(s.x), every=4)
    seen: dict[int, list[Any]] = {}
    ends = []
    for every in (0, 1):
        path = tmp_path / f"{every}.jsonl"
        for _ in range(2):
            lines = seen[every] = []
            journal = bz.Journal(path, snapshot_every=every, see=lines.append)
            with bz.Search(np.ones(3), METHOD, seed=1, journal=journal) as s:
                bz.Run(s, bz.Retry(bz.FunctionOracle(f), 2), steps=6, measures=[centre]).to_the_end()
        ends.append(s)
    told = [[(m.name, m.step, m.values) for m in s.measured] for s in ends]
    assert told[0] == told[1] and [step for _, step, _ in told[0]] == [0, 4, 6, 8, 12]
    assert [str(line)[:40] for line in seen[0]] == [str(line)[:40] for line in seen[1]] and len(seen[0]) > 6
    assert [line.number for line in seen[0]] == [line.number for line in seen[1]]


class Flaky(bz.Oracle):
    """Its answers say that each took two tries."""

    def answer(self, proposal: bz.Proposal) -> bz.Values:
        return bz.Values([f(x) for x in proposal.points], info=[{"tries": 2}] * proposal.n)


def test_tries_before_a_snapshot_are_counted_once(tmp_path: Path) -> None:
    for every in (0, 1):
        with search(tmp_path / f"{every}.jsonl", every) as s:
            list(s.run(Flaky(), 3))
        assert search(tmp_path / f"{every}.jsonl", every).retried == 12


# --------------------------------------------------------------------------------------------------- which are used


def test_a_snapshot_of_another_run_is_not_used_and_is_left_alone(tmp_path: Path, replayed: list[int]) -> None:
    path = tmp_path / "run.jsonl"
    steps(path, 20)
    path.unlink()
    with bz.Search(np.zeros(4), METHOD, seed=1, journal=bz.Journal(path, snapshot_every=7)) as s:
        list(s.run(ORACLE, 30))
    other = "is of another run: the journal holds other answers"
    with told(f"snapshot-15.safetensors' {other}", f"snapshot-20.safetensors' {other}"):
        again = bz.Search(np.zeros(4), METHOD, seed=1, journal=bz.Journal(path, snapshot_every=7))
    again.close()
    assert same(s, again) and replayed == []  # from its own, after move 30
    assert moves_of(path) == [15, 20, 28, 30]


def test_a_snapshot_newer_than_the_journal_is_not_used_but_an_older_one_is(tmp_path: Path, replayed: list[int]) -> None:
    path = tmp_path / "run.jsonl"
    steps(path, 17)
    a = steps(path, 6)
    assert moves_of(path) == [20 + 2, 23]  # five moves after 17, and at the end
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))  # a copy from before the last step
    with told("snapshot-23.safetensors' is newer than the journal, which is an earlier copy or was shortened"):
        s = search(path)
    assert replayed == [22]  # of which one answer is lost
    list(s.run(ORACLE, 1))
    assert same(s, a)
    s.close()


def damage(path: Path, at: float) -> None:
    data = bytearray(path.read_bytes())
    data[int(at * (len(data) - 1))] ^= 0x10
    path.write_bytes(data)


@pytest.mark.parametrize("where", [0.0, 0.2, 0.5, 1.0])
def test_a_damaged_snapshot_is_told_and_the_older_one_is_used_or_the_journal(
    tmp_path: Path, where: float, replayed: list[int]
) -> None:
    path = tmp_path / "run.jsonl"
    a = steps(path, 23)
    damage(at(path, 23), where)
    with told("snapshot-23.safetensors' is damaged ("):
        b = search(path, every=0)
    b.close()
    assert replayed == [20, 21, 22] and same(a, b)
    replayed.clear()
    at(path, 20).write_bytes(at(path, 20).read_bytes()[:-9])
    newest, both = "snapshot-23.safetensors' is damaged (", "snapshot-20.safetensors' is damaged (it is incomplete)"
    with told(both, newest):
        c = search(path, every=0)
    c.close()
    assert replayed == list(range(23)) and same(a, c)


def test_a_snapshot_that_does_not_fit_leaves_the_search_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    a = steps(path, 20)
    fresh = bz.Search(np.linspace(-1.0, 1.0, 4), bz.EvolutionStrategy(0.3), seed=1)
    with (
        pytest.warns(UserWarning, match="does not fit the search"),
        pytest.raises(bz.JournalError, match="Line"),  # nor does the journal
    ):
        fresh.replay(bz.read_journal(path))
    assert a.moves == 20


# --------------------------------------------------------------------------------------------------- when it is taken


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    other = tmp_path / "run.jsonl.snapshot-3.notes"
    other.write_text("mine")
    steps(path, 12)
    assert moves_of(path) == [10, 12]
    assert sorted(tmp_path.iterdir()) == sorted([path, other, at(path, 10), at(path, 12)])
    steps(path, 9)
    assert moves_of(path) == [17, 21]
    steps(path, 4, every=0)
    assert moves_of(path) == [17, 21]


def test_nothing_is_taken_of_a_step_that_broke_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.jsonl"
    s = search(path)
    list(s.run(ORACLE, 7))
    move = type(s.variable).add_

    def broken(self: Any, step: Any) -> None:
        move(self, step)
        raise KeyboardInterrupt

    monkeypatch.setattr(type(s.variable), "add_", broken)
    with pytest.raises(KeyboardInterrupt):
        list(s.run(ORACLE, 1))
    s.close()
    assert moves_of(path) == [5]


@pytest.mark.parametrize(
    ("every", "spent", "cost", "moves", "due", "closing"),
    [
        (3, 0.0, None, 2, False, True), (3, 0.0, None, 3, True, True), (3, 0.0, None, 0, False, False),
        (0, 99.0, 0.1, 9, False, False), ("auto", 9.9, 0.1, 9, False, True), ("auto", 10.1, 0.1, 9, True, True),
        ("auto", 15.0, 0.8, 9, False, True), ("auto", 0.9, 0.1, 9, False, False), ("auto", 1.5, 2.0, 9, False, False),
        ("auto", 10.1, None, 9, True, True), ("auto", 99.0, 0.1, 0, False, False),
    ],
)  # fmt: skip
def test_a_snapshot_is_due_after_so_many_moves_or_when_a_replay_costs_more(
    tmp_path: Path, every: Any, spent: float, cost: float | None, moves: int, due: bool, closing: bool
) -> None:
    with search(tmp_path / "run.jsonl", every) as s:
        assert s.journal is not None
        keeper = Keeper(s._engine, s.journal)
        keeper.spent, keeper._cost, keeper.last = spent, cost, s.moves - moves
        assert (keeper.due(), keeper.due(closing=True)) == (due, closing)


def test_auto_takes_what_a_replay_takes_into_account(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with search(path, "auto") as s:
        list(s.run(ORACLE, 20))
        assert s._keeper is not None and 0 < s._keeper.spent < 1 and not moves_of(path)
        s._keeper.spent += 11
        list(s.run(ORACLE, 1))
        assert moves_of(path) == [21] and s._keeper.spent < 1
    assert moves_of(path) == [21]


def test_auto_leaves_a_disk_alone_that_has_no_room_for_four(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, usage = tmp_path / "run.jsonl", shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with search(path, "auto") as s:
        list(s.run(ORACLE, 3))
        assert s._keeper is not None
        for _ in range(2):
            s._keeper.spent += 11
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                list(s.run(ORACLE, 1))
        assert told == []  # once is enough
        s.close()
    assert moves_of(path) == []


@pytest.mark.parametrize("every", [-1, 1.5, "often", None])
def test_another_interval_is_refused(tmp_path: Path, every: Any) -> None:
    with pytest.raises(ValueError, match="snapshot_every"):
        bz.Journal(tmp_path / "run.jsonl", snapshot_every=every)


class Odd(bz.Oracle):
    """Learns what no file holds."""

    def start(self) -> Any:
        return 0j

    def answer(self, proposal: bz.Proposal) -> bz.Values:
        for i in proposal.ids.tolist():
            proposal.learn(self, i, 1)
        return bz.Values([f(x) for x in proposal.points])

    def absorb(self, state: Any, evidence: Any) -> Any:
        return state + len(evidence)

    def save(self, state: Any) -> dict[str, Any]:
        return {"z": np.array(state)}

    def load(self, saved: Any) -> Any:
        return complex(saved["z"])


def test_a_state_that_no_file_holds_is_told_once_and_the_journal_is_enough(tmp_path: Path) -> None:
    path, oracle = tmp_path / "run.jsonl", Odd()
    with search(path, 1) as s:
        with told("No snapshots can be taken of this search: an array of complex128 cannot be written"):
            list(s.run(oracle, 5))
    assert moves_of(path) == []
    with search(path, 0) as again:
        assert again.state_of(oracle) == 20


def test_who_needs_few_lines_sees_the_measures_and_the_newest(tmp_path: Path) -> None:
    path, centre = tmp_path / "run.jsonl", bz.Measure("centre", lambda s: f(s.x), every=4)
    with search(path, 20) as s:
        bz.Run(s, ORACLE, steps=22, measures=[centre]).to_the_end()
    at(path, 22).unlink()
    numbers = list[int]()
    journal = bz.Journal(path, see=lambda line: numbers.append(line.number), see_last=3)
    with bz.Search(np.linspace(-1.0, 1.0, 4), METHOD, seed=1, journal=journal) as again:
        assert again.moves == 22 and [m.step for m in again.measured] == [0, 4, 8, 12, 16, 20, 22]
    every = list(bz.read_journal(path))
    snapshot = next(i for i, line in enumerate(every) if isinstance(line, bz.Measured) and line.step == 20)
    wanted = [line.number for i, line in enumerate(every) if isinstance(line, bz.Measured) or i >= snapshot - 3]
    assert numbers == wanted


def test_a_smaller_budget_cuts_what_is_open_as_without_a_snapshot(tmp_path: Path) -> None:
    handed = []
    for every in (0, 1):
        path = tmp_path / f"{every}.jsonl"
        with search(path, every) as s:
            first, *_ = [s.ask() for _ in range(3)]
            s.tell(first, bz.Values([f(x) for x in first.points]))
        with search(path, every, budget=10) as s:  # 4 are answered, and 8 are open
            handed.append([s.ask().ids.tolist(), s.ask().ids.tolist()])
    assert handed[0] == [[4, 5, 6, 7], [8, 9]]
    assert handed[0] == handed[1] and (tmp_path / "1.jsonl.snapshot-1.safetensors").exists()
