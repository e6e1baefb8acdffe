"""WCAG 2.2 AA by axe, light on a large screen and dark on a phone."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from tests.requires import require

require("chromium", find_spec("axe_playwright_python"), "pip install axe-playwright-python")

STANDARD = {
    "runOnly": [f"wcag{version}{level}" for version in ("2", "21", "22") for level in ("a", "aa")],
    "resultTypes": ["violations"],  # of the rules that are kept, one example is told
}


def check(page: Any, state: str) -> None:
    """Nothing on the page breaks a rule of WCAG 2.2 AA that a program can check, and nothing is wider than the page."""
    found = import_module("axe_playwright_python.sync_playwright").Axe().run(page, options=STANDARD).response
    broken = [(rule["id"], [node["target"] for node in rule["nodes"]]) for rule in found["violations"]]
    assert not broken, (state, broken)
    assert len(found["passes"]) > 5  # the rules ran
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, state


def looks(page: Any, state: str) -> None:
    """Check in light on a large screen, and in dark on a phone."""
    size = page.viewport_size
    check(page, state)
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 360, "height": 640})
    check(page, f"{state}, dark, phone")
    page.emulate_media(color_scheme="light")
    page.set_viewport_size(size)
