"""`CommandOracle`, with real programs: what reaches them, what is read from them, how they fail and are ended."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import blackbox_zo as bz
from blackbox_zo.journal import Journal
from blackbox_zo.testing import check_oracle
from oracles import Choice, CommandOracle, Float, Integer
from tests.journals import read
from tests.oracles.helpers import alive, lines, proposal_of, script, wait_for

ECHO = "import sys, json; print(json.dumps({'argv': sys.argv[1:], 'n': 1.5}))"


def once(oracle: CommandOracle, point: Any = None) -> tuple[float, dict[str, Any]]:
    """Ask about one point; its value and what was recorded beside it."""
    answer = oracle.answer(proposal_of([oracle.x0 if point is None else point]))
    assert answer.info is not None and answer.info[0] is not None
    return float(answer.values[0]), dict(answer.info[0])


def prints(tmp_path: Path, text: str, read: str = "last", **more: Any) -> tuple[float, dict[str, Any]]:
    """Run a Python program that says something."""
    path = script(tmp_path, text)
    return once(CommandOracle(["{python}", str(path), "{x}"], ["x=0:1"], read=read, **more))


# ------------------------------------------------------------------------------------------------------ arguments


def test_arguments_reach_the_program_as_they_are(tmp_path: Path) -> None:
    evil = (
        "; rm -rf /",
        "$(touch owned)",
        "`id`",
        "a b  c",
        "it's",
        'say "hi"',
        "*",
        "\\n",
        "$HOME",
        "--",
        "{x}",
        "ü €",
    )
    path = script(tmp_path, f"import sys; open({str(tmp_path / 'seen')!r}, 'w').write(repr(sys.argv[1:])); print(1)")
    run = f"{{python}} {path} --v={{v}} {{v}} 'two words' \"{{{{v}}}}\" {{id}} p{{v}}q{{n}}"
    oracle = CommandOracle(run, {"v": Choice(evil), "n": Integer(3, 9)}, cwd=tmp_path)
    for i, text in enumerate(evil):
        point = [oracle.parameters["v"].encode(text), 0.0]
        answer = oracle.answer(proposal_of([point], first_id=i))
        assert answer.values.tolist() == [1.0]
        seen = (tmp_path / "seen").read_text()
        assert seen == repr([f"--v={text}", text, "two words", "{v}", str(i), f"p{text}q3"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["program.py", "seen"]


def test_numbers_are_passed_in_full(tmp_path: Path) -> None:
    path = script(tmp_path, ECHO)
    oracle = CommandOracle(
        ["{python}", str(path), "{a}", "{b}"], {"a": "1e-7:1e-3:log", "b": "1:5:int"}, read="json:argv.0"
    )
    value, info = once(oracle, [0.3217, 0.5])
    assert np.isnan(value) and info["error"] == "field 'argv.0' of the JSON is text, not a number"
    seen = json.loads(info["tail"])["argv"]
    assert float(seen[0]) == info["params"]["a"] == oracle.decode([0.3217, 0.5])["a"]
    assert seen[1] == "3" and info["params"]["b"] == 3


def test_a_list_of_arguments_is_not_split(tmp_path: Path) -> None:
    path = script(tmp_path, ECHO, "my program.py")
    _, info = once(CommandOracle([sys.executable, str(path), "a b {x}"], ["x=0:2"], read="json:none"))
    assert json.loads(info["tail"])["argv"] == ["a b 1.0"]


def test_folder_and_environment(tmp_path: Path) -> None:
    text = "import os; print(os.environ['A'] + os.environ['HOME'][:0] + str(int(os.getcwd() == os.environ['B'])))"
    value, _ = prints(tmp_path, text, cwd=tmp_path, env={"A": "4", "B": str(tmp_path.resolve())})
    assert value == 41


def test_a_program_beside_the_user_is_found_in_its_folder(tmp_path: Path) -> None:
    path = script(tmp_path, f"#!{sys.executable}\nprint(7)", "tool")
    path.chmod(0o755)
    assert once(CommandOracle("./tool {x}", ["x=0:1"], cwd=tmp_path))[0] == 7
    assert once(CommandOracle("tool {x}", ["x=0:1"], env={"PATH": str(tmp_path)}))[0] == 7
    with pytest.raises(ValueError, match=r"starts with './tool', which cannot be found"):
        CommandOracle("./tool {x}", ["x=0:1"])


def test_stdin_is_empty(tmp_path: Path) -> None:
    assert prints(tmp_path, "import sys; print(len(sys.stdin.read()))")[0] == 0


@pytest.mark.parametrize(
    ("run", "more", "words"),
    [
        ("{python} a.py {lrr} {lr}", {}, r"\{lrr\}.*no parameter 'lrr' \(did you mean 'lr'\?\)"),
        ("{python} a.py {} {lr}", {}, r"no parameter ''"),
        ("{python} a.py {lr", {}, r"single '\{'.*write '\{\{'"),
        ("{python} a.py lr}", {}, r"single '\}'"),
        ("{python} a.py", {}, r"never uses parameter 'lr'; put \{lr\}"),
        ("{python} 'a {lr}", {}, r"cannot be split.*quotes"),
        ("", {}, r"`run` is empty"),
        ([], {}, r"`run` is empty"),
        ("no-such-program-anywhere {lr}", {}, r"'no-such-program-anywhere', which cannot be found"),
        ("{python} {lr}", {"timeout": 0}, r"timeout=...\)` must be a positive number, got 0"),
        ("{python} {lr}", {"workers": 0}, r"workers=...\)` must be a whole number of at least 1, got 0"),
        ("{python} {lr}", {"tail": -1}, r"tail"),
        ("{python} {lr}", {"cwd": "/no/such/folder"}, r"`cwd='/no/such/folder'` is not a folder"),
        ("{python} {lr}", {"read": "first"}, r"`read` must be 'last', 'json:a.b'.*got 'first'"),
        ("{python} {lr}", {"read": "json:"}, r"`read` must be"),
        ("{python} {lr}", {"read": "json:a..b"}, r"`read` must be"),
        ("{python} {lr}", {"read": "file:"}, r"`read` must be"),
        ("{python} {lr}", {"read": "regex:("}, r"not a regular expression"),
        ("{python} {lr}", {"read": r"regex:loss \S+"}, r"has no group"),
        ("{python} {lr}", {"read": "file:{nr}.txt"}, r"no parameter 'nr'"),
        ("{python} {lr}", {"read": "file:out.txt", "workers": 2}, r"one file for 2 programs.*\{id\}"),
        (
            "{python} {lr}",
            {"start": {"lrr": 0.1}},
            r"'lrr', which is not a parameter \(did you mean 'lr'",
        ),
        ("{python} {lr}", {"start": {"lr": 5}}, r"`start` of parameter 'lr': 5 is not between"),
    ],
)
def test_bad_arguments(run: Any, more: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        CommandOracle(run, ["lr=0:1"], **more)


def test_arguments_of_a_wrong_type() -> None:
    with pytest.raises(TypeError, match="list of texts"):
        CommandOracle(["{python}", 3, "{lr}"], ["lr=0:1"])  # type: ignore[list-item]


def test_start_and_points() -> None:
    oracle = CommandOracle("{python} {a} {b} {c}", ["a=1:100:log", "b=1:4:int", "c=u,v"], start={"a": "10", "c": "v"})
    assert oracle.x0.tolist() == [0.5, 0.5, 0.75]
    assert oracle.bounds == [(0.0, 1.0)] * 3
    assert oracle.decode(oracle.x0) == {"a": pytest.approx(10), "b": 3, "c": "v"}
    assert oracle.command([0.0, 1.0, 0.0], 7) == [sys.executable, "1.0", "4", "u"]
    with pytest.raises(ValueError, match=r"3 parameters, but the point has 2 coordinates.*`oracle.x0`"):
        oracle.decode([0.1, 0.2])


# ------------------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("print(0.25)", 0.25),
        ("print('epoch 1\\nloss: 0.31\\n\\n  \\n')", 0.31),
        ("print('a 1\\r50%|##\\r\\n-2e-3')", -2e-3),
        ("print(5, end='')", 5.0),
        ("import sys; print(1); print(2, file=sys.stderr)", 1.0),
        ("import sys; sys.stdout.buffer.write(b'\\xff\\xfe 3')", 3.0),
    ],
)
def test_last(tmp_path: Path, text: str, value: float) -> None:
    found, info = prints(tmp_path, text)
    assert found == value and "error" not in info and info["params"] == {"x": 0.5} and info["seconds"] > 0


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ('print(\'{"a": {"b": [1, 0.5]}}\')', "a.b.1", 0.5),
        ("print('{\"a\": 1}'); print('{\"a\": 2}'); print('done')", "a", 2.0),
        ("print('{\\n \"a\":\\n 3\\n}')", "a", 3.0),
        ("print('[4, 5]')", "-1", 5.0),
    ],
)
def test_json(tmp_path: Path, text: str, path: str, value: float) -> None:
    assert prints(tmp_path, text, f"json:{path}")[0] == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("print('loss = 3'); print('loss = 2')", 2.0),
        ("import sys; print('loss = 3'); print('loss = 2', file=sys.stderr)", 2.0),
        ("import sys; print('x', end=''); print('loss = 4', file=sys.stderr)", 4.0),
    ],
)
def test_regex(tmp_path: Path, text: str, value: float) -> None:
    assert prints(tmp_path, text, r"regex:^loss = (\S+)$")[0] == value


def test_file(tmp_path: Path) -> None:
    path = script(tmp_path, "import sys; open(sys.argv[2], 'a').write('old\\nscore ' + sys.argv[1] + '\\n')")
    run = ["{python}", str(path), "{x}", "out/{id}-{x}.txt"]
    (tmp_path / "out").mkdir()
    oracle = CommandOracle(run, ["x=0:1"], read="file:out/{id}-{x}.txt", cwd=tmp_path, workers=2)
    answer = oracle.answer(proposal_of([[0.25], [0.5], [1.0]], first_id=4))
    assert answer.values.tolist() == [0.25, 0.5, 1.0]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["4-0.25.txt", "5-0.5.txt", "6-1.0.txt"]


def test_a_file_of_an_earlier_run_is_not_an_answer(tmp_path: Path) -> None:
    path = script(tmp_path, "import sys; x = float(sys.argv[1]); x > 0.5 and open('out.txt', 'w').write('7')")
    (tmp_path / "out.txt").write_text("7")
    oracle = CommandOracle(["{python}", str(path), "{x}"], ["x=0:1"], read="file:out.txt", cwd=tmp_path)
    for point, good in [(0.2, False), (0.9, True), (0.8, True), (0.1, False), (0.9, True)]:
        value, info = once(oracle, [point])
        assert (value == 7.0) is good
        assert (
            good
            or info["error"]
            == f"file '{tmp_path / 'out.txt'}' is left over from an earlier run; this run did not write it"
        )


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    value, info = prints(tmp_path, "print(1)", "file:out.txt", cwd=tmp_path)
    assert np.isnan(value) and info["error"] == f"the program wrote no file '{tmp_path / 'out.txt'}'"


def test_maximize_negates(tmp_path: Path) -> None:
    assert prints(tmp_path, "print(3)", maximize=True)[0] == -3


# ------------------------------------------------------------------------------------------------------- failing


@pytest.mark.parametrize(
    ("text", "read", "error"),
    [
        ("import sys; print('a\\nb'); sys.exit(3)", "last", "exit code 3"),
        ("print('a\\nb'); 1/0", "last", "exit code 1"),
        ("import os; print('a\\nb', flush=True); os.kill(os.getpid(), 9)", "last", "killed by signal 9 (SIGKILL)"),
        ("print('a\\nb')", "last", "the last line of stdout does not end with a number: 'b'"),
        ("print('')", "last", "stdout is empty; its last line must end with the number"),
        ("print('a\\nb nan')", "last", "the number is nan"),
        ("print('a\\nb -inf')", "last", "the number is -inf"),
        ("print('a\\nb')", "json:x", "no line of stdout is a JSON object"),
        ("print('{\"y\": 1}')", "json:x", "no field 'x' in the JSON: 'x' is not in an object (y)"),
        ("print('{\"x\": {}}')", "json:x", "field 'x' of the JSON is an object, not a number"),
        ("print('{\"x\": true}')", "json:x", "field 'x' of the JSON is true or false, not a number"),
        ("print('{\"x\": [1]}')", "json:x.1", "no field 'x.1' in the JSON: '1' is not in a list"),
        ("print('{\"x\": NaN}')", "json:x", "the number is nan"),
        ("print('{\"x\": 1' + '0' * 400 + '}')", "json:x", "the number is inf"),
        ("print('a\\nb')", r"regex:c=(\S+)", r"no match of 'c=(\\S+)' in the output"),
        ("print('c=b')", r"regex:c=(\S+)", r"'c=(\\S+)' matched 'b', which is not a number"),
    ],
)
def test_failures_are_answers(tmp_path: Path, text: str, read: str, error: str) -> None:
    value, info = prints(tmp_path, text, read)
    assert np.isnan(value)
    assert info["error"] == error
    assert info["params"] == {"x": 0.5} and info["seconds"] > 0
    assert json.loads(json.dumps(info)) == info
    if "a\\nb" in text:
        assert info["tail"].startswith("a\nb")


def test_the_tail_is_the_end_of_both_streams(tmp_path: Path) -> None:
    text = "import sys\nfor i in range(9): print('out', i); i < 3 and print('err', i, file=sys.stderr)\nsys.exit(1)"
    assert prints(tmp_path, text, tail=5)[1]["tail"] == "out 7\nout 8\nerr 0\nerr 1\nerr 2"
    assert prints(tmp_path, "print('x' * 10**6)", tail=5)[1]["tail"] == "x" * 4000
    assert prints(tmp_path, "print('x')", tail=0)[1]["tail"] == ""


def test_a_program_that_vanishes_or_a_value_that_cannot_be_passed(tmp_path: Path) -> None:
    tool = script(tmp_path, f"#!{sys.executable}\nprint(1)", "tool")
    tool.chmod(0o755)
    oracle = CommandOracle([str(tool), "{v}"], {"v": Choice(("a", "b\0c"))})
    answer = oracle.answer(proposal_of([[0.2], [0.8]]))
    assert answer.values[0] == 1.0 and answer.info is not None
    assert "could not be started: embedded null byte" in answer.info[1]["error"]  # type: ignore[index]
    tool.unlink()
    error = once(oracle, [0.2])[1]["error"]
    assert error.startswith("the program could not be started") and "tool" in error


def test_a_flood_of_output_takes_no_memory(tmp_path: Path) -> None:
    text = "import os\nb = b'x' * 2**20 + b'\\n'\nfor _ in range(300): os.write(1, b); os.write(2, b)\nprint(8)"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert prints(tmp_path, text)[0] == 8
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000  # kB, of 600 MB written


def test_a_descendant_that_keeps_the_output_open_does_not_delay_the_answer(tmp_path: Path) -> None:
    text = (
        "import subprocess, sys\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(p.pid); print(6)"
    )
    begun = time.monotonic()
    value, _ = prints(tmp_path, text + f"; open({str(tmp_path / 'pid')!r}, 'w').write(str(p.pid))")
    pid = int((tmp_path / "pid").read_text())
    try:
        assert value == 6 and time.monotonic() - begun < 20
        assert alive(pid)  # what a program leaves behind by itself is left alone
    finally:
        os.kill(pid, signal.SIGKILL)


# ----------------------------------------------------------------------------------------------- ending programs

STUBBORN = """
import os, signal, subprocess, sys, time
if len(sys.argv) == 3:
    subprocess.Popen([sys.executable, __file__, sys.argv[1], sys.argv[2], "child"])
if sys.argv[-1] == "child":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open(sys.argv[1], "a") as file:
    print(os.getpid(), file=file)
print("started", flush=True)
time.sleep(60)
"""


def stubborn(tmp_path: Path, **more: Any) -> tuple[CommandOracle, Path]:
    """A program with a child that does not listen to SIGTERM; both write down who they are."""
    path, pids = script(tmp_path, STUBBORN), tmp_path / "pids"
    return CommandOracle(["{python}", str(path), str(pids), "{x}"], ["x=0:1"], **more), pids


def test_a_program_that_takes_too_long_is_ended_with_its_descendants(tmp_path: Path) -> None:
    oracle, pids = stubborn(tmp_path, timeout=1.5)
    begun = time.monotonic()
    value, info = once(oracle)
    assert np.isnan(value) and info["error"] == "timed out after 1.5 s"
    assert info["tail"] == "started\nstarted"
    assert 1.5 <= time.monotonic() - begun < 20 and info["seconds"] >= 1.5
    assert len(lines(pids)) == 2
    wait_for(lambda: not any(alive(int(pid)) for pid in lines(pids)))


def test_a_program_may_tidy_up_when_time_is_up(tmp_path: Path) -> None:
    text = (
        "import signal, sys, time\n"
        "def tidy(*_):\n    print('tidied', flush=True); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, tidy)\nprint('ready', flush=True)\ntime.sleep(60)"
    )
    value, info = prints(tmp_path, text, timeout=1.5)
    assert np.isnan(value) and info["error"] == "timed out after 1.5 s" and info["tail"] == "ready\ntidied"


def test_closing_the_oracle_ends_what_is_under_way(tmp_path: Path) -> None:
    oracle, pids = stubborn(tmp_path, workers=3)
    answers: list[bz.Values] = []
    asking = threading.Thread(target=lambda: answers.append(oracle.answer(proposal_of([[0.1], [0.2], [0.3]]))))
    asking.start()
    wait_for(lambda: len(lines(pids)) == 6)
    oracle.close()
    asking.join(30)
    assert answers[0].info is not None
    assert [info["error"] for info in answers[0].info if info] == ["killed by signal 15 (SIGTERM)"] * 3
    wait_for(lambda: not any(alive(int(pid)) for pid in lines(pids)))


def test_leaving_a_loop_ends_what_is_under_way(tmp_path: Path) -> None:
    path, pids = script(tmp_path, STUBBORN), tmp_path / "pids"
    quick = f"import sys, runpy\nif float(sys.argv[2]) < 0.5: print(1); sys.exit()\nrunpy.run_path({str(path)!r})"
    fast = script(tmp_path, quick, "fast.py")
    oracle = CommandOracle(["{python}", str(fast), str(pids), "{x}"], ["x=0:1"], workers=2)
    for ids, answer in oracle.parts(proposal_of([[0.9], [0.1], [0.2]])):
        assert ids.tolist() == [1] and isinstance(answer, bz.Values) and answer.values.tolist() == [1.0]
        wait_for(lambda: len(lines(pids)) == 2)  # the program and its child
        break
    wait_for(lambda: not any(alive(int(pid)) for pid in lines(pids)))
    assert not oracle._running


# ------------------------------------------------------------------------------------------------ several at a time


def test_answers_come_as_they_arrive_and_workers_are_kept_busy(tmp_path: Path) -> None:
    log, go = tmp_path / "log", tmp_path / "go"
    text = (
        "import os, sys, time\nx, until = float(sys.argv[1]), time.monotonic() + 60\n"
        f"log = open({str(log)!r}, 'a')\nprint('+', file=log, flush=True)\n"
        f"while x == 2 and not os.path.exists({str(go)!r}) and time.monotonic() < until: time.sleep(0.01)\n"
        "print('-', file=log, flush=True)\nprint(x)"
    )
    path = script(tmp_path, text)
    oracle = CommandOracle(["{python}", str(path), "{x}"], ["x=0:4"], workers=2)
    order = []
    for ids, _ in oracle.parts(proposal_of([[0.5], [0.05], [0.06], [0.07]], first_id=10)):
        order.append(int(ids[0]))
        if len(order) == 3:
            go.touch()  # the first one ends last
    assert order == [11, 12, 13, 10]
    under_way, most = 0, 0
    for sign in lines(log):
        under_way += 1 if sign == "+" else -1
        most = max(most, under_way)
    assert most == 2 and oracle.calls == 4
    answer = oracle.answer(proposal_of([[0.05], [0.0], [0.01]]))
    assert answer.values.tolist() == pytest.approx([0.2, 0.0, 0.04])
    assert oracle.calls == 7


def test_minimize_a_program(tmp_path: Path) -> None:
    path = script(
        tmp_path, "import sys; x, n = float(sys.argv[1]), int(sys.argv[2]); print((x - 2) ** 2 + (n - 5) ** 2)"
    )
    oracle = CommandOracle(["{python}", str(path), "{x}", "{n}"], {"x": Float(0, 10), "n": Integer(1, 9)}, workers=2)
    journal = tmp_path / "run.jsonl"
    result = bz.minimize(
        oracle, oracle.x0, bounds=oracle.bounds, budget=40, journal=Journal(journal, problem=oracle.problem)
    )
    assert result.nfev == 40 == oracle.calls
    best = oracle.decode(result.x)
    assert best["n"] == 5 and best["x"] == pytest.approx(2, abs=0.3)
    header, records = read(journal)
    assert len(records) == 40
    again = CommandOracle.of_problem(header["problem"], workers=2)
    assert again.problem == oracle.problem and again.parameters == oracle.parameters
    for record in records:
        assert record["value"] == pytest.approx(
            (record["info"]["params"]["x"] - 2) ** 2 + (record["info"]["params"]["n"] - 5) ** 2
        )


def test_a_program_is_an_oracle(tmp_path: Path) -> None:
    path = script(tmp_path, "import sys; x = float(sys.argv[1]); sys.exit(1) if x == 1 else print(x * x)")
    oracle = CommandOracle(["{python}", "-I", "-S", str(path), "{x}", "{y}"], ["x=0:1", "y=a,b"], workers=2)
    check_oracle(oracle, oracle.x0, bounds=oracle.bounds, failing=[1.0, 0.5], n=3)


def test_the_problem_is_what_is_minimised() -> None:
    def problem(**more: Any) -> dict[str, Any]:
        return CommandOracle(**{"run": "{python} {x}", "parameters": ["x=0:1"], **more}).problem

    base = problem()
    assert json.loads(json.dumps(base)) == base
    assert problem(workers=4, timeout=3, tail=2) == base
    for other in ({"run": "{python} -I {x}"}, {"parameters": ["x=0:2"]}, {"read": "json:a"}, {"maximize": True}):
        assert problem(**other) != base


def test_importing_oracles_is_light() -> None:
    code = "import sys, oracles; print([m for m in ('torch', 'rich', 'matplotlib', 'scipy') if m in sys.modules])"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert out.stdout.strip() == "[]"
