"""`blackbox-zo rank` and `answers`, as processes."""

from __future__ import annotations

import csv
import json
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.oracles.ranking.people import Person, size

RENDER = """
def draw(x):
    return " ".join(map(str, x))
draw.x0 = [1.0, 2.0]
def bare(x):
    return "same"
"""


PICTURES = """
import numpy as np
def draw(x):
    return np.full((20, 20, 3), 1 / (1 + np.exp(-x[0])))
draw.x0 = [1.0, 2.0]
"""


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "oracles.cli.main", *words]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(RENDER)
    return tmp_path


@pytest.mark.parametrize("method", ["auto", "evolution"])
def test_a_study_is_interrupted_goes_on_and_is_exported(folder: Path, method: str) -> None:
    words = command("rank", "--render", "mine:draw", "--candidates", "4", "--ranked", "2", "--rounds", "3")
    words += ["--method", method]
    for answers in (1, 2):
        process = subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        person = Person(process.stdout.readline().split()[-1])
        for _ in range(answers):
            assert person.rank(size, 2).status == 200
        if answers == 1:
            person.round()
            process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=30)[0]
        assert process.returncode == (130 if answers == 1 else 0), rest
    assert rest.splitlines()[-1].startswith("x = [")
    run = subprocess.run(command("answers", "study.db", "-o", "a.csv"), cwd=folder, text=True, capture_output=True)
    assert run.stdout == "3 answers in a.csv\n"
    rows = list(csv.DictReader((folder / "a.csv").read_text().splitlines()))
    assert [row["step"] for row in rows] == ["0", "1", "2"] and {(row["rater"], row["name"]) for row in rows} == {
        ("1", "you")
    }
    subprocess.run(command("answers", "study.db", "-o", "a.json"), cwd=folder, check=True, capture_output=True)
    exported = json.loads((folder / "a.json").read_text())["answers"]
    assert len(exported[0]["points"]) == 4 and len(exported[0]["order"]) == 2
    printed = subprocess.run(command("answers", "study.db"), cwd=folder, text=True, capture_output=True).stdout
    assert printed == (folder / "a.csv").read_text()


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--render", "mine"], "module:function"),
        (["--render", "mine:nothing"], "it has draw, bare"),
        (["--render", "none_such:draw"], "importing 'none_such' failed"),
        (["--render", "mine:bare"], "--x0 is needed"),
        (["--render", "mine:draw", "--x0", "[1,"], "not JSON"),
        (["--render", "mine:draw", "--x0", '"word"'], "--x0: "),
        (["--render", "mine:draw", "--x0", "[]"], "--x0: "),
        (["--render", "mine:draw", "--x0", "no.npy"], "no.npy"),
        (["--render", "mine:draw", "--candidates", "1"], "at least 2"),
        (["--render", "mine:draw", "--ranked", "9"], "more than --candidates"),
        (["--render", "mine:draw", "--store", "mine.py"], "cannot be used"),
        (["--render", "mine:draw", "--store", "nosuch://x"], "is not a usable database"),
    ],
)
def test_bad_input_is_told_in_a_sentence(folder: Path, words: list[str], what: str) -> None:
    run = subprocess.run(command("rank", *words), cwd=folder, text=True, capture_output=True, timeout=60)
    assert run.returncode == 2 and what in run.stderr and "Traceback" not in run.stderr, run.stderr


def test_a_port_in_use_is_told(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        run = subprocess.run(
            command("rank", "--render", "mine:draw", "--port", port), cwd=folder, text=True, capture_output=True
        )
    assert run.returncode == 2 and f"Port {port}" in run.stderr


def test_answers_of_no_study(folder: Path) -> None:
    for words, what in ((["no.db"], "does not exist"), (["mine.py"], "cannot be used")):
        run = subprocess.run(command("answers", *words), cwd=folder, text=True, capture_output=True)
        assert run.returncode == 2 and what in run.stderr


def test_a_study_is_watched_reported_exported_and_resumed(folder: Path) -> None:
    (folder / "mine.py").write_text(PICTURES)
    words = [
        "rank",
        "--render",
        "mine:draw",
        "--candidates",
        "4",
        "--ranked",
        "1",
        "--rounds",
        "3",
        "--raters",
        "2",
        "--check-every",
        "0",
    ]
    resumed = ["resume", "study.db", "--rounds", "4"]
    for begin, answers, code in ((words, 2, 130), (resumed, 2, 0)):
        pipe = subprocess.PIPE
        process = subprocess.Popen(command(*begin), cwd=folder, text=True, stdout=pipe, stderr=pipe)
        assert process.stdout is not None
        people = [Person(process.stdout.readline().split()[-1]) for _ in range(2)]
        if code:
            for person, name in zip(people, ("Ann", "Bo"), strict=True):
                person.post("/api/name", {"name": name})
        for _ in range(answers):
            for person in people:
                assert person.answer([[person.round()["candidates"][0]["id"]]]).status == 200
        if code:
            people[0].round()
            process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        assert process.returncode == code, err
        assert code or ("round 4 of 4 is answered" in out and "--rounds 4 --store" in err)
    run = subprocess.run(command("watch", "study.db"), cwd=folder, text=True, capture_output=True, timeout=30)
    assert re.search(r"round 1 of 4: Ann in \d+ ms, Bo in \d+ ms\n", run.stdout) and "The run has ended." in run.stdout
    for name in ("study.html", "study.png"):
        run = subprocess.run(command("report", "study.db", "-o", name), cwd=folder, text=True, capture_output=True)
        assert run.returncode == 0 and "rounds 4, answers that count 8" in run.stdout, run.stderr
    page = (folder / "study.html").read_text()
    for said in (
        "How liking grew",
        "Best of the rounds",
        "data:image/png",
        "of comparisons agreed",
        ">Ann<",
        "finished",
        "PreferenceGP(",
    ):
        assert said in page, said
    run = subprocess.run(command("export", "study.db", "-o", "x.json"), cwd=folder, text=True, capture_output=True)
    assert run.stdout == "x.json: x after 4 rounds\n" and len(json.loads((folder / "x.json").read_text())) == 2


def test_a_database_of_something_else_is_left_as_it_is(folder: Path) -> None:
    with sqlite3.connect(folder / "other.db") as other:
        other.execute("CREATE TABLE mine (x)")
    for verb in ("report", "watch", "export", "answers", "resume"):
        words = [verb, "other.db", *(["-o", "x.json"] if verb == "export" else [])]
        run = subprocess.run(command(*words), cwd=folder, text=True, capture_output=True)
        assert run.returncode == 2 and "is not the store of a study" in run.stderr and "Traceback" not in run.stderr
    with sqlite3.connect(folder / "other.db") as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("mine",)]
