"""What the tests of the page do in a browser."""

from __future__ import annotations

import shutil
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from tests.requires import require

CHROMIUM = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)
require("chromium", find_spec("playwright"), "pip install playwright")
require("chromium", CHROMIUM, "apt install chromium")
expect = import_module("playwright.sync_api").expect
expect.set_options(timeout=20_000)  # on a busy disk a transaction alone may take seconds


def picture(x: Any) -> Any:
    """A candidate as a square of one colour."""
    out = np.zeros((60, 60, 3))
    out[:] = 1 / (1 + np.exp(-np.array([x[0], x[1], 0.0])))
    return out


def join(page: Any, url: str) -> None:
    """Open a link and press its button."""
    page.goto(url)
    page.get_by_role("button", name="Begin").click()
    page.wait_for_url(lambda found: "/join/" not in found)


def ready(page: Any, number: int, candidates: int = 4) -> None:
    """Wait until a round is shown and drawn."""
    expect(page.locator("#progress")).to_contain_text(f"Round {number}")
    expect(page.locator(".card .pick")).to_have_count(candidates)


def enter(page: Any, url: str, candidates: int = 4) -> None:
    """Join, and wait for the first round."""
    join(page, url)
    ready(page, 1, candidates)


def practised(page: Any, number: int) -> list[str]:
    """Wait until a practice round of numbers is shown; the keys of its candidates, the largest first."""
    expect(page.locator("#progress")).to_contain_text(f"Practice {number} of")
    expect(page.locator(".face .text")).to_have_count(4)
    shown = page.locator(".face .text").all_inner_texts()
    return [str(i + 1) for i in sorted(range(len(shown)), key=lambda i: -int(shown[i]))]


def press(page: Any, *keys: str) -> None:
    """Press keys one after another."""
    for key in keys:
        page.keyboard.press(key)


def tray(page: Any) -> list[str]:
    """The places of the order, such as "1st 3" or "= 1st 3 2"."""
    parts = "li => [li.querySelector('b'), ...li.querySelectorAll('.chip-face')].map(e => e.textContent.trim())"
    places = page.locator("#tray li").evaluate_all(f"all => all.map({parts})")
    return [" ".join(place) for place in places]


def status(page: Any) -> Any:
    """What is expected of the line of status."""
    return expect(page.locator("#status"))
