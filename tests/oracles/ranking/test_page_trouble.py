"""A rater who double-clicks, goes back, has two tabs or no link any more; a study that is paused or not served."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import blackbox_zo as bz
from oracles.ranking import HumanRanking, StudyDesign, StudyServer
from oracles.ranking.study import _api, _server
from oracles.ranking.study._export import rows_of
from tests.oracles.helpers import wait_for
from tests.oracles.ranking.pages import enter, expect, join, picture, practised, press, ready, status, tray
from tests.oracles.ranking.people import study


def test_a_pause_is_heard_by_a_page_with_an_open_round(
    tmp_path: Path, page: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_server, "LINGER", 10.0)
    with study(tmp_path / "s.db", 1, picture) as (oracle, _, raised):
        with page.expect_request("**/api/end"):
            enter(page, oracle.url)
        press(page, "3")
        wait_for(lambda: oracle.server.api.listening(time.monotonic()))
        begun = time.monotonic()
        oracle.close()
        assert time.monotonic() - begun < 8  # it lingers until the page has heard, and no longer
    assert raised
    expect(page.locator("#waiting")).to_have_text("The study is paused. This page continues by itself.")
    status(page).to_have_text("")
    with study(tmp_path / "s.db", 1, picture) as (oracle, _, raised):
        ready(page, 1)
        assert tray(page) == ["1st 3"]
        press(page, "1", "Enter")
        expect(page.locator("#waiting")).to_be_visible()
    assert not raised


def test_the_open_question_is_answered_after_a_while_and_asked_again(
    tmp_path: Path, page: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_api, "HELD", 0.2)
    with study(tmp_path / "s.db", 1, picture) as (oracle, _, _):
        enter(page, oracle.url)
        for _ in range(2):
            with page.expect_response("**/api/end") as replied:
                pass
            assert replied.value.json() == {"state": "running"}
        oracle.server.site.state = "paused"  # as the researcher's button does
        expect(page.locator("#waiting")).to_contain_text("paused")
        oracle.server.site.state = "running"
        ready(page, 1)
        press(page, "c")


def test_a_double_click_answers_one_round(tmp_path: Path, page: Any) -> None:
    with study(tmp_path / "s.db", 3, picture) as (oracle, search, _):
        enter(page, oracle.url)
        page.locator("#undecided").dblclick()
        ready(page, 2)
        clicked = """async (detail) => {
            (await import('./order.js')).order.began = performance.now();
            document.querySelector('#none').dispatchEvent(new MouseEvent('click', { bubbles: true, detail }));
            return (await import('./server.js')).sending();
        }"""
        assert not page.evaluate(clicked, 2)  # the second half of a double click, right after the round came
        assert page.evaluate(clicked, 1)
        ready(page, 3)
        wait_for(lambda: search.moves == 2)
        press(page, "c")
    assert [r["kind"] for r in rows_of(oracle.store)] == ["undecided", "none", "undecided"]


def test_two_tabs_in_practice_and_the_back_button(tmp_path: Path, page: Any) -> None:
    with study(tmp_path / "s.db", 1, picture, design=StudyDesign(practice=1)) as (oracle, _, _):
        join(page, oracle.url)
        keys = practised(page, 1)
        page.go_back()  # to the link, which leads on
        assert practised(page, 1) == keys
        other = page.context.new_page()
        other.goto(oracle.server.site.address)
        practised(other, 1)
        for tab in (page, other):
            press(tab, *keys[:2])
        press(page, "Enter")
        expect(page.locator("#dialog-title")).to_have_text("That was right")
        press(other, "Enter")
        status(other).to_have_text("You have answered this round in another window.")
        ready(other, 1)
        press(other, "2", "1")
        press(page, "Escape", "3", "4", "Enter")
        expect(page.locator("#waiting")).to_be_visible()
        press(other, "Enter")
        expect(other.locator("#waiting")).to_be_visible()
    assert [r["purpose"] for r in rows_of(oracle.store)] == ["practice", "search"]


def test_whoever_is_shut_out_hears_it_and_a_new_link_gives_the_order_back(tmp_path: Path, page: Any) -> None:
    with study(tmp_path / "s.db", 1, picture, vote=True) as (oracle, _, raised):
        enter(page, oracle.url)
        press(page, "1", "2", "Enter")
        expect(page.locator("#progress")).to_have_text("Last question")
        expect(page.locator(".pick")).to_have_count(2)
        press(page, "2")
        anew = oracle.renew(1)
        press(page, "Enter")
        status(page).to_have_text("Open your link again.")
        join(page, anew)
        expect(page.locator(".card.placed .key")).to_have_text("2")
        press(page, "Enter")
        expect(page.locator("#waiting")).to_contain_text("code")
    assert not raised
    assert [r["purpose"] for r in rows_of(oracle.store)] == ["search", "final"]


def test_an_answer_waits_until_its_study_is_served_again(tmp_path: Path, page: Any) -> None:
    shared = StudyServer()
    oracle = HumanRanking(picture, tmp_path / "s.db", n_ranked=2, host=shared, name="posters")
    search = bz.Search([1.0, -2.0], bz.RankBased(0.5, 4, 2), bz.SGD(0.3), seed=3)
    try:
        link = oracle.url
        run = search.run(oracle, 1)

        thread = threading.Thread(target=lambda: list(run), daemon=True)
        thread.start()
        enter(page, link)
        server = shared.studies["posters"]
        shared.remove("posters")
        press(page, "4", "1", "Enter")
        status(page).to_have_text("No study runs here at the moment. Your answer is kept here and will be sent.")
        page.goto(oracle.server.site.address + "/")
        expect(page.locator("h1")).to_have_text("No study runs here at the moment.")
        shared.add("posters", server)
        page.goto(oracle.server.site.address + "/")  # which sends it
        thread.join(20)
        assert not thread.is_alive() and urlsplit(page.url).path == "/posters/"
        row = rows_of(oracle.store)[0]
        assert row["order"] == [[row["shown"][3]], [row["shown"][0]]]
    finally:
        oracle.close()
        shared.close()


def test_a_look_that_is_lost_on_its_way_does_not_stop_the_page(tmp_path: Path, page: Any) -> None:
    with study(tmp_path / "s.db", 1, picture) as (oracle, _, raised):
        join(page, oracle.url)
        lost: list[Any] = []
        page.route("**/api/round", lambda route: lost.append(route), times=1)
        page.reload()
        ready(page, 1)
        press(page, "c")
        expect(page.locator("#waiting")).to_be_visible()
    assert not raised
