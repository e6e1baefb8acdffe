"""The researcher's page: looked at and used in a browser, and attacked without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from tests.oracles.helpers import wait_for
from tests.oracles.ranking.pages import expect
from tests.oracles.ranking.people import Person, size, study


def picture(x: Any) -> Any:
    return np.full((20, 20, 3), 1 / (1 + np.exp(-x[0])))


class Researcher(Person):
    """Without a browser."""

    def enter(self) -> None:
        page = self.request("GET", "/admin/").text
        self.csrf = page.partition('name="csrf" content="')[2].partition('"')[0]

    def state(self) -> dict[str, Any]:
        return dict(self.request("GET", "/admin/state").json())


def test_links_pause_and_finish_by_the_researchers_page(tmp_path: Path, page: Any) -> None:
    with study(tmp_path / "s.db", 9, render=picture, raters=2, n_ranked=1, rounds=9) as (oracle, search, raised):
        page.goto(oracle.lead())
        page.get_by_role("button", name="Open the researcher's page").click()
        links = []
        for name in ("Ann", "Bo <b>"):
            page.get_by_label("Name of a new rater").fill(name)
            page.get_by_role("button", name="Make a link").click()
            expect(page.locator("#link")).to_contain_text("/join/")
            wait_for(lambda: page.locator("#link code").text_content() not in links)
            links.append(page.locator("#link code").text_content())
        people = [Person(url) for url in links]
        for _ in range(2):
            for person in people:
                person.answer([[person.round()["candidates"][0]["id"]]])
        wait_for(lambda: search.moves == 2)
        expect(page.locator("#tiles")).to_contain_text("2 of 9")
        expect(page.locator("#raters")).to_contain_text("Bo <b>")
        expect(page.locator("#strip li")).to_have_count(2)
        page.get_by_role("button", name="Pause").click()
        expect(page.locator("#tiles")).to_contain_text("paused")
        assert people[0].request("GET", "/api/round").json()["state"] == "paused"
        assert people[0].undo().status == 409
        page.get_by_role("button", name="Continue").click()
        expect(page.locator("#tiles")).to_contain_text("running")
        people[0].answer([[people[0].round()["candidates"][0]["id"]]])
        expect(page.locator("#asked")).to_contain_text("1 of 2 answered (Ann)")
        page.get_by_role("button", name="Revoke the link of Bo").click()
        page.get_by_role("button", name="Revoke", exact=True).last.click()
        expect(page.locator("#raters")).to_contain_text("revoked")
        assert people[1].request("GET", "/api/round").status == 403
        with page.expect_download() as download:
            page.get_by_role("link", name="Answers as CSV").click()
        text = Path(download.value.path()).read_text()
        assert text.startswith("step,round,purpose,of,rater,name,code,weight,kind") and text.count("\n") == 6
        page.get_by_role("button", name="Finish the study").click()
        page.get_by_role("button", name="Finish", exact=True).click()
        expect(page.locator("#tiles")).to_contain_text("finished")
        assert people[0].request("GET", "/api/round").json()["state"] == "finished"
    assert not raised and search.moves == 2 and oracle.store.state == "finished"


@pytest.mark.parametrize("width", [360, 1280])
def test_it_fits_a_phone_and_a_desk(tmp_path: Path, page: Any, width: int) -> None:
    with study(tmp_path / "s.db", 1, raters=1, n_ranked=1) as (oracle, _, _):
        page.set_viewport_size({"width": width, "height": 800})
        page.goto(oracle.lead())
        page.get_by_role("button").click()
        person = Person(oracle.invite("A very long name that goes on and on, yes"))
        expect(page.locator("#raters")).to_contain_text("on and on")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        person.rank(size, 1)


def test_a_rater_is_no_researcher_and_the_other_way_round(tmp_path: Path) -> None:
    with study(tmp_path / "s.db", 1, n_ranked=1) as (oracle, _, _):
        rater, researcher = Person(oracle.invite("Ann")), Researcher(oracle.lead())
        assert researcher.state()["raters"][0]["name"] == "Ann"
        for path in ("/admin/state", "/admin/answers.csv", "/admin/"):
            assert rater.request("GET", path).status == 403
        for path in ("invite", "renew", "revoke", "pause", "continue", "finish"):
            assert rater.post(f"/admin/{path}", {"rater": 1}).status == 403
            assert researcher.post(f"/admin/{path}", {"rater": 1}, X_CSRF=rater.csrf).status == 403
            assert researcher.post(f"/admin/{path}", {"rater": 1}, Origin="http://evil.example").status == 403
        assert researcher.request("GET", "/api/round").status == 403
        nonsense: tuple[Any, ...] = ([], {"rater": True}, {"rater": "1"}, {})
        for body in nonsense:
            assert researcher.post("/admin/renew", body).status == 422
        for path in ("renew", "revoke"):
            assert researcher.post(f"/admin/{path}", {"rater": 99}).status == 404
        assert researcher.post("/admin/invite", {"name": "x" * 41}).status == 422
        used = urlsplit(oracle.lead()).path
        assert researcher.request("HEAD", used).status == 200 and researcher.join(used).status == 303
        assert Person.request(rater, "GET", used).status == 403
        rater.rank(size, 1)


def test_the_program_ends_when_the_researcher_finishes(tmp_path: Path) -> None:
    with study(tmp_path / "s.db", 5, n_ranked=1) as (oracle, search, raised):
        researcher = Researcher(oracle.lead())
        assert researcher.post("/admin/finish", {}).json() == {"state": "finished"}
    assert not raised and search.moves == 0
