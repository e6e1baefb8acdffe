"""What the page asks beside the search's rounds, and when it lets people rest, in a browser."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from oracles.ranking import Planned, StudyDesign
from oracles.ranking.study import _server
from oracles.ranking.study._export import rows_of
from tests.oracles.helpers import wait_for
from tests.oracles.ranking.pages import enter, expect, join, picture, practised, press, ready, status, tray
from tests.oracles.ranking.people import Person, size, spelled, study


def test_practice_says_what_is_right_and_outlives_a_reload_and_an_undo(tmp_path: Path, page: Any) -> None:
    with study(tmp_path / "s.db", 1, picture, design=StudyDesign(practice=2)) as (oracle, _, raised):
        join(page, oracle.url)
        best_first = practised(page, 1)
        expect(page.locator("#question")).to_have_text("Put the largest number first.")
        wrong = best_first[::-1][:2]
        press(page, *wrong)
        page.reload()
        practised(page, 1)
        assert tray(page) == [f"1st {wrong[0]}", f"2nd {wrong[1]}"]
        texts = page.locator(".face .text").all_inner_texts()
        press(page, "Enter")
        expect(page.locator("#dialog-title")).to_have_text("That was not right")
        told = page.locator("#dialog figure").all_inner_texts()
        assert [text.split() for text in told] == [
            [place, texts[int(key) - 1]] for place, key in zip(("1st", "2nd", "3rd", "4th"), best_first, strict=True)
        ]
        press(page, "Escape", "u")
        status(page).to_have_text("Undone: answer again.")
        practised(page, 1)
        assert tray(page) == [f"1st {wrong[0]}", f"2nd {wrong[1]}"]
        press(page, "y")
        status(page).to_have_text("Your answer counts again.")
        for key in practised(page, 2)[:2]:
            page.locator(".pick").nth(int(key) - 1).click()
        page.locator("#submit").click()
        expect(page.locator("#dialog-title")).to_have_text("That was right")
        ready(page, 1)  # behind the dialog, and its time does not count yet
        began = "import('./order.js').then((m) => m.order.began)"
        before = page.evaluate(began)
        page.locator("#dialog-close").click()
        expect(page.locator("#dialog")).to_be_hidden()
        assert page.evaluate(began) > before
        expect(page.locator("#question")).to_be_hidden()  # the study has none
        press(page, "c")
        expect(page.locator("#waiting")).to_be_visible()
    assert not raised
    assert [(r["purpose"], r["right"]) for r in rows_of(oracle.store)] == [
        ("practice", 0.0), ("practice", 1.0), ("search", None),
    ]  # fmt: skip


def test_practice_that_waited_in_the_browser_is_still_told(tmp_path: Path, page: Any) -> None:
    with study(tmp_path / "s.db", 1, picture, design=StudyDesign(practice=1)) as (oracle, _, _):
        join(page, oracle.url)
        keys = practised(page, 1)
        page.route("**/api/answer", lambda route: route.abort())
        press(page, *keys[:2], "Enter")
        status(page).to_contain_text("Your answer is kept here")
        page.unroute("**/api/answer")
        page.reload()
        expect(page.locator("#dialog figure")).to_have_count(4)
        expect(page.locator("#dialog-title")).to_have_text("That was right")
        press(page, "Escape")
        ready(page, 1)
        press(page, "c")


def test_whoever_skips_all_practice_begins(tmp_path: Path, page: Any) -> None:
    with study(tmp_path / "s.db", 1, picture, design=StudyDesign(practice=2)) as (oracle, _, _):
        join(page, oracle.url)
        for number in (1, 2):
            practised(page, number)
            press(page, "s")
            status(page).to_have_text("Skipped.")
        ready(page, 1)
        press(page, "s")
        status(page).to_contain_text("the same one comes again")  # it is stored
        press(page, "h")
        expect(page.locator("#dialog li")).to_have_count(3)
        told = [text.split("\n")[-3:-1] for text in page.locator("#dialog li").all_inner_texts()]
        assert told == [
            ["Round 1: skipped", "comes again later"],
            ["Practice 2: skipped", "not asked again"],
            ["Practice 1: skipped", "not asked again"],
        ]
        press(page, "Escape", "c")


class _CheckThenRepeat:
    """The second round of a rater is a check, and the third repeats the first."""

    practice, rounds_each, break_every = 1, None, None

    def turn(self, secret: str, rater: int, number: int) -> Planned:
        del secret, rater
        return {1: Planned("check"), 2: Planned("repeat", 0)}.get(number, Planned("normal"))


def test_checks_and_repeats_look_like_other_rounds_until_they_are_answered(tmp_path: Path, page: Any) -> None:
    design = StudyDesign(practice=1, check_every=5, known=[[[0.0, 0.0], [3.0, 0.0], [4.0, 0.0], [5.0, 0.0]]])
    with study(tmp_path / "s.db", 2, spelled, design=design) as (oracle, search, raised):
        oracle.study.turns.design = _CheckThenRepeat()  # type: ignore[assignment]
        join(page, oracle.url)
        expect(page.locator("#progress")).to_have_text("Practice 1 of 1")
        press(page, "c")
        expect(page.locator("#dialog-title")).to_have_text("That was not right")
        press(page, "Escape")
        for number in (1, 2, 2, 2):  # the search's first, the check, the repeat, the search's second
            ready(page, number)
            shown = page.locator(".card").first.get_attribute("data-id")
            told = page.locator("body").inner_text().lower()
            assert "check" not in told and "again" not in told.replace("counts again", "")
            press(page, "1", "2", "Enter")
            expect(page.locator(f'.card[data-id="{shown}"]')).to_have_count(0)
            if number == 1:
                wait_for(lambda: search.moves == 1)
        press(page, "h")
        names = page.locator("#dialog li b")
        expect(names).to_have_text(
            [f"{name}: your order" for name in ("Round 2", "Round 1 again", "Check 1", "Round 1")]
            + ["Practice 1: cannot tell"]
        )
        press(page, "Escape")
    assert not raised


def test_a_break_by_keys_with_an_undo_and_by_a_double_click(tmp_path: Path, page: Any) -> None:
    design = StudyDesign(break_every=1, break_seconds=1.5)
    with study(tmp_path / "s.db", 3, picture, design=design) as (oracle, search, raised):
        enter(page, oracle.url)
        press(page, "1", "2", "Enter")
        waiting, rest = expect(page.locator("#waiting")), page.locator("#rest")
        waiting.to_have_text("Time for a break.")
        expect(rest).to_have_text(re.compile(r"^You can go on in [12] s\.$"))
        assert page.locator("#grid").is_hidden() and page.locator("#rested").is_hidden()
        press(page, "u")
        ready(page, 1)  # at once: whoever withdraws an answer is back
        assert tray(page) == ["1st 1", "2nd 2"]
        press(page, "Enter")
        waiting.to_have_text("The break is over.")
        expect(rest).to_be_hidden()
        expect(page.locator("#rested")).to_be_focused()
        wait_for(lambda: search.moves == 1)
        assert page.locator("#grid").is_hidden()  # the round waits for the person
        press(page, "Enter")
        ready(page, 2)
        press(page, "c")
        waiting.to_have_text("The break is over.")
        box = page.locator("#rested").bounding_box()
        page.locator("#rested").evaluate(  # a double click whose second half falls on the round
            """(button) => {
                const clicked = (detail) => new MouseEvent('click', { bubbles: true, detail });
                new MutationObserver(() => document.querySelector('.pick')?.dispatchEvent(clicked(2))).observe(
                    document.querySelector('#grid'), { childList: true });
                button.dispatchEvent(clicked(1));
            }"""
        )
        assert box["height"] >= 24
        ready(page, 3)
        assert tray(page) == []
        press(page, "c")
    assert not raised


def test_an_undo_in_a_break_ends_it_and_does_not_begin_a_new_one(tmp_path: Path) -> None:
    design = StudyDesign(break_every=2, break_seconds=60)
    with study(tmp_path / "s.db", 2, design=design) as (oracle, search, _):
        ann, turns = Person(oracle.url), oracle.study.turns
        ann.rank(size, 2)
        ann.rank(size, 2)
        before = turns.rest(1)
        assert 55 < before <= 60 and ann.redo().json()["round"] is None
        assert ann.undo().status == 200
        assert turns.rest(1) == 0 and ann.round()["step"] == 1
        ann.rank(size, 2)
        assert 0 < turns.rest(1) < before
        wait_for(lambda: search.moves == 2)


def test_nobody_rests_after_their_last_answer(tmp_path: Path) -> None:
    design = StudyDesign(break_every=1, break_seconds=60, rounds_each=1)
    with study(tmp_path / "s.db", 2, design=design) as (oracle, _, _):
        ann, bo = Person(oracle.invite("Ann")), Person(oracle.invite("Bo"))
        ann.rank(size, 2)
        state = ann.request("GET", "/api/round").json()
        assert (state["rest"], state["enough"], state["code"]) == (0, True, oracle.store.code(1))
        bo.rank(size, 2)


def test_all_answered_then_the_last_question_then_the_end(
    tmp_path: Path, page: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_server, "LINGER", 3.0)
    design = StudyDesign(rounds_each=2, break_every=2, break_seconds=60)
    with study(tmp_path / "s.db", 3, picture, vote=True, rounds=3, design=design) as (oracle, _, raised):
        enter(page, oracle.invite("Ann"))
        bo = Person(oracle.invite("Bo"))
        press(page, "1", "2", "Enter")
        ready(page, 2)
        press(page, "2", "1", "Enter")
        code = oracle.store.code(1)
        thanks = f"Thank you. Your completion code is {code}."
        expect(page.locator("#waiting")).to_have_text(f"You have answered all your rounds. {thanks}")
        expect(page.locator("#progress")).to_have_text("")
        bo.answer([], "undecided")
        expect(page.locator("#progress")).to_have_text("Last question")
        expect(page.locator(".pick")).to_have_count(2)
        expect(page.locator("#skip")).to_be_hidden()
        press(page, "s")
        status(page).to_have_text("“Cannot tell” is an answer, too.")
        press(page, "2")
        page.reload()
        expect(page.locator(".card.placed .key")).to_have_text("2")
        press(page, "Enter")
        expect(page.locator("#waiting")).to_have_text(f"You have answered everything. {thanks}")
        press(page, "h")
        expect(page.locator("#dialog li b")).to_have_text(
            ["Last question: your order", "Round 2: your order", "Round 1: your order"]
        )
        expect(page.get_by_role("button", name="Withdraw")).to_have_count(1)  # the search is over
        press(page, "Escape", "u")
        expect(page.locator(".card.placed .key")).to_have_text("2")
        press(page, "Enter")
        expect(page.locator("#waiting")).to_have_text(f"You have answered everything. {thanks}")
        oracle.revoke(2)  # nobody waits for Bo's vote any longer
        expect(page.locator("#waiting")).to_have_text(f"The study is finished. {thanks}")
    assert not raised
    assert [(r["purpose"], r["status"]) for r in rows_of(oracle.store)][-2:] == [
        ("final", "withdrawn"), ("final", "counts"),
    ]  # fmt: skip


def test_a_vote_waits_for_nobody_who_was_shut_out_and_for_whoever_has_a_new_link(tmp_path: Path) -> None:
    with study(tmp_path / "s.db", 1, vote=True, n_ranked=1, raters=2) as (oracle, _, raised):
        ann, bo = Person(oracle.invite("Ann")), Person(oracle.invite("Bo"))
        for person in (ann, bo):
            person.rank(size, 1)
        ann.round()
        anew = Person(oracle.renew(2))  # in one step: for no moment Bo has no link
        assert ann.rank(size, 1).status == 200
        assert anew.round()["purpose"] == "final"
        oracle.revoke(2)
    assert not raised and oracle.store.state == "finished"
