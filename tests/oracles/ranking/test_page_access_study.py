"""WCAG 2.2 AA by axe for all that a study adds to its rounds, and for the researcher's page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oracles.ranking import HumanRanking, StudyDesign, StudyServer
from oracles.ranking.renderers.demo import drum
from oracles.ranking.study import _server
from tests.oracles.helpers import wait_for
from tests.oracles.ranking.axe import check, looks
from tests.oracles.ranking.pages import enter, expect, join, picture, practised, press, ready
from tests.oracles.ranking.people import study
from tests.oracles.ranking.test_several import Guest


def test_from_practice_to_the_end(tmp_path: Path, page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_server, "LINGER", 3.0)
    design = StudyDesign(practice=1, break_every=1, break_seconds=4, rounds_each=2)
    with study(tmp_path / "s.db", 3, picture, vote=True, rounds=3, design=design) as (oracle, _, raised):
        join(page, oracle.invite("Ann"))
        press(page, *practised(page, 1)[:2])
        looks(page, "practice")
        press(page, "Enter")
        expect(page.locator("#dialog figure")).to_have_count(4)
        looks(page, "practice's dialog")
        press(page, "Escape")
        ready(page, 1)
        press(page, "c")
        expect(page.locator("#rest")).to_be_visible()
        check(page, "break")
        expect(page.locator("#rested")).to_be_visible()
        looks(page, "break over")
        page.locator("#rested").click()
        expect(page.locator(".pick")).to_have_count(4)
        press(page, "c")
        expect(page.locator("#waiting")).to_contain_text("all your rounds")
        looks(page, "all answered")
        bo = Guest(oracle.invite("Bo"))
        for _ in ("practice", "the third round"):
            assert bo.answer([], "undecided").status == 200
        oracle.revoke(2)
        expect(page.locator(".pick")).to_have_count(2)
        looks(page, "last question")
        oracle.server.site.state = "paused"
        expect(page.locator("#waiting")).to_contain_text("paused")
        looks(page, "paused")
        oracle.server.site.state = "running"
        expect(page.locator(".pick")).to_have_count(2)
        press(page, "1", "Enter")
        expect(page.locator("#waiting")).to_contain_text("finished")
        looks(page, "finished")
    assert not raised


def test_a_result(tmp_path: Path, page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_server, "LINGER", 3.0)
    with study(tmp_path / "s.db", 1, picture, rounds=1) as (oracle, _, raised):
        enter(page, oracle.url)
        press(page, "1", "2", "Enter")
    expect(page.locator("#result img")).to_be_visible()
    looks(page, "finished with the result")
    assert not raised


def test_sounds_in_forced_colours_and_from_right_to_left(tmp_path: Path, page: Any) -> None:
    with study(tmp_path / "s.db", 1, drum, question="איזה תוף?") as (oracle, _, _):
        enter(page, oracle.url)
        press(page, "2", "t", "3")
        looks(page, "sounds")
        page.evaluate("document.documentElement.dir = 'rtl'")
        looks(page, "right to left")
        page.emulate_media(forced_colors="active")
        check(page, "forced colours")
        press(page, "c")
        page.locator("#ask-yes").click()


def test_the_researchers_page(tmp_path: Path, page: Any) -> None:
    shared = StudyServer()
    idle = HumanRanking(picture, tmp_path / "idle.db", host=shared, name="drums", title="Which drum?")
    design = StudyDesign(check_every=5)
    try:
        options: dict[str, Any] = {"host": shared, "name": "posters", "n_ranked": 1, "design": design, "raters": 3}
        with study(tmp_path / "s.db", 9, picture, **options) as (oracle, search, _):
            names = ("Ann", "A long name that goes on and on, as some do", "Bo")
            people = [Guest(oracle.invite(name)) for name in names]
            page.goto(oracle.lead())
            page.get_by_role("button").click()

            def answer() -> bool:
                for i, person in enumerate(people):
                    state = person.request("GET", "/api/round").json()
                    if state["round"] is not None and all(state["candidates"]):
                        if i == 2:  # nothing Bo says compares two candidates, which is always a doubt
                            person.answer([], "undecided")
                            continue
                        ids = sorted(candidate["id"] for candidate in state["candidates"])
                        which = np.random.default_rng([i, state["round"]]).integers(4)  # whoever is asked first
                        person.answer([[ids[which]]])
                return search.moves == 9

            wait_for(answer, 60)
            for name in ("best", "doubts", "agreed", "studies", "past"):
                expect(page.locator(f"#{name}")).to_be_visible()
            expect(page.locator("#warnings")).to_contain_text("Bo: no answer of")
            assert page.locator("#best-picture img").evaluate("e => e.complete && e.naturalWidth > 0")
            expect(page.locator("#best-text")).to_contain_text("more than that of round 1")
            expect(page.locator("#raters th")).to_contain_text(["rater", "page", "answers", "weight", "checks passed"])
            expect(page.locator("#studies li")).to_have_text(
                [
                    "drums “Which drum?”: running, 0 rounds",
                    "posters “Which is best?”: running, 9 rounds",
                ]
            )
            page.get_by_role("button", name="Make a link").click()
            expect(page.locator("#link code")).to_be_visible()
            looks(page, "the researcher's page")
            page.get_by_role("button", name="Revoke the link of Ann").click()
            check(page, "the researcher is asked")
            page.get_by_role("button", name="Cancel").click()
            with page.expect_download() as download:
                page.get_by_role("link", name="All as JSON").click()
            assert '"codebook"' in Path(download.value.path()).read_text()
    finally:
        idle.close()
        shared.close()
