"""What is made of trials: shares, ranks, files, and the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from oracles.bench.shares import Shares, reference
from oracles.bench.store import load, saving
from oracles.bench.trials import Task, Trial
from oracles.cli.main import main

MEND = "pip install 'blackbox-zo[bbob]'"


# ---------------------------------------------------------------------------------------------------------- shares


def made(solver: str, hits: tuple[int, ...], function: int = 1, budget: int = 100, d: int = 10) -> Trial:
    return Trial(Task("bbob", solver, d, budget, function, 1, 0), budget * d, 1.0, 50.0, hits)


A = made("slsqp", (10,) * 17 + (500,) * 17)
B = made("powell", (400,) * 34)


def test_shares_of_pairs() -> None:
    shares = Shares([A, B], 10)
    assert shares.share("slsqp", 1) == shares.share("slsqp", 49) == pytest.approx(17 / 51)
    assert shares.share("slsqp", 50) == pytest.approx(34 / 51)
    assert shares.share("powell", 39) == 0.0
    assert shares.virtual(["slsqp", "powell"], 40) == pytest.approx(34 / 51)
    assert shares.budgets() == [10, 30, 100]
    assert np.isnan(shares.share("slsqp", 101)), "it was not run that long"


def test_a_cell_is_of_the_shortest_run_that_reaches_it() -> None:
    short, long = made("slsqp", (100,), budget=10), made("slsqp", (100, 200), budget=100)
    shares = Shares([long, short], 10)
    assert shares.share("slsqp", 10) == pytest.approx(1 / 51) and shares.share("slsqp", 100) == pytest.approx(2 / 51)
    assert next(iter(shares.runs("slsqp", 10).values())) is short


def test_ours_is_compared_on_the_problems_that_a_peer_has_seen() -> None:
    ours = [made("ours", (10,) * 51), made("ours", (), function=2)]
    shares = Shares([*ours, A, made("slsqp", (), function=3)], 10)
    difference, theirs, who = shares.behind("ours", ["slsqp"], 100)
    assert who == "slsqp" and theirs == pytest.approx(34 / 51) and difference == pytest.approx(17 / 51)
    other = made("powell", (5,) * 20, function=2)
    assert Shares([*ours, A, other], 10).behind("ours", ["slsqp", "powell"], 100) == (-20 / 51, 20 / 51, "powell")


def test_mean_ranks() -> None:
    shares = Shares([A, B, made("de", (10,) * 17)], 10)
    names = ["slsqp", "powell", "de"]
    assert [shares.rank(name, names, 10) for name in names] == [1.5, 3.0, 1.5]
    assert [shares.rank(name, names, 100) for name in names] == [2.0, 1.0, 3.0]  # as many, but sooner


def test_problems_where_ours_is_slow() -> None:
    peers = [made("slsqp", (100,) * 21, f) for f in (1, 2, 3, 4)]
    ours = [made("ours", (300,) * 21), made("ours", (301,) * 21, 2), made("ours", (1,) * 20, 3, 100)]
    found = Shares([*peers, *ours, made("ours", (), 4, 29)], 10).slow("ours", ["slsqp", "ours"])
    assert [row["function"] for row in found] == [2, 3]
    assert found[0]["theirs"] == 100 and found[0]["ours"] == 301 and found[1]["ours"] == np.inf


def test_a_run_too_short_to_tell_is_not_called_slow() -> None:
    both = [made("slsqp", (100,) * 21), made("ours", (), 1, 29)]  # 290 queries, of the 300 that it may take
    assert Shares(both, 10).slow("ours", ["slsqp"]) == []
    assert len(Shares([both[0], made("ours", (), 1, 30)], 10).slow("ours", ["slsqp"])) == 1


def test_the_virtual_best_solvers_shares_are_cocos() -> None:
    """Facts of the reference data, counted by hand: 2009 to 2016 on bbob, and 2019 on bbob-largescale."""
    assert [reference("bbob", 10, b) for b in (10, 30, 100, 300, 1000)] == [0.1944, 0.3007, 0.5237, 0.6748, 0.7761]
    assert reference("bbob-largescale", 640, 100) == 0.1855
    assert reference("bbob", 10, 299.9) < reference("bbob", 10, 300) and np.isnan(reference("ma-bbob", 10, 100))


# ----------------------------------------------------------------------------------------------------------- files


def test_a_file_gives_trials_back_and_keeps_other_solvers_rows(tmp_path: Path) -> None:
    path = tmp_path / "bbob.json"
    assert list(saving(path, [A, B], {"processor": "any"})) == [A, B]
    again = made("powell", (7,))._replace(error="ValueError: x")
    assert list(saving(path, [again], {})) == [again]
    assert sorted(load(path)) == sorted([A, again])
    assert "scipy" in json.loads(path.read_text())["solvers"]["powell"]


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"columns": []}')
    with pytest.raises(ValueError, match="does not hold trials"):
        load(path)


# --------------------------------------------------------------------------------------------------------- command


def bench(*words: str) -> int:
    return main(["bench", *words])


def test_the_command_prints_a_table_and_keeps_what_it_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cocoex", reason=MEND)
    monkeypatch.chdir(tmp_path)
    words = ("bbob", "--against", "slsqp,powell", "--dimensions", "2", "--functions", "1,8", "--budget", "10")
    assert bench(*words, "--processes", "2", "--out", "b.json", "--plot", "b.svg") == 0
    out, err = capsys.readouterr()
    assert "| **bbob, d = 2**" in out and "ours less best peer" in out
    assert "4/6 slsqp, d = 2" in err
    assert "<svg" in Path("b.svg").read_text()
    assert bench(*words, "--processes", "1", "--out", "b.json", "--quiet") == 0
    assert "powell" in capsys.readouterr().out
    assert bench(*words, "--processes", "1", "--out", "b.json") == 0
    assert capsys.readouterr().err.splitlines()[-1].startswith("2/2 ours"), "peers are not measured again"


@pytest.mark.parametrize(
    "words, message",
    [
        (("bbob", "--against", "xx"), "--against names no optimiser 'xx'; known are slsqp"),
        (("plain", "--functions", "4"), "--functions: plain has 3 functions, got 4."),
        (("plain", "--out", "nowhere/x.json"), "in a folder that does not exist"),
        (("plain", "--plot", "x.txt"), "--plot must end in .png or .svg, got 'x.txt'."),
        (("bbob-noisy", "--plot", "x.svg", "--dimensions", "5"), "--plot cannot show bbob-noisy"),
        (("bbob", "--dimensions", "7"), "bbob has no function 1 in 7 dimensions."),
    ],
)
def test_bad_input_is_told_in_a_sentence(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if words[0] != "plain":
        pytest.importorskip("cocoex", reason=MEND)
        pytest.importorskip("cma", reason=MEND)
    if words[-1] != "xx" and words[0] != "plain" and "--against" not in words:
        words = (*words, "--against", "powell")
    elif words[0] == "plain":
        words = (*words, "--against", "powell", "--dimensions", "3")
    assert bench(*words) == 2
    assert message in capsys.readouterr().err


def test_a_missing_package_is_told_with_its_cure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib.util import find_spec

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "cocoex" else find_spec(name))
    assert bench("bbob", "--against", "slsqp") == 2
    message = "This needs coco-experiment, which is not installed: pip install 'blackbox-zo[bbob]'"
    assert capsys.readouterr().err == f"blackbox-zo: {message}\n"
