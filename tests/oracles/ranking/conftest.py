"""Persons without a browser do not ask whether the study is over; browsers; and a study in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from oracles.ranking.study import _server
from tests.oracles.ranking.people import Start


@pytest.fixture(autouse=True)
def _no_lingering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_server, "LINGER", 0.0)


_PROGRAM = """
import sys
import blackbox_zo as bz
from oracles.ranking import HumanRanking
from tests.oracles.ranking.people import spelled

oracle = HumanRanking(spelled, sys.argv[1], n_ranked=2)
search = bz.Search([1.0, -2.0], bz.RankBased(0.5, 4, 2), bz.SGD(0.3), seed=3)
print(oracle.url, flush=True)
for _ in search.run(oracle, 8):
    pass
print(search.x.tolist(), flush=True)
"""


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts the program on a store and gives its process and address; whatever still runs after the test is ended."""
    with ExitStack() as ends:

        def program(store: Path) -> tuple[subprocess.Popen[str], str]:
            process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, str(store)],
                stdout=subprocess.PIPE,
                text=True,
                cwd=Path(__file__).parents[3],
            )
            ends.enter_context(process)  # closes its output and waits
            ends.callback(process.kill)
            assert process.stdout is not None
            return process, process.stdout.readline().strip()

        yield program


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium."""
    from tests.oracles.ranking.pages import CHROMIUM  # skips where there is none

    with import_module("playwright.sync_api").sync_playwright() as p:
        found = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page in it, in which no script may fail and nothing may be blocked."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    out = context.new_page()
    problems: list[str] = []
    out.on("pageerror", lambda e: problems.append(str(e)))
    out.on("console", lambda m: problems.append(m.text) if "Content Security" in m.text else None)
    yield out
    context.close()
    assert not problems
