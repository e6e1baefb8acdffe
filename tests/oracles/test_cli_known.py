"""`--known`, `--method` and `--retries` of `blackbox-zo minimize`, and what the other commands make of them."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

import blackbox_zo as bz
from blackbox_zo.journal import Changed, Known
from oracles.cli.main import main
from oracles.command.methods import method_of
from tests.oracles.helpers import script

SUM = "import sys; x, n = float(sys.argv[1]), int(sys.argv[2]); print('loss', (x - 2) ** 2 + (n - 5) ** 2)"
TABLE = "n, x, note, value\n5, 2.1, by hand, 0.01\n9, 0, , nan\n4, 3.0, , 2.0\n"


def words(tmp_path: Path, *more: str, program: str = SUM, journal: str = "run.jsonl") -> list[str]:
    run = shlex.join([sys.executable, "-I", "-S", str(script(tmp_path, program))]) + " {x} {n}"
    given = ["minimize", "--run", run, "--param", "x=0:10", "n=1:9:int", "--quiet"]
    return [*given, "--journal", str(tmp_path / journal), *more]


def known_lines(path: Path) -> list[Known]:
    return [line for line in bz.read_journal(path) if isinstance(line, Known)]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "before.csv"
    path.write_text(TABLE)
    return path


def test_a_table_is_told_once_and_the_search_begins_at_its_best(
    tmp_path: Path, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = tmp_path / "run.jsonl"
    assert main(words(tmp_path, "--known", str(table), "--budget", "5")) == 0
    table.unlink()  # the journal has it
    assert main(["resume", str(journal), "--budget", "20"]) == 0
    assert "20 of 20 queries" in capsys.readouterr().out
    (line,) = known_lines(journal)
    assert line.values[0] == 0.01 and line.values[1] != line.values[1] and line.steps == 0
    first = next(bz.read_journal(journal).answers())
    assert next((info or {})["params"] for info in first.info or []) == {"x": pytest.approx(2.1), "n": 5}


def test_other_points_are_told_when_they_are_there(tmp_path: Path, table: Path) -> None:
    more = tmp_path / "more.jsonl"
    more.write_text('{"x": 2.0, "n": 5, "value": 0.0}\n\n{"params": {"x": 1, "n": 1}, "value": null}\n')
    assert main(words(tmp_path, "--known", str(table), "--budget", "5")) == 0
    assert main(["resume", str(tmp_path / "run.jsonl"), "--budget", "9", "--known", str(table), str(more)]) == 0
    assert [len(line.values) for line in known_lines(tmp_path / "run.jsonl")] == [3, 2]


def test_another_runs_journal_and_what_was_known_to_it(tmp_path: Path, table: Path) -> None:
    assert main(words(tmp_path, "--known", str(table), "--budget", "6")) == 0
    other = words(tmp_path, "--known", str(tmp_path / "run.jsonl"), "--budget", "3", journal="other.jsonl")
    assert main(other) == 0
    (line,) = known_lines(tmp_path / "other.jsonl")
    assert len(line.values) == 9 and 0.01 in line.values


def test_maximize_turns_the_sign(tmp_path: Path, table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = SUM.replace("print('loss', ", "print('score', -0.0 -")
    table.write_text("x,n,value\n2,5,7.5\n3,4,-2\n")
    more = ("--maximize", "--known", str(table), "--budget", "4")
    assert main(words(tmp_path, *more, program=program.replace("-0.0 -", "- "))) == 0
    said = capsys.readouterr().out
    assert said.startswith("best 7.5, known\n")
    assert known_lines(tmp_path / "run.jsonl")[0].values == [-7.5, 2.0]


def test_a_best_known_point_is_in_the_result_the_report_and_the_export(
    tmp_path: Path, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table.write_text("x,n,value\n7,7,-1\n1,1,50\n8,8,\n")
    journal, page = tmp_path / "run.jsonl", tmp_path / "run.html"
    assert main(words(tmp_path, "--known", str(table), "--start", "x=2", "--budget", "4")) == 0
    assert "best -1, known\n  x  7.0\n  n  7\n" in capsys.readouterr().out
    pytest.importorskip("matplotlib", reason="a report needs matplotlib")
    assert main(["report", str(journal), "-o", str(page)]) == 0
    html = page.read_text()
    assert "-1 (known)" in html.replace("−", "-") and "Known values" in html and "failed" in html
    assert main(["export", str(journal), "-o", str(tmp_path / "best.json")]) == 0
    assert json.loads((tmp_path / "best.json").read_text()) == {
        "params": {"x": 7.0, "n": 7},
        "value": -1.0,
        "known": True,
    }
    assert main(["watch", str(journal), "--last", "20"]) == 0
    assert "3 known values, the best -1\n" in capsys.readouterr().out


def test_a_run_of_a_python_function_shows_what_was_known_and_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal, start = tmp_path / "run.jsonl", {"rate": 1.0, "w": [1.0, 2.0]}

    def fun(p: dict[str, Any]) -> float:
        return float(p["rate"] ** 2 + p["w"] @ p["w"])

    known = [({"w": [9.0, 9.0], "rate": 9.0}, -5.0), (start, 6.0)]
    bz.minimize(fun, start, bz.EvolutionStrategy(0.1), budget=14, known=known, journal=journal)
    bz.minimize(fun, start, bz.QuasiNewton(0.1), budget=20, journal=journal, change=True)
    assert main(["export", str(journal), "-o", str(tmp_path / "best.json")]) == 0
    assert json.loads((tmp_path / "best.json").read_text()) == {"x": [9.0, 9.0, 9.0], "value": -5.0}
    assert main(["watch", str(journal), "--last", "40"]) == 0
    said = capsys.readouterr().out
    assert "2 known values, the best -5\n" in said and "after 2 steps the method changed to QuasiNewton" in said
    pytest.importorskip("matplotlib", reason="a report needs matplotlib")
    assert main(["report", str(journal), "-o", str(tmp_path / "run.html")]) == 0
    html = (tmp_path / "run.html").read_text()
    assert "Known values" in html and "rate" in html and "w[1]" in html and "after 2 steps" in html


def test_what_the_program_contradicts_is_said_by_name(
    tmp_path: Path, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table.write_text("x,n,value\n2,5,-70\n")
    assert main(words(tmp_path, "--known", str(table), "--budget", "5")) == 0
    assert (
        "The known value -70 disagrees with 0, which the program printed for x = 2.0, n = 5." in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; leave it out"),
        ("x,n\n1,1\n", "line 2 has no 'value'; name the column"),
        ("x,value\n1,1\n", "line 2 has no value for parameter 'n'"),
        ("x,m,value\n1,1,1\n", "line 2 has no value for parameter 'n'"),
        ("x,n,value\n11,1,1\n", "line 2: parameter 'x': '11' is not between 0.0 and 10.0"),
        ("x,n,value\n1,1.5,1\n", "line 2: parameter 'n': '1.5' is not a whole number"),
        ("x,n,value\n1,1,inf\n", "line 2: the value is inf; leave it empty for a failure"),
        ("x,n,value\n1,1,low\n", "line 2: the value 'low' is not a number"),
        ("x,n,value\n1,1,1,1\n", "line 2, has more values than there are columns"),
        ('{"x": 1, "n": 1, "value": 1}\nnothing\n', "line 2: 'nothing' is not a JSON object"),
        ('{"journal": "blackbox_zo", "format": 2}\n', "is the journal of another kind of run"),
    ],
)
def test_files_that_cannot_be_used_are_named(
    text: str, message: str, tmp_path: Path, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table.write_text(text)
    assert main(words(tmp_path, "--known", str(table))) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run.jsonl").exists()


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(tmp_path, "--known", "nowhere.csv")) == 2
    assert "--known 'nowhere.csv' cannot be read" in capsys.readouterr().err


# -------------------------------------------------------------------------------------------------- another method


def test_a_run_goes_on_with_another_method_and_to_the_same_bits_after_a_cut(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = tmp_path / "run.jsonl"
    assert main(words(tmp_path, "--budget", "12")) == 0
    assert main(["resume", str(journal), "--budget", "30", "--method", "EvolutionStrategy(radius=0.1)"]) == 0
    whole = journal.read_text().splitlines(keepends=True)
    (change,) = [line for line in bz.read_journal(journal) if isinstance(line, Changed)]
    assert change.estimator["radius"] == 0.1
    place = next(i for i, line in enumerate(whole) if line.startswith('{"change"'))
    journal.write_text("".join(whole[: place + 5]))  # as a kill after the change leaves it
    assert main(["resume", str(journal), "--budget", "30"]) == 0  # goes on with the new one, unasked
    assert values(journal) == values_of(whole)
    capsys.readouterr()
    assert main(words(tmp_path, "--budget", "40")) == 2
    assert "goes by another method" in (said := capsys.readouterr().err) and "`blackbox-zo resume FILE`" in said
    assert main(["watch", str(journal), "--last", "40"]) == 0
    assert "the method changed to EvolutionStrategy(radius=0.1" in capsys.readouterr().out
    pytest.importorskip("matplotlib", reason="a report needs matplotlib")
    assert main(["report", str(journal), "-o", str(tmp_path / "run.html")]) == 0
    assert "EvolutionStrategy(radius=0.1" in (tmp_path / "run.html").read_text()


def values(journal: Path) -> list[Any]:
    return values_of(journal.read_text().splitlines(keepends=True))


def values_of(lines: list[str]) -> list[Any]:
    entries = sorted((e for e in map(json.loads, lines[1:]) if "id" in e), key=lambda e: int(e["id"]))
    return [(e["id"], e["value"], e["info"]["params"]) for e in entries]


def test_back_to_auto_and_to_a_method_with_a_rule(tmp_path: Path) -> None:
    journal = tmp_path / "run.jsonl"
    assert main(words(tmp_path, "--budget", "6", "--method", "EvolutionStrategy")) == 0
    assert bz.read_journal(journal).header["estimator"]["radius"] == 0.3
    again = "RandomVector(0.05, n_directions=2), Adam(0.1)"
    assert main(["resume", str(journal), "--budget", "12", "--method", again]) == 0
    assert main(["resume", str(journal), "--budget", "20", "--method", "auto"]) == 0
    assert main(["resume", str(journal), "--budget", "22"]) == 0
    found = [line.estimator["name"] for line in bz.read_journal(journal) if isinstance(line, Changed)]
    assert found == ["RandomVector", "Portfolio"]


def test_a_run_that_a_python_program_began_may_be_changed_too(tmp_path: Path) -> None:
    from oracles import CommandOracle

    path = script(tmp_path, SUM)
    oracle = CommandOracle([sys.executable, "-I", "-S", str(path), "{x}", "{n}"], ["x=0:10", "n=1:9:int"])
    journal = tmp_path / "run.jsonl"
    recorded = bz.Journal(journal, problem=oracle.problem)
    bz.minimize(oracle, oracle.x0, bounds=oracle.bounds, budget=6, journal=recorded)
    assert main(["resume", str(journal), "--budget", "12", "--method", "EvolutionStrategy"]) == 0
    assert sum(len(line.ids) for line in bz.read_journal(journal).answers()) == 12


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Evolution", "names 'Evolution', which is no estimator or rule"),
        ("EvolutionStrategi", "did you mean 'EvolutionStrategy'?"),
        ("EvolutionStrategy(0.3", "cannot be read"),
        ("EvolutionStrategy(radius=-1)", "must be a positive number, got -1"),
        ("EvolutionStrategy(size=1)", "size"),
        ("SGD(0.1)", "must be an estimator, or an estimator and a rule"),
        ("__import__('os').system('touch x')", "holds"),
        ("EvolutionStrategy(1 + 1j)", "must be a positive number"),
        ("EvolutionStrategy(0.3, [x for x in 'a'])", "neither a name nor a number"),
    ],
)
def test_methods_that_cannot_be_read_are_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match="--method") as error:
        method_of(text)
    assert message in str(error.value)


def test_a_method_is_read_as_it_is_shown() -> None:
    from blackbox_zo._describe import describe, spell

    shown = bz.Portfolio((bz.QuasiNewton(0.2), bz.EvolutionStrategy(0.3, model=True)), growth=(1.0, 2.0))
    assert method_of(spell(describe(shown))) == (shown, None)


# -------------------------------------------------------------------------------------------------- retries


def test_a_failed_run_is_repeated_and_the_tries_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = f"""
import os, sys
mark = {str(tmp_path)!r} + "/mark-" + "-".join(sys.argv[1:])
if not os.path.exists(mark):
    open(mark, "w").close()
    sys.exit(3)
{SUM}
"""
    assert main(words(tmp_path, "--budget", "4", "--retries", "1", "--workers", "2", program=program)) == 0
    assert "4 of 4 queries, 3 retries, " in capsys.readouterr().out  # two of the queries are of one point
    infos = [info or {} for answers in bz.read_journal(tmp_path / "run.jsonl").answers() for info in answers.info or []]
    assert len(infos) == 4 and infos[0].get("tries") == 2


def test_a_number_of_retries_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("-1", "1.5", "many"):
        with pytest.raises(SystemExit):
            main(words(tmp_path, "--retries", text))
        assert "must be a whole number of at least 0" in capsys.readouterr().err
