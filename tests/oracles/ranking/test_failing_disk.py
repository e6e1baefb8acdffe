"""The store of a study on a disk that is full, or whose flushes fail: what is acknowledged is kept, and only that."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oracles.ranking import HumanRanking
from oracles.ranking.study import _trouble
from oracles.ranking.study._export import rows_of
from oracles.ranking.study._store import Store
from oracles.ranking.study._trouble import StoreUnavailable
from tests.disks import Ballast, FailingDisk, small_disk
from tests.oracles.helpers import wait_for
from tests.oracles.ranking.conftest import _PROGRAM
from tests.oracles.ranking.people import Person, Reply, Start, rows, size, study

STUCK = "The study cannot store answers at the moment."


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", "2m") as folder:
        yield folder


def answer_of(person: Person) -> dict[str, Any]:
    """What a page keeps until the server says it has it."""
    state = person.round()
    best = sorted(state["candidates"], key=lambda c: size(c["text"]))[:2]
    groups = [[c["id"]] for c in best]
    return {"round": state["round"], "kind": "rank", "groups": groups, "client_id": secrets.token_hex(8), "ms": 5}


def sent(person: Person, body: dict[str, Any]) -> Reply:
    return person.post("/api/answer", body)


def refused(reply: Reply) -> None:
    assert reply.status == 503 and reply.json() == {"error": STUCK}


def sent_until_full(person: Person, ballast: Ballast) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Answers that were acknowledged while the disk filled up, and the one that was not."""
    taken: list[dict[str, Any]] = []
    while True:
        body = answer_of(person)
        ballast.fill()  # the next rounds are stored in what was free inside the file, or not at all
        reply = sent(person, body)
        if reply.status != 200:
            refused(reply)
            return taken, body
        taken.append(body)
        ballast.release()


def test_a_full_disk_stops_nobody(disk: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """The answer is refused and not stored, the page goes on being served, and room lets the same answer in."""
    monkeypatch.setattr(_trouble, "AGAIN", 0.05)
    ballast, acknowledged = Ballast(disk), list[str]()
    with study(disk / "s.db", 20) as (oracle, search, raised):
        person = Person(oracle.url)
        for _ in range(3):
            taken, body = sent_until_full(person, ballast)
            acknowledged += [answer["client_id"] for answer in (*taken, body)]
            assert [row.client_id for row in rows(oracle.store) if row.kind == "rank"][-1:] != [body["client_id"]]
            refused(sent(person, body))
            assert person.request("GET", "/").status == 200 and person.round()["round"] == body["round"]
            ballast.release()
            assert sent(person, body).json()["duplicate"] is False
            assert sent(person, body).json()["duplicate"] is True
        while len(acknowledged) < 20:
            body = answer_of(person)
            assert sent(person, body).status == 200
            acknowledged.append(body["client_id"])
        wait_for(lambda: search.moves == 20)
        kept = [row.client_id for row in rows(oracle.store) if row.kind == "rank"]
    assert not raised and kept == [f"web-{name}" for name in acknowledged]
    said = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert [text for text in said if text.startswith("The store")] == [
        f"The store '{disk / 's.db'}' cannot be written: database or disk is full. Answers wait in the browsers until "
        "it can be."
    ]  # once, though it was tried several times


def test_the_search_waits_for_room_for_its_next_round(disk: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """A disk that is full when candidates are drawn: the study goes on by itself once there is room."""
    monkeypatch.setattr(_trouble, "AGAIN", 0.05)
    ballast, drawn = Ballast(disk), [0]

    def draw(x: Any) -> str:
        drawn[0] += 1
        if drawn[0] == 5:  # the first of the second round
            ballast.fill()
        return " ".join(f"{v:.17g}" for v in x) + " " * 100_000  # more than is free inside the file

    with study(disk / "s.db", 2, draw) as (oracle, search, raised):
        person = Person(oracle.url)
        assert sent(person, answer_of(person)).status == 200
        wait_for(lambda: "database or disk is full" in caplog.text)
        assert not raised and not all(person.request("GET", "/api/round").json()["candidates"])
        ballast.release()
        assert sent(person, answer_of(person)).status == 200
    assert not raised and search.moves == 2


def test_a_study_does_not_begin_on_a_full_disk_and_says_so(disk: Path) -> None:
    with study(disk / "s.db", 1) as (oracle, _, _):
        person = Person(oracle.url)
        sent(person, answer_of(person))
    ballast = Ballast(disk)
    ballast.fill()
    with pytest.raises(
        (StoreUnavailable, ValueError),
        match=r"store '.*s\.db' cannot be (written|used): d.* (full|error)\.",
    ):
        HumanRanking(str, disk / "s.db")
    ballast.release()
    assert len(rows_of(Store(disk / "s.db"))) == 1


def test_what_was_acknowledged_outlives_a_kill_on_a_full_disk(disk: Path, start: Start) -> None:
    process, url = start(disk / "s.db")
    person, ballast = Person(url), Ballast(disk)
    taken, body = sent_until_full(person, ballast)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    ballast.release()
    process, url = start(disk / "s.db")
    person.enter()
    assert sent(person, body).status == 200  # the page's outbox
    kept = [row.client_id for row in rows(Store(disk / "s.db")) if row.kind == "rank"]
    assert kept == [f"web-{answer['client_id']}" for answer in [*taken, body]]
    assert process.poll() is None


def test_a_flush_that_fails_is_not_acknowledged(failing_disk: Path, tmp_path: Path) -> None:
    """SQLite hears of it at the commit; the server lives on, and after a kill all that was acknowledged is there."""
    failing = FailingDisk(failing_disk, tmp_path, "/s.db")
    failing.set()
    command = [sys.executable, "-c", _PROGRAM, str(tmp_path / "s.db")]
    acknowledged: list[str] = []
    person: Person | None = None
    for _ in range(2):
        process = subprocess.Popen(
            command, env=failing.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        with process:
            try:
                assert process.stdout is not None and process.stderr is not None
                url = process.stdout.readline().strip()
                if person is None:
                    person = Person(url)
                person.enter()
                for _ in range(2):
                    body = answer_of(person)
                    failing.set("fsync 5")
                    refused(sent(person, body))
                    refused(sent(person, body))
                    assert person.request("GET", "/api/round").json()["round"] == body["round"]
                    failing.set()
                    assert sent(person, body).status == 200
                    acknowledged.append(f"web-{body['client_id']}")
                assert process.poll() is None
            finally:
                os.kill(process.pid, signal.SIGKILL)
            said = process.stderr.read()
        assert said.count("disk I/O error. Answers wait in the browsers until it can be.") == 1
        assert "Traceback" not in said
        assert [row.client_id for row in rows(Store(tmp_path / "s.db")) if row.kind == "rank"] == acknowledged
    assert len(acknowledged) == len(set(acknowledged)) == 4
