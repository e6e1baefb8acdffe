"""What the page says while there is nothing to answer, and what others did; and where the browser keeps nothing."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from oracles.ranking.study import _server
from tests.oracles.ranking.pages import enter, expect, join, picture, press, ready, status, tray
from tests.oracles.ranking.people import Person, study

PAUSED = "The study is paused. This page continues by itself."
FINISHED = "The study is finished. Thank you."


def as_ann(page: Any, url: str) -> None:
    join(page, url)
    page.locator("#name").fill("Ann")
    press(page, "Enter")
    ready(page, 1)


def test_a_paused_study_continues_by_itself(tmp_path: Path, page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_server, "LINGER", 3.0)
    page.clock.install()
    with study(tmp_path / "s.db", 2, raters=2) as (oracle, _, raised):
        as_ann(page, oracle.url)
        other = oracle.invite("Bob")
        press(page, "1", "2", "Enter")
        expect(page.locator("#waiting")).to_have_text("Waiting for the other person …")
        oracle.close()
    assert raised
    expect(page.locator("#waiting")).to_have_text(PAUSED)
    asked: list[float] = []
    page.on("request", lambda request: asked.append(0.0))
    for _ in range(16):  # seconds without a server
        page.clock.run_for(1000)
        page.wait_for_timeout(10)
    assert 3 <= len(asked) <= 6  # every four seconds, in the end
    expect(page.locator("#waiting")).to_have_text(PAUSED)
    assert "reached" not in page.locator("#status").inner_text()
    page.clock.resume()
    with study(tmp_path / "s.db", 2, raters=2) as (oracle, _, raised):
        expect(page.locator("#waiting")).to_have_text("Waiting for the other person …")
        bob = Person(other)
        assert bob.rank(len, 2).status == 200
        ready(page, 2)
        press(page, "c")
        assert bob.rank(len, 2).status == 200
    assert not raised


@pytest.mark.parametrize("reveal", [False, True])
def test_a_finished_study_shows_the_result_and_may_go_on(
    tmp_path: Path, page: Any, monkeypatch: pytest.MonkeyPatch, reveal: bool
) -> None:
    monkeypatch.setattr(_server, "LINGER", 3.0)
    page.clock.install()
    with study(tmp_path / "s.db", 1, lambda x: f"A text about {x[0]:.3f}", reveal=reveal) as (oracle, _, _):
        enter(page, oracle.url)
        best = page.locator(".face .text").nth(2).inner_text()
        if reveal:
            with page.expect_response("**/media/*") as loaded:  # while the server is still there
                press(page, "3", "1", "Enter")
            assert loaded.value.ok
            page.route("**/media/*", lambda route: route.abort())
        else:  # the server stays until the page has the result
            press(page, "3", "1", "Enter")
        expect(page.locator("#waiting")).to_have_text("The next round is being prepared …")
        oracle.finish()
    expect(page.locator("#waiting")).to_contain_text(FINISHED)
    expect(page.locator("#result")).to_contain_text(best)
    expect(page.locator("#work")).to_be_hidden()
    page.evaluate("document.body.dataset.same = 'yes'")
    asked: list[Any] = []
    page.on("request", lambda request: asked.append(request))
    page.clock.run_for(10_000)  # and as long as this test took, on a slow machine
    assert not asked
    page.clock.run_for(4000)
    page.clock.run_for(2000)  # nobody is there: it asks in another 15 seconds
    expect(page.locator("#waiting")).to_contain_text(FINISHED)
    assert len(asked) == 1
    with study(tmp_path / "s.db", 2, lambda x: f"A text about {x[0]:.3f}") as (oracle, _, _):
        page.clock.run_for(16_000)
        ready(page, 2)
        assert page.evaluate("document.body.dataset.same") == "yes"  # without a reload
        press(page, "c")
        expect(page.locator("#waiting")).to_be_visible()


def test_waiting_for_others_and_what_they_take_back(tmp_path: Path, page: Any) -> None:
    with study(tmp_path / "s.db", 2, picture, raters=3) as (oracle, _, raised):
        as_ann(page, oracle.url)
        bob, eve = Person(oracle.invite("Bob")), Person(oracle.invite("Eve"))

        def answer(*people: Person) -> None:
            for person in people:
                person.answer([], "undecided")

        press(page, "1", "2", "Enter")
        expect(page.locator("#waiting")).to_have_text("Waiting for 2 of 2 others …")
        answer(bob)
        expect(page.locator("#waiting")).to_have_text("Waiting for 1 of 2 others …")
        answer(eve)
        ready(page, 2)
        press(page, "2", "1", "Enter")
        expect(page.locator("#waiting")).to_have_text("Waiting for 2 of 2 others …")
        assert bob.undo(sure=True).status == 200
        notice = page.locator(".notice")
        expect(notice).to_contain_text("so your answer to round 2 no longer counts.")
        page.reload()
        expect(notice).to_have_count(1)  # until it is dismissed
        page.get_by_role("button", name="Dismiss").click()
        expect(notice).to_have_count(0)
        page.reload()
        expect(page.locator("#waiting")).to_have_text("Waiting for 1 of 2 others …")
        expect(notice).to_have_count(0)
        answer(bob)
        ready(page, 2)
        press(page, "c")
        answer(bob, eve)
    assert not raised


def test_withdrawing_what_others_rest_on_is_asked(tmp_path: Path, page: Any) -> None:
    with study(tmp_path / "s.db", 2, picture, raters=2) as (oracle, _, raised):
        as_ann(page, oracle.url)
        bob = Person(oracle.invite("Bob"))
        bob.answer([], "undecided")
        press(page, "1", "2", "Enter")
        ready(page, 2)
        bob.answer([], "undecided")
        press(page, "4", "u", "u")
        question = "1 later answer of one other person rests on this one and would no longer count. Withdraw it?"
        expect(page.locator("#ask-text")).to_have_text(question)
        press(page, "Escape")
        assert bob.history()[0]["status"] == "counts"
        press(page, "u")
        page.get_by_role("button", name="Withdraw it").click()
        ready(page, 1)
        assert tray(page) == ["1st 1", "2nd 2"]
        press(page, "Enter")
        ready(page, 2)
        press(page, "c")
        bob.answer([], "undecided")
    assert not raised


def test_a_browser_that_keeps_nothing(tmp_path: Path, page: Any) -> None:
    denied = "{ get() { throw new DOMException('denied', 'SecurityError'); } }"
    page.add_init_script(f"Object.defineProperty(window, 'localStorage', {denied})")
    with study(tmp_path / "s.db", 2, picture) as (oracle, _, raised):
        enter(page, oracle.url)
        expect(page.locator("#warnings")).to_contain_text("a reload would lose an order that is not sent yet")
        press(page, "1", "3", "Enter")
        ready(page, 2)
        press(page, "u")
        ready(page, 1)
        assert tray(page) == ["1st 1", "2nd 3"]
        press(page, "Enter")
        ready(page, 2)
        press(page, "c")
        expect(page.locator("#waiting")).to_be_visible()
    assert not raised


def test_a_server_that_is_away_for_a_moment(tmp_path: Path, page: Any) -> None:
    with study(tmp_path / "s.db", 1, picture) as (oracle, _, _):
        enter(page, oracle.url)
        press(page, "2")
        page.route("**/api/round", lambda route: route.abort())
        page.evaluate("dispatchEvent(new Event('focus'))")
        status(page).to_have_text("The server cannot be reached; trying again …")
        assert tray(page) == ["1st 2"]
        page.unroute("**/api/round")
        begun = time.monotonic()
        status(page).to_have_text("")
        assert time.monotonic() - begun < 4.5
        press(page, "1", "Enter")
        expect(page.locator("#waiting")).to_be_visible()
