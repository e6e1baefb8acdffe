"""Making an order on the page: undo and redo, keys of any keyboard, moving, what is asked before an order is lost."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from oracles.ranking.study._drawing import TOGETHER
from oracles.ranking.study._export import rows_of
from tests.oracles.ranking.pages import enter, expect, join, picture, press, ready, status, tray
from tests.oracles.ranking.people import rows, study


def hold(page: Any, key: str) -> None:
    """Keep a key down until it has repeated four times."""
    for _ in range(5):
        page.keyboard.down(key)
    page.keyboard.up(key)


def typed(page: Any, key: str, code: str) -> None:
    """A key of another keyboard: what it types, and where it is."""
    page.evaluate(
        "([key, code]) => document.activeElement.dispatchEvent("
        "new KeyboardEvent('keydown', { key, code, bubbles: true, cancelable: true }))",
        [key, code],
    )


def test_undo_takes_one_step_a_press_and_redo_makes_it_again(tmp_path: Path, page: Any) -> None:
    with study(tmp_path / "s.db", 2, picture) as (oracle, _, raised):
        enter(page, oracle.url)
        press(page, "1", "2", "3")
        hold(page, "u")
        assert tray(page) == ["1st 1", "2nd 2"]
        press(page, "u", "y")
        assert tray(page) == ["1st 1", "2nd 2"]
        press(page, "Shift+U")
        assert tray(page) == ["1st 1", "2nd 2", "3rd 3"]
        press(page, "2", "u")  # what was taken out is back in its place
        assert tray(page) == ["1st 1", "2nd 2", "3rd 3"]
        press(page, "Enter")
        ready(page, 2)
        press(page, "4", "1")
        page.reload()
        ready(page, 2)
        press(page, "u", "u")  # a reload forgets nothing
        hold(page, "u")
        ready(page, 1)
        status(page).to_have_text("Undone: answer again.")
        assert tray(page) == ["1st 1", "2nd 2", "3rd 3"]  # as it was sent
        press(page, "u")
        status(page).to_have_text("There is nothing to undo.")
        assert tray(page) == ["1st 1", "2nd 2", "3rd 3"]
        expect(page.locator("#redo")).to_be_enabled()
        page.locator("#redo").click()
        ready(page, 2)
        status(page).to_have_text("Your answer counts again.")
        expect(page.locator("#redo")).to_be_disabled()
        press(page, "y")
        status(page).to_have_text("There is nothing to redo.")
        press(page, "c")
        expect(page.locator("#waiting")).to_be_visible()
    assert not raised
    assert [row.kind for row in rows(oracle.store)] == ["rank", "close", "undo", "redo", "undecided", "close"]


def test_ones_own_answers_can_be_looked_at_and_given_back(tmp_path: Path, page: Any) -> None:
    with study(tmp_path / "s.db", 3, picture) as (oracle, _, raised):
        enter(page, oracle.url)
        press(page, "h")
        expect(page.locator("#dialog-body")).to_have_text("You have not answered yet.")
        press(page, "Escape", "3", "1", "Enter")
        ready(page, 2)
        press(page, "n")
        ready(page, 3)
        press(page, "2")
        page.locator("#history").click()
        told = page.locator("#dialog li b")
        expect(told).to_have_text(["Round 2: none is acceptable", "Round 1: your order"])
        page.get_by_label("Look at round 1").click()
        first = ["1st Candidate 3", "2nd Candidate 1", "not ranked Candidate 2", "not ranked Candidate 4"]
        expect(page.locator("figcaption")).to_have_text(first)
        for name in ("Keep it", "Withdraw it"):
            page.get_by_label("Withdraw the answer to round 1").click()
            expect(page.locator("#ask-text")).to_contain_text("1 later answer rests on this one")
            page.get_by_role("button", name=name).click()
            if name == "Keep it":
                ready(page, 3)
                assert tray(page) == ["1st 2"]
                press(page, "h")
        ready(page, 1)
        assert tray(page) == ["1st 3", "2nd 1"]
        press(page, "h")
        became = ["no longer counts: an earlier answer was withdrawn", "withdrawn"]
        expect(page.locator("#dialog li .muted")).to_have_text(became)
        expect(page.get_by_label("Withdraw the answer to round 1")).to_be_hidden()
        press(page, "Escape", "Enter")
        for number in (2, 3):
            ready(page, number)
            press(page, "c")
        expect(page.locator("#waiting")).to_be_visible()
    assert not raised


def test_until_the_next_round_comes_undo_withdraws_and_nothing_is_sent_twice(tmp_path: Path, page: Any) -> None:
    with study(tmp_path / "s.db", 1, picture, rounds=2) as (oracle, _, raised):
        enter(page, oracle.url)
        press(page, "3", "1")
        held: list[Any] = []
        page.route("**/api/round", lambda route: held.append(route))
        press(page, "Enter")
        status(page).to_have_text("Saved.")
        press(page, "Enter")
        status(page).to_have_text("Saved. The next round is on its way.")
        press(page, "c", "u")
        status(page).to_have_text("Undone: answer again.")
        page.unroute("**/api/round")  # which lets those go that are held
        expect(page.locator("#submit")).to_be_enabled()
        assert tray(page) == ["1st 3", "2nd 1"]
        press(page, "Enter")
        expect(page.locator("#waiting")).to_be_visible()
    assert not raised
    assert [row.kind for row in rows(oracle.store)] == ["rank", "close", "undo", "rank", "close"]


def test_an_order_is_not_thrown_away_unasked(tmp_path: Path, page: Any) -> None:
    with study(tmp_path / "s.db", 1, picture) as (oracle, _, _):
        enter(page, oracle.url)
        press(page, "2")
        for key, name in (("n", "None is acceptable"), ("c", "Cannot tell")):
            press(page, key)
            expect(page.locator("#ask-text")).to_have_text(f"You have ranked a candidate. Answer “{name}” instead?")
            press(page, "Enter")  # the first button keeps the order
            expect(page.locator("#ask")).to_be_hidden()
        press(page, "s")  # a skipped round keeps it, too
        status(page).to_contain_text("the same one comes again")
        assert tray(page) == ["1st 2"]
        assert [r["kind"] for r in rows_of(oracle.store)] == ["skip"]
        press(page, "n")
        page.locator("#ask-yes").click()
        expect(page.locator("#waiting")).to_be_visible()
    assert [r["kind"] for r in rows_of(oracle.store)] == ["skip", "none"]


def test_digits_and_letters_of_other_keyboards(tmp_path: Path, page: Any) -> None:
    with study(tmp_path / "s.db", 1, picture) as (oracle, _, _):
        enter(page, oracle.url)
        typed(page, "é", "Digit2")  # AZERTY
        typed(page, "4", "Numpad4")
        assert tray(page) == ["1st 2", "2nd 4"]
        typed(page, "г", "KeyU")  # Cyrillic
        assert tray(page) == ["1st 2"]
        typed(page, "End", "Numpad1")  # without NumLock it is no digit
        typed(page, "е", "KeyT")
        typed(page, "3", "Digit3")
        assert tray(page) == ["= 1st 2 3"]
        typed(page, "q", "KeyA")  # Latin letters are what they type
        typed(page, "?", "Digit7")
        expect(page.locator("#dialog-title")).to_have_text("Keys")
        page.get_by_label("Letters and digits act").uncheck()
        press(page, "Escape", "1", "u", "n")
        assert tray(page) == ["= 1st 2 3"]
        page.locator(".pick").nth(1).focus()
        press(page, "Enter")  # still submits
        expect(page.locator("#waiting")).to_be_visible()


def test_moving_within_the_order(tmp_path: Path, page: Any) -> None:
    with study(tmp_path / "s.db", 1, picture) as (oracle, _, _):
        enter(page, oracle.url)
        press(page, "1", "2", "3", "Shift+ArrowUp")
        assert tray(page) == ["1st 1", "2nd 3", "3rd 2"]
        press(page, "Shift+ArrowLeft", "Shift+ArrowLeft")
        status(page).to_have_text("Candidate 3 is 1st. There is no better place.")
        press(page, "Shift+ArrowDown")
        assert tray(page) == ["1st 1", "2nd 3", "3rd 2"]
        press(page, "ArrowRight", "Shift+ArrowRight")
        status(page).to_have_text("Candidate 4 is not in the order.")
        press(page, "t", "4", "Shift+ArrowUp")  # out of the tie
        assert tray(page) == ["1st 1", "2nd 3", "3rd 4", "4th 2"]
        page.get_by_label("Candidate 1: move").click()
        page.get_by_label("Move Candidate 1 to a later place").click()
        assert tray(page) == ["1st 3", "2nd 1", "3rd 4", "4th 2"]
        press(page, "Enter")  # the button keeps the focus
        assert tray(page) == ["1st 3", "2nd 4", "3rd 1", "4th 2"]
        page.get_by_label("Candidate 2: move").focus()
        press(page, "Shift+ArrowLeft")
        assert tray(page) == ["1st 3", "2nd 4", "3rd 2", "4th 1"]
        page.evaluate("document.documentElement.dir = 'rtl'")
        press(page, "Shift+ArrowLeft")
        assert tray(page) == ["1st 3", "2nd 4", "3rd 1", "4th 2"]
        page.locator(".pick").nth(0).focus()
        press(page, "ArrowLeft")
        expect(page.locator(".pick").nth(1)).to_be_focused()
        page.evaluate("document.documentElement.dir = ''")
        page.locator("#submit").click()
        expect(page.locator("#waiting")).to_be_visible()


def test_dragging_from_the_last_row(tmp_path: Path, page: Any) -> None:
    page.set_viewport_size({"width": 500, "height": 500})
    with study(tmp_path / "s.db", 1, picture) as (oracle, _, _):
        enter(page, oracle.url)
        last = page.locator(".pick").nth(3)
        last.scroll_into_view_if_needed()
        box, at = last.bounding_box(), page.locator("#tray").bounding_box()
        assert page.evaluate("scrollY") > 0 and at["y"] + at["height"] < 500
        page.mouse.move(box["x"] + 20, box["y"] + 20)
        page.mouse.down()
        page.mouse.move(at["x"] + 40, at["y"] + 20, steps=4)
        page.mouse.up()
        assert tray(page) == ["1st 4"]
        press(page, "1", "Enter")
        expect(page.locator("#waiting")).to_be_visible()


def test_what_is_missing_is_said(tmp_path: Path, page: Any) -> None:
    go = threading.Event()
    drawn: list[Any] = []

    def slow(x: Any) -> Any:
        if drawn:
            go.wait(20)
        drawn.append(x)
        time.sleep(TOGETHER)  # what is drawn is shown then
        return picture(x)

    with study(tmp_path / "s.db", 1, slow, n_ranked=1) as (oracle, _, _):
        join(page, oracle.url)
        try:
            expect(page.locator(".pick")).to_have_count(1)
            press(page, "Enter")
            status(page).to_have_text("Rank at least 1 first.")
            page.locator(".pick").click()
            expect(page.locator("#submit")).to_be_disabled()
            press(page, "Enter")
            status(page).to_have_text("Wait until all candidates are drawn.")
        finally:
            go.set()
        ready(page, 1)
        press(page, "Enter")
        expect(page.locator("#waiting")).to_be_visible()
