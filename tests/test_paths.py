"""`~` in front of a path is the home folder, wherever a path may be given: no shell expands `--journal=~/run.jsonl`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import blackbox_zo as bz
from blackbox_zo.errors import JournalError
from blackbox_zo.trackers import TensorBoard
from oracles import CommandOracle, rl
from oracles._files import appearing_folder, write
from oracles.cli.main import main
from oracles.llm._rows import read_rows
from oracles.ranking.study._consent import consent_of
from oracles.ranking.study._known import known_of


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder, and another folder to be in, in which nothing may be made."""
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    return home


@pytest.fixture(autouse=True)
def nothing_here(home: Path) -> Any:
    yield
    assert not list((home.parent / "here").iterdir())


def bowl(x: Any) -> float:
    return float(x @ x)


def test_journals_are_written_and_read(home: Path) -> None:
    bz.minimize(bowl, np.ones(2), budget=10, journal="~/run.jsonl")
    assert (home / "run.jsonl").is_file()
    assert sum(len(answers.ids) for answers in bz.read_journal("~/run.jsonl").answers()) == 10
    with bz.Search(np.ones(2), bz.RandomVector(0.1), journal=Path("~", "other.jsonl")):
        assert (home / "other.jsonl").is_file()


def test_a_name_that_only_looks_like_a_home_is_one(home: Path) -> None:
    with pytest.raises(FileNotFoundError, match="~nobody-of-this-name/run"):
        bz.read_journal("~nobody-of-this-name/run.jsonl")
    with pytest.raises(JournalError, match="is empty"):
        (home / "~").touch()
        bz.read_journal(home / "~")


def test_files_and_folders_are_written_there_and_read(home: Path) -> None:
    write("~/text", "yes")
    assert (home / "text").read_text() == "yes"
    with appearing_folder("~/folder") as partial:
        (partial / "a").touch()
    assert (home / "folder" / "a").exists()
    write("~/rows.jsonl", '{"text": "a"}\n')
    assert read_rows("~/rows.jsonl") == [{"text": "a"}]
    write("~/consent.md", "Please.")
    assert "Please." in consent_of("~/consent.md")
    write("~/known.json", "[[1, 2]]")
    assert known_of("~/known.json") == [[1, 2]]
    with pytest.raises(rl.EnvError, match="is not a file of a trained policy"):
        rl.load("~/text")


def test_a_board_of_tensorboard_is_there(home: Path) -> None:
    bz.minimize(bowl, np.ones(2), budget=10, progress=TensorBoard("~/board"))
    assert list((home / "board").iterdir())


def test_programs_their_folder_and_their_files_are_found(home: Path) -> None:
    (home / "say.py").write_text("import sys; print(sys.argv[1:]); open('said', 'w').write(sys.argv[1])")
    (home / "run").symlink_to("/bin/sh")
    oracle = CommandOracle("{python} ~/say.py {x} --log=~/a '~ b'", ["x=1:2:int"], cwd="~", read="file:~/said")
    assert oracle.command(oracle.x0)[1:] == [str(home / "say.py"), "2", "--log=~/a", "~ b"]
    assert bz.minimize(oracle, oracle.x0, bounds=oracle.bounds, budget=3).nfailed == 0
    assert CommandOracle("~/run -c 'echo {x}'", ["x=1:2"]).command([0.5])[0] == str(home / "run")


def test_the_command_line(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ["minimize", "--run", "{python} -c 'print({x})'", "--param", "x=0:1", "--budget", "3", "--quiet"]
    assert main([*run, "--journal=~/run.jsonl", "--report=~/run.html"]) == 0
    assert main(["resume", "~/run.jsonl", "--budget", "4"]) == 0
    assert main(["watch", "~/run.jsonl"]) == 0
    assert main(["report", "~/run.jsonl", "-o", "~/again.html"]) == 0
    assert main(["export", "~/run.jsonl", "-o", "~/best.json"]) == 0
    assert set(json.loads((home / "best.json").read_text())) == {"params", "value"}
    assert {"run.jsonl", "run.html", "again.html", "best.json"} <= {path.name for path in home.iterdir()}


def test_the_store_of_a_study(home: Path) -> None:
    from oracles.ranking.study._store import Store

    Store("~/study.db").close()
    assert (home / "study.db").is_file()
    assert main(["answers", "~/study.db", "-o", "~/answers.csv"]) == 0
    assert (home / "answers.csv").is_file()
