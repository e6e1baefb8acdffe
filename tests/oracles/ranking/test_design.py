"""What raters are asked beside the search's rounds: practice, checks, repeats, the final vote; and when they rest."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import blackbox_zo as bz
from oracles.cli.main import main
from oracles.ranking import HumanRanking, Planned, StudyDesign
from oracles.ranking.study._export import CODEBOOK, document_of, rows_of
from oracles.ranking.study._known import known_of, numbers
from oracles.ranking.study._record import CHECK, REPEAT, SEARCH
from oracles.ranking.study._store import Store
from oracles.ranking.study._vote import Votes
from oracles.ranking.study._weights import model_of
from tests.oracles.helpers import wait_for
from tests.oracles.ranking.people import Person, size, spelled, study


def liked(text: str) -> float:
    """Small vectors are liked, and of the numbers the largest."""
    return size(text) if " " in text else -float(text)


def answer_until(done: Callable[[], bool], *people: Person, k: int = 2) -> None:
    """Each person answers whatever they are asked, in turn."""
    until = time.monotonic() + 60
    while not done():
        assert time.monotonic() < until, "the study did not get there"
        for person in people:
            state = person.request("GET", "/api/round").json()
            if state["round"] is not None and all(state["candidates"]):
                person.rank(liked, k)
        time.sleep(0.01)


def purposes(store: Store, rater: int) -> str:
    return "".join(r["purpose"][0] for r in rows_of(store) if r["rater"] == rater)


def test_practice_comes_first_says_what_is_right_and_is_not_given_to_the_search(tmp_path: Path) -> None:
    with study(tmp_path / "s.db", 1, design=StudyDesign(practice=2)) as (oracle, search, _):
        ann = Person(oracle.url)
        shown = ann.round()
        assert (shown["purpose"], shown["practice"], shown["question"]) == (
            "practice",
            [1, 2],
            "Put the largest number first.",
        )
        assert ann.rank(lambda text: float(text), 2).json()["practice"]["right"] is False
        best_first = sorted((c for c in ann.round()["candidates"]), key=lambda c: -float(c["text"]))
        told = ann.rank(liked, 2).json()["practice"]
        assert told == {"right": True, "order": [c["id"] for c in best_first]}
        assert search.moves == 0 and ann.round()["purpose"] == "search" and ann.round()["question"] is None
        reply = ann.rank(liked, 2).json()
        assert "practice" not in reply
    assert [(r["purpose"], r["right"]) for r in rows_of(oracle.store)] == [
        ("practice", 0.0), ("practice", 1.0), ("search", None),
    ]  # fmt: skip
    assert model_of(oracle.study).checks("1") == (0, 0)


def test_a_practice_round_can_be_skipped_and_be_withdrawn(tmp_path: Path) -> None:
    with study(tmp_path / "s.db", 1, design=StudyDesign(practice=2)) as (oracle, _, _):
        ann = Person(oracle.url)
        first = ann.round()["round"]
        ann.rank(liked, 2)
        assert ann.undo().json()["round"] == first == ann.round()["round"]
        assert ann.answer([], "skip").status == 200
        assert ann.round()["practice"] == [2, 2]
        ann.answer([], "skip")
        ann.rank(liked, 2)


def test_checks_and_repeats_are_asked_as_planned_and_the_model_gets_them(tmp_path: Path) -> None:
    with study(tmp_path / "s.db", 12, design=StudyDesign(check_every=5)) as (oracle, search, _):
        ann = Person(oracle.url)
        answer_until(lambda: search.moves == 12, ann)
        assert ann.request("GET", "/api/round").json()["round"] is None  # nothing is asked for its own sake
    store = oracle.store
    turns = [r for r in rows_of(store) if r["purpose"] != "practice"]
    planned = [oracle.study.design.turn(store.secret, 1, i) for i in range(len(turns))]
    assert [r["purpose"] for r in turns] == [{"normal": "search"}.get(p.kind, p.kind) for p in planned]
    assert Counter(p.kind for p in planned)["check"] >= 3 and Counter(p.kind for p in planned)["repeat"] >= 3
    for row, p in zip(turns, planned, strict=True):
        if p.step is not None:
            of = turns[p.step]
            assert row["of"] == of["round"] and sorted(row["shown"]) == sorted(of["shown"])
            assert row["points"] == of["points"] and row["order"] == of["order"]  # who judges alike says the same
    model = oracle.reliability
    before = turns[: max(i for i, r in enumerate(turns) if r["purpose"] == "search")]
    assert model.checks("1") == (2 * (sum(r["purpose"] == "check" for r in before),))
    assert (model.retest("1").n, model.retest("1").tau) == (sum(r["purpose"] == "repeat" for r in before), 1.0)
    again = model_of(oracle.study)
    assert again.to_json() == model.to_json()  # from the store alone


def test_a_repeated_round_has_another_order_on_the_screen(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.db")
    first = [store.rounds.open(step, np.full((8, 1), float(step)), None) for step in range(4)]
    shown = [store.order(r.id, 1, 8).tolist() for r in first]
    again = [store.order(store.rounds.again(r).id, 1, 8).tolist() for r in first]
    assert all(a != b and sorted(a) == sorted(b) for a, b in zip(shown, again, strict=True))
    assert store.rounds.again(first[0]) == store.rounds.again(first[0])


def test_a_study_with_checks_that_is_run_again_gets_the_same_evidence(tmp_path: Path) -> None:
    design = StudyDesign(practice=1, check_every=5)
    with study(tmp_path / "s.db", 7, raters=2, design=design) as (oracle, search, _):
        people = [Person(oracle.invite(name), None) for name in ("Ann", "Bo")]
        answer_until(lambda: search.moves == 7, *people)
    told, x = oracle.reliability.to_json(), search.x.tolist()
    with study(tmp_path / "s.db", 7, raters=2, design=design) as (oracle, search, _):
        wait_for(lambda: search.moves == 7)
    assert oracle.reliability.to_json() == told and search.x.tolist() == x
    assert {"c", "r"} <= set(purposes(oracle.store, 1)) | set(purposes(oracle.store, 2))


def test_the_page_does_not_tell_checks_and_repeats_from_other_rounds(tmp_path: Path) -> None:
    with study(tmp_path / "s.db", 6, design=StudyDesign(check_every=5)) as (oracle, search, _):
        ann, seen = Person(oracle.url), list[tuple[str, bool]]()
        while search.moves < 6:
            state = ann.request("GET", "/api/round").json()
            if state["round"] is None or not all(state["candidates"]):
                time.sleep(0.01)
                continue
            seen.append((state["purpose"], "practice" in state))
            ann.rank(liked, 2)
    assert set(seen) == {("search", False)} and len(seen) > 6


def test_an_answer_to_a_check_is_withdrawn_until_the_search_was_given_it(tmp_path: Path) -> None:
    with study(tmp_path / "s.db", 3, design=StudyDesign(check_every=5)) as (oracle, search, _):
        oracle.study.turns.design = _SecondIsACheck()  # type: ignore[assignment]
        ann = Person(oracle.url)
        ann.rank(liked, 2)
        wait_for(lambda: search.moves == 1)
        check = ann.round()["round"]
        ann.rank(liked, 2)
        newest = ann.history()[0]
        assert (newest["purpose"], newest["open"]) == ("check", True)
        assert ann.undo().json()["round"] == check == ann.round()["round"]
        ann.rank(liked, 2)
        ann.rank(liked, 2)  # the search is given this, and the check with it
        wait_for(lambda: search.moves == 2)
        entry = next(a for a in ann.history() if a["purpose"] == "check" and a["status"] == "counts")
        assert entry["open"] is False
        assert ann.undo(answer=entry["answer"]).json()["round"] is None
        assert ann.undo().json()["round"] != check  # one's last answer to the search
        wait_for(lambda: ann.round()["step"] == 1)
        ann.rank(liked, 2)
        wait_for(lambda: search.moves == 2)
        ann.rank(liked, 2)
    assert oracle.reliability.checks("1") == (1, 1)


class _SecondIsACheck:
    practice, rounds_each, break_every = 0, None, None

    def turn(self, secret: str, rater: int, number: int) -> Planned:
        del secret, rater
        return Planned("check" if number == 1 else "normal")


def test_a_rater_answers_no_more_rounds_than_they_may(tmp_path: Path) -> None:
    design = StudyDesign(rounds_each=2)
    with study(tmp_path / "s.db", 3, design=design) as (oracle, search, _):
        ann = Person(oracle.invite("Ann"))
        for done in range(2):
            progress = ann.round()["progress"]
            assert (progress["done"], progress["rounds"]) == (done, 2)  # of her own
            ann.rank(liked, 2)
        wait_for(lambda: search.moves == 2)
        wait_for(lambda: ann.request("GET", "/api/round").json()["enough"])
        state = ann.request("GET", "/api/round").json()
        assert state["round"] is None and state["code"] == oracle.store.code(1)
        wait_for(lambda: bool(_open(oracle)))
        assert "one person more, and nobody may still answer" in oracle.study.turns.short()
        open_ = next(r.id for r in _open(oracle))
        body = {"round": open_, "kind": "undecided", "groups": [], "client_id": "x" * 10}
        assert ann.post("/api/answer", body).status == 409
        bo = Person(oracle.invite("Bo"))
        assert oracle.study.turns.short() == ""
        bo.rank(liked, 2)


def _open(oracle: HumanRanking) -> Any:
    with oracle.store.record() as record:
        return list(record.open())


def test_a_rater_rests(tmp_path: Path) -> None:
    design = StudyDesign(break_every=2, break_seconds=1.2)
    with study(tmp_path / "s.db", 3, design=design) as (oracle, search, _):
        ann = Person(oracle.url)
        for _ in range(2):
            ann.rank(liked, 2)
        state = ann.request("GET", "/api/round").json()
        assert state["round"] is None and 1 <= state["rest"] <= 2
        begun = time.monotonic()
        assert ann.round()["rest"] == 0 and time.monotonic() - begun > 0.5
        ann.rank(liked, 2)
        wait_for(lambda: search.moves == 3)


def test_each_rater_votes_once_blind_and_the_last_round_is_not_withdrawn_meanwhile(tmp_path: Path) -> None:
    oracle = HumanRanking(spelled, tmp_path / "s.db", n_ranked=1, raters=2)
    search = bz.Search([1.0, -2.0], bz.RankBased(0.5, 4, 2), bz.SGD(0.3), seed=3)
    found = list[Votes]()

    def run() -> None:
        for _ in search.run(oracle, 2):
            pass
        found.append(oracle.vote([0.1, 0.1], [1.0, -2.0]))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ann, bo = (Person(oracle.invite(name)) for name in ("Ann", "Bo"))
    never = Person(oracle.invite("Cy"))  # took no part, and does not vote
    for _ in range(2):
        for person in (ann, bo):
            person.rank(liked, 1)
    assert ann.round()["purpose"] == "final" and len(ann.round()["candidates"]) == 2
    assert ann.undo().json()["round"] is None
    assert never.request("GET", "/api/round").json()["round"] is None
    ann.rank(liked, 1)
    assert ann.request("GET", "/api/round").json()["voting"] is True
    bo.answer([], "undecided")
    thread.join(10)
    assert found == [Votes(1, 0, 1)]
    oracle.finish()
    oracle.close()
    assert document_of(Store(tmp_path / "s.db"))["final_vote"] == {
        "winner": 1,
        "start": 0,
        "neither": 1,
        "p_value": 0.5,
    }


def test_the_vote_is_told_with_its_sign_test() -> None:
    assert str(Votes(5, 0, 0)) == "5 for the winner, 0 for the start (sign test: p = 0.031)"
    assert str(Votes(0, 0, 2)) == "0 for the winner, 0 for the start, 2 for neither (sign test: p = 1)"


def test_known_rounds_of_the_researcher_are_drawn_and_asked_in_turn(tmp_path: Path) -> None:
    known = [[[0.0, 0.0], [3.0, 0.0]], [[0.0, 1.0], [2.0, 2.0], [9.0, 9.0]]]
    with study(tmp_path / "s.db", 1, design=StudyDesign(practice=3, known=known)) as (oracle, _, _):
        ann = Person(oracle.url)
        for entry in (*known, known[0]):
            shown = ann.round()
            assert shown["question"] is None
            assert sorted(c["text"] for c in shown["candidates"]) == sorted(map(spelled, entry))
            assert ann.rank(liked, 2).json()["practice"]["right"] is True
        ann.rank(liked, 2)
    assert rows_of(oracle.store)[0]["points"] == known[0]


@pytest.mark.parametrize(
    "known, message",
    [
        ([[[0.0], [1.0]]], "A candidate of known round 1 has 1 numbers in 1 arrays; x0 has 2 in 1."),
        ([[[0.0, 0.0], [7.0, 7.0]]], "Candidate 2 of known round 1 cannot be drawn: ValueError: 7 is not drawn"),
    ],
)
def test_known_rounds_that_do_not_fit_end_the_run(tmp_path: Path, known: Any, message: str) -> None:
    def render(x: Any) -> str:
        if x[0] == 7:
            raise ValueError("7 is not drawn")
        return spelled(x)

    oracle = HumanRanking(render, tmp_path / "s.db", design=StudyDesign(practice=1, known=known))
    search = bz.Search([1.0, -2.0], bz.RankBased(0.5, 4, 2), bz.SGD(0.3), seed=3)
    try:
        with pytest.raises((bz.OracleError, ValueError)) as raised:
            next(iter(search.run(oracle, 1)))
    finally:
        oracle.close()
    assert message in str(raised.value)


def test_numbers_differ_and_the_largest_is_first() -> None:
    for number in range(20):
        found = [int(text) for text in numbers(number, 8)]
        assert found == sorted(set(found), reverse=True) and len(found) == 8 and 10 <= min(found) <= max(found) <= 99
    assert numbers(0, 8) != numbers(1, 8) and len(numbers(0, 200)) == 90


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"check_every": 4}, "`StudyDesign(check_every=...)` must be a whole number of at least 5, got 4."),
        ({"practice": -1}, "`StudyDesign(practice=...)` must be a whole number of at least 0, got -1."),
        ({"known": []}, "needs at least one round"),
        ({"known": [[1.0]]}, "two candidates in each"),
        ({"break_seconds": 0}, "break_seconds"),
        ({"most_raters": 0}, "most_raters"),
    ],
)
def test_bad_schedules(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as raised:
        StudyDesign(**arguments)
    assert message in str(raised.value)


def test_limits_within_which_a_study_cannot_end_are_refused(tmp_path: Path) -> None:
    for design, message in (
        (StudyDesign(most_raters=2), "At most 2 raters may take part, but each round needs the answers of 3."),
        (
            StudyDesign(most_raters=5, rounds_each=3),
            "20 rounds of 3 answers need 60 answers, but 5 raters of at most 3 rounds",
        ),
    ):
        with pytest.raises(ValueError, match=message.split(",")[0]):
            HumanRanking(spelled, tmp_path / "s.db", raters=3, rounds=20, design=design)
    assert not (tmp_path / "s.db").exists()


def test_a_limit_of_raters_below_the_links_given_out_is_refused_and_no_further_link_is_made(tmp_path: Path) -> None:
    oracle = HumanRanking(spelled, tmp_path / "s.db", design=StudyDesign(most_raters=3))
    for _ in range(3):
        oracle.invite()
    with pytest.raises(ValueError, match="At most 3 raters may take part, and as many have a link"):
        oracle.invite()
    oracle.revoke(3)
    oracle.invite()
    oracle.close()
    with pytest.raises(ValueError, match="At most 2 raters may take part, but 3 have a link: revoke some"):
        HumanRanking(spelled, tmp_path / "s.db", design=StudyDesign(most_raters=2))


def test_the_command_refuses_what_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.json").write_text("[[1]]")
    (tmp_path / "short.json").write_text("[[[0, 0], [1, 1]]]")
    common = ["rank", "--render", "oracles.ranking.renderers.demo:palette", "--store", str(tmp_path / "s.db")]
    for words, message in (
        (["--known", str(tmp_path / "none.json")], "cannot be read: No such file"),
        (["--known", str(tmp_path / "bad.json")], "must be a list of rounds"),
        (["--known", str(tmp_path / "short.json")], "known round 1 has 2 numbers in 1 arrays; x0 has 15 in 1."),
        (["--check-every", "3"], "check_every=...)` must be a whole number of at least 5"),
        (["--raters", "3", "--most-raters", "2"], "At most 2 raters may take part"),
    ):
        assert main([*common, *words]) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "s.db").exists()


def test_known_rounds_are_read_from_json(tmp_path: Path) -> None:
    (tmp_path / "k.json").write_text("[[[0, 0], [1, 1]]]")
    assert known_of(tmp_path / "k.json") == [[[0, 0], [1, 1]]]


def test_the_export_says_what_each_column_holds(tmp_path: Path) -> None:
    with study(tmp_path / "s.db", 4, raters=2, design=StudyDesign(practice=1, check_every=5)) as (oracle, search, _):
        people = [Person(oracle.invite(name)) for name in ("Ann", "Bo")]
        answer_until(lambda: search.moves == 4, *people)
    whole = json.loads(json.dumps(document_of(oracle.store)))
    for table in ("answers", "raters", "rounds"):
        columns = {name for names in CODEBOOK[table] for name in names.split(", ")}
        assert set().union(*whole[table]) - {"name", "code", "weight", "rater"} <= columns, table
    assert set(CODEBOOK["answers"]) == set(whole["answers"][0])
    assert {r["purpose"] for r in whole["rounds"]} >= {"practice", CHECK, SEARCH}
    assert all(r["status"] == ("closed" if r["purpose"] == SEARCH else "asked") for r in whole["rounds"])
    assert all(r["of"] is not None for r in whole["rounds"] if r["purpose"] == REPEAT)
    assert [r["counts"] for r in whole["raters"]] == [
        sum(a["rater"] == i and a["status"] == "counts" for a in whole["answers"]) for i in (1, 2)
    ]


def test_a_known_candidate_that_cannot_be_drawn_is_told_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text("def draw(x):\n    raise RuntimeError('no ink')\n")
    (tmp_path / "known.json").write_text("[[[0, 0], [1, 1]]]")
    monkeypatch.syspath_prepend(tmp_path)
    words = ["rank", "--render", "broken:draw", "--x0", "[0, 0]", "--store", str(tmp_path / "s.db"), "--practice", "1"]
    assert main([*words, "--known", str(tmp_path / "known.json")]) == 2
    told = capsys.readouterr().err.splitlines()
    assert told[-1].startswith("blackbox-zo: Candidate 1 of known round 1 cannot be drawn:") and "no ink" in told[-1]
