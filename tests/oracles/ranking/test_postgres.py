"""The same studies with their store in a real PostgreSQL."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from oracles.ranking import HumanRanking
from oracles.ranking.study._export import rows_of
from oracles.ranking.study._server import Server
from oracles.ranking.study._store import Store
from oracles.ranking.study._study import Study
from tests.oracles.helpers import free_port, wait_for
from tests.oracles.ranking import test_human
from tests.oracles.ranking.people import Person, size, spelled, study
from tests.oracles.ranking.test_study import V1
from tests.requires import require


def _programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or (
        [Path(p)] if (p := shutil.which("initdb")) else []
    )
    return found[-1].parent if found else None


PROGRAMS = _programs()
require("postgresql", find_spec("psycopg"), "pip install 'blackbox-zo[postgres]'")
require("postgresql", PROGRAMS, "apt install postgresql")


Control = Callable[[str], None]


@pytest.fixture(scope="module")
def controlled() -> Iterator[tuple[str, Control]]:
    assert PROGRAMS is not None
    who: dict[str, Any] = {"user": "postgres"} if os.getuid() == 0 else {}  # PostgreSQL refuses to run as root
    folder = tempfile.mkdtemp(prefix="pg", dir="/tmp")
    if who:
        shutil.chown(folder, "postgres")
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/"}
    make = [str(PROGRAMS / "initdb"), "-D", f"{folder}/data", "-A", "trust", "-U", "postgres", "--no-sync"]
    subprocess.run(make, check=True, **quiet, **who)
    with free_port() as port:
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
        control = [str(PROGRAMS / "pg_ctl"), "-D", f"{folder}/data", "-w", "-o", options]

        def told(word: str) -> None:
            subprocess.run(
                [*control, *(["-m", "immediate"] if word == "stop" else []), word], check=True, **quiet, **who
            )

        told("start")
        yield f"postgresql://postgres@127.0.0.1:{port}", told
        told("stop")
    shutil.rmtree(folder)


@pytest.fixture
def server(controlled: tuple[str, Control]) -> str:
    return controlled[0]


@pytest.fixture
def restart(controlled: tuple[str, Control]) -> Control:
    """Starts or stops the server."""
    return controlled[1]


@pytest.fixture
def url(server: str, request: pytest.FixtureRequest) -> str:
    """A database of the test's own."""
    name = f"study_{abs(hash(request.node.name)):x}"
    engine = sa.create_engine(
        server.replace("postgresql", "postgresql+psycopg") + "/postgres", isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as c:
        c.execute(sa.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return f"{server}/{name}"


def test_a_study_answers_itself_again(url: str) -> None:
    with study(url) as (oracle, search, raised):
        person = Person(oracle.url)
        for _ in range(3):
            assert person.rank(size, 2).status == 200
    with study(url) as (_, again, raised):
        pass
    assert not raised
    np.testing.assert_array_equal(again.x, test_human.reference(3).x)
    np.testing.assert_array_equal(again.x, search.x)


def test_an_undo_goes_back(url: str) -> None:
    with study(url) as (oracle, search, raised):
        person = Person(oracle.url)
        person.rank(size, 2)
        person.rank(lambda text: -size(text), 2)
        assert person.round()["step"] == 2
        person.undo()
        assert person.round()["step"] == 1
        person.rank(size, 2)
        person.rank(size, 2)
    assert not raised
    np.testing.assert_array_equal(search.x, test_human.reference(3).x)


def test_two_servers_share_a_study(url: str) -> None:
    with study(url, steps=2, raters=2) as (oracle, _, raised):
        store = Store(url)
        second = Server(Study(store, 2), "127.0.0.1", 0)
        try:
            ann, bo = (
                Person(oracle.url, "Ann"),
                Person(f"{second.site.address}/join/{store.people.link(store.people.add(None))}", "Bo"),
            )
            for _ in range(2):
                replies: list[Any] = []
                both = [
                    threading.Thread(target=lambda p=p, got=replies: got.append(p.rank(size, 2))) for p in (ann, bo)
                ]
                for thread in both:
                    thread.start()
                for thread in both:
                    thread.join()
                assert [r.status for r in replies] == [200, 200]
        finally:
            second.stop()
            store.close()
    assert not raised
    oracle = HumanRanking(spelled, url, n_ranked=2)
    assert sorted(r["name"] for r in rows_of(oracle.store)) == ["Ann", "Ann", "Bo", "Bo"]
    oracle.close()


def test_a_server_that_is_not_there_is_told_without_the_password() -> None:
    with pytest.raises(ValueError, match="cannot be used") as raised:
        HumanRanking(spelled, "postgresql://me:secret@127.0.0.1:1/none")
    assert "secret" not in str(raised.value)


def test_a_database_that_restarts_stops_nobody(url: str, restart: Control, caplog: Any) -> None:
    with study(url, 3) as (oracle, search, raised):
        person = Person(oracle.url)
        acknowledged = 0
        for _ in range(2):
            round_ = person.round()
            body = {"round": round_["round"], "kind": "rank", "client_id": f"answer-{acknowledged}"}
            body["groups"] = [[c["id"]] for c in round_["candidates"][:2]]
            restart("stop")
            assert person.post("/api/answer", body).status == 503 and person.request("GET", "/api/round").status == 503
            restart("start")
            wait_for(functools.partial(lambda sent: person.post("/api/answer", sent).status == 200, body))
            acknowledged += 1
        wait_for(lambda: search.moves == 2)
        person.rank(size, 2)
        assert len(rows_of(oracle.store)) == 3
    assert not raised
    assert "Answers wait in the browsers until it can be." in caplog.text


def test_a_database_of_version_1_is_migrated_and_copies_kept(url: str) -> None:
    old = V1.replace("BLOB", "BYTEA").replace("id INTEGER PRIMARY KEY", "id SERIAL PRIMARY KEY")
    engine = sa.create_engine(url.replace("postgresql", "postgresql+psycopg"))
    with engine.begin() as c:
        for statement in old.split(";"):
            if statement.strip():
                c.exec_driver_sql(statement)
    store = Store(url)
    assert [(r["step"], r["name"], r["status"]) for r in rows_of(store)] == [
        (0, "Ann", "counts"),
        (1, "Ann", "withdrawn"),
    ]
    with store.write() as c:
        assert store.add(c, 2, 1, "undecided", {"groups": []}) == 5  # numbers continue
    store.close()
    with engine.connect() as c:
        assert c.exec_driver_sql("SELECT version, (SELECT count(*) FROM answers_v1) FROM study_v1").one() == (1, 4)
    engine.dispose()
    Store(url).close()
