"""Several studies on one server, each under its name and with its own store."""

from __future__ import annotations

import functools
import http.client
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import blackbox_zo as bz
from oracles.cli.main import main
from oracles.ranking import HumanRanking, StudyServer
from oracles.ranking.study._store import Store
from tests.oracles.helpers import environment, wait_for
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


def test_nobody_meets_a_server_without_its_study(tmp_path: Path) -> None:
    """Whoever asks before the study is there waits for it; what is sent to one that has gone is kept by the page."""
    shared = StudyServer()
    replies = list[int]()
    waiting = threading.Thread(target=lambda: replies.append(_status(shared.port, "/colours/")))
    waiting.start()
    waiting.join(0.3)
    assert not replies
    oracle = HumanRanking(spelled, tmp_path / "s.db", host=shared, name="colours")
    waiting.join(10)
    assert replies == [403]  # without a link
    oracle.close()
    assert _status(shared.port, "/colours/api/answer", "POST") == 503
    shared.close()


def _status(port: int, path: str, method: str = "GET") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    origin = {"Origin": f"http://127.0.0.1:{port}", "Content-Type": "application/json"}
    try:
        connection.request(method, path, "{}" if method == "POST" else None, origin)
        return connection.getresponse().status
    finally:
        connection.close()


class Guest(Person):
    """A person at a study with a name."""

    def __init__(self, url: str) -> None:
        self.prefix = re.sub(r"/(admin/)?join/.*", "", urlsplit(url).path)
        super().__init__(url)

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        inside = path if path.startswith(self.prefix) else self.prefix + path
        return super().request(method, inside, body, **headers)


def _moved(search: bz.Search, moves: int) -> bool:
    return search.moves == moves


def test_each_study_has_its_own_people_and_answers(tmp_path: Path) -> None:
    with studies(tmp_path) as (shared, oracles, searches):
        people = {name: Guest(oracle.invite("Ann")) for name, oracle in oracles.items()}
        assert {urlsplit(p).port for p in (o.invite() for o in oracles.values())} == {shared.port}
        for name, ann in people.items():
            for moves in (1, 2):
                ann.rank(size, 1)
                wait_for(functools.partial(_moved, searches[name], moves))
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
        assert ann.post("/nobody/api/answer", {}).status == 503  # a page keeps what it could not send
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


_RENDER = "tests.oracles.ranking.people:spelled"


def _file(folder: Path, **changes: str) -> Path:
    text = "".join(
        f'[{name}]\nrender = "{_RENDER}"\nx0 = [1, -2]\nstore = "{name}.db"\ncandidates = 3\nranked = 1\nrounds = 2\n'
        + changes.get(name, "")
        for name in NAMES
    )
    out = folder / "studies.toml"
    out.write_text(changes.get("top", "") + text)
    return out


@pytest.fixture
def start() -> Iterator[Callable[[list[str], Path], subprocess.Popen[str]]]:
    """Starts a program; whatever still runs after the test is ended."""
    with ExitStack() as ends:

        def program(words: list[str], folder: Path) -> subprocess.Popen[str]:
            process = subprocess.Popen(words, cwd=folder, env=environment(), stdout=subprocess.PIPE, text=True)
            ends.enter_context(process)
            ends.callback(process.kill)
            return process

        yield program


def test_the_command_runs_several_studies_and_continues_them(
    tmp_path: Path, start: Callable[[list[str], Path], subprocess.Popen[str]]
) -> None:
    _file(tmp_path)
    words = [sys.executable, "-m", "oracles.cli.main", "studies", "studies.toml"]
    for answers in (1, 1):
        process = start(words, tmp_path)
        assert process.stdout is not None
        links = dict[str, str]()
        while len(links) < 2:
            line = process.stdout.readline()
            assert line, "it ended"
            if found := re.match(r"(\w+): open: (\S+)", line):
                links[found[1]] = found[2]
        for name in NAMES:
            for _ in range(answers):
                assert Guest(links[name]).rank(size, 1).status == 200
        if Store(tmp_path / "drums.db").about and len(_answers(tmp_path, "drums")) < 2:
            wait_for(lambda: all(len(_answers(tmp_path, name)) == 1 for name in NAMES))
            process.send_signal(signal.SIGINT)
            assert "Interrupted; every answer is kept.\n" in process.communicate(timeout=30)[0]
            assert process.returncode == 130
        else:
            told = process.communicate(timeout=30)[0]
            assert process.returncode == 0 and all(f"{name}: x = [" in told for name in NAMES)
    assert {Store(tmp_path / f"{name}.db").state for name in NAMES} == {"finished"}


def _answers(folder: Path, name: str) -> list[Any]:
    with Store(folder / f"{name}.db").record() as record:
        return list(record.answers())


@pytest.mark.parametrize(
    "changes, more, message",
    [
        ({}, ["--only", "colour"], "has no study 'colour'; it has 'colours', 'drums'."),
        ({"top": "speed = 3\n"}, [], "'speed' is not an option of the server"),
        ({"colours": "rounds_each = 0\n"}, [], "--rounds-each"),
        ({"colours": "port = 8000\n"}, [], "[colours]: 'port' is not an option of a study on a shared server."),
        ({"colours": "nonsense = 1\n"}, [], "unrecognized arguments: --nonsense 1"),
        ({"top": 'public_url = "study"\n'}, [], "`public_url` must be like"),
        ({"drums": "= 1\n"}, [], "is not TOML"),
    ],
)
def test_the_command_refuses(
    tmp_path: Path, changes: dict[str, str], more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(["studies", str(_file(tmp_path, **changes)), *more])
    except SystemExit as error:  # of the parser
        code = int(error.code or 0)
    assert code == 2 and message in capsys.readouterr().err


def test_two_studies_of_one_store_or_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = _file(tmp_path)
    file.write_text(file.read_text().replace("drums.db", "colours.db"))
    assert main(["studies", str(file)]) == 2 and "have the same store 'colours.db'" in capsys.readouterr().err
    assert main(["studies", str(tmp_path / "none.toml")]) == 2 and "cannot be read" in capsys.readouterr().err
    file.write_text("port = 1\n")
    assert main(["studies", str(file)]) == 2 and "has no study" in capsys.readouterr().err
