"""Several studies on one server, each under its name and with its own store."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import blackbox_zo as bz
from oracles.ranking import HumanRanking, StudyServer
from oracles.ranking.study._store import Store
from tests.oracles.helpers import wait_for
from tests.oracles.ranking.people import Person, size, spelled

NAMES = ("colours", "drums")


@contextmanager
def studies(folder: Path, steps: int = 2, **server: Any) -> Iterator[tuple[StudyServer, dict[str, HumanRanking], Any]]:
    shared = StudyServer(**server)
    oracles = {
        name: HumanRanking(spelled, folder / f"{name}.db", n_ranked=1, rounds=steps, host=shared, name=name, title=name)
        for name in NAMES
    }
    searches = {
        name: bz.Search([1.0, -2.0], bz.RankBased(0.5, 4, 2), bz.SGD(0.3), seed=i) for i, name in enumerate(NAMES)
    }

    def run(name: str) -> None:
        for _ in searches[name].run(oracles[name], steps):
            pass

    threads = [threading.Thread(target=run, args=(name,), daemon=True) for name in NAMES]
    for thread in threads:
        thread.start()
    try:
        yield shared, oracles, searches
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()
    finally:
        for oracle in oracles.values():
            oracle.close()
        shared.close()


class Guest(Person):
    """A person at a study with a name."""

    def __init__(self, url: str) -> None:
        self.prefix = re.sub(r"/(admin/)?join/.*", "", urlsplit(url).path)
        super().__init__(url)

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        inside = path if path.startswith(self.prefix) else self.prefix + path
        return super().request(method, inside, body, **headers)


def test_each_study_has_its_own_people_and_answers(tmp_path: Path) -> None:
    with studies(tmp_path) as (shared, oracles, searches):
        people = {name: Guest(oracle.invite("Ann")) for name, oracle in oracles.items()}
        assert {urlsplit(p).port for p in (o.invite() for o in oracles.values())} == {shared.port}
        for name, ann in people.items():
            for moves in (1, 2):
                ann.rank(size, 1)
                wait_for(lambda name=name, moves=moves: searches[name].moves == moves)
        stranger = people["colours"]
        assert stranger.request("GET", "/api/round").status == 200
        stranger.prefix = "/drums"
        assert stranger.request("GET", "/api/round").status == 403
    for name in NAMES:
        with Store(tmp_path / f"{name}.db").record() as record:
            assert sum(row.kind == "rank" for row in record.rows.values()) == 2


def test_the_researchers_page_lists_all_studies_and_opens_each(tmp_path: Path) -> None:
    with studies(tmp_path, steps=1) as (_, oracles, _):
        lead = Guest.__new__(Guest)
        url = urlsplit(oracles["colours"].lead())
        assert url.hostname and url.port
        lead.host, lead.port, lead.cookie, lead.csrf, lead.prefix = url.hostname, url.port, "", "", ""
        lead.cookie = lead.join(url.path).headers["set-cookie"].split(";")[0]
        for name in NAMES:
            lead.prefix = f"/{name}"
            state = lead.request("GET", "/admin/state").json()
            assert [(s["name"], s["title"], s["state"], s["done"], s["rounds"]) for s in state["studies"]] == [
                (n, n, "running", 0, 1) for n in NAMES
            ]
            page = lead.request("GET", "/admin/").text
            lead.csrf = re.findall(r'name="csrf" content="(\w+)"', page)[0]
            assert lead.post("/admin/invite", {"name": "Bo"}).json()["link"].count(f"/{name}/join/") == 1
        for oracle in oracles.values():
            Guest(oracle.invite("Ann")).rank(size, 1)


def test_an_unknown_study_and_a_bad_name(tmp_path: Path) -> None:
    with studies(tmp_path, steps=1) as (shared, oracles, _):
        ann = Guest(oracles["drums"].invite("Ann"))
        for path in ("/nobody/", "/", "/nobody/join/abc", "/colours", "/../colours"):
            ann.prefix = ""
            assert ann.request("GET", path).status == (308 if path == "/colours" else 404), path
        assert ann.request("GET", "/nobody/", Host="evil.example").status == 403
        for name, message in (("drums", "has a study 'drums' already"), ("a/b", "must be 1 to 40 letters")):
            with pytest.raises(ValueError, match=message):
                HumanRanking(spelled, tmp_path / "x.db", host=shared, name=name)
        with pytest.raises(ValueError, match="needs `name`"):
            HumanRanking(spelled, tmp_path / "x.db", host=shared)
        with pytest.raises(ValueError, match="are the server's"):
            HumanRanking(spelled, tmp_path / "x.db", 8000, host=shared, name="other")
        ann.prefix = "/drums"
        ann.rank(size, 1)
        Guest(oracles["colours"].invite("Ann")).rank(size, 1)


@pytest.mark.parametrize("taken_off", [False, True])
def test_behind_a_proxy_the_name_follows_the_prefix(tmp_path: Path, taken_off: bool) -> None:
    with studies(tmp_path, steps=1, public_url="https://lab.example/ranking") as (shared, oracles, _):
        link = oracles["drums"].invite("Ann")
        assert link.startswith("https://lab.example/ranking/drums/join/")
        path = urlsplit(link).path.removeprefix("/ranking" if taken_off else "")
        ann = Guest.__new__(Guest)
        ann.host, ann.port, ann.cookie, ann.csrf, ann.prefix = "127.0.0.1", shared.port, "", "", ""
        reply = ann.request("POST", path, b"", Host="lab.example", Origin="https://lab.example")
        cookie = reply.headers["set-cookie"]
        assert reply.status == 303 and "Path=/ranking/drums/;" in f"{cookie};" and "Secure" in cookie
        ann.cookie = cookie.split(";")[0]
        base = path.partition("/join")[0]
        assert ann.request("GET", f"{base}/api/round", Host="lab.example").status == 200
        reply = ann.request(
            "POST", urlsplit(oracles["drums"].lead()).path, b"", Host="lab.example", Origin="https://lab.example"
        )
        assert "Path=/ranking/;" in f"{reply.headers['set-cookie']};"
        for oracle in oracles.values():
            person = Guest(oracle.server.site.local + "/join/" + oracle.invite("Bo").rsplit("/", 1)[1])
            person.rank(size, 1)
