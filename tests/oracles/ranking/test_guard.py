"""Attacks on the page: each is made, and must fail."""

from __future__ import annotations

import logging
import re
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oracles.ranking import HumanRanking
from tests.oracles.ranking.people import Person, study

EVIL = "<!doctype html><script>parent.document.title = 'taken'; fetch('/api/round')</script>"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[HumanRanking, Person]]:
    with study(tmp_path / "s.db", steps=1, render=lambda x: EVIL) as (oracle, _, _):
        person = Person(oracle.url)
        yield oracle, person
        Person(oracle.url).answer([], "skip")


def body(person: Person) -> dict[str, Any]:
    return {"round": person.round()["round"], "kind": "undecided", "groups": [], "client_id": secrets.token_hex(8)}


def unanswered(oracle: HumanRanking) -> bool:
    return not oracle.store.rows()


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
    cookie = first.request("GET", path).headers.get("set-cookie")
    assert cookie is None  # who has joined is let through, without a new cookie
    again = person.request("GET", path, Cookie="none=1")
    assert again.status == 403 and "set-cookie" not in again.headers
    assert person.request("GET", "/join/nonsense", Cookie="none=1").status == 403


def test_the_cookie_is_strict_and_hidden_from_scripts(served: tuple[HumanRanking, Person]) -> None:
    oracle, person = served
    path = "/join/" + oracle.invite("ann").rsplit("/", 1)[1]
    cookie = person.request("GET", path, Cookie="none=1").headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie


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
    reply = person.request("GET", candidate["url"])
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
    assert unanswered(oracle)


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
        person.answer([], "skip")


def test_no_secret_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG):
        with study(tmp_path / "s.db", steps=1) as (oracle, _, _):
            url = oracle.url
            person = Person(url)
            person.post("/api/answer", b"{")
            person.answer([], "skip")
    said = caplog.text + "".join(capfd.readouterr())
    for secret in (url.rsplit("/", 1)[1], person.cookie.split("=")[1], person.csrf, oracle.store.secret):
        assert secret not in said
