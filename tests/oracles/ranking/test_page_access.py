"""The page for everyone: WCAG 2.2 AA by axe in every state, light on a large screen and dark on a phone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.oracles.ranking.axe import check, looks
from tests.oracles.ranking.pages import enter, expect, join, picture, press, ready
from tests.oracles.ranking.people import Person, study


def test_every_state_of_a_round(tmp_path: Path, page: Any) -> None:
    with study(tmp_path / "s.db", 2, picture, rounds=2, question="Which would you hang?") as (oracle, _, _):
        page.goto(oracle.url)
        check(page, "door")
        enter(page, oracle.url)
        looks(page, "empty")
        press(page, "1", "3", "t")
        page.locator(".chip-face").first.click()
        looks(page, "half made")
        for keys, state in (("z", "zoom"), ("d", "compare"), ("?", "keys"), ("n", "question")):
            press(page, keys)
            check(page, state)
            press(page, "Escape")
        page.locator("#submit").click()
        ready(page, 2)
        press(page, "h")
        expect(page.locator("#dialog li")).to_have_count(1)
        looks(page, "answers")
        page.get_by_label("Look at round 1").click()
        expect(page.locator("figure")).to_have_count(4)
        check(page, "an answer")
        press(page, "Escape", "c")
        expect(page.locator("#waiting")).to_be_visible()
        looks(page, "finished or waiting")


def broken(x: Any) -> str:
    if x[0] > 1:
        raise ValueError("x" * 300)
    return f"{x[0]}"


def long(x: Any) -> str:
    return f"{x[0]} " + "A text of many words. " * 200


RENDERERS: dict[str, Callable[[Any], Any]] = {
    "text": long,
    "html": lambda x: f"<!doctype html><html lang=en><title>t</title><p>{x[0]}</p>",
    "error": broken,
}


@pytest.mark.parametrize("kind", RENDERERS)
def test_every_kind(tmp_path: Path, page: Any, kind: str) -> None:
    with study(tmp_path / "s.db", 1, RENDERERS[kind]) as (oracle, _, _):
        join(page, oracle.url)
        expect(page.locator(".card[data-id]")).to_have_count(4)
        looks(page, kind)
        press(page, "c")


def test_names_and_notices(tmp_path: Path, page: Any) -> None:
    with study(tmp_path / "s.db", 2, raters=2) as (oracle, _, _):
        join(page, oracle.url)
        expect(page.locator("#name")).to_be_focused()
        looks(page, "name")
        page.locator("#name").fill("Ann")
        press(page, "Enter")
        other = Person(oracle.url, "Bob")
        for number in (1, 2):
            ready(page, number)
            press(page, "1", "2", "Enter")
            if number == 1:
                assert other.rank(len, 2).status == 200
        expect(page.locator("#waiting")).to_be_visible()
        assert other.undo(sure=True).status == 200
        expect(page.locator(".notice")).to_be_visible()
        looks(page, "notice")
        assert other.rank(len, 2).status == 200
        ready(page, 2)
        press(page, "c")
        assert other.rank(len, 2).status == 200
