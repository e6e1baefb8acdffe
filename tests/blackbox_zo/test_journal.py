"""The journal: kill -9 and go on with the same bits, torn lines, locks, refusals."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import blackbox_zo as bz
from blackbox_zo._describe import describe, spell
from blackbox_zo._replay import points_of
from blackbox_zo._typing import Floats

ESTIMATORS = [
    bz.RandomVector(0.1, 3),
    bz.RandomVector(0.1, 5, "lowrank", "residual"),
    bz.RankBased(0.2, 6, 3),
    bz.RankSGD(0.2, 6),
    bz.RankSGD(0.2, 6, shared_round=True),
    bz.PreferenceGP(0.2, 4, history=20),
    bz.Surrogate(0.2, 3, 12),
    bz.EvolutionStrategy(0.3, model=True),
    bz.EvolutionStrategy(0.3, covariance="diagonal"),
    bz.EvolutionStrategy(0.3, 3, weights="all"),
    bz.ConsensusBased(1.0, 6),
    bz.TrustRegion(0.2),
]


def bowl(x: Floats) -> float:
    return float(((x - 1.0) ** 2).sum())


def search(path: Path | None, estimator: bz.Estimator = ESTIMATORS[0], **options: Any) -> bz.Search:
    return bz.Search(np.zeros(4), estimator, bz.Adam(0.05), journal=path, **options)


def steps(s: bz.Search, n: int) -> bz.Search:
    for _ in range(n):
        p = s.ask()
        s.tell(p, bz.Values([bowl(x) for x in p.points]))
    return s


def same(a: bz.Search, b: bz.Search) -> bool:
    one, two = a.state_dict(), b.state_dict()
    return one.keys() == two.keys() and all(np.array_equal(one[k], two[k], equal_nan=True) for k in one)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_replay_is_resume_to_the_bit(estimator: bz.Estimator, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with search(path, estimator) as s:
        steps(s, 7)
    with search(path, estimator) as resumed:
        assert same(steps(resumed, 5), steps(search(None, estimator), 12))


def test_every_answer_told_before_a_kill_is_kept_even_of_a_step_half_told(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    s = steps(search(path), 2)
    p = s.ask()
    s.tell(p, bz.Values([5.0, np.nan]), ids=p.ids[[4, 1]])
    copy = tmp_path / "as_the_kill_left_it.jsonl"
    copy.write_bytes(path.read_bytes())  # nothing was closed or flushed
    s.close()
    with search(copy) as resumed:
        rest = resumed.ask()
        assert rest.step == p.step
        assert rest.ids.tolist() == p.ids[[0, 2, 3, 5]].tolist()
        np.testing.assert_array_equal(rest.points, p.points[[0, 2, 3, 5]])
        assert (resumed.nfev, resumed.failed) == (14, 1)


def test_out_of_order_answers_replay_to_the_bit(tmp_path: Path) -> None:
    def scramble(s: bz.Search, order: random.Random, answers: int) -> bz.Search:
        asked: list[tuple[bz.Proposal, int]] = []
        for _ in range(answers):
            if len(asked) < 9:
                p = s.ask()
                asked += [(p, i) for i in range(p.n)]
            p, i = asked.pop(order.randrange(len(asked)))
            s.tell(p, bz.Values([bowl(p.points[i])]), ids=[p.ids[i]])
        return s

    path = tmp_path / "run.jsonl"
    with search(path) as s:
        scramble(s, random.Random(3), 200)
        before = s.state_dict()
    with search(path) as resumed:
        after = resumed.state_dict()
        known = {k for k in before if not k.startswith("open/")}
        assert s.variable.version > 15
        assert all(np.array_equal(before[k], after[k], equal_nan=True) for k in known - {"step", "asked"})
        for k in (k for k in after if k.startswith("open/")):  # steps without any answer are simply asked again
            assert np.array_equal(before[k], after[k], equal_nan=True), k


def test_rankings_in_parts_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with search(path, bz.RankBased(0.2, 6)) as s:
        p = s.ask()
        s.tell(p, bz.Ranking([2, (0, 1)], 4), ids=p.ids[:4])
        s.tell(p, bz.Ranking([1], 2), ids=p.ids[4:])
        x = s.x
    with search(path, bz.RankBased(0.2, 6)) as resumed:
        np.testing.assert_array_equal(resumed.x, x)
        assert resumed.nfev == 6


@pytest.mark.parametrize("estimator", [bz.RankBased(0.2, 6), bz.EvolutionStrategy(0.2, 6)], ids=repr)
def test_weighted_pairs_are_kept_to_the_bit(tmp_path: Path, estimator: bz.Estimator) -> None:
    """Told whole and in parts, through a journal and through a saved state."""
    path = tmp_path / "run.jsonl"
    weights = [0.1, 1 / 3, 2.7e-5]
    with search(path, estimator) as s:
        p = s.ask()
        s.tell(p, bz.Ranking.pairs([0, 1, 3], [1, 0, 5], 6, weights))
        p = s.ask()
        s.tell(p, bz.Ranking.pairs([0, 0, 1], [1, 2, 0], 4, weights), ids=p.ids[:4])
        saved = s.state_dict()
        s.tell(p, bz.Ranking([1], 2), ids=p.ids[4:])
        x = s.x
    with search(path, estimator) as resumed:
        np.testing.assert_array_equal(resumed.x, x)
    loaded = search(None, estimator)
    loaded.load_state_dict(saved)
    p = loaded.ask()
    loaded.tell(p, bz.Ranking([1], 2))
    np.testing.assert_array_equal(loaded.x, x)


def test_one_header_line_then_one_line_per_answer(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with search(path, seed=7) as s:
        p = s.ask()
        s.tell(p, bz.Values([1.5, np.nan, 2, 3, 4, 5], stderr=[0.1] * 6, info=[None, {"error": "why"}, *[None] * 4]))
    header, *lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert header["journal"] == "blackbox_zo"
    assert header["format"] == 2
    assert header["library"] == bz.__version__
    assert header["estimator"]["name"] == "RandomVector"
    assert header["rule"] == {"name": "Adam", "learning_rate": 0.05, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
    assert (header["seed"], header["dimension"]) == (7, 4)
    assert lines[0] == {"step": 0, "at": 0, "id": 0, "value": 1.5, "stderr": 0.1}
    assert lines[1] == {"step": 0, "at": 0, "id": 1, "value": None, "stderr": 0.1, "info": {"error": "why"}}
    assert [line["id"] for line in lines] == list(range(6))


def test_a_whole_step_of_bare_values_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with search(path, max_staleness=1) as s:
        late = s.ask()
        steps(s, 1)
        s.tell(late, bz.Values([1.5, np.nan, 2, 3, 4, 5]))
    lines = path.read_text().splitlines()[1:]
    first = json.loads(lines[0])  # step 1, asked before the first move, as was step 0
    assert first.keys() == {"step", "at", "id", "values", "asked"} and first["asked"] == [[0, 0, 0]]
    assert json.loads(lines[1]) == {"step": 0, "id": 0, "values": [1.5, None, 2, 3, 4, 5]}
    late_one, on_time = bz.read_journal(path).answers()
    assert list(late_one.ids) == [6, 7, 8, 9, 10, 11] and list(on_time.ids) == [0, 1, 2, 3, 4, 5]
    assert (late_one.step, late_one.at, on_time.step, on_time.at) == (1, 0, 0, 0)
    with search(path, max_staleness=1) as resumed:
        assert same(resumed, s) and resumed.failed == 1


class _Parts(bz.Oracle):
    """Answers in parts, with the ids it is given."""

    def __init__(self, *positions: Any) -> None:
        self.positions = positions

    def answer(self, proposal: bz.Proposal) -> bz.Values:
        return bz.Values([bowl(x) for x in proposal.points])

    def parts(self, proposal: bz.Proposal) -> Iterator[Any]:
        for some in self.positions:
            yield [proposal.ids[0] + i for i in some], bz.Values([bowl(proposal.points[i % 6]) for i in some])


@pytest.mark.parametrize("positions", [((0,), (0,)), ((1,), (0, 0)), ((2,), (99,)), ((3, 4), (4, 5))])
def test_an_oracle_that_answers_wrongly_does_no_harm_to_the_journal(positions: Any, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with search(path) as s, pytest.raises(bz.TellError, match=r"told already|names an id twice|not an id of step 0"):
        list(s.run(_Parts(*positions), steps=1))
    kept = positions[0]
    with search(path) as resumed:
        assert resumed.nfev == len(kept)
        assert resumed.ask().ids.tolist() == [i for i in range(6) if i not in kept]


def test_parts_may_name_their_ids_in_lists_and_in_any_order(tmp_path: Path) -> None:
    with search(tmp_path / "run.jsonl") as s:
        assert [r.nfev for r in s.run(_Parts((5, 1), (0,), (2, 4, 3)), steps=2)] == [6, 12]
        assert same(s, steps(search(None), 2))
    with search(tmp_path / "run.jsonl") as resumed:
        assert same(resumed, steps(search(None), 2))


@pytest.mark.parametrize("noted", ["info", "evidence", "ranking"])
def test_what_a_journal_cannot_keep_is_refused_and_nothing_has_moved(tmp_path: Path, noted: str) -> None:
    class Learner(_Parts):
        pass

    path = tmp_path / "run.jsonl"
    with search(path, bz.RankBased(0.2, 6)) as s:
        p, before = s.ask(), path.read_bytes()
        info = None if noted == "evidence" else [None, None, {"why": {1.0}}, None, None, None]
        answer: bz.Feedback = bz.Values(np.arange(6.0), info=info)
        if noted == "ranking":
            answer = answer.ranking()
            answer.info = info
        if noted == "evidence":
            p.learn(Learner(), 2, {1.0})
        with pytest.raises(
            bz.OracleError, match=r"about query 2, or learnt from it, cannot be written .* type set .*\{1.0\}"
        ):
            s.tell(p, answer)
        assert s.nfev == 0 and path.read_bytes() == before


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.999])
@pytest.mark.parametrize("at_once", [True, False])
def test_a_torn_last_line_is_repaired(keep: float, at_once: bool, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with search(path) as s:
        steps(s, 2)
        p = s.ask()
        for ids in [p.ids] if at_once else p.ids[:, None]:
            s.tell(p, bz.Values([bowl(p.points[i - 12]) for i in ids]), ids=ids)
    *whole, last = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(whole) + last[: int(len(last) * keep)])
    with search(path) as resumed:
        rest = resumed.ask()
        assert rest.ids.tolist() == (p.ids.tolist() if at_once else [17])  # only what the torn line answered
        resumed.tell(rest, bz.Values([bowl(x) for x in rest.points]))
        assert same(resumed, steps(search(None), 3))
    assert path.read_bytes() == b"".join(whole) + last


def test_a_torn_header_is_as_good_as_no_file(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with search(path) as s:
        steps(s, 1)
    path.write_bytes(path.read_bytes()[:40])
    with search(path) as again:
        assert again.nfev == 0
        steps(again, 1)
    assert len(path.read_text().splitlines()) == 2


def test_damage_in_the_middle_is_refused_by_line(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with search(path) as s:
        steps(s, 5)
    lines = path.read_text().splitlines(keepends=True)
    lines[2] = "rubbish\n"
    path.write_text("".join(lines))
    with pytest.raises(bz.JournalError, match="is damaged at line 3: b'rubbish'"):
        search(path)


def test_a_file_that_is_no_journal_is_refused_and_left_alone(tmp_path: Path) -> None:
    for text in ('{"a": 1}\n', "hello", "hello\nworld\n"):
        path = tmp_path / "notes.txt"
        path.write_text(text)
        with pytest.raises(bz.JournalError, match=r"not a journal of blackbox_zo|is damaged at line 1"):
            search(path)
        assert path.read_text() == text


def test_what_can_be_no_journal_is_refused_at_once(tmp_path: Path) -> None:
    for path in (3, b"run.jsonl", True):
        with pytest.raises(TypeError, match="`journal` must be the path of a file, got"):
            bz.minimize(bowl, np.zeros(4), journal=path)  # type: ignore[arg-type]
    os.mkfifo(tmp_path / "pipe")
    for name in ("/dev/null", str(tmp_path / "pipe")):
        with pytest.raises(bz.JournalError, match=f"'{name}' is not a regular file; choose another for `journal`"):
            search(Path(name))


def test_an_answer_that_was_never_asked_for_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with search(path) as s:
        steps(s, 1)
    with path.open("a") as file:
        file.write('{"step": 1, "at": 1, "id": 99, "value": 1.0}\n{"step": 1, "at": 1, "id": 7, "value": 1.0}\n')
    with pytest.raises(bz.JournalError, match="Line 3 of the journal answers a query twice, or one that was not asked"):
        search(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"estimator": bz.RandomVector(0.2, 3)},
            r"its estimator is RandomVector\(radius=0.1.* here it is RandomVector\(radius=0.2",
        ),
        ({"rule": bz.SGD(0.1)}, r"its rule is Adam\(.* here it is SGD\(learning_rate=0.1\)"),
        ({"seed": 1}, "its seed is 0, here it is 1"),
        ({"x0": np.zeros(5)}, "its dimension is 4, here it is 5"),
        ({"x0": np.ones(4)}, r"its variable's x0 is \[0.0, .* here it is \[1.0, "),
        ({"x0": bz.Vector(np.zeros(4), (-1, 1))}, r"its variable's lower is None, here it is \[-1.0, "),
        ({"x0": np.zeros((2, 2))}, r"its variable's x0 is \[0.0, 0.0, 0.0, 0.0\], here it is \[\[0.0, 0.0\], "),
        ({"max_staleness": 1}, "its max_staleness is 8, here it is 1"),
    ],
)
def test_a_journal_of_another_problem_is_refused_by_name(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with search(path) as s:
        steps(s, 1)
    given = {"x0": np.zeros(4), "estimator": ESTIMATORS[0], "rule": bz.Adam(0.05), **change}
    with pytest.raises(bz.JournalError, match=message):
        bz.Search(**given, journal=path)


def test_another_problem_of_the_users_own_naming_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    bz.Search(np.zeros(4), ESTIMATORS[0], journal=bz.Journal(path, problem={"data": "a.csv"})).close()
    with pytest.raises(bz.JournalError, match=r"its data is 'a.csv', here it is 'b.csv'"):
        bz.Search(np.zeros(4), ESTIMATORS[0], journal=bz.Journal(path, problem={"data": "b.csv"}))


@pytest.mark.parametrize(("field", "value"), [("format", 99), ("format", 1), ("library", "99.0.0")])
def test_a_journal_of_another_version_is_refused(field: str, value: Any, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    search(path).close()
    header = json.loads(path.read_text())
    header[field] = value
    path.write_text(json.dumps(header) + "\n")
    with pytest.raises(bz.JournalError, match=f"written by {field} version {str(value)[:2]}"):
        search(path)


def test_a_second_writer_is_refused_in_this_process_and_in_another(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with search(path) as s:
        with pytest.raises(bz.JournalLocked, match="is being written by another search"):
            search(path)
        code = f"import blackbox_zo as bz; bz.Journal({str(path)!r}).open({{}})"
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "JournalLocked" in other.stderr
        steps(s, 1)
    search(path).close()


CELLS = {
    "a run that ended": "s = search(path)\nfor report in s.run(oracle, steps=1): pass",
    "a run whose oracle raised": "s = search(path)\nfor report in s.run(bad, steps=1): pass",
    "a run whose loop raised": "s = search(path)\nfor report in s.run(oracle, steps=5): answer(s, s.ask())\n1 / 0",
    "a loop that was left": "s = search(path)\nrun = iter(s.run(oracle, steps=5))\nnext(run)",
    "ask and tell": "s = search(path)\nanswer(s, s.ask())",
    "a question without an answer": "s = search(path)\np = s.ask()\n1 / 0",
    "the same journal": "s = bz.Search(np.zeros(4), ESTIMATORS[0], journal=same)\nanswer(s, s.ask())",
}


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_a_cell_of_a_notebook_can_be_run_again(cell: str, tmp_path: Path) -> None:
    """The search of its last run is there still, and the traceback of what that raised."""

    class Bad(bz.Oracle):
        def answer(self, proposal: bz.Proposal) -> bz.Values:
            raise RuntimeError("bad")

    def answer(s: bz.Search, p: bz.Proposal) -> None:
        s.tell(p, bz.Values((p.points**2).sum(axis=1)))

    oracle = bz.FunctionOracle(lambda x: float(x @ x))
    names: dict[str, Any] = {
        "bz": bz, "np": np, "ESTIMATORS": ESTIMATORS, "oracle": oracle, "bad": Bad(), "answer": answer,
        "path": tmp_path / "run.jsonl", "same": bz.Journal(tmp_path / "run.jsonl"),
        "search": lambda path: bz.Search(np.zeros(4), ESTIMATORS[0], journal=path),
    }  # fmt: skip
    before, told, tracebacks = [], 0, list[Exception]()
    for _ in range(3):
        try:
            exec(cell, names)
        except (ZeroDivisionError, RuntimeError) as error:
            tracebacks.append(error)
        assert names["s"].nfev >= told
        told = names["s"].nfev
        before.append(names["s"])
    for old in before[:-1]:
        with pytest.raises(bz.JournalLocked, match="was taken over by a later search of this process"):
            answer(old, old.ask())
        old.close()  # which the later one does not feel
    answer(before[-1], before[-1].ask())
    before[-1].close()
    assert sum(len(line.ids) for line in bz.read_journal(names["path"]).answers()) == before[-1].nfev > told


def test_a_search_at_work_does_not_give_way_and_says_where_it_is(tmp_path: Path) -> None:
    path, said = tmp_path / "run.jsonl", list[str]()

    def again(*what: Any) -> float:
        try:
            search(path)
        except bz.JournalLocked as error:
            said.append(str(error))
        return 0.0

    bz.minimize(again, np.zeros(4), ESTIMATORS[0], budget=1, journal=path)
    path.unlink()
    bz.minimize(lambda x: 0.0, np.zeros(4), ESTIMATORS[0], budget=1, journal=path, callback=again)
    path.unlink()
    bz.minimize(lambda x: 0.0, np.zeros(4), ESTIMATORS[0], budget=1, journal=path, measures=[bz.Measure("m", again)])
    assert len(said) == 4 and len(set(said)) == 1
    assert said[0].endswith("by another search of this process, whose run is at work; wait for its end.")
    with search(path):
        again()
        assert said[-1].endswith("by another search of this process, in a `with` block; leave the block first.")
    s = search(path)
    other = threading.Thread(target=again)
    other.start()
    other.join()
    assert said[-1].endswith("in thread 'MainThread'; close it there first, with `search.close()`.")
    steps(s, 1)
    with pytest.raises(bz.JournalError, match="its seed is"):  # another run is no reason to give way
        bz.Search(np.zeros(4), ESTIMATORS[0], seed=99, journal=path)
    steps(s, 1).close()


def _hold(path: str) -> None:
    s = search(Path(path))
    steps(s, 1)
    worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    worker.start()
    Path(path + ".pid").write_text(str(worker.pid))
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")  # a worker of pytest has two
def test_a_forked_child_that_outlives_its_parent_does_not_hold_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    process = multiprocessing.get_context("fork").Process(target=_hold, args=(str(path),))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    child = int(Path(str(path) + ".pid").read_text())
    try:
        os.kill(child, 0)  # it is still there
        search(path).close()
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_lower_budget_than_the_journal_holds_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with search(path) as s:
        steps(s, 2)
    with pytest.raises(bz.JournalError, match="holds 12 answers, more than budget=10"):
        search(path, budget=10)


def test_a_larger_budget_completes_the_step_that_the_smaller_one_cut(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"

    def spend(s: bz.Search) -> bz.Search:
        while not s.exhausted:
            steps(s, 1)
        return s

    with search(path, budget=9) as s:
        spend(s)
    with search(path, budget=20) as resumed:
        assert same(spend(resumed), spend(search(None, budget=20)))


def test_read_leaves_the_file_alone_and_history_finds_the_points(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    asked: list[Floats] = []
    with bz.Search(
        {"a": 1.0, "b": np.zeros((2, 2))}, bz.RankBased(0.1, 3), bz.ClipUp(bz.Cosine(0.1, 0.01, 5)), journal=path
    ) as s:
        for _ in range(3):
            p = s.ask()
            asked.append(p.points)
            s.tell(p, bz.Values(p.points.sum(axis=1)))
        before = path.read_bytes()
        reader = bz.read_journal(path)  # while it is locked
        points = np.concatenate([found for _, found in points_of(reader)])
    assert path.read_bytes() == before
    np.testing.assert_array_equal(points, np.concatenate(asked))


def test_a_run_with_a_method_of_the_users_own_cannot_be_rebuilt_but_resumes(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"

    def slower(step: int) -> float:
        return 0.1 / (1 + step)

    for _ in range(2):
        with bz.Search(np.zeros(2), ESTIMATORS[0], bz.SGD(slower), journal=path) as s:
            steps(s, 1)
    assert s.nfev == 12
    with pytest.raises(ValueError, match="slower` is not part of blackbox_zo"):
        points_of(bz.read_journal(path))


# ------------------------------------------------------------------------------------------- a real kill -9

SCRIPT = """
import sys, time
from pathlib import Path
import numpy as np
import blackbox_zo as bz

def f(x):
    with Path(sys.argv[2]).open("a") as file:
        file.write(repr(x.tolist()) + "\\n")
    time.sleep(0.002 if sys.argv[3] == "1" else 0.025)  # brisk calls travel to a worker a few at a time
    return float(((x - 1) ** 2).sum())

r = bz.minimize(f, np.zeros(4), budget=120, seed=5, journal=sys.argv[1], workers=int(sys.argv[3]))
print(r.x.tolist(), r.fun, r.center.tolist(), r.nit, r.nfev)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_at_random_instants_it_ends_as_if_never_killed_and_asks_nothing_twice(
    workers: int, tmp_path: Path
) -> None:
    script, calls, path = tmp_path / "script.py", tmp_path / "calls.txt", tmp_path / "run.jsonl"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(path), str(calls), str(workers)]
    unbroken = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "other.jsonl"), str(tmp_path / "other.txt"), str(workers)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    instants, kills = random.Random(workers), 0
    while True:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        before = path.stat().st_size if path.exists() else 0
        if kills < 5:
            deadline = time.monotonic() + 20
            grow = instants.randrange(200, 2500)  # kill once the journal has grown by so many bytes: in mid-step
            while process.poll() is None and time.monotonic() < deadline:
                if path.exists() and path.stat().st_size > before + grow:
                    process.kill()
                    kills += 1
                    break
                time.sleep(0.001)
        out, err = process.communicate(timeout=60)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, err
    assert kills >= 3
    assert out == unbroken.stdout
    answered = len(path.read_text().splitlines()) - 1
    assert answered == 120
    repeated = len(calls.read_text().splitlines()) - 120
    assert 0 <= repeated <= kills * workers  # what was under way at a kill


def test_a_killed_parent_takes_its_workers_with_it(tmp_path: Path) -> None:
    code = """
import os, sys, time
from pathlib import Path
import numpy as np, blackbox_zo as bz
def f(x):
    (Path(sys.argv[1]) / str(os.getpid())).touch()
    time.sleep(60)
    return 0.0
bz.minimize(f, np.zeros(2), budget=4, workers=2)
"""
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    while len(list(tmp_path.iterdir())) < 2:
        time.sleep(0.01)
    process.kill()
    process.wait()
    workers = [int(p.name) for p in tmp_path.iterdir()]
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and any(_alive(pid) for pid in workers):
        time.sleep(0.02)
    assert not any(_alive(pid) for pid in workers)


def _alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rsplit(")", 1)[1].split()[0] != "Z"


def test_an_estimator_is_shown_as_it_would_be_typed() -> None:
    one, two = bz.QuasiNewton(0.2), bz.Portfolio((bz.QuasiNewton(0.2), bz.EvolutionStrategy(0.3)), growth=(1.0, 2.0))
    for estimator in (one, two, bz.Portfolio((one,))):
        typed = spell(describe(estimator))
        assert eval(typed, vars(bz)) == estimator
    assert "members=(QuasiNewton(radius=0.2, pairs=None), EvolutionStrategy(" in spell(describe(two))
