"""The page in a real Chromium: mouse, touch, keys, undo, tie, reload, two tabs, a server that restarts."""

from __future__ import annotations

import os
import signal
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from oracles.ranking.study import _server
from oracles.ranking.study._export import rows_of
from oracles.ranking.study._store import Store
from tests.disks import Ballast, small_disk
from tests.oracles.helpers import wait_for
from tests.oracles.ranking.pages import enter, expect, join, picture, press, ready, status, tray
from tests.oracles.ranking.people import Start, rows, study


def test_by_keys_alone(tmp_path: Path, page: Any) -> None:
    with study(tmp_path / "s.db", 3, picture) as (oracle, _, raised):
        enter(page, oracle.url)
        press(page, "Enter")
        status(page).to_have_text("Rank at least 2 first.")
        press(page, "ArrowRight", "ArrowRight")
        page.keyboard.press("Space")  # the third
        press(page, "1", "4", "u")
        assert tray(page) == ["1st 3", "2nd 1"]
        page.keyboard.press("1")  # out again
        press(page, "t", "2")
        assert tray(page) == ["= 1st 3 2"]
        expect(page.locator(".card").nth(1).locator(".pick")).to_have_attribute("aria-label", "Candidate 2, tied 1st")
        press(page, "Enter")
        ready(page, 2)
        press(page, "s")
        status(page).to_have_text("Skipped. There is no other round now, so the same one comes again.")
        ready(page, 2)
        press(page, "c")
        ready(page, 3)
        press(page, "n")
    assert not raised
    rows = rows_of(Store(tmp_path / "s.db"))
    assert [(r["kind"], r["status"]) for r in rows] == [
        ("rank", "counts"),
        ("skip", "skipped"),
        ("undecided", "counts"),
        ("none", "counts"),
    ]
    shown = rows[0]["shown"]
    assert rows[0]["order"] == [[shown[2], shown[1]]]  # what was third and second on the screen


def test_by_mouse(tmp_path: Path, page: Any) -> None:
    with study(tmp_path / "s.db", 1, picture) as (oracle, _, raised):
        enter(page, oracle.url)

        def drag(what: Any, x: float, y: float) -> None:
            box = what.bounding_box()
            page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
            page.mouse.down()
            page.mouse.move(x, y, steps=5)
            page.mouse.up()

        at = page.locator("#tray").bounding_box()
        page.locator(".pick").nth(1).click()
        assert tray(page) == ["1st 2"]
        drag(page.locator(".pick").nth(3), at["x"] + 12, at["y"] + 30)  # before the first
        assert tray(page) == ["1st 4", "2nd 2"]
        second = page.locator("#tray li").nth(1).bounding_box()
        drag(page.locator(".pick").nth(0), second["x"] + second["width"] / 2, at["y"] + 30)  # onto the second
        assert tray(page) == ["1st 4", "= 2nd 2 1"]
        last = page.locator("#tray li").nth(1).locator(".chip").nth(1)
        drag(last, at["x"] + at["width"] - 20, at["y"] + 30)
        assert tray(page) == ["1st 4", "2nd 2", "3rd 1"]
        page.get_by_label("Take Candidate 2 out of the order").click()
        page.get_by_label("Zoom Candidate 3").click()
        expect(page.locator("dialog img")).to_be_visible()
        press(page, "Escape")
        page.locator("#compare").click()
        expect(page.locator("dialog img")).to_have_count(2)
        page.locator("#dialog-close").click()
        page.locator("#submit").click()
        expect(page.locator("#waiting")).to_be_visible()
    assert not raised
    row = rows_of(Store(tmp_path / "s.db"))[0]
    assert row["order"] == [[row["shown"][3]], [row["shown"][0]]]


def test_by_touch_on_a_phone(tmp_path: Path, browser: Any) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 780}, has_touch=True, is_mobile=True)
    phone = context.new_page()
    with study(tmp_path / "s.db", 1, picture) as (oracle, _, raised):
        enter(phone, oracle.url)
        assert phone.evaluate("() => document.documentElement.scrollWidth") <= 390
        phone.locator(".pick").nth(2).tap()
        phone.locator(".pick").nth(0).tap()
        assert tray(phone) == ["1st 3", "2nd 1"]
        handle, first = (phone.locator(name).first.bounding_box() for name in (".handle", "#tray li"))
        finger = context.new_cdp_session(phone)
        path = [
            (handle["x"] + 8, handle["y"] + 8),
            (handle["x"] + 20, first["y"] - 60),
            (first["x"] + 4, first["y"] + 20),
        ]
        for kind, points in (("Start", path[:1]), ("Move", path[1:2]), ("Move", path[2:]), ("End", [])):
            touched = [{"x": x, "y": y} for x, y in points]
            finger.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": touched})
        assert tray(phone) == ["1st 1", "2nd 3"]  # dragged by its dots, before the first
        phone.locator("#submit").tap()
        expect(phone.locator("#waiting")).to_be_visible()
    assert not raised
    context.close()


def test_a_reload_in_mid_answer_keeps_the_order(tmp_path: Path, page: Any) -> None:
    with study(tmp_path / "s.db", 1, picture) as (oracle, _, _):
        enter(page, oracle.url)
        press(page, "2", "4")
        page.reload()
        ready(page, 1)
        assert tray(page) == ["1st 2", "2nd 4"]
        press(page, "Enter")
        expect(page.locator("#waiting")).to_be_visible()


def test_two_tabs_answer_once(tmp_path: Path, page: Any) -> None:
    with study(tmp_path / "s.db", 2, picture) as (oracle, _, _):
        enter(page, oracle.url)
        other = page.context.new_page()
        other.goto(oracle.server.site.address)
        ready(other, 1)
        for tab in (page, other):
            tab.keyboard.press("1")
            tab.keyboard.press("2")
        press(page, "Enter")
        ready(page, 2)
        other.keyboard.press("Enter")  # the round is over
        ready(other, 2)
        press(page, "n")
        expect(page.locator("#waiting")).to_be_visible()
    assert [r["kind"] for r in rows_of(Store(tmp_path / "s.db"))] == ["rank", "none"]


def test_an_answer_waits_for_a_server_that_was_killed(tmp_path: Path, page: Any, start: Start) -> None:
    process, url = start(tmp_path / "s.db")
    enter(page, url)
    order = page.locator(".pick").all_inner_texts()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    press(page, "1", "2", "Enter")
    status(page).to_contain_text("Your answer is kept here")
    start(tmp_path / "s.db")
    ready(page, 2)
    row = rows_of(Store(tmp_path / "s.db"))[0]
    assert row["order"] == [[row["shown"][0]], [row["shown"][1]]] and order


def test_a_candidate_of_html_cannot_read_the_page(tmp_path: Path, page: Any) -> None:
    evil = (
        "<!doctype html><p>hello</p><script>parent.document.title = 'taken'; document.body.textContent = 'ran'</script>"
    )
    with study(tmp_path / "s.db", 1, lambda x: evil) as (oracle, _, _):
        context = page.context
        plain = context.new_page()  # the browser reports the blocked script, which is what should happen
        enter(plain, oracle.url)
        frame = plain.frame_locator("iframe").first
        expect(frame.locator("p")).to_have_text("hello")
        assert plain.title() == "Which is best?"
        plain.keyboard.press("n")
        expect(plain.locator("#waiting")).to_be_visible()


def test_several_raters_give_names_and_hear_the_end(tmp_path: Path, page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_server, "LINGER", 3.0)
    with study(tmp_path / "s.db", 1, picture, raters=2, patience=0.5) as (oracle, search, _):
        join(page, oracle.url)
        page.locator("#name").fill("Ann")
        press(page, "Enter")
        ready(page, 1)
        press(page, "c")
        wait_for(lambda: search.moves == 1)
        oracle.finish()
    expect(page.locator("#waiting")).to_contain_text("The study is finished. Thank you. Your completion code is ")
    assert rows_of(Store(tmp_path / "s.db"))[0]["name"] == "Ann"


def test_an_answer_waits_for_room_on_a_full_disk(tmp_path: Path, page: Any) -> None:
    with small_disk(tmp_path / "disk", "2m") as disk, study(disk / "s.db", 2) as (oracle, _, raised):
        enter(page, oracle.url)
        ballast = Ballast(disk)
        ballast.fill()
        with sqlite3.connect(disk / "s.db") as c, suppress(sqlite3.OperationalError):  # what was free inside the file
            for n in range(10_000):
                c.execute("UPDATE study SET port = ?", (n,))
                c.commit()
        press(page, "1", "2", "Enter")
        status(page).to_have_text(
            "The study cannot store answers at the moment. Your answer is kept here and will be sent."
        )
        assert rows(oracle.store) == []
        page.reload()  # the outbox outlives the page
        status(page).to_contain_text("Your answer is kept here")
        ballast.release()
        ready(page, 2)
        row = rows_of(oracle.store)[0]
        assert row["order"] == [[row["shown"][0]], [row["shown"][1]]]
        press(page, "1", "2", "Enter")
        expect(page.locator("#waiting")).to_be_visible()
    assert not raised
