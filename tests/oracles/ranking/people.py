"""A person's browser without the browser: a cookie, the page's token, and its four requests."""

from __future__ import annotations

import http.client
import json
import re
import secrets
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import blackbox_zo as bz
from oracles.ranking import HumanRanking

Start = Callable[[Path], tuple[subprocess.Popen[str], str]]
"""Starts a study of 8 steps on a store, in a process of its own, and gives that and its address."""


class Person:
    """Joins a study by its link."""

    def __init__(self, url: str, name: str | None = None) -> None:
        parts = urlsplit(url)
        assert parts.hostname and parts.port
        self.host, self.port, self.cookie, self.csrf = parts.hostname, parts.port, "", ""
        reply = self.join(parts.path)
        assert reply.status == 303, reply.text
        self.cookie = reply.headers["set-cookie"].split(";")[0]
        self.enter()
        if name is not None:
            assert self.post("/api/name", {"name": name}).status == 200

    def join(self, path: str) -> Reply:
        """Press the button of a link's page."""
        return self.request("POST", path, b"", Origin=f"http://{self.host}:{self.port}")

    def enter(self) -> None:
        self.csrf = re.findall(r'name="csrf" content="(\w+)"', self.request("GET", "/").text)[0]

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=30)
        try:
            sent = {"Host": f"{self.host}:{self.port}", **{k.replace("_", "-"): v for k, v in headers.items()}}
            if self.cookie and "Cookie" not in sent:
                sent["Cookie"] = self.cookie
            connection.request(method, path, body, sent)
            reply = connection.getresponse()
            return Reply(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())
        finally:
            connection.close()

    def post(self, path: str, body: Any, **headers: str) -> Reply:
        given = {"Origin": f"http://{self.host}:{self.port}", "Content-Type": "application/json", "X-CSRF": self.csrf}
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.request("POST", path, data, **{**given, **headers})

    def round(self) -> dict[str, Any]:
        """The round that waits for this person, drawn."""
        until = time.monotonic() + 30
        while True:
            assert time.monotonic() < until, "no round came"
            state = self.request("GET", "/api/round").json()
            if state["state"] != "running" or (state["round"] is not None and all(state["candidates"])):
                return dict(state)

    def answer(self, groups: list[list[str]], kind: str = "rank", client_id: str = "", **more: Any) -> Reply:
        body = {"round": self.round()["round"], "kind": kind, "groups": groups, "ms": 5}
        return self.post("/api/answer", {**body, "client_id": client_id or secrets.token_hex(8), **more})

    def rank(self, best_first: Callable[[str], float], k: int) -> Reply:
        """Order text candidates by a score of their text."""
        able = [c for c in self.round()["candidates"] if c["kind"] == "text"]
        return self.answer([[c["id"]] for c in sorted(able, key=lambda c: best_first(c["text"]))[:k]])

    def undo(self, **more: Any) -> Reply:
        return self.post("/api/undo", {"client_id": secrets.token_hex(8), **more})

    def redo(self) -> Reply:
        return self.post("/api/redo", {"client_id": secrets.token_hex(8)})

    def history(self) -> list[dict[str, Any]]:
        """The person's own answers, newest first."""
        return list(self.request("GET", "/api/history").json()["answers"])


class Reply:
    """What the server said."""

    def __init__(self, status: int, headers: dict[str, str], data: bytes) -> None:
        self.status, self.headers, self.data = status, headers, data

    @property
    def text(self) -> str:
        return self.data.decode()

    def json(self) -> Any:
        return json.loads(self.data)


def spelled(x: Any) -> str:
    """A candidate as text."""
    return " ".join(f"{v:.17g}" for v in x)


def size(text: str) -> float:
    """The square of a spelled candidate's length."""
    return sum(float(word) ** 2 for word in text.split())


@contextmanager
def study(
    store: str | Path, steps: int = 3, render: Any = spelled, *, vote: bool = False, **options: Any
) -> Iterator[tuple[HumanRanking, bz.Search, list[Any]]]:
    """A study of 2 numbers that runs on a thread, and may end with a vote; what it raised is in the list."""
    oracle = HumanRanking(render, store, **{"n_ranked": 2, **options})
    search = bz.Search([1.0, -2.0], bz.RankBased(0.5, 4, 2), bz.SGD(0.3), seed=3)
    raised: list[Any] = []

    def run() -> None:
        try:
            for _ in search.run(oracle, steps):
                pass
            if vote:
                oracle.vote(search.x, [1.0, -2.0])
                oracle.finish()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield oracle, search, raised
        thread.join(20)
        assert not thread.is_alive()
    except BaseException as error:
        state = "runs" if thread.is_alive() else "is over"
        error.add_note(f"The study {state}; it raised {raised}; its rows: {rows(oracle.store)}")
        raise
    finally:
        oracle.close()


def rows(store: Any) -> list[Any]:
    """All rows of a store, in order."""
    with store.record() as record:
        return list(record.rows.values())
