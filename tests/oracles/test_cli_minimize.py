"""`blackbox-zo minimize` and `resume`, as processes: what they print, and what a kill or Ctrl-C leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import blackbox_zo as bz
from blackbox_zo import __version__
from oracles.cli.main import main
from oracles.command import CommandOracle
from tests.journals import read
from tests.oracles.helpers import alive, arguments, cli, environment, in_a_terminal, lines, script, wait_for

SUM = "import sys; x, n = float(sys.argv[1]), int(sys.argv[2]); print('loss', (x - 2) ** 2 + (n - 5) ** 2)"
SPACE = ("--param", "x=0:10", "n=1:9:int")

SLOW = """
import os, sys, time
query, x, y = int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
with open(sys.argv[1], "a") as log:
    print(query, os.getpid(), file=log)
time.sleep(0.05 + 0.02 * (query % 5))
if query % 7 == 3:
    sys.exit("unlucky")
print((x - 0.3) ** 2 + (y - 0.6) ** 2)
"""
"""Takes unequal times, fails now and then, and writes down each start."""


def slow(tmp_path: Path, name: str, *more: str) -> tuple[list[str], Path, Path]:
    """Arguments of a run of `SLOW`, its journal, and the log of its starts."""
    path, journal, log = script(tmp_path, SLOW), tmp_path / f"{name}.jsonl", tmp_path / "log"
    run = f"{{python}} -I -S {path} {log} {{id}} {{x}} {{y}}"
    given = ["minimize", "--run", run, "--param", "x=0:1", "y=0:1", "--workers", "2", "--budget", "30"]
    return [*given, "--journal", str(journal), *more], journal, log


def answers(journal: Path) -> list[Any]:
    """What a journal holds, but for how long it took, in the order of the queries."""
    _, records = read(journal)
    for record in records:
        del record["info"]["seconds"]
    return sorted(records, key=lambda record: int(record["id"]))


def best_of(output: str) -> list[str]:
    """The lines about the best query."""
    found = output.splitlines()
    start = next(i for i, line in enumerate(found) if line.startswith("best "))
    return found[start : start + 4]


def test_a_run_from_start_to_end(tmp_path: Path) -> None:
    path = script(tmp_path, SUM)
    done = cli("minimize", "--run", f"{{python}} {path} {{x}} {{n}}", *SPACE, "--budget", "40", "--workers", "2")
    assert done.returncode == 0, done.stderr
    best, x, n, command, counts = done.stdout.splitlines()
    assert best.startswith("best ") and float(best.split()[1].rstrip(",")) < 0.1
    assert x.split()[0] == "x" and float(x.split()[1]) == pytest.approx(2, abs=0.3)
    assert n.split() == ["n", "5"]
    assert command.strip() == f"{sys.executable} {path} {x.split()[1]} 5"
    assert counts.startswith("40 of 40 queries, ")
    assert done.stderr.splitlines()[-1].startswith("40/40 queries, best ")
    again = subprocess.run(command.strip(), shell=True, capture_output=True, text=True, check=True)
    assert float(again.stdout.split()[-1]) == pytest.approx(float(best.split()[1].rstrip(",")), rel=1e-6)


def test_maximize_shows_the_programs_own_sign(tmp_path: Path) -> None:
    path = script(tmp_path, "import sys; print(5 - (float(sys.argv[1]) - 2) ** 2)")
    run = ("minimize", "--run", f"{{python}} {path} {{x}}", "--param", "x=0:10", "--budget", "25", "--maximize")
    done = cli(*run)
    assert done.stdout.startswith("best 4.9") or done.stdout.startswith("best 5")
    assert done.stderr.splitlines()[-1].startswith("25/25 queries, best ")
    assert float(done.stderr.splitlines()[-1].split()[-1]) == pytest.approx(5, abs=0.1)


def test_read_start_seed_and_quiet(tmp_path: Path) -> None:
    path = script(tmp_path, 'import sys; print(\'{"a": {"b": %s}}\' % abs(float(sys.argv[1]) - 7))')
    run = ["minimize", "--run", f"{{python}} {path} {{x}}", "--param", "x=0:10", "--read", "json:a.b", "--budget", "4"]
    near = cli(*run, "--start", "x=7", "--quiet", "--journal", tmp_path / "near.jsonl")
    assert near.returncode == 0 and near.stderr == ""
    header, _ = read(tmp_path / "near.jsonl")
    assert header["variable"]["x0"] == [0.7] and header["seed"] == 0
    other = cli(*run, "--start", "x=7", "--seed", "5", "--journal", tmp_path / "other.jsonl")
    assert other.stdout.splitlines()[0] == near.stdout.splitlines()[0] == "best 0, query 0"  # x0 comes first
    assert read(tmp_path / "other.jsonl")[0]["seed"] == 5


def test_failures_are_counted_and_the_first_is_told_at_once(tmp_path: Path) -> None:
    arguments_, journal, _ = slow(tmp_path, "run")
    done = cli(*arguments_)
    assert done.returncode == 0
    assert "30 of 30 queries, 4 failed" in done.stdout
    assert done.stderr.count("query 3 failed: exit code 1") == 1 and "  | unlucky" in done.stderr
    _, records = read(journal)
    assert [r["id"] for r in sorted(records, key=lambda r: int(r["id"])) if r["value"] is None] == [3, 10, 17, 24]


def test_when_all_fail_the_first_failure_is_shown(tmp_path: Path) -> None:
    path = script(tmp_path, "import sys; print('before'); sys.exit('no such data')")
    done = cli("minimize", "--run", f"{{python}} {path} {{x}}", "--param", "x=0:1", "--budget", "3", "--quiet")
    assert done.returncode == 1 and done.stdout == ""
    first, x, command, *tail = done.stderr.splitlines()
    assert first == "blackbox-zo: all 3 queries failed. The first: query 0 failed: exit code 1"
    assert x.startswith("  x = 0.") and command.startswith(f"  {sys.executable} {path} 0.")
    assert tail == ["  | before", "  | no such data"]


def test_timeout_and_time_limit(tmp_path: Path) -> None:
    path = script(
        tmp_path, "import sys, time; time.sleep(0.2 if float(sys.argv[1]) <= 0.5 else 60); print(sys.argv[1])"
    )
    run = ("minimize", "--run", f"{{python}} {path} {{x}}", "--param", "x=0:1", "--budget", "1000")
    done = cli(*run, "--timeout", "2", "--time-limit", "4")
    assert done.returncode == 0, done.stderr
    assert "The time limit is reached." in done.stdout and "timed out after 2 s" in done.stderr


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["minimize", "--run", "{python} {y}", "--param", "x=0:1"], "no parameter 'y'"),
        (["minimize", "--run", "nothing-here {x}", "--param", "x=0:1"], "'nothing-here', which cannot be found"),
        (["minimize", "--run", "{python} {x}", "--param", "x=1:0"], "Parameter 'x=1:0': "),
        (["minimize", "--run", "{python} {x}", "--param", "x=0:1", "--start", "x"], "--start 'x' has no '='"),
        (["minimize", "--run", "{python} {x}", "--param", "x=0:1", "--start", "x=0", "x=1"], "'x' twice"),
        (["minimize", "--run", "{python} {x}", "--param", "x=0:1", "--budget", "0"], "at least 1, got '0'"),
        (["minimize", "--run", "{python} {x}", "--param", "x=0:1", "--timeout", "-1"], "positive number of seconds"),
        (["minimize", "--run", "{python} {x}"], "--param"),
        (["minimize", "--run", "{python} {x}", "--param", "x=0:1", "--journal", "/no/such/run"], "/no/such/run"),
        (["resume", "/no/such/run.jsonl"], "No such file"),
        (["optimise"], "invalid choice"),
        ([], "required: COMMAND"),
    ],
)
def test_bad_input_is_a_sentence(
    given: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        code: Any = main(given)
    except SystemExit as stop:  # argparse's own
        code = stop.code
    printed = capsys.readouterr()
    assert code == 2 and printed.out == ""
    assert words in printed.err and "Traceback" not in printed.err


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    for given in (["--version"], ["--help"], ["minimize", "--help"], ["resume", "--help"], ["report", "--help"]):
        with pytest.raises(SystemExit) as stop:
            main(given)
        assert stop.value.code == 0
    out = capsys.readouterr().out
    assert f"blackbox-zo {__version__}" in out and "--time-limit" in out


# ------------------------------------------------------------------------------------------------------- journals


def test_a_journal_goes_on_and_another_problem_is_refused(tmp_path: Path) -> None:
    path, journal, log = script(tmp_path, SUM), tmp_path / "run.jsonl", tmp_path / "log"
    path.write_text(f"{SUM}; open({str(log)!r}, 'a').write('x\\n')")
    run = ["minimize", "--run", f"{{python}} {path} {{x}} {{n}}", *SPACE, "--quiet", "--journal", str(journal)]
    assert cli(*run, "--budget", "10").returncode == 0
    done = cli(*run, "--budget", "14")
    assert f"{journal} holds 10 queries of this run, which continues." in done.stdout
    assert "14 of 14 queries" in done.stdout and len(lines(log)) == 14
    done = cli(*run, "--budget", "14")
    assert "holds all 14 queries" in done.stdout and "best " in done.stdout and len(lines(log)) == 14
    other = cli(*run, "--maximize")
    assert other.returncode == 2 and "belongs to another run: its --maximize is False, here it is True" in other.stderr
    fewer = cli(*run, "--budget", "5")
    assert fewer.returncode == 2 and "14 answers, more than budget=5" in fewer.stderr


def test_resume_rebuilds_all_from_the_journal(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    script(folder, "import sys; print(abs(float(sys.argv[1]) - 7) + len(sys.argv[2]))")
    run = ["minimize", "--run", "{python} program.py {x} {word}", "--param", "x=0.1:10:log", "word=a,bb", "--quiet"]
    whole = cli(*run, "--seed", "3", "--budget", "24", "--journal", "whole.jsonl", cwd=folder)
    part = cli(*run, "--seed", "3", "--budget", "11", "--journal", "part.jsonl", cwd=folder)
    assert whole.returncode == part.returncode == 0
    done = cli("resume", "work/part.jsonl", cwd=tmp_path)  # from elsewhere: the program's own folder is in the journal
    assert "holds all 11 queries" in done.stdout
    done = cli("resume", "work/part.jsonl", "--budget", "24", "--workers", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert answers(folder / "part.jsonl") == answers(folder / "whole.jsonl")
    assert best_of(done.stdout) == best_of(whole.stdout)


@pytest.mark.parametrize(
    ("option", "says"),
    [
        (["--seed", "3"], "its --seed is 0, here it is 3"),
        (["--maximize"], "its --maximize is False, here it is True"),
        (["--run", "{python} -c print({x}+1)"], "its --run is "),
        (["--start", "x=0.2"], "its --start is "),
    ],
    ids=lambda given: given[0] if isinstance(given, list) else "",
)
def test_resume_refuses_what_would_be_another_run(option: list[str], says: str, tmp_path: Path) -> None:
    run = ("minimize", "--run", "{python} -c print({x})", "--param", "x=0:1", "--budget", "3", "--journal", "run.jsonl")
    assert cli(*run, cwd=tmp_path).returncode == 0
    before = (tmp_path / "run.jsonl").read_bytes()
    done = cli("resume", "run.jsonl", "--budget", "6", *option, cwd=tmp_path)
    assert done.returncode == 2 and "belongs to another run: " + says in done.stderr
    assert (tmp_path / "run.jsonl").read_bytes() == before


def test_resume_of_a_program_that_python_began(tmp_path: Path) -> None:
    oracle = CommandOracle([sys.executable, "-c", "print({x})"], {"x": "0:1"})
    method = (bz.RandomVector(0.1), bz.SGD(0.01))
    journal = bz.Journal(tmp_path / "run.jsonl", oracle.problem)
    bz.minimize(oracle, oracle.x0, method, bounds=oracle.bounds, budget=3, seed=7, journal=journal)
    oracle.close()
    done = cli("resume", "run.jsonl", "--budget", "6", "--seed", "7", cwd=tmp_path)
    assert done.returncode == 2 and "A Python program started this run, so --seed cannot be changed" in done.stderr
    done = cli("resume", "run.jsonl", "--budget", "6", cwd=tmp_path)
    assert done.returncode == 0 and "6 of 6 queries" in done.stdout, done.stderr


def test_resume_of_a_python_function_says_what_to_do(tmp_path: Path) -> None:
    journal = tmp_path / "run.jsonl"
    bz.minimize(lambda x: float(x @ x), [1.0, 2.0], budget=10, journal=journal)
    done = cli("resume", journal)
    assert done.returncode == 2
    assert "a Python function, which only your program can call; to continue, call bz.minimize" in done.stderr


def test_resume_when_the_folder_is_gone(tmp_path: Path) -> None:
    folder, journal = tmp_path / "work", tmp_path / "run.jsonl"
    folder.mkdir()
    run = ("minimize", "--run", "{python} -c print({x})", "--param", "x=0:1", "--budget", "3", "--journal", journal)
    assert cli(*run, cwd=folder).returncode == 0
    folder.rmdir()
    done = cli("resume", journal)
    assert done.returncode == 2 and f"folder '{folder}', which no longer exists" in done.stderr


# -------------------------------------------------------------------------------------------------- kill and Ctrl-C


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], list[str]]:
    """The answers and the best of the slow run when nothing happens to it."""
    tmp_path = tmp_path_factory.mktemp("unbroken")
    given, journal, _ = slow(tmp_path, "run", "--quiet")
    done = cli(*given)
    assert done.returncode == 0
    return answers(journal), best_of(done.stdout)[:3]


@pytest.mark.parametrize("after", [2, 9, 17])
def test_killed_and_resumed_is_as_if_never_killed(
    tmp_path: Path, after: int, unbroken: tuple[list[Any], list[str]]
) -> None:
    given, journal, log = slow(tmp_path, "run", "--quiet")
    process = subprocess.Popen(arguments(*given), env=environment(), stdout=subprocess.DEVNULL)
    wait_for(lambda: len(lines(journal)) > after)
    process.send_signal(signal.SIGKILL)
    assert process.wait(30) == -signal.SIGKILL
    answered = {record["id"] for record in read(journal)[1]}
    started = [int(line.split()[0]) for line in lines(log)]
    assert len(answered) >= after and len(started) < 30
    done = cli("resume", journal, "--quiet")
    assert done.returncode == 0, done.stderr
    assert answers(journal) == unbroken[0]
    assert best_of(done.stdout)[:3] == unbroken[1]
    starts = Counter(int(line.split()[0]) for line in lines(log))
    assert sorted(starts) == list(range(30))
    twice = {query for query, count in starts.items() if count > 1}
    assert not twice & answered and len(twice) <= 2  # only those under way at the kill


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_keeps_the_record_and_ends_the_programs(
    tmp_path: Path, number: signal.Signals, unbroken: tuple[list[Any], list[str]]
) -> None:
    given, journal, log = slow(tmp_path, "run")
    process = subprocess.Popen(
        arguments(*given), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: len(lines(journal)) > 6)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 128 + number, err
    assert "Traceback" not in err
    assert out.splitlines()[0] == "Interrupted; every answer is kept."
    assert f"to continue: blackbox-zo resume {journal}" in out and best_of(out)
    wait_for(lambda: not any(alive(int(line.split()[1])) for line in lines(log)))
    answered = [record["id"] for record in read(journal)[1]]
    assert f"{len(answered)} of 30 queries" in out
    done = cli("resume", journal)
    assert done.returncode == 0 and f"holds {len(answered)} queries" in done.stdout
    assert answers(journal) == unbroken[0]
    assert best_of(done.stdout)[:3] == unbroken[1]


def test_ctrl_c_before_any_answer(tmp_path: Path) -> None:
    log = tmp_path / "log"
    path = script(tmp_path, f"import time; open({str(log)!r}, 'w').write('x'); time.sleep(60)")
    given = arguments("minimize", "--run", f"{{python}} {path} {{x}}", "--param", "x=0:1")
    process = subprocess.Popen(given, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(log.exists)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in err
    assert out.splitlines()[0] == "Interrupted." and "0 of 100 queries" in out


def test_a_terminal_gets_a_live_bar(tmp_path: Path) -> None:
    given, _, _ = slow(tmp_path, "run")
    code, out, text = in_a_terminal(arguments(*given), {**environment(), "COLUMNS": "100"})
    assert code == 0 and b"best " in out
    assert "30/30" in text and "4 failed" in text and "━" in text
    assert text.count("query 3 failed: exit code 1") == 1 and "| unlucky" in text


def test_two_runs_on_one_journal(tmp_path: Path) -> None:
    given, journal, _ = slow(tmp_path, "run")
    process = subprocess.Popen(
        arguments(*given), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(lambda: len(lines(journal)) > 1)
        second = cli(*given)
        assert second.returncode == 2 and "is being written by another search" in second.stderr
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
    assert len({record["id"] for record in read(journal)[1]}) == len(read(journal)[1])


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    given = arguments("minimize", "--run", "{python} -c print({x})", "--param", "x=0:1", "--budget", "2", "--quiet")
    process = subprocess.Popen(given, env=environment(), stdout=write_end, stderr=subprocess.PIPE, text=True)
    os.close(write_end)
    os.close(read_end)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and err == ""


def test_the_header_keeps_what_a_resume_needs(tmp_path: Path) -> None:
    given, journal, _ = slow(tmp_path, "run", "--timeout", "9", "--quiet")
    assert cli(*given, cwd=tmp_path).returncode == 0
    header = json.loads(lines(journal)[0])
    words = header["settings"].pop("arguments")
    assert words == [str(word) for word in given[1:]]
    assert header["settings"] == {"budget": 30, "workers": 2, "timeout": 9.0, "cwd": str(tmp_path)}
    assert header["problem"]["parameters"]["x"] == {"name": "Float", "low": 0.0, "high": 1.0, "log": False}


def test_whole_numbers_may_be_written_with_an_exponent(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["minimize", "--run", "{python} -c 'print({x})'", "--param", "x=1e0:1e1:int", "--seed", "1e1", "--quiet"]
    assert main([*words, "--budget", "0.5e1", "--workers", "2.0"]) == 0
    assert "5 of 5 queries" in capsys.readouterr().out
    for wrong in ("1.5", "1e-1", "1e999", "nan", "inf", "ten", "0"):
        with pytest.raises(SystemExit):
            main([*words, "--budget", wrong])
        assert f"--budget: must be a whole number of at least 1, got '{wrong}'" in capsys.readouterr().err
    for wrong in ("nan", "inf"):
        with pytest.raises(SystemExit):
            main([*words, "--target", wrong])
        assert f"--target: must be a number, got '{wrong}'" in capsys.readouterr().err


def test_a_fixed_parameter_keeps_its_value(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["minimize", "--run", "{python} -c 'print({x} + {y})'", "--quiet", "--journal", str(tmp_path / "run.jsonl")]
    report = ["--report", str(tmp_path / "run.html")]
    assert main([*words, *report, "--param", "x=3:3", "y=0:1", "--budget", "6"]) == 0
    assert "\n  x  3.0\n" in capsys.readouterr().out
    assert all(record["info"]["params"]["x"] == 3.0 for record in read(tmp_path / "run.jsonl")[1])
    assert main([*words[:4], "--param", "x=3:3:log", "y=2:2:int", "--budget", "6"]) == 0
    said = capsys.readouterr().out
    assert "best 5, query 0" in said and "1 of 1 queries" in said
    assert "Every combination of the parameters has been tried." in said


def test_each_combination_is_tried_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """3 x 2 x 2 of them, over three parts of a run."""
    journal = tmp_path / "run.jsonl"
    run = "{python} -c 'print({a} * {b} + len(\"{c}\"))'"
    words = ["minimize", "--run", run, "--param", "a=1:3:int", "b=1,2", "c=x,xy", "--quiet"]
    for budget in ("5", "100", "100"):
        assert main([*words, "--budget", budget, "--journal", str(journal)]) == 0
    said = capsys.readouterr().out
    assert "5 of 5 queries" in said and said.count("12 of 12 queries") == 2 and "best 2, query" in said
    assert said.count("Every combination of the parameters has been tried.") == 2
    assert "holds all 12 queries of this run; nothing is left to ask." in said
    tried = [tuple(record["info"]["params"].values()) for record in read(journal)[1]]
    assert len(tried) == len(set(tried)) == 12
    assert main([*words, "--budget", "20", "--journal", str(journal), "--noisy"]) == 2
    assert "its --noisy is False, here it is True" in capsys.readouterr().err
    assert main([*words, "--budget", "20", "--noisy"]) == 0
    assert "20 of 20 queries" in capsys.readouterr().out
    assert main(["resume", str(journal)]) == 0
    assert main(["report", str(journal), "-o", str(tmp_path / "run.html")]) == 0
