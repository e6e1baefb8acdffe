"""Several people in one study: what counts, what is withdrawn, and what each of them is told."""

from __future__ import annotations

import functools
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import sqlalchemy as sa

import blackbox_zo as bz
from oracles.cli.main import main
from oracles.ranking import HumanRanking
from oracles.ranking.study import _servers
from oracles.ranking.study._database import SERVERS
from oracles.ranking.study._export import rows_of
from oracles.ranking.study._store import Store, StoreError
from tests.oracles.helpers import wait_for
from tests.oracles.ranking.people import Person, size, spelled, study


def state_of(person: Person) -> dict[str, Any]:
    return dict(person.request("GET", "/api/round").json())


def both_answer(*people: Person) -> None:
    for person in people:
        person.rank(size, 1)


def statuses(store: Store) -> list[tuple[int, str, str]]:
    return [(r["step"], r["name"], r["status"]) for r in rows_of(store)]


def test_people_of_one_name_are_two(tmp_path: Path) -> None:
    with study(tmp_path / "s.db", 2, raters=2, n_ranked=1) as (oracle, search, _):
        people = [Person(oracle.invite(), "Ann") for _ in range(2)]
        for _ in range(2):
            both_answer(*people)
        wait_for(lambda: search.moves == 2)
        assert people[0].undo().json()["round"] is not None
        wait_for(lambda: people[0].round()["step"] == 1)
        both_answer(people[0])
    assert sorted(oracle.store.people.names().values()) == ["Ann (1)", "Ann (2)"]
    assert [r["rater"] for r in rows_of(Store(tmp_path / "s.db"))] == [1, 2, 1, 2, 1]


def test_what_others_rest_on_is_withdrawn_after_a_question_and_they_are_told(tmp_path: Path) -> None:
    with study(tmp_path / "s.db", 4, raters=2, n_ranked=1) as (oracle, _search, _):
        ann, bo = (Person(oracle.invite(name)) for name in ("Ann", "Bo"))
        for _ in range(3):
            both_answer(ann, bo)
        first = ann.history()[-1]
        asked = ann.undo(answer=first["answer"])
        assert asked.status == 409 and asked.json()["asks"] is True
        assert "4 later answers of yours and one other person rest on this one" in asked.json()["error"]
        assert all(status == "counts" for _, _, status in statuses(oracle.store)) and not state_of(bo)["notices"]
        assert ann.undo(answer=first["answer"], sure=True).status == 200
        assert statuses(oracle.store) == [
            (0, "Ann", "withdrawn"), (0, "Bo", "counts"), *[(s, n, "void") for s in (1, 2) for n in ("Ann", "Bo")],
        ]  # fmt: skip
        (notice,) = state_of(bo)["notices"]
        assert "withdrew an earlier answer, so your answers to rounds 2, 3 no longer count" in notice["text"]
        assert not state_of(ann)["notices"] and state_of(bo)["progress"]["done"] == 0
        assert [entry["status"] for entry in bo.history()] == ["void", "void", "counts"]
        both_answer(ann)
        for _ in range(3):
            both_answer(ann, bo)


def test_only_ones_own_answers_can_be_withdrawn(tmp_path: Path) -> None:
    with study(tmp_path / "s.db", 1, raters=2, n_ranked=1) as (oracle, _, _):
        ann, bo = (Person(oracle.invite(name)) for name in ("Ann", "Bo"))
        both_answer(ann)
        number = ann.history()[0]["answer"]
        for more in ({}, {"answer": number}, {"answer": number, "sure": True}):
            assert bo.undo(**more).json()["round"] is None
        assert bo.request("GET", f"/api/history/{number}").status == 404
        assert bo.undo(answer="1").status == 422 and bo.undo(answer=True).status == 422
        assert state_of(ann)["missing"] == 1 and state_of(ann)["raters"] == 2
        both_answer(bo)


def test_redo_restores_what_undo_took_until_it_is_replaced(tmp_path: Path) -> None:
    with study(tmp_path / "s.db", 4, n_ranked=1) as (oracle, search, _):
        ann = Person(oracle.invite("Ann"))
        for _ in range(3):
            both_answer(ann)
        wait_for(lambda: search.moves == 3)
        x, shown = search.x, [c["id"] for c in ann.round()["candidates"]]
        middle = ann.history()[1]["answer"]
        assert not state_of(ann)["redo"] and ann.redo().json()["round"] is None
        assert ann.undo(answer=middle, sure=True).status == 200
        wait_for(lambda: search.moves == 1)
        assert state_of(ann)["redo"]
        assert ann.redo().json()["round"] is not None
        wait_for(lambda: search.moves == 3)
        np.testing.assert_array_equal(search.x, x)
        assert [c["id"] for c in ann.round()["candidates"]] == shown
        assert {status for _, _, status in statuses(oracle.store)} == {"counts"}
        ann.undo(answer=middle, sure=True)
        wait_for(lambda: ann.round()["step"] == 1)
        ann.rank(lambda text: -size(text), 1)  # another answer in its place
        assert not state_of(ann)["redo"] and ann.redo().json()["round"] is None
        for _ in range(2):
            both_answer(ann)


def test_an_old_round_can_be_looked_at(tmp_path: Path) -> None:
    with study(tmp_path / "s.db", 3, n_ranked=2) as (oracle, _, _):
        ann = Person(oracle.invite("Ann"))
        shown = [c["id"] for c in ann.round()["candidates"]]
        ann.answer([[shown[2]], [shown[0]]])
        ann.rank(size, 2)
        entry = ann.history()[-1]
        assert (entry["step"], entry["kind"], entry["status"]) == (0, "rank", "counts")
        past = ann.request("GET", f"/api/history/{entry['answer']}").json()
        assert [c["id"] for c in past["candidates"]] == shown and past["groups"] == [[shown[2]], [shown[0]]]
        ann.rank(size, 2)


def test_a_skipped_round_is_given_to_another_or_comes_again(tmp_path: Path) -> None:
    with study(tmp_path / "s.db", 2, n_ranked=1) as (oracle, search, _):
        ann, bo = (Person(oracle.invite(name)) for name in ("Ann", "Bo"))
        assert ann.answer([], "skip").json()["again"] is True  # there is no other
        assert ann.round()["step"] == 0 and search.moves == 0
        both_answer(bo)
        wait_for(lambda: search.moves == 1)
        both_answer(ann)
    assert statuses(Store(tmp_path / "s.db")) == [(0, "Ann", "skipped"), (0, "Bo", "counts"), (1, "Ann", "counts")]


def test_of_two_open_rounds_the_skipped_one_comes_last(tmp_path: Path) -> None:
    oracle = HumanRanking(spelled, tmp_path / "s.db", n_ranked=1)
    search = bz.Search([1.0, -2.0], bz.RankBased(0.5, 4, 2), bz.SGD(0.3), seed=3)
    thread = threading.Thread(target=lambda: list(search.run(oracle, 2, ahead=1)), daemon=True)
    thread.start()
    try:
        ann = Person(oracle.invite("Ann"))
        ann.round()
        wait_for(lambda: len(oracle.study.turns.next_for(1)) == 2)
        assert ann.answer([], "skip").json()["again"] is False
        assert ann.round()["step"] == 1
        both_answer(ann)
        assert ann.round()["step"] == 0
        both_answer(ann)
        thread.join(20)
        assert search.moves == 2
    finally:
        oracle.close()


@pytest.mark.parametrize("kind", ["none", "undecided"])
def test_none_acceptable_says_that_x_is_better_than_all(tmp_path: Path, kind: str) -> None:
    """`PreferenceGP` shows x in each round; "none" is evidence for it, "cannot tell" is none."""
    oracle = HumanRanking(spelled, tmp_path / "s.db")
    search = bz.Search([1.0, -2.0], bz.PreferenceGP(0.5, 4), seed=3)
    thread = threading.Thread(target=lambda: list(search.run(oracle, 1)), daemon=True)
    thread.start()
    try:
        Person(oracle.url).answer([], kind)
        thread.join(20)
        assert search.moves == 1 and search.x.tolist() == [1.0, -2.0]
        learnt = len(search._engine.state.winner)
        assert learnt == (kind == "none")
    finally:
        oracle.close()


def test_a_study_that_stops_is_paused_unless_it_is_over(tmp_path: Path) -> None:
    """Who waits is told which; a search under way ends with an error, and the next one begins where it was."""
    with study(tmp_path / "s.db", 2, rounds=2, n_ranked=1) as (oracle, search, raised):
        ann = Person(oracle.invite("Ann"))
        both_answer(ann)
        wait_for(lambda: search.moves == 1)
        oracle.close()
    assert Store(tmp_path / "s.db").state == oracle.server.site.state == "paused"
    assert [type(error) for error in raised] == [bz.OracleError]
    with study(tmp_path / "s.db", 2, rounds=2, n_ranked=1) as (oracle, search, _):
        assert oracle.store.state == "running"
        both_answer(Person(oracle.renew(1)))
        wait_for(lambda: search.moves == 2)
    assert Store(tmp_path / "s.db").state == oracle.server.site.state == "finished"


class Keeps(bz.Observer):
    def __init__(self, oracle: HumanRanking) -> None:
        self.oracle = oracle

    def stepped(self, run: bz.Run, report: bz.Report) -> None:
        self.oracle.keep(run.search)  # type: ignore[arg-type]


def test_a_restart_continues_where_the_search_was_kept_and_can_still_go_back(tmp_path: Path) -> None:
    made: list[tuple[bz.Search, HumanRanking]] = []

    def run(steps: int) -> threading.Thread:
        oracle = HumanRanking(spelled, tmp_path / "s.db", n_ranked=2)
        search = bz.Search([1.0, -2.0], bz.RankBased(0.5, 4, 2), bz.SGD(0.3), seed=3)
        origin = search.snapshot()
        oracle.restore(search)
        made.append((search, oracle))
        loop = bz.Run(search, oracle, steps=steps - search.moves, observers=[Keeps(oracle)], origin=origin)
        thread = threading.Thread(target=loop.to_the_end, daemon=True)
        thread.start()
        return thread

    thread, person = run(3), Person(made[0][1].url)
    for _ in range(3):
        person.rank(size, 2)
    thread.join(20)
    made[0][1].close()
    thread = run(4)
    (first, _), (search, oracle) = made
    try:
        assert search.moves == 3 and (search.x == first.x).all()
        person = Person(oracle.url)
        person.round()
        assert person.undo(answer=person.history()[-1]["answer"], sure=True).status == 200
        wait_for(lambda: search.moves == 0)
        for _ in range(4):
            person.rank(size, 2)
        thread.join(20)
        assert search.moves == 4
    finally:
        oracle.close()
    with study(tmp_path / "t.db", 4) as (oracle, twin, _):
        person = Person(oracle.url)
        for _ in range(4):
            person.rank(size, 2)
    np.testing.assert_array_equal(search.x, twin.x)
    again = bz.Search([1.0, -2.0], bz.RankBased(0.5, 4, 2), bz.SGD(0.3), seed=3)
    with Store(tmp_path / "s.db").record() as record:
        withdrawn = record.own(1)[1]
    oracle = HumanRanking(spelled, tmp_path / "s.db", n_ranked=2)
    oracle.study.undo(1, "by-another-server", withdrawn.id, sure=True)
    oracle.restore(again)
    oracle.close()
    assert again.moves == 0  # what was kept rests on an answer that was withdrawn since


V1 = """
CREATE TABLE study (id INTEGER PRIMARY KEY, version INTEGER NOT NULL, secret VARCHAR(64) NOT NULL, about TEXT NOT NULL,
  port INTEGER, created_at FLOAT NOT NULL);
CREATE TABLE rounds (id INTEGER PRIMARY KEY, step INTEGER NOT NULL, digest VARCHAR(32) NOT NULL, n INTEGER NOT NULL,
  n_ranked INTEGER, points BLOB, created_at FLOAT NOT NULL);
CREATE TABLE media (id VARCHAR(32) PRIMARY KEY, round_id INTEGER NOT NULL, position INTEGER NOT NULL,
  kind VARCHAR(8) NOT NULL, mime VARCHAR(40) NOT NULL, note TEXT NOT NULL, data BLOB NOT NULL);
CREATE TABLE answers (id INTEGER PRIMARY KEY, round_id INTEGER NOT NULL, rater VARCHAR(80) NOT NULL,
  kind VARCHAR(12) NOT NULL, payload TEXT NOT NULL, shown_order TEXT NOT NULL, client_id VARCHAR(64) NOT NULL UNIQUE,
  created_at FLOAT NOT NULL, ms_spent INTEGER);
CREATE INDEX ix_answers_round_id ON answers (round_id);
CREATE TABLE visitors (token VARCHAR(64) PRIMARY KEY, rater VARCHAR(80), session VARCHAR(64) UNIQUE,
  created_at FLOAT NOT NULL);
INSERT INTO study VALUES (1, 1, 'secret', 'null', 4321, 5.0);
INSERT INTO rounds VALUES (1, 0, 'd', 2, NULL, NULL, 6.0), (2, 1, 'e', 2, NULL, NULL, 8.0);
INSERT INTO visitors VALUES ('t1', 'Ann', 's1', 5.0), ('t2', NULL, NULL, 5.5);
INSERT INTO answers VALUES (1, 1, 'Ann', 'rank', '{"groups": [[1], [0]]}', '[0, 1]', 'web-1', 7.0, 900),
  (2, 1, '', 'close', '{"answers": [1]}', '[]', 'own-2', 7.0, NULL),
  (3, 2, 'Ann', 'skip', '{"groups": []}', '[0, 1]', 'web-3', 9.0, NULL),
  (4, 2, 'Ann', 'undo', '{"answer": 3, "close": null, "void": [], "step": 1}', '[]', 'web-4', 9.5, NULL);
"""
"""A study as version 1 kept it."""


def test_a_store_of_version_1_is_migrated_and_a_copy_kept(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with sqlite3.connect(path) as old:
        old.executescript(V1)
    store = Store(path)
    assert statuses(store) == [(0, "Ann", "counts"), (1, "Ann", "withdrawn")]
    assert store.people.names() == {1: "Ann", 2: "rater 2"} and store.port == 4321 and store.secret == "secret"
    with store.record() as record:
        assert record.close(1) is not None and [r.id for r in record.open()] == [2]
    store.close()
    with sqlite3.connect(f"{path}.v1") as copy:
        assert copy.execute("SELECT version, (SELECT count(*) FROM answers) FROM study").fetchone() == (1, 4)
    assert len(statuses(Store(path))) == 2  # not migrated again


def test_a_copy_is_not_overwritten_and_another_version_is_named(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with sqlite3.connect(path) as old:
        old.executescript(V1)
    (tmp_path / "s.db.v1").write_text("mine")
    with pytest.raises(StoreError, match=r"its copy would be .*s\.db\.v1', which exists"):
        Store(path)
    assert (tmp_path / "s.db.v1").read_text() == "mine"
    with sqlite3.connect(path) as old:
        old.execute("UPDATE study SET version = 99")
    with pytest.raises(StoreError, match="version 99"):
        Store(path)


def test_nothing_is_acknowledged_while_the_store_is_moved_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """SQLite would go on writing to a file that nobody finds again; when it is back, the study continues."""
    path = tmp_path / "s.db"
    with study(path, 2, n_ranked=1) as (oracle, search, raised):
        ann = Person(oracle.invite("Ann"))
        round_ = ann.round()
        body = {"round": round_["round"], "kind": "rank", "groups": [[round_["candidates"][0]["id"]]]}
        body["client_id"] = "the-same-one"
        for _ in range(2):
            path.rename(tmp_path / "moved.db")
            for reply in (ann.post("/api/answer", body), ann.undo(), ann.request("GET", "/api/round")):
                assert reply.status == 503 and "at the moment" in reply.json()["error"]
            assert ann.request("GET", "/").status == 503 and not raised
            (tmp_path / "moved.db").rename(path)
        assert ann.post("/api/answer", body).status == 200
        wait_for(lambda: search.moves == 1)
        both_answer(ann)
    assert "its file was moved or deleted" in caplog.text and len(statuses(Store(path))) == 2


def test_names_are_cleaned_and_cells_are_no_formulas(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with study(tmp_path / "s.db", 3, raters=3, n_ranked=1) as (oracle, _, _):
        names = {"=SUM(A1)": "=SUM(A1)", "A\u202enn\x1b[31m": "A nn [31m", "\ud800B o\x00": "B o"}
        people = [Person(oracle.invite()) for _ in names]
        assert people[0].post("/api/name", {"name": "\ud800\u202e"}).status == 422
        for person, (typed, kept) in zip(people, names.items(), strict=True):
            assert person.post("/api/name", {"name": typed}).json() == {"rater": kept}
        for _ in range(3):
            both_answer(*people)
    assert main(["answers", str(tmp_path / "s.db")]) == 0
    assert ",'=SUM(A1)," in capsys.readouterr().out


def test_patience_is_not_that_of_the_wall_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with study(tmp_path / "s.db", 1, raters=2, n_ranked=1, patience=1000.0) as (oracle, search, _):
        ann, bo = (Person(oracle.invite(name)) for name in ("Ann", "Bo"))
        both_answer(ann)
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + 1e6)  # as if the clock were set
        time.sleep(0.5)
        assert search.moves == 0
        both_answer(bo)


def test_an_undo_at_the_last_moment_is_not_ignored(tmp_path: Path) -> None:
    oracle = HumanRanking(spelled, tmp_path / "s.db", n_ranked=1)
    search = bz.Search([1.0, -2.0], bz.RankBased(0.5, 4, 2), bz.SGD(0.3), seed=3)
    thread = threading.Thread(target=lambda: list(search.run(oracle, 1)), daemon=True)
    thread.start()
    ann = Person(oracle.invite("Ann"))
    both_answer(ann)
    thread.join(20)
    assert ann.undo().status == 200
    with pytest.raises(bz.Rewind):
        oracle.finish()
    assert ann.undo().status == 409 and state_of(ann)["state"] == "paused"
    oracle.close()
    assert Store(tmp_path / "s.db").state == "paused"


def test_consent_comes_first_and_a_code_last(tmp_path: Path) -> None:
    (tmp_path / "read.md").write_text("# Before you begin\n\nYou *may* stop. <script>alert(1)</script>\n")
    options: dict[str, Any] = {"consent": tmp_path / "read.md", "rounds": 1, "n_ranked": 1}
    with study(tmp_path / "s.db", 1, **options) as (oracle, _, _):
        link = urlsplit(oracle.invite("Ann")).path
        ann = Person(oracle.invite("Ann"))
        door = ann.request("GET", link, Cookie="none=1").text
        assert "<h1>Before you begin</h1>" in door and "<em>may</em>" in door and "I agree, and begin" in door
        assert "<script>alert" not in door
        assert state_of(ann).get("code") is None and state_of(ann)["history"] == []
        both_answer(ann)
        oracle.server.site.state = "finished"  # as in the moment before the server goes
        last = state_of(ann)
        assert last["code"] == rows_of(oracle.store)[0]["code"] and len(last["code"]) == 8
        assert last["history"] and oracle.server.api.listening(float("inf"))
        ann.request("GET", f"/{last['history'][0]['best']['url']}")
        assert not oracle.server.api.listening(float("inf"))
    for name, text in (("none.md", None), ("empty.md", " "), ("bytes.md", b"\xff\xfe\xff")):
        if text is not None:
            (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(ValueError, match=f"`consent` .*{name}"):
            HumanRanking(spelled, tmp_path / "t.db", consent=tmp_path / name)


def test_winners_and_agreement_are_hidden_unless_revealed(tmp_path: Path) -> None:
    for reveal in (False, True):
        with study(tmp_path / f"{reveal}.db", 2, raters=2, n_ranked=1, reveal=reveal) as (oracle, search, _):
            people = [Person(oracle.invite(name)) for name in ("Ann", "Bo")]
            both_answer(*people)
            wait_for(functools.partial(lambda made: made.moves == 1, search))
            told = state_of(people[0])
            assert (len(told["history"]), told["progress"]["agreement"] is not None) == (reveal, reveal)
            both_answer(*people)


def test_servers_of_different_versions_do_not_share_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with study(tmp_path / "s.db", 1, n_ranked=1) as (oracle, _, _):
        HumanRanking(spelled, tmp_path / "s.db", n_ranked=1).close()  # a second one of the same version may
        oracle.store.state = "running"
        monkeypatch.setattr(_servers, "__version__", "9.9")
        with pytest.raises(StoreError, match=r"A server with blackbox_zo .* and this is 9\.9\. Stop it first"):
            HumanRanking(spelled, tmp_path / "s.db", n_ranked=1)
        both_answer(Person(oracle.invite("Ann")))
    HumanRanking(spelled, tmp_path / "s.db", n_ranked=1).close()  # it has left
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    store = Store(tmp_path / "s.db")
    with store.write() as c:  # what a server of another version left behind that was killed
        row = {"library": "0.1", "host": socket.gethostname(), "pid": process.pid, "seen_at": time.time()}
        c.execute(sa.insert(SERVERS).values(**row))
    store.close()
    HumanRanking(spelled, tmp_path / "s.db", n_ranked=1).close()
