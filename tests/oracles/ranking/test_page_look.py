"""What the page looks like: sizes, texts that are cut, errors, sounds, directions, differences, forced colours."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oracles.ranking.renderers.demo import drum
from tests.oracles.helpers import wait_for
from tests.oracles.ranking.pages import enter, expect, join, picture, press
from tests.oracles.ranking.people import study

HEBREW = "שלום לכולם"


def imported(page: Any, module: str, body: str, given: Any = None) -> Any:
    """What a function of one of the page's modules gives."""
    return page.evaluate(f"async (given) => {{ const m = await import('./{module}'); return {body}; }}", given)


def test_ordinals_and_columns(tmp_path: Path, page: Any) -> None:
    with study(tmp_path / "s.db", 1, picture) as (oracle, _, _):
        enter(page, oracle.url)
        told = imported(page, "dom.js", "given.map(m.ordinal)", [1, 2, 3, 4, 11, 12, 13, 21, 22, 23, 101, 111, 113])
        assert told == "1st 2nd 3rd 4th 11th 12th 13th 21st 22nd 23rd 101st 111th 113th".split()

        def fit(n: int, ratio: float, width: int, height: int) -> tuple[int, bool]:
            found = imported(page, "layout.js", "m.fit(...given)", [n, ratio, width, height])
            assert found["size"] * found["columns"] <= width
            return found["columns"], found["fits"]

        assert fit(2, 1, 1248, 560) == (2, True)  # a duel, side by side
        assert fit(2, 4, 1248, 700) == (1, True)  # of panoramas, one above the other
        assert fit(6, 1, 1248, 560) == (3, True)
        assert fit(6, 0.5, 1248, 560) == (6, True)
        assert fit(8, 1, 340, 380) == (2, False)  # a phone scrolls
        assert fit(40, 1, 1248, 560)[1] is False
        press(page, "c")


SCREENS = [(360, 640), (768, 1024), (1280, 800), (640, 400), (740, 360), (320, 256)]
"""A phone, a tablet, a desktop, the desktop at 200 %, a phone on its side, a desktop at 400 %."""


def test_pictures_are_as_large_as_fit(tmp_path: Path, page: Any) -> None:
    with study(tmp_path / "s.db", 1, lambda x: np.zeros((40, 80, 3)) + 0.5) as (oracle, _, _):
        enter(page, oracle.url)
        for width, height in SCREENS:
            page.set_viewport_size({"width": width, "height": height})
            page.evaluate("scrollTo(0, 0)")
            page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
            expect(page.locator("#grid")).to_have_attribute("style", re.compile("--columns: 2"))
            expect(page.locator(".face img").first).to_have_css("aspect-ratio", "2 / 1")
            expect(page.locator("html")).to_have_js_property("scrollWidth", width)  # no wider than the screen
            boxes = [page.locator(".face img").nth(i).bounding_box() for i in range(4)]
            assert min(box["width"] for box in boxes) >= min(150, width / 2 - 36)
            dock = page.locator("#dock").bounding_box()
            if height >= 800:  # all are in sight, and fill most of the screen
                assert all(box["y"] + box["height"] < dock["y"] for box in boxes)
                room = (dock["y"] - boxes[0]["y"]) / 2 - 80
                assert boxes[0]["width"] > 0.8 * min(width / 2 - 40, 2 * room)
            elif height > 320:
                assert dock["y"] + dock["height"] == pytest.approx(height, abs=1)  # the order is in sight
                assert dock["height"] < 0.35 * height
            wider = "all => all.map(e => e.scrollWidth - e.clientWidth)"
            press(page, "2", "1")
            press(page, "3", "u")  # redo is there, too
            assert max(page.locator(".card, .row, #actions button").evaluate_all(wider)) <= 0
            press(page, "u", "u")
            page.evaluate("document.querySelector('.pick').focus({ preventScroll: true })")
            press(page, "ArrowDown")
            expect(page.locator(".pick").nth(2)).to_be_focused()
            box, dock = (page.locator(name).bounding_box() for name in (".pick:focus", "#dock"))
            assert box["y"] >= 0 and box["y"] + box["height"] <= min(
                dock["y"], height
            )  # what has the focus is in sight
        press(page, "2", "1", "Enter")
        expect(page.locator("#waiting")).to_be_visible()


def test_rare_buttons_are_in_a_menu_where_there_is_little_room(tmp_path: Path, page: Any) -> None:
    with study(tmp_path / "s.db", 1, picture) as (oracle, _, _):
        enter(page, oracle.url)
        expect(page.locator("#none")).to_be_visible()
        expect(page.locator("#more")).to_be_hidden()
        page.set_viewport_size({"width": 360, "height": 640})
        expect(page.locator("#none")).to_be_hidden()
        page.locator("#more").click()
        for name in ("undecided", "none", "skip", "compare", "history", "help"):
            box = page.locator(f"#{name}").bounding_box()
            assert box["y"] >= 0 and box["x"] >= 0 and box["x"] + box["width"] <= 360 and box["height"] >= 24
        press(page, "Escape")
        expect(page.locator("#none")).to_be_hidden()
        expect(page.locator("#more")).to_be_focused()
        page.locator("#more").click()
        page.locator("#help").click()
        expect(page.locator("#dialog-title")).to_have_text("Keys")
        press(page, "Escape")
        expect(page.locator("#none")).to_be_hidden()
        sizes = [page.locator(f"#{name}").bounding_box() for name in ("submit", "tie", "undo")]
        assert sizes[0]["x"] < sizes[1]["x"] and sizes[0]["width"] > 1.5 * sizes[1]["width"]
        page.locator("#more").click()
        page.locator("#undecided").click()
        expect(page.locator("#waiting")).to_be_visible()


def test_texts(tmp_path: Path, page: Any) -> None:
    long = "word " * 400 + "the end"

    drawn: list[Any] = []

    def text(x: Any) -> str:
        drawn.append(x)
        if len(drawn) == 1:
            raise ValueError("x" * 400)
        return f"{HEBREW} {x[0]}" if len(drawn) == 2 else f"{x[0]} {long}"

    with study(tmp_path / "s.db", 1, text, question=HEBREW) as (oracle, _, _):
        join(page, oracle.url)
        expect(page.locator(".card[data-id]")).to_have_count(4)
        for width in (1280, 360):
            page.set_viewport_size({"width": width, "height": 800})
            expect(page.locator("html")).to_have_js_property("scrollWidth", width)  # no wider than the screen
            for card in page.locator(".card").all():
                box = card.bounding_box()
                assert box["x"] >= 0 and box["x"] + box["width"] <= width  # of errors, too
            assert page.locator(".card.error .text").evaluate("e => e.scrollWidth - e.clientWidth") <= 0
        assert page.locator(".question").evaluate("e => getComputedStyle(e).direction") == "rtl"
        cut, seen = page.locator(".card.text", has_text="the end"), page.locator(".card.text", has_text=HEBREW)
        assert (cut.count(), seen.count(), page.locator(".card.error").count()) == (2, 1, 1)
        assert seen.first.locator(".text").evaluate("e => getComputedStyle(e).direction") == "rtl"
        expect(seen.first.locator(".more")).to_be_hidden()
        cut.first.locator(".more").click()
        assert page.locator("#dialog .text").inner_text().endswith("the end")
        assert page.locator("#dialog .text").evaluate("e => getComputedStyle(e).maxHeight") == "none"
        press(page, "Escape", "c")
        expect(page.locator("#waiting")).to_be_visible()


def common(a: list[str], b: list[str]) -> int:
    """The length of the longest common subsequence."""
    row = [0] * (len(b) + 1)
    for x in a:
        before, row = row, [0]
        for j, y in enumerate(b):
            row.append(before[j] + 1 if x == y else max(before[j + 1], row[j]))
    return row[-1]


def test_differences_of_texts(tmp_path: Path, page: Any) -> None:
    random.seed(5)
    pairs = [["".join(random.choices("ab c", k=random.randrange(30))) for _ in "lr"] for _ in range(200)]
    with study(tmp_path / "s.db", 1, lambda x: "same word " * 3000 + f"{x[0]:.3f}") as (oracle, _, _):
        enter(page, oracle.url)
        for (left, right), found in zip(
            pairs, imported(page, "diff.js", "given.map((p) => m.diff(...p))", pairs), strict=True
        ):
            assert ["".join(piece["text"] for piece in side) for side in found] == [left, right]
            shared = [[piece["text"] for piece in side if not piece["own"]] for side in found]
            words = [[piece["text"] for piece in side] for side in found]
            assert shared[0] == shared[1] and len(shared[0]) == common(*words)
        press(page, "d")
        expect(page.locator("#dialog del")).to_have_count(1)  # also behind six thousand words
        expect(page.locator("#dialog ins")).to_have_count(1)
        press(page, "Escape")
        apart = [" ".join(f"{side}{i}" for i in range(2500)) for side in "lr"]
        assert imported(page, "diff.js", "m.diff(...given)", apart) is None
        press(page, "c")
        expect(page.locator("#waiting")).to_be_visible()


def test_texts_that_are_all_different_say_so(tmp_path: Path, page: Any) -> None:
    with study(tmp_path / "s.db", 1, lambda x: " ".join(f"{x[0] + i:.6f}" for i in range(2500))) as (oracle, _, _):
        enter(page, oracle.url)
        press(page, "d")
        expect(page.locator("#dialog .muted")).to_have_text(
            "These texts differ too much for their differences to be marked."
        )
        expect(page.locator("#dialog .text")).to_have_count(2)
        press(page, "Escape", "c")
        expect(page.locator("#waiting")).to_be_visible()


def test_one_sound_at_a_time(tmp_path: Path, page: Any) -> None:
    with study(tmp_path / "s.db", 1, drum) as (oracle, _, _):
        enter(page, oracle.url)
        page.evaluate("document.querySelectorAll('audio').forEach((a) => { a.loop = true; })")
        playing = "[...document.querySelectorAll('audio')].map((a) => !a.paused)"
        press(page, "p")
        sounds = page.locator("#grid audio")
        expect(sounds.nth(0)).to_have_js_property("paused", False)
        press(page, "ArrowRight", "p")
        expect(sounds.nth(1)).to_have_js_property("paused", False)
        wait_for(lambda: page.evaluate(playing) == [False, True, False, False])
        press(page, "p")
        wait_for(lambda: page.evaluate(playing) == [False] * 4)
        press(page, "p")
        expect(sounds.nth(1)).to_have_js_property("paused", False)
        press(page, "z")
        page.evaluate("document.querySelector('#dialog audio').play()")
        expect(page.locator("#dialog audio")).to_have_js_property("paused", False)
        wait_for(lambda: not any(page.evaluate(playing)[:4]))
        press(page, "Escape")
        expect(page.locator("#dialog audio")).to_have_count(0)  # a closed dialog is silent
        press(page, "c")


def test_forced_colours_show_what_is_pressed(tmp_path: Path, page: Any) -> None:
    page.emulate_media(forced_colors="active")
    with study(tmp_path / "s.db", 1, picture) as (oracle, _, _):
        enter(page, oracle.url)
        press(page, "1", "t")
        colour = "e => getComputedStyle(e).backgroundColor"
        pressed, plain = (page.locator(f"#{name}").evaluate(colour) for name in ("tie", "undo"))
        assert pressed != plain
        border = "e => getComputedStyle(e).border"
        assert page.locator(".card").nth(0).evaluate(border) != page.locator(".card").nth(1).evaluate(border)
        press(page, "c")
        page.locator("#ask-yes").click()
