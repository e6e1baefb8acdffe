"""People rank: rounds, raters, undo, and a store that is the journal."""

from __future__ import annotations

import http.client
import os
import secrets
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import blackbox_zo as bz
from oracles.ranking import HumanRanking
from oracles.ranking.session import raters_of
from oracles.ranking.study._export import rows_of
from oracles.ranking.study._store import Store
from tests.oracles.ranking.people import Person, Start, size, spelled, study


def reference(steps: int) -> bz.Search:
    """The same search, answered by the order that a person would give."""
    search = bz.Search([1.0, -2.0], bz.RankBased(0.5, 4, 2), bz.SGD(0.3), seed=3)
    for _ in range(steps):
        p = search.ask()
        order = np.argsort((p.points**2).sum(axis=1))
        search.tell(p, bz.Ranking(order[:2].tolist(), p.n))
    return search


def test_a_person_steers_as_the_same_rankings_do(tmp_path: Path) -> None:
    with study(tmp_path / "s.db") as (oracle, search, raised):
        person = Person(oracle.url)
        for _ in range(3):
            assert person.rank(size, 2).status == 200
    assert not raised
    np.testing.assert_array_equal(search.x, reference(3).x)


def test_run_again_the_study_answers_itself(tmp_path: Path) -> None:
    with study(tmp_path / "s.db") as (oracle, _first, _):
        person = Person(oracle.url)
        for _ in range(3):
            person.rank(size, 2)
    with study(tmp_path / "s.db", steps=4) as (oracle, again, raised):
        person = Person(oracle.url)
        assert person.round()["step"] == 3
        person.rank(size, 2)
    assert not raised
    np.testing.assert_array_equal(again.x, reference(4).x)


@pytest.mark.parametrize("ahead", [0, 1])
def test_an_answer_that_was_used_can_be_taken_back(tmp_path: Path, ahead: int) -> None:
    oracle = HumanRanking(spelled, tmp_path / "s.db", n_ranked=2)
    search = bz.Search([1.0, -2.0], bz.RankBased(0.5, 4, 2), bz.SGD(0.3), seed=3)
    thread = threading.Thread(target=lambda: list(search.run(oracle, 4, ahead=ahead)), daemon=True)
    thread.start()
    try:
        person = Person(oracle.url)
        person.rank(size, 2)
        wrong = person.round()
        person.rank(lambda text: -size(text), 2)  # a slip
        assert person.round()["step"] == 2
        assert person.undo().json()["round"] == wrong["round"]
        again = person.round()
        assert [c["id"] for c in again["candidates"]] == [c["id"] for c in wrong["candidates"]]
        for _ in range(3):
            person.rank(size, 2)
        thread.join(20)
        assert not thread.is_alive()
        if not ahead:
            np.testing.assert_array_equal(search.x, reference(4).x)
        assert [r["status"] for r in rows_of(oracle.store)] == ["counts", "withdrawn", "counts", "counts", "counts"]
    finally:
        oracle.close()


def test_several_raters_see_their_own_orders_and_are_merged(tmp_path: Path) -> None:
    with study(tmp_path / "s.db", steps=1, raters=2) as (oracle, _search, _):
        ann, bo = Person(oracle.url, "Ann"), Person(oracle.url, "Bo")
        orders = [[c["id"] for c in p.round()["candidates"]] for p in (ann, bo)]
        assert set(orders[0]) == set(orders[1])
        assert orders[0] == [c["id"] for c in ann.round()["candidates"]]
        ann.rank(size, 2)
        assert ann.request("GET", "/api/round").json()["round"] is None  # it waits for Bo
        bo.rank(lambda text: -size(text), 2)
        shuffles = {tuple(oracle.store.order(1, rater, 20)) for rater in (1, 2, 3)}
        assert len(shuffles) == 3
    # what they said cancels out where they disagreed
    assert [r["name"] for r in rows_of(Store(tmp_path / "s.db"))] == ["Ann", "Bo"]


def test_a_rater_who_leaves_is_not_waited_for_longer_than_the_patience(tmp_path: Path) -> None:
    with study(tmp_path / "s.db", steps=1, raters=2, patience=0.3) as (oracle, search, raised):
        Person(oracle.url, "Ann").rank(size, 2)
    assert not raised
    np.testing.assert_array_equal(search.x, reference(1).x)


@pytest.mark.parametrize("kind", ["undecided", "none"])
def test_answers_without_an_order_leave_x_where_it_is(tmp_path: Path, kind: str) -> None:
    with study(tmp_path / "s.db", steps=1) as (oracle, search, _):
        assert Person(oracle.url).answer([], kind).status == 200
    np.testing.assert_array_equal(search.x, [1.0, -2.0])


def test_a_tie_has_no_edge(tmp_path: Path) -> None:
    with study(tmp_path / "s.db", steps=1) as (oracle, search, _):
        person = Person(oracle.url)
        able = sorted(person.round()["candidates"], key=lambda c: size(c["text"]))
        assert person.answer([[able[0]["id"], able[1]["id"]]]).status == 200
    search_by_hand = bz.Search([1.0, -2.0], bz.RankBased(0.5, 4, 2), bz.SGD(0.3), seed=3)
    p = search_by_hand.ask()
    order = np.argsort((p.points**2).sum(axis=1)).tolist()
    search_by_hand.tell(p, bz.Ranking([order[:2]], 4))
    np.testing.assert_array_equal(search.x, search_by_hand.x)


def test_the_same_answer_sent_twice_counts_once(tmp_path: Path) -> None:
    with study(tmp_path / "s.db", steps=1) as (oracle, _, _):
        person = Person(oracle.url)
        state = person.round()
        body = {"round": state["round"], "kind": "rank", "groups": [[c["id"]] for c in state["candidates"][:2]]}
        body["client_id"] = "a" * 16
        first, second = person.post("/api/answer", body), person.post("/api/answer", body)
        assert (first.json()["duplicate"], second.json()["duplicate"]) == (False, True)
        assert first.json()["id"] == second.json()["id"]
    assert len(rows_of(Store(tmp_path / "s.db"))) == 1


def test_a_candidate_that_cannot_be_drawn_shows_why_and_loses(tmp_path: Path) -> None:
    def render(x: Any) -> str:
        if x[0] > 1:
            raise RuntimeError("no ink")
        return spelled(x)

    with study(tmp_path / "s.db", steps=1, render=render) as (oracle, search, _):
        person = Person(oracle.url)
        broken = [c for c in person.round()["candidates"] if c["kind"] == "error"]
        assert broken and broken[0]["text"] == "RuntimeError: no ink"
        able = [c["id"] for c in person.round()["candidates"] if c["kind"] == "text"]
        refused = person.answer([[broken[0]["id"]], [able[0]]])
        assert refused.status == 422 and "could not be drawn" in refused.json()["error"]
        assert person.answer([[i] for i in able[:2]]).status == 200
    assert float(np.asarray(search.x)[0]) < 1.0


def test_nothing_can_be_drawn(tmp_path: Path) -> None:
    def render(x: Any) -> str:
        raise RuntimeError("no ink")

    with study(tmp_path / "s.db", steps=5, render=render) as (_, _search, raised):
        pass
    assert isinstance(raised[0], bz.OracleError) and "no ink" in str(raised[0])


def test_orders_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with study(tmp_path / "s.db", steps=1) as (oracle, _, _):
        person = Person(oracle.url)
        ids = [c["id"] for c in person.round()["candidates"]]
        for groups, kind, what in (
            ([[ids[0]], [ids[0]]], "rank", "twice"),
            ([[ids[0]]], "rank", "at least 2"),
            ([[ids[0]], []], "rank", "at least"),
            ([["x" * 22], [ids[0]]], "rank", "not in this round"),
            ([[ids[0]]], "skip", "no order"),
            ([], "maybe", "one of"),
        ):
            reply = person.answer(groups, kind)
            assert reply.status == 422 and what in reply.json()["error"], (groups, reply.text)
        assert person.answer([[ids[0]], [ids[1]]], client_id="short").status == 422
        assert person.answer([[ids[0]], [ids[1]]], round=10**6).status == 409
        assert person.answer([[ids[0]], [ids[1]]]).status == 200


def test_a_store_of_another_study_or_kind_is_refused(tmp_path: Path) -> None:
    with study(tmp_path / "s.db", steps=1) as (oracle, _, _):
        Person(oracle.url).rank(size, 2)
    oracle = HumanRanking(spelled, tmp_path / "s.db", n_ranked=2)
    with pytest.raises(ValueError, match="another study"):
        next(bz.Search([1.0, -2.0], bz.RankBased(0.5, 4, 2), seed=4).run(oracle, 1))
    oracle.close()
    oracle = HumanRanking(spelled, tmp_path / "s.db", n_ranked=3)
    with pytest.raises(ValueError, match="n_ranked=2"):
        next(bz.Search([1.0, -2.0], bz.RankBased(0.5, 4, 2), bz.SGD(0.3), seed=3).run(oracle, 1))
    oracle.close()
    (tmp_path / "no.db").write_text("something else")
    with pytest.raises(ValueError, match="cannot be used"):
        HumanRanking(spelled, tmp_path / "no.db")
    with pytest.raises(ValueError, match="folder"):
        HumanRanking(spelled, tmp_path / "none" / "s.db")


def test_killed_at_any_instant_it_goes_on_with_the_same_round(tmp_path: Path, start: Start) -> None:
    process, url = start(tmp_path / "s.db")
    person = Person(url)
    rng = np.random.default_rng(0)
    for step in range(8):
        before = person.round()
        ids = [c["id"] for c in sorted(before["candidates"], key=lambda c: size(c["text"]))[:2]]
        body = {
            "round": before["round"],
            "kind": "rank",
            "groups": [[i] for i in ids],
            "client_id": secrets.token_hex(8),
        }
        if step % 2:  # killed while the answer is on its way, or just after
            killer = threading.Timer(float(rng.uniform(0, 0.01)), os.kill, (process.pid, signal.SIGKILL))
            killer.start()
            try:
                person.post("/api/answer", body)
            except (OSError, http.client.HTTPException):  # no answer, or one that breaks off
                pass
            killer.join()
            process.wait()
            kept = Store(tmp_path / "s.db")
            over = len(rows_of(kept)) == 8
            kept.close()
            process, url = start(tmp_path / "s.db")
            assert person.port == int(url.rsplit(":", 1)[1].split("/")[0])  # open pages find it again
            if over:  # the last answer was stored before the kill: the program has all it asks for, and ends
                break
            person.enter()
            now = person.round()
            if now["round"] == before["round"]:
                assert [c["id"] for c in now["candidates"]] == [c["id"] for c in before["candidates"]]
        reply = person.post("/api/answer", body)  # what a page does until the server says it has it
        assert reply.status == 200, reply.text
    assert process.stdout is not None
    x = process.stdout.readline().strip()
    assert process.wait(20) == 0
    assert x == str(np.asarray(reference(8).x).tolist())
    assert len(rows_of(Store(tmp_path / "s.db"))) == 8


def test_who_answers_at_random_loses_weight_and_this_is_replayed(tmp_path: Path) -> None:
    names = ("Ann", "Bo", "Eve")

    def answered(steps: int) -> tuple[bz.Search, HumanRanking]:
        rng = np.random.default_rng(0)
        with study(tmp_path / "s.db", steps=steps, raters=3) as (oracle, search, raised):
            people = [Person(oracle.url, name) for name in names]
            while not raised and not is_done(oracle, steps):
                for name, person in zip(names, people, strict=True):
                    if person.request("GET", "/api/round").json()["round"] is not None:
                        person.rank(size if name != "Eve" else lambda text: float(rng.random()), 2)
        assert not raised
        return search, oracle

    def is_done(oracle: HumanRanking, steps: int) -> bool:
        return bool(oracle.server.site.progress.now()["progress"]["done"] == steps)

    first, oracle = answered(8)
    weights = oracle.reliability.weights
    assert weights["3"] < 0.5 * min(weights["1"], weights["2"])
    again, oracle = answered(8)
    np.testing.assert_array_equal(again.x, first.x)
    assert oracle.reliability.weights == weights
    assert raters_of(oracle.reliability, {1: "Ann", 2: "Bo", 3: "Eve"})[3].startswith("Eve")


def test_replies_are_sent_at_once(tmp_path: Path) -> None:
    """With Nagle's algorithm on, a second packet of a reply waits 40 ms for the browser's word on the first."""
    oracle = HumanRanking(str, tmp_path / "s.db")
    try:
        with socket.create_connection(("127.0.0.1", oracle.server.host.port)):
            until = time.monotonic() + 10
            while not (served := list(oracle.server.host._uvicorn.server_state.connections)):
                assert time.monotonic() < until
                time.sleep(0.01)
            connection = served[0].transport.get_extra_info("socket")
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    finally:
        oracle.close()
