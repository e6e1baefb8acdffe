"""What a machine must have is not skipped in silence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.requires import require

ROOT = Path(__file__).parent.parent


def test_what_is_there_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLACKBOX_ZO_REQUIRE", "chromium")
    require("chromium", "/usr/bin/chromium", "apt install chromium")


def test_what_is_missing_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLACKBOX_ZO_REQUIRE", "postgresql")
    with pytest.raises(pytest.skip.Exception, match="needs chromium: apt install chromium"):
        require("chromium", None, "apt install chromium")


def test_what_is_required_and_missing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLACKBOX_ZO_REQUIRE", "chromium, postgresql")
    with pytest.raises((pytest.fail.Exception, pytest.skip.Exception), match="names postgresql, and it is m") as caught:
        require("postgresql", False, "apt install postgresql")
    assert caught.type is pytest.fail.Exception


def test_a_misspelt_name_requires_nothing_so_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLACKBOX_ZO_REQUIRE", "chrome")
    with pytest.raises(pytest.UsageError, match="chrome"):
        require("chromium", None, "apt install chromium")
    with pytest.raises(ValueError, match="chrome"):
        require("chrome", None, "apt install chromium")


HIDE = """
import pathlib, sys
import pytest
from oracles.ranking.renderers import fashion
glob = pathlib.Path.glob
debian = pathlib.Path("/usr/lib/postgresql")
pathlib.Path.glob = lambda self, *a, **k: iter(()) if self == debian else glob(self, *a, **k)
fashion.DATA = pathlib.Path("/nowhere")
raise SystemExit(pytest.main(["-q", "-p", "no:cacheprovider", sys.argv[1]]))
"""


@pytest.mark.parametrize(
    ("name", "tests"),
    [
        ("chromium", "tests/oracles/ranking/test_page.py"),
        ("postgresql", "tests/oracles/ranking/test_postgres.py"),
        ("fashion-mnist", "tests/oracles/ranking/test_fashion.py::test_the_real_data"),
        ("jq", "tests/test_docs.py::test_code_on_pages[journal]"),
    ],
)
def test_the_tests_that_need_it_ask_for_it(name: str, tests: str, tmp_path: Path) -> None:
    """Each is run as on a machine that has none of them: it fails, and says why."""
    environment = {**os.environ, "PATH": str(tmp_path), "BLACKBOX_ZO_REQUIRE": name}
    done = subprocess.run(
        [sys.executable, "-c", HIDE, tests],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )
    failed = (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED)
    assert done.returncode in failed and f"names {name}, and it is missing" in done.stdout, done.stdout + done.stderr
