"""Programs that report on the way, are stopped early with their children, and run without generations."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

import blackbox_zo as bz
from oracles import CommandOracle
from oracles.cli.main import main
from tests.journals import read
from tests.oracles.helpers import alive, arguments, environment, lines, script, wait_for

TRAIN = """
import sys, time
x, sign = float(sys.argv[1]), float(sys.argv[2])
print("epochs follow")
for epoch in range(1, 10):
    print("report", sign * ((x - 3) ** 2 + 1 / epoch), flush=True)
    time.sleep(0.02)
print(sign * (x - 3) ** 2)
"""


def notes(journal: Path) -> list[dict[str, Any]]:
    """What the journal holds of each answer."""
    return read(journal)[1]


@pytest.mark.parametrize("maximize", [False, True])
def test_programs_that_report_worse_are_stopped(tmp_path: Path, maximize: bool) -> None:
    run = f"{{python}} {script(tmp_path, TRAIN)} {{x}} {-1 if maximize else 1}"
    oracle = CommandOracle(run, ["x=0:10"], workers=2, maximize=maximize, stopping=bz.SuccessiveHalving())
    path = tmp_path / "run.jsonl"
    result = bz.minimize(oracle, oracle.x0, bz.EvolutionStrategy(0.3), 30, oracle.bounds, journal=path)
    found = notes(path)
    stopped = [answer for answer in found if answer["info"].get("stopped")]
    assert 8 <= len(stopped) < 30 and all(answer["info"]["reports"] < 9 for answer in stopped)
    for answer in stopped:  # the value is the last report, and its x among the worse ones
        assert answer["value"] == answer["learnt"]["CommandOracle"][-1][1]
    assert result.nfailed == 0 and abs(float(oracle.decode(result.x)["x"]) - 3) < 1


def test_a_stopped_program_takes_its_children_with_it(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    child = script(
        tmp_path,
        f"""
import subprocess, sys, time
x = float(sys.argv[1])
for epoch in range(1, 4):
    print("report", x, flush=True)
    time.sleep(0.05)
if x > 5.5:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with open({str(pids)!r}, "a") as file:
        file.write(f"{{child.pid}}\\n")
    print("report", x, flush=True)
    time.sleep(600)
print(x)
""",
    )

    class AtFour(bz.stopping.StoppingRule):
        def stops(self, mine: bz.stopping.Curve, others: Any) -> bool:
            return mine.steps[-1] >= 4

    oracle = CommandOracle(f"{{python}} {child} {{x}}", ["x=0:10"], stopping=AtFour(), timeout=60)
    search, begun = bz.Search(oracle.x0, bz.EvolutionStrategy(0.3), seed=3, budget=20), time.monotonic()
    for _ in search.run(oracle):
        pass
    started = [int(pid) for pid in pids.read_text().split()]
    assert len(started) >= 2 and time.monotonic() - begun < 120
    wait_for(lambda: not any(alive(pid) for pid in started))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("report nan", "it holds no finite number"),
        ("report inf", "it holds no finite number"),
        ("report much", "could not convert string to float: 'much'"),
        ("report", "it has not the form `report VALUE`"),
        ("report 1 2", "it has not the form `report VALUE`"),
        ("report 1 step=0.5", "its step does not come after 7"),
    ],
)
def test_a_malformed_report_fails_the_run_by_name(tmp_path: Path, line: str, reason: str) -> None:
    text = f"import time\nprint('report 1 step=7', flush=True)\nprint({line!r}, flush=True)\ntime.sleep(60)"
    oracle = CommandOracle(f"{{python}} {script(tmp_path, text)} {{x}}", ["x=0:1"], stopping=bz.MedianRule())
    search = bz.Search(oracle.x0, bz.RankBased(0.1, 2), budget=2)
    begun = time.monotonic()
    answer = oracle.answer(search.ask())
    assert time.monotonic() - begun < 30 and answer.n_failed == 2 and answer.info is not None
    assert answer.info[0] is not None and "stopped" not in answer.info[0]
    assert re.fullmatch(rf"the line {re.escape(repr(line))} is no report: {re.escape(reason)}.*; write `report 0.83`",
                        str(answer.info[0]["error"]))  # fmt: skip


def test_without_a_rule_such_lines_mean_nothing(tmp_path: Path) -> None:
    text = "print('report nonsense')\nprint(1.5)"
    oracle = CommandOracle(f"{{python}} {script(tmp_path, text)} {{x}}", ["x=0:1"])
    assert oracle.answer(bz.Search(oracle.x0, bz.RankBased(0.1, 2)).ask()).values.tolist() == [1.5, 1.5]


def test_a_program_that_never_reports_is_told_so_once(tmp_path: Path) -> None:
    oracle = CommandOracle("{python} -c 'print({x})'", ["x=0:1"], stopping=bz.MedianRule())
    with pytest.warns(UserWarning, match="the program reported nothing in the first step") as caught:
        bz.minimize(oracle, oracle.x0, bz.EvolutionStrategy(0.3), 16, oracle.bounds)
    assert len(caught) == 1


# -------------------------------------------------------------------------------------------------- the command line


def given(tmp_path: Path, *more: str, sign: int = 1) -> list[str]:
    run = f"{{python}} {script(tmp_path, TRAIN)} {{x}} {sign}"
    return ["minimize", "--run", run, "--param", "x=0:10", "--budget", "24", "--workers", "2", *more]


def test_the_command_line_stops_and_says_how_many(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = tmp_path / "run.jsonl"
    words = given(tmp_path, "--stopping", "halving", "--maximize", "--journal", str(journal), sign=-1)
    assert main(words) == 0
    stopped = sum(bool(answer["info"].get("stopped")) for answer in notes(journal))
    assert stopped > 4 and f"{stopped} stopped early" in capsys.readouterr().err
    assert main(["watch", str(journal), "--last", "24"]) == 0
    assert (
        len(re.findall(r"query \d+: -[\d.]+, stopped after [13] reports, best -", capsys.readouterr().out)) == stopped
    )
    assert main(["report", str(journal), "-o", str(tmp_path / "run.html")]) == 0
    assert re.search(rf"stopped early\D+{stopped}\b|\b{stopped}\D+stopped early", (tmp_path / "run.html").read_text())
    assert main(["resume", str(journal), "--budget", "30", "--quiet"]) == 0
    assert len(notes(journal)) == 30


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("halving:1", "must be above 1, got 1.0"),
        ("halving:x", "could not convert string to float"),
        ("halving:-3", "must be a positive number, got -3.0"),
        ("best", "must be halving, halving:ETA or median, got 'best'"),
    ],
)
def test_a_wrong_rule_is_named(rule: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(given(tmp_path, "--stopping", rule))
    assert ended.value.code == 2 and message in capsys.readouterr().err


def test_an_asynchronous_command_is_killed_and_resumed(tmp_path: Path) -> None:
    slow = script(
        tmp_path, "import sys, time\nx = float(sys.argv[1])\ntime.sleep(0.05 + 0.3 * (x % 1))\nprint((x - 3) ** 2)"
    )
    journal = tmp_path / "run.jsonl"
    words = ["minimize", "--run", f"{{python}} {slow} {{x}}", "--param", "x=0:10", "--budget", "30", "--workers", "3",
             "--asynchronous", "--journal", str(journal), "--quiet"]  # fmt: skip
    running = subprocess.Popen(arguments(*words), env=environment(), stdout=subprocess.DEVNULL)
    wait_for(lambda: journal.exists() and len(lines(journal)) > 10)
    running.send_signal(signal.SIGKILL)
    running.wait()
    before = len(notes(journal))
    assert main(["resume", str(journal), "--quiet"]) == 0
    ids = [answer["id"] for answer in notes(journal)]
    assert before >= 9 and sorted(ids) == list(range(30))


def test_an_asynchronous_command_refuses_finitely_many_points(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["minimize", "--run", "{python} -c print({k})", "--param", "k=1:9:int", "--asynchronous"]
    assert main(words) == 2
    assert "finitely many points" in capsys.readouterr().err
