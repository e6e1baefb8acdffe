"""`blackbox-zo watch` on journals that grow, have ended, are torn, or are none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

import blackbox_zo as bz
from blackbox_zo.errors import JournalError
from blackbox_zo.journal import Answers, _reader
from blackbox_zo.journal.lines import parse_line
from oracles.cli.main import main
from oracles.cli.watch import written_to
from tests.oracles.helpers import arguments, cli, environment, lines, wait_for

PROBLEM = {"kind": "train-policy", "env": "Some-v0", "versions": {}, "policy": "LinearPolicy", "episodes": 2}
HEADER: dict[str, Any] = {"journal": "blackbox_zo", "format": 2, "problem": PROBLEM, "settings": {"steps": 3}}


def watch(path: Path, last: int) -> int:
    return main(["watch", str(path), "--last", str(last)])


def evaluation(step: int, value: float, **more: Any) -> str:
    entry = {"measure": "return", "step": step, "values": {"return": value, "steps": 20 * step, **more}}
    return json.dumps(entry) + "\n"


def record(step: int, query: int, value: float | None, **more: Any) -> str:
    info = {"steps": 10, **({} if value is None else {"return": value}), **more}
    answer = None if value is None else -value
    return json.dumps({"step": step, "at": step, "id": query, "value": answer, "info": info}) + "\n"


def training(path: Path) -> Path:
    """Three steps of two candidates, of which one failed."""
    with path.open("w") as file:
        file.write(json.dumps(HEADER) + "\n" + evaluation(0, 1.5))
        file.writelines(record(i // 2, i, None if i == 3 else float(i)) for i in range(4))
        file.write(evaluation(2, 2.5))
        file.writelines(record(2, i, float(i)) for i in (4, 5))
    return path


def test_a_training_that_has_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert watch(training(tmp_path / "run.jsonl"), 10) == 0
    assert capsys.readouterr().out.splitlines() == [
        "step 0: evaluated 1.5",
        "step 1/3: return 0.5, best 1, 4 episodes, 20 steps",
        "step 2/3: return 2, best 2, 8 episodes, 40 steps, 1 failed",
        "step 2: evaluated 2.5",
        "step 3/3: return 4.5, best 5, 12 episodes, 60 steps, 1 failed",
        "The run has ended.",
    ]


def test_only_the_last_lines_of_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert watch(training(tmp_path / "run.jsonl"), 2) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()[:-1]] == [
        "step 2/3",
        "step 2",
        "step 3/3",
    ]


def test_rankings_of_a_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.jsonl"
    infos = [{"steps": 5, "return": 1.0}, {"steps": 7, "return": 2.0}, {"steps": 2}]
    entry = {"step": 0, "at": 0, "ids": [0, 1, 2], "levels": [1, 0, -1], "info": infos}
    path.write_text(json.dumps(HEADER) + "\n" + json.dumps(entry) + "\n")
    assert watch(path, 10) == 0
    first, last = capsys.readouterr().out.splitlines()
    assert first == "step 1/3: return 1.5, best 2, 6 episodes, 14 steps, 1 failed"
    assert last.startswith("No process is writing to this journal")


@pytest.mark.parametrize("maximize", [False, True])
def test_a_journal_of_minimize(maximize: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.jsonl"
    problem = {"kind": "minimize", "run": "it", "parameters": {}, "read": "last", "maximize": maximize}
    header = {"journal": "blackbox_zo", "format": 2, "problem": problem, "settings": {"budget": 5}}
    rows = [
        {"step": 0, "at": 0, "id": 0, "value": 3.0},
        {"step": 0, "at": 0, "id": 1, "value": None, "info": {"error": "exit code 1"}},
        {"step": 1, "id": 2, "values": [-2.0, 4.5, 1.0]},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in [header, *rows]))
    assert watch(path, 10) == 0
    want = ["query 0: 3, best 3", "query 1: failed: exit code 1", "query 2: -2, best -2"]
    want += ["query 3: 4.5, best -2", "query 4: 1, best -2"]
    if maximize:
        want = ["query 0: -3, best -3", "query 1: failed: exit code 1", "query 2: 2, best 2"]
        want += ["query 3: -4.5, best 2", "query 4: -1, best 2"]
    assert capsys.readouterr().out.splitlines() == [*want, "The run has ended."]


def test_a_growing_file_is_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    head, row = json.dumps(HEADER) + "\n", record(0, 0, 1.0)
    path.write_text(head + row[:9])  # torn
    lines_ = bz.read_journal(path).follow(0.0)
    assert next(lines_) is None
    path.write_text(head)  # whoever resumes the run drops the torn line
    assert next(lines_) is None
    path.write_text(head + row + record(0, 1, 2.0))
    found = [next(lines_), next(lines_), next(lines_)]
    assert [line.ids for line in found if isinstance(line, Answers)] == [[0], [1]] and found[2] is None
    path.write_text(head)
    with pytest.raises(JournalError, match="was shortened"):
        next(lines_)


def test_who_writes(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text("x")
    if written_to(str(path)) is None:
        pytest.skip("this system does not tell who writes to a file")
    with path.open():  # a reader counts for nothing
        assert written_to(str(path)) is False
    with path.open("a"):
        assert written_to(str(path)) is True
    assert written_to(str(path)) is False


def test_a_run_that_goes_on_is_followed_to_its_end(tmp_path: Path) -> None:
    """And the run's lock is not touched: it begins, and goes on, while somebody watches."""
    given = [
        "train-policy",
        "--env",
        "CartPole-v1",
        "--preset",
        "openai-es",
        "--workers",
        "0",
        "--journal",
        "run.jsonl",
    ]
    started: Any = {"cwd": tmp_path, "env": environment(), "text": True}
    run: Any = subprocess.Popen(arguments(*given, "--steps", "20", "--every", "10", "--quiet"), **started)
    wait_for(lambda: len(lines(tmp_path / "run.jsonl")) > 1)
    watched: Any = subprocess.Popen(arguments("watch", "run.jsonl", "--last", "0"), stdout=subprocess.PIPE, **started)
    out, _ = watched.communicate(timeout=60)
    assert run.wait(10) == 0 and watched.returncode == 0
    told = out.splitlines()
    assert told[-1] == "The run has ended."
    assert [line.split(":")[0] for line in told[-3:-1]] == ["step 20/20", "step 20"]
    assert "steps/s" in told[-3] and "800 episodes" in told[-3]


def test_ctrl_c_ends_it_and_not_the_run(tmp_path: Path) -> None:
    path = training(tmp_path / "run.jsonl")
    with path.open("a"):  # somebody writes
        process = subprocess.Popen(
            arguments("watch", path), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline().startswith("step 0: evaluated")
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 0 and err == "" and "Nobody" not in out and "ended" not in out


def test_a_minimize_that_was_killed(tmp_path: Path) -> None:
    bz.minimize(lambda x: float(x @ x), [1.0, 2.0], budget=10, journal=tmp_path / "run.jsonl")
    done = cli("watch", "run.jsonl", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.splitlines()[-2].startswith("query 9: ")


def test_each_line_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many evaluations there are, so that twice the run takes twice the time, and not four times."""
    parsed: list[int] = []

    def parse(entry: Any, number: int) -> Any:
        parsed.append(number)
        return parse_line(entry, number)

    monkeypatch.setattr(_reader, "parse_line", parse)
    for steps in (50, 100):
        path = tmp_path / f"{steps}.jsonl"
        with path.open("w") as file:
            file.write(json.dumps(HEADER) + "\n")
            for step in range(steps):
                file.write(record(step, step, 1.0) + evaluation(step + 1, 1.0))
        parsed.clear()
        assert watch(path, 3) == 0
        assert parsed == list(range(2, 2 * steps + 2))


@pytest.mark.parametrize(("text", "words"), [(None, "No such file"), ("hello\nyou\n", "is not a journal")])
def test_bad_input(text: str | None, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.jsonl"
    if text is not None:
        path.write_text(text)
    assert main(["watch", str(path)]) == 2
    assert words in capsys.readouterr().err
    path.write_text("")
    assert main(["watch", str(path)]) == 0
    assert "The journal is empty" in capsys.readouterr().out
