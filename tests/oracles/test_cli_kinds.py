"""Verbs that know every kind: `resume`, `report` of several runs, `export`, and what they refuse."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import blackbox_zo as bz
from oracles.cli.kinds import KINDS
from oracles.cli.main import main
from tests.journals import measures, read
from tests.oracles.helpers import ROOT

sys.path.insert(0, str(ROOT / "tutorials"))
GolfKind: Any = importlib.import_module("golf.kind").GolfKind  # of tutorial 17

GOLF = (GolfKind(), *KINDS)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def golf(*words: str) -> int:
    return main(words, GOLF)


def test_a_new_kind_resumes_to_the_bits_of_an_unbroken_run_its_measures_too(here: Path) -> None:
    assert golf("golf", "--steps", "11", "--journal", "whole.jsonl", "--quiet") == 0
    assert golf("golf", "--steps", "11", "--journal", "part.jsonl", "--quiet") == 0
    lines = (here / "part.jsonl").read_text().splitlines(keepends=True)
    for kept in (2, 30, len(lines) // 2 + 3):  # in the middle of a step too
        (here / "part.jsonl").write_text("".join(lines[:kept]) + '{"step": 7, "at')
        assert golf("resume", "part.jsonl", "--quiet") == 0
        assert read("part.jsonl")[1] == read("whole.jsonl")[1]
        untimed = [[{**m, "seconds": 0} for m in measures(path)] for path in ("part.jsonl", "whole.jsonl")]
        assert untimed[0] == untimed[1] and [m["step"] for m in untimed[0]] == [0, 5, 10, 11]


def test_resume_says_what_it_is_about_to_run_and_where(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert golf("golf", "--steps", "2", "--journal", "a.jsonl", "--quiet") == 0
    capsys.readouterr()
    assert golf("resume", "a.jsonl", "--steps", "3") == 0
    said = capsys.readouterr().err.splitlines()[0]
    assert said.startswith(f"in folder {here}: blackbox-zo golf --steps 2") and "--steps 3" in said
    assert golf("resume", "a.jsonl", "--wind", "2") == 2
    assert "its --wind is 1.5, here it is 2.0" in capsys.readouterr().err


def test_runs_of_one_kind_are_compared_in_one_chart(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (1, 2, 3):
        journal = f"{seed}.jsonl"
        bz.minimize(lambda x: float(x @ x), np.ones(2), budget=30, seed=seed, journal=journal)
    assert main(["report", "1.jsonl", "2.jsonl", "3.jsonl", "-o", "all.html"]) == 0
    text = (here / "all.html").read_text()
    assert all(f"{i}. {i}.jsonl" in text for i in (1, 2, 3)) and "Best so far" in text and "3. 3.jsonl: seed" in text
    assert main(["report", "1.jsonl", "2.jsonl", "-o", "all.png"]) == 0
    assert (here / "all.png").read_bytes().startswith(b"\x89PNG")
    assert golf("golf", "--steps", "1", "--journal", "golf.jsonl", "--quiet") == 0
    capsys.readouterr()
    assert golf("report", "golf.jsonl", "1.jsonl", "-o", "both.html") == 2
    assert "is a run of golf, '1.jsonl' one of a Python function; only runs of one kind" in capsys.readouterr().err
    assert not (here / "both.html").exists()


@pytest.mark.parametrize("verb", [["watch"], ["report"], ["resume"], ["export", "-o", "x"]], ids=str)
def test_a_kind_that_is_not_known_is_refused_by_name(
    verb: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bz.Search(np.ones(2), bz.RandomVector(0.1), journal=bz.Journal("a.jsonl", {"kind": "brewing"})).close()
    assert main([verb[0], "a.jsonl", *verb[1:]]) == 2
    said = capsys.readouterr().err
    assert "holds a run of unknown kind 'brewing'; known kinds: minimize" in said


def test_what_a_journal_names_is_not_imported(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`report` and `watch` read a journal from elsewhere as data."""
    (here / "evil.py").write_text("open('pwned', 'w').write('')")
    sys.path.insert(0, str(here))
    try:
        header = {"journal": "blackbox_zo", "format": 2, "library": bz.__version__, "seed": 0, "dimension": 2}
        header |= {"estimator": {"name": "evil"}, "rule": {"name": "os.system"}, "start": "0", "max_staleness": 8}
        header |= {"variable": {"x0": [0.0, 0.0], "lower": None, "upper": None, "unit": None}}
        for problem in ({"run": "touch pwned", "parameters": {}, "read": "last", "maximize": False}, None):
            told: dict[str, Any] = header if problem is None else {**header, "problem": problem}
            told = {**told, "settings": {"arguments": ["--run", "touch pwned"], "cwd": str(here)}}
            (here / "a.jsonl").write_text(
                json.dumps(told) + "\n" + json.dumps({"step": 0, "id": 0, "values": [1.0, 2.0]}) + "\n"
            )
            for verb in (["report", "a.jsonl"], ["report", "a.jsonl", "-o", "a.png"], ["watch", "a.jsonl"]):
                assert main(verb) in (0, 2)
        assert not (here / "pwned").exists()
    finally:
        sys.path.remove(str(here))


def test_export_of_a_function_and_of_a_program(here: Path) -> None:
    r = bz.minimize(lambda x: float(x @ x), np.ones(2), budget=30, journal="f.jsonl")
    assert main(["export", "f.jsonl", "-o", "f.json"]) == 0
    assert json.loads((here / "f.json").read_text()) == {"x": r.x.tolist(), "value": r.fun}
    run = ["minimize", "--run", "{python} -c print({x})", "--param", "x=0:1", "--budget", "9", "--journal", "p.jsonl"]
    assert main([*run, "--quiet"]) == 0 and main(["export", "p.jsonl", "-o", "p.json"]) == 0
    found = json.loads((here / "p.json").read_text())
    assert found["value"] == found["params"]["x"] == min(r["value"] for r in read("p.jsonl")[1])


def test_a_run_that_another_kind_records_is_not_a_function(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert golf("golf", "--steps", "1", "--journal", "golf.jsonl", "--quiet") == 0
    assert main(["report", "golf.jsonl"]) == 2  # by a program that does not know golf
    assert "unknown kind 'golf'" in capsys.readouterr().err


def test_the_help_loads_nothing_heavy() -> None:
    import subprocess

    code = (
        "import sys\nfrom oracles.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'gymnasium', 'transformers', 'starlette', 'matplotlib') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert out.splitlines()[-1] == "[]"
