"""What is installed, and that the README's commands need nothing that they do not install themselves."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
FRESH = "python3 -m venv .venv && . .venv/bin/activate && pip install "


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def blocks() -> list[str]:
    return re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)


def test_the_wheel_holds_the_two_packages_alone() -> None:
    targets = project()["tool"]["hatch"]["build"]["targets"]
    assert targets["wheel"]["packages"] == ["blackbox_zo", "oracles"]
    assert "tests" in targets["sdist"]["include"]


def test_the_packages_do_not_import_the_tests() -> None:
    for package in ("blackbox_zo", "oracles"):
        for path in (ROOT / package).rglob("*.py"):
            assert not re.search(r"^\s*(from|import) tests\b", path.read_text("utf-8"), re.MULTILINE), path


def test_the_first_two_commands_set_themselves_up() -> None:
    first, second = blocks()[:2]
    assert first.startswith(f"{FRESH}-e '.[demo]' && blackbox-zo minimize ")
    assert second.startswith(f"{FRESH}-c constraints.txt -e '.[test]' && python -m pytest")


@pytest.mark.parametrize("block", blocks()[2:], ids=lambda block: block.split("\n")[1][:30])
def test_each_later_command_names_its_extra(block: str) -> None:
    named = re.findall(r"^pip install .*'\.\[(\w+)\]'$", block, re.MULTILINE)
    assert len(named) == 1 and named[0] in project()["project"]["optional-dependencies"]
