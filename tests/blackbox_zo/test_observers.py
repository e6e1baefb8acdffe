"""Observers: plain lines, the bar on a terminal, callbacks, logging."""

from __future__ import annotations

import io
import logging
import os
import pty
import re
import subprocess
import sys
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import blackbox_zo as bz
from blackbox_zo._typing import Floats
from blackbox_zo.observers import Bar, Callback, Lines, display
from blackbox_zo.tally import StepTally, Tally


def bowl(x: Floats) -> float:
    return float(((x - 1.0) ** 2).sum())


def run_with(*observers: bz.Observer, steps: int = 4, fun: Any = bowl, **more: Any) -> bz.Run:
    search = bz.Search(np.zeros(3), bz.RandomVector(0.1, 2), bz.SGD(0.05), seed=7)
    run = bz.Run(search, bz.FunctionOracle(fun), steps=steps, observers=observers, **more)
    run.to_the_end()
    return run


def test_lines_count_queries_or_steps_and_the_last_says_where_the_run_ended() -> None:
    queries, steps = io.StringIO(), io.StringIO()
    centre = bz.Measure("centre", lambda search: bowl(search.x), every=2)
    kept: list[bz.Report] = []
    run = run_with(
        Lines(Tally(16), queries), Lines(StepTally(4), steps, seconds=0.0), Callback(kept.append), measures=[centre]
    )
    assert queries.getvalue().splitlines()[-1] == f"16/16 queries, best {run.search.best.value:.6g}"
    assert steps.getvalue().splitlines() == [
        f"{i + 1}/4 steps, value {kept[i].value:.6g}, centre {run.search.measured[(i + 1) // 2].values['centre']:.6g}"
        for i in range(4)
    ]


def test_lines_are_no_closer_than_a_tenth_of_the_run_and_the_seconds_asked_for() -> None:
    tenths, rare = io.StringIO(), io.StringIO()
    run_with(Lines(StepTally(200), tenths, seconds=0.0), Lines(StepTally(200), rare, seconds=60.0), steps=200)
    shown = [int(line.split("/")[0]) for line in tenths.getvalue().splitlines()]
    assert shown == [1, *range(20, 201, 20)]
    assert [line.split("/")[0] for line in rare.getvalue().splitlines()] == ["1", "200"]


def test_a_tally_shows_the_users_sign_and_failures() -> None:
    stream = io.StringIO()
    fun = lambda x: float("nan") if x[0] > 0.05 else bowl(x)  # noqa: E731
    run = run_with(Lines(Tally(None, maximize=True), stream, seconds=0.0), fun=fun)
    assert 0 < run.search.failed < 16
    assert stream.getvalue().splitlines()[-1] == (
        f"16 queries, best {-run.search.best.value:.6g}, {run.search.failed} failed"
    )


@pytest.mark.parametrize("kind", ["Tally(16)", "StepTally(4)"])
def test_a_bar_on_a_terminal_counts_to_the_end_and_shows_measures(kind: str) -> None:
    code = f"""
import numpy as np, blackbox_zo as bz
from blackbox_zo.observers import display
from blackbox_zo.tally import StepTally, Tally
search = bz.Search(np.zeros(3), bz.RandomVector(0.1, 2))
centre = bz.Measure("centre", lambda search: 0.125)
observers = display(True, {kind})
oracle = bz.FunctionOracle(lambda x: float(x @ x))
bz.Run(search, oracle, steps=4, observers=observers, measures=[centre]).to_the_end()
"""
    main, other = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code], stderr=other, env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"}
    )
    os.close(other)
    shown = b""
    while True:
        try:
            some = os.read(main, 4096)
        except OSError:  # the other end is closed
            break
        if not some:
            break
        shown += some
    os.close(main)
    assert process.wait() == 0
    text = shown.decode()
    assert "━" in text
    assert ("16/16" in text and "best" in text) if kind == "Tally(16)" else ("4/4" in text and "centre 0.125" in text)


def test_display_gives_what_progress_asks_for() -> None:
    tally, mine = Tally(10), bz.Observer()
    assert display(None, tally) == display(False, tally) == []
    assert display(mine, tally) == display([mine], tally) == display((mine,), tally) == [mine]
    (lines,) = display(True, tally)  # stderr is no terminal here
    assert isinstance(lines, Lines)
    (callback,) = display(print, tally)
    assert isinstance(callback, Callback)
    for wrong in ("yes", bz.Observer, [print], 3):
        with pytest.raises(TypeError, match="`progress` must be True, False, None, a function"):
            display(wrong, tally)


def test_without_rich_there_are_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert isinstance(display(True, Tally(10))[0], Bar)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert isinstance(display(True, Tally(10))[0], Lines)


def test_any_observer_may_end_the_run() -> None:
    class Ends(bz.Observer):
        def stepped(self, run: bz.Run, report: bz.Report) -> bool:
            return report.step == 1

    run = run_with(Ends())
    assert (run.ended, run.search.steps, run.message) == (bz.Ended.STOPPED, 2, "A callback asked to stop.")


def test_logging_has_steps_measures_the_first_failure_and_the_end(caplog: pytest.LogCaptureFixture) -> None:
    def fun(x: Floats) -> float:
        return 1 / 0 if search.steps == 2 else bowl(x)

    def flaky(search: bz.Search) -> float:
        if search.moves == 3:
            raise OSError("no data")
        return 0.5

    search = bz.Search(np.zeros(3), bz.RandomVector(0.1, 2), seed=7)
    oracle = bz.FunctionOracle(fun, on_error="skip")
    measure = bz.Measure("validation", flaky, every=3, last=False)
    with caplog.at_level(logging.DEBUG, logger="blackbox_zo"):
        bz.Run(search, oracle, steps=4, measures=[measure], observers=[bz.LoggingObserver()]).to_the_end()
    seen = [(r.levelname, r.getMessage()) for r in caplog.records if r.name == "blackbox_zo"]
    steps = [text for level, text in seen if level == "DEBUG"]
    assert len(steps) == 4
    assert re.fullmatch(r"step 1: mean value nan, best \S+, 8 queries, 4 failed", steps[1])
    assert [entry for entry in seen if entry[0] != "DEBUG"] == [
        ("INFO", "The run begins."),
        ("INFO", "validation after 0 moves: validation 0.5"),
        ("WARNING", "query 4 failed: ZeroDivisionError: division by zero"),
        ("INFO", "validation after 3 moves: OSError: no data"),
        ("INFO", "The run ended: All steps are done."),
    ]


def test_logging_says_that_a_run_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    search = bz.Search(np.zeros(3), bz.RandomVector(0.1, 2))
    for _ in range(2):
        with caplog.at_level(logging.INFO, logger="mine"):
            logger = bz.LoggingObserver(logging.getLogger("mine"))
            bz.Run(search, bz.FunctionOracle(bowl), steps=2, observers=[logger]).to_the_end()
    begins = [r.getMessage() for r in caplog.records if r.name == "mine" and "ended" not in r.getMessage()]
    assert begins == ["The run begins.", "The run continues after 8 queries."]


def test_a_measure_may_give_any_number_alone_or_in_a_dict() -> None:
    found = {"a": Decimal("0.5"), "b": np.ones((1, 1)), "c": 1 + 0j, "d": [1.0], "e": True}
    taken = bz.Measure("all", lambda search: found).take(None, 1, 0.0, forgiving=False)
    assert taken.values == {"a": 0.5, "b": 1.0, "c": 1.0}
    assert taken.more == {"d": [1.0], "e": True}
    half: Any = Fraction(1, 2)
    assert bz.Measure("one", lambda search: half).take(None, 1, 0.0, forgiving=False).values == {"one": 0.5}
