"""Attacks on the page: each is made, and must fail."""

from __future__ import annotations

import http.client
import logging
import re
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oracles.ranking import HumanRanking
from oracles.ranking.study import _protocol
from tests.oracles.ranking.people import Person, rows, study

EVIL = "<!doctype html><script>parent.document.title = 'taken'; fetch('/api/round')</script>"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[HumanRanking, Person]]:
    with study(tmp_path / "s.db", steps=1, render=lambda x: EVIL) as (oracle, _, _):
        person = Person(oracle.url)
        yield oracle, person
        Person(oracle.url).answer([], "undecided")


def body(person: Person) -> dict[str, Any]:
    return {"round": person.round()["round"], "kind": "undecided", "groups": [], "client_id": secrets.token_hex(8)}


def unanswered(oracle: HumanRanking) -> bool:
    return not rows(oracle.store)


def test_another_name_for_this_address_is_refused(served: tuple[HumanRanking, Person]) -> None:
    _oracle, person = served
    for host in (
        "evil.example",
        f"evil.example:{person.port}",
        "127.0.0.1",
        f"127.0.0.1:{person.port}.evil.example",
        "",
    ):
        assert person.request("GET", "/", Host=host).status in (400, 403)  # DNS rebinding
    assert person.request("GET", "/", Host=f"localhost:{person.port}").status == 200


def test_another_page_cannot_post(served: tuple[HumanRanking, Person]) -> None:
    oracle, person = served
    for origin in ("http://evil.example", "null", f"http://127.0.0.1:{person.port + 1}", "http://127.0.0.1"):
        assert person.post("/api/answer", body(person), Origin=origin).status == 403
    data = b"{}"
    assert person.request("POST", "/api/answer", data, Content_Type="application/json").status == 403  # no Origin
    assert unanswered(oracle)


def test_a_form_cannot_post(served: tuple[HumanRanking, Person]) -> None:
    oracle, person = served
    for kind in ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain"):
        assert person.post("/api/answer", body(person), Content_Type=kind).status == 415
    assert unanswered(oracle)


def test_the_pages_token_and_the_cookie_are_needed(served: tuple[HumanRanking, Person]) -> None:
    oracle, person = served
    for token in ("", "0" * 64, person.csrf[:-1]):
        assert person.post("/api/answer", body(person), X_CSRF=token).status == 403
    for cookie in ("", "ranking=1", person.cookie[:-1]):
        assert person.post("/api/answer", body(person), Cookie=cookie).status == 403
        for path in ("/", "/api/round", "/media/" + "a" * 22):
            assert person.request("GET", path, Cookie=cookie).status == 403
    other = Person(oracle.invite("eve"))
    assert person.post("/api/answer", body(person), X_CSRF=other.csrf).status == 403  # of another session
    assert unanswered(oracle)


def test_a_link_works_once(served: tuple[HumanRanking, Person]) -> None:
    oracle, person = served
    url = oracle.invite("ann")
    path = "/join/" + url.rsplit("/", 1)[1]
    first = Person(url)
    for reply in (first.request("GET", path), first.join(path)):
        assert reply.status == 200 and "set-cookie" not in reply.headers  # who has joined is let through
    person.cookie = ""
    for again in (path, "/join/nonsense"):
        for reply in (person.request("GET", again), person.join(again)):
            assert reply.status == 403 and "set-cookie" not in reply.headers


def test_whoever_looks_at_a_link_does_not_use_it_up(served: tuple[HumanRanking, Person]) -> None:
    """A preview of a chat program, or a robot: they GET or HEAD what they find."""
    oracle, person = served
    path = "/join/" + oracle.invite("ann").rsplit("/", 1)[1]
    person.cookie = ""
    for method in ("HEAD", "GET", "GET"):
        reply = person.request(method, path)
        assert reply.status == 200 and "set-cookie" not in reply.headers
        assert method == "HEAD" or '<form method="post">' in reply.text
    assert person.request("POST", path, b"", Origin="http://evil.example").status == 403
    assert person.join(path).status == 303


def test_a_revoked_link_opens_nothing_and_a_renewed_one_keeps_the_rater(served: tuple[HumanRanking, Person]) -> None:
    oracle, person = served
    ann = Person(oracle.invite("ann"))
    rater = max(oracle.store.people.names())
    again = Person(oracle.renew(rater))
    assert ann.request("GET", "/api/round").status == 403 and ann.post("/api/undo", {}).status == 403
    assert again.request("GET", "/api/round").json()["rater"] == "ann"
    link = oracle.renew(rater)
    oracle.revoke(rater)
    assert again.request("GET", "/api/round").status == 403
    person.cookie = ""
    assert person.join("/join/" + link.rsplit("/", 1)[1]).status == 403
    with pytest.raises(KeyError):
        oracle.renew(999)


def test_the_cookie_is_strict_and_hidden_from_scripts(served: tuple[HumanRanking, Person]) -> None:
    oracle, person = served
    path = "/join/" + oracle.invite("ann").rsplit("/", 1)[1]
    person.cookie = ""
    cookie = person.join(path).headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie and "secure" not in cookie and "path=/;" in cookie


def test_media_are_reached_by_their_id_alone(served: tuple[HumanRanking, Person]) -> None:
    _oracle, person = served
    for path in ("../page.js", "..%2f..%2fpage.html", "%2e%2e/s.db", "/etc/passwd", "1", "' OR 1=1 --", "%00"):
        assert person.request("GET", "/media/" + path.replace(" ", "%20")).status in (400, 403, 404)
    for path in ("/page.html", "/door.html", "/../human.py", "/%2e%2e/human.py", "/page/page.js"):
        assert person.request("GET", path).status == 404


def test_html_of_a_candidate_is_in_a_sandbox(served: tuple[HumanRanking, Person]) -> None:
    _oracle, person = served
    candidate = person.round()["candidates"][0]
    assert candidate["kind"] == "html"
    reply = person.request("GET", f"/{candidate['url']}")
    assert reply.text == EVIL
    policy = reply.headers["content-security-policy"]
    assert policy.startswith("sandbox;") and "default-src 'none'" in policy and "allow-" not in policy
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in reply.headers


def test_every_reply_has_its_headers(served: tuple[HumanRanking, Person]) -> None:
    _oracle, person = served
    for path in ("/", "/page.js", "/api/round", "/nothing"):
        headers = person.request("GET", path).headers
        assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
        assert "script-src 'self'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
    page = person.request("GET", "/").text
    assert not re.findall(r"https?://", page) and "<script>" not in page  # nothing from elsewhere, nothing inline


def test_too_much_is_refused(served: tuple[HumanRanking, Person]) -> None:
    oracle, person = served
    assert person.post("/api/answer", b"[" * (1 << 17)).status == 413
    assert person.post("/api/answer", b"[" * 60_000).status == 422
    assert person.post("/api/answer", b"\xff{}").status == 422
    wrong: tuple[Any, ...] = ([], "x", 1, None, {"round": True}, {"round": "1", "kind": []}, {"groups": {"a": 1}})
    for nonsense in wrong:
        assert person.post("/api/answer", nonsense).status == 422
    found = {person.post("/api/undo", {}).status for _ in range(150)}
    assert found == {422, 429}
    assert Person(oracle.url).post("/api/undo", {}).status == 422  # another person, behind the same proxy
    assert unanswered(oracle)


def test_cookies_made_up_do_not_lift_the_limit(served: tuple[HumanRanking, Person]) -> None:
    _oracle, person = served
    name = person.cookie.split("=")[0]
    found = {person.post("/api/undo", {}, Cookie=f"{name}={i}").status for i in range(150)}
    assert found == {403, 429}
    time.sleep(0.2)


def test_a_request_that_never_ends_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_protocol, "PATIENCE", 0.2)
    with study(tmp_path / "s.db", steps=1) as (oracle, _, _):
        person = Person(oracle.url)
        head = f"POST /api/answer HTTP/1.1\r\nHost: 127.0.0.1:{person.port}\r\nContent-Length: 9\r\n\r\n{{".encode()
        for sent in (b"", b"GET / HT", head):
            with socket.create_connection(("127.0.0.1", person.port), timeout=5) as connection:
                connection.sendall(sent)
                while connection.recv(1 << 16):  # a refusal, or the end
                    pass
        kept = http.client.HTTPConnection("127.0.0.1", person.port, timeout=5)
        for _ in range(3):  # between two requests a connection may rest
            kept.request("GET", "/icon.svg")
            assert kept.getresponse().read()
            time.sleep(0.5)
        assert kept.sock is not None
        kept.close()
        person.answer([], "undecided")


def test_only_this_machine_reaches_it(served: tuple[HumanRanking, Person]) -> None:
    _oracle, person = served
    with pytest.raises(OSError):  # another address of this machine
        socket.create_connection(("127.0.0.2", person.port), timeout=1).close()


def test_names_are_shown_as_text_and_given_once(tmp_path: Path) -> None:
    with study(tmp_path / "s.db", steps=1, title="<script>alert(1)</script>") as (oracle, _, _):
        person = Person(oracle.invite())
        for name in ("", " ", "x" * 41, 3, None):
            assert person.post("/api/name", {"name": name}).status == 422
        assert person.post("/api/name", {"name": '"><script>'}).status == 200
        assert person.post("/api/name", {"name": "Eve"}).status == 409
        page = person.request("GET", "/").text
        assert "<script>" not in page and "&lt;script&gt;" in page
        person.answer([], "undecided")


def test_no_secret_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG):
        with study(tmp_path / "s.db", steps=1) as (oracle, _, _):
            url = oracle.url
            person = Person(url)
            person.post("/api/answer", b"{")
            person.answer([], "undecided")
    said = caplog.text + "".join(capfd.readouterr())
    for secret in (url.rsplit("/", 1)[1], person.cookie.split("=")[1], person.csrf, oracle.store.secret):
        assert secret not in said
