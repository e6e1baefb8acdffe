"""`blackbox-zo report`: every kind of run becomes one safe, self-contained file."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import blackbox_zo as bz
from blackbox_zo.journal import Journal
from oracles import CommandOracle, FunctionOracle, RankOnly
from oracles.cli._scale import Scale, log_ticks, round_ticks
from oracles.cli.main import main
from oracles.function.history import History
from oracles.words import figure as number

EVIL = "<script>alert('x')</script>&\"$x^2$"


class Pretended(CommandOracle):
    """Answers as a program would, without running one."""

    def parts(self, proposal: bz.Proposal) -> Iterator[tuple[Any, bz.Feedback]]:
        for i in range(proposal.n):
            values = self.decode(proposal.points[i])
            info: dict[str, Any] = {"params": values, "seconds": 0.25}
            loss = abs(np.log10(float(values["lr"])) + 2) + float(values["depth"]) / 10 + len(str(values["act"]))
            if float(values["lr"]) > 0.02 or self.timeout == 1:
                info |= {"error": f"exit code 1 {EVIL}", "tail": f"line 1\n{EVIL}\n\x1b[31mred\x1b[0m"}
                loss = np.nan
            yield proposal.ids[i : i + 1], bz.Values([-loss if self.maximize else loss], info=[info])


def command_run(path: Path, budget: int = 40, **more: Any) -> Path:
    """The journal of a command with three kinds of parameters, some of it failing."""
    parameters = {"lr": "1e-4:1:log", "depth": "2:12:int", "act": f"relu,gelu,{EVIL}"}
    oracle = Pretended("{python} train.py --lr {lr} --depth {depth} --act {act}", parameters, **more)
    settings = {"budget": 2 * budget, "workers": 1}
    bz.minimize(
        oracle,
        oracle.x0,
        bounds=oracle.bounds,
        budget=budget,
        journal=Journal(path, problem=oracle.problem, settings=settings),
    )
    return path


class Page(HTMLParser):
    """What a browser would see: text, tags, and whether each tag is closed."""

    VOID = frozenset({"meta", "br", "img", "input", "hr", "link"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.urls: list[str] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href"):
                self.urls.append(value or "")
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "title"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def report(journal: Path, capsys: pytest.CaptureFixture[str]) -> Page:
    """The report of a journal as HTML, after checking that it is safe and that the PNG is made too."""
    picture = journal.with_suffix(".png")
    assert main(["report", str(journal), "-o", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG\r\n") and picture.stat().st_size > 10_000
    assert main(["report", str(journal)]) == 0
    printed = capsys.readouterr()
    assert printed.err == "" and str(journal.with_suffix(".html")) in printed.out
    text = journal.with_suffix(".html").read_text(encoding="utf-8")
    page = Page(text)
    assert "script" not in page.tags
    assert all(url.startswith(("#", "data:image/png")) for url in page.urls)
    assert "://" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", text)
    assert sorted(p.suffix for p in journal.parent.iterdir()) == [".html", ".jsonl", ".png"]
    return page


def test_a_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = command_run(tmp_path / "run.jsonl")
    history, page = History(bz.read_journal(journal)), report(journal, capsys)
    best = history.best_first[0]
    assert 0 < len(history.failed) < history.n == 40
    assert history.values[best] == np.nanmin(history.values)
    for words in ("run.jsonl", "{python} train.py --lr {lr}", "40 of 80", "250 ms", "Best 10", "EvolutionStrategy("):
        assert words in page.text
    assert number(history.values[best]) in page.text
    params = history.infos[best]["params"]
    assert f"--lr {params['lr']} --depth {params['depth']}" in page.text
    assert f"exit code 1 {EVIL}" in page.text and f"line 1 {EVIL} ␛[31mred␛[0m" in page.text
    assert page.tags.count("svg") == 2 + 3 and page.tags.count("details") == min(len(history.failed), 25)
    assert [axis.name for axis in history.axes] == ["lr", "depth", "act"]
    assert history.axes[0].log and history.axes[2].options == ("relu", "gelu", EVIL)


def test_points_from_a_replay_are_those_that_were_asked(tmp_path: Path) -> None:
    journal = command_run(tmp_path / "run.jsonl")
    before = History(bz.read_journal(journal))
    header, *records = [json.loads(line) for line in journal.read_text().splitlines()]
    for record in records:  # as a wrapper that records nothing would have left it
        record.pop("info")
    journal.write_text("".join(json.dumps(line) + "\n" for line in [header, *records]))
    after = History(bz.read_journal(journal))
    for mine, theirs in zip(before.axes, after.axes, strict=True):
        assert mine.name == theirs.name
        np.testing.assert_array_equal(mine.values, theirs.values)


def test_maximize(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = command_run(tmp_path / "run.jsonl", maximize=True)
    history, page = History(bz.read_journal(journal)), report(journal, capsys)
    assert history.values[history.best_first[0]] == np.nanmax(history.values) > 0
    best = history.best_so_far
    assert np.all(np.diff(best[~np.isnan(best)]) >= 0)
    assert "best (highest)" in page.text and "value (higher is better)" in page.text


def test_only_failures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = report(command_run(tmp_path / "run.jsonl", 12, timeout=1), capsys)
    assert "Every query failed." in page.text and "Best" not in page.text and page.tags.count("details") == 12


def test_a_python_function(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fun(x: Any) -> float:
        return np.nan if x["a"] > 3.1 else float(x["a"] ** 2 + (x["b"] ** 2).sum())

    journal = tmp_path / "run.jsonl"
    result = bz.minimize(fun, {"a": 3.0, "b": np.ones((2, 2))}, budget=60, journal=journal)
    history, page = History(bz.read_journal(journal)), report(journal, capsys)
    assert [axis.name for axis in history.axes] == ["a", "b[0,0]", "b[0,1]", "b[1,0]", "b[1,1]"]
    assert history.axes[0].values[history.best_first[0]] == result.x["a"]
    assert history.values[history.best_first[0]] == result.fun
    assert "b[1,1]" in page.text and page.tags.count("svg") == 7 and "NaN or infinite" in page.text


def test_rankings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = tmp_path / "run.jsonl"
    with bz.Search(np.full(3, 2.0), bz.RankBased(0.3, 8), bz.SGD(0.3), budget=80, journal=journal) as s:
        for _ in s.run(RankOnly(FunctionOracle(lambda x: float(x @ x)), 3)):
            pass
    history, page = History(bz.read_journal(journal)), report(journal, capsys)
    assert history.ranked and history.place.min() == 0 and history.place.max() == 1
    assert "The answers are rankings" in page.text and page.tags.count("svg") == 3
    assert "best of its step" in page.text


def test_no_answers_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = tmp_path / "run.jsonl"
    bz.Search(np.zeros(3), bz.RankBased(0.3, 8), journal=journal).close()
    page = report(journal, capsys)
    assert "No answer has been recorded yet." in page.text and page.tags.count("svg") == 0


def test_one_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = tmp_path / "run.jsonl"
    bz.minimize(lambda x: float(x[0]), [0.0], budget=1, journal=journal)
    assert report(journal, capsys).tags.count("svg") == 3


def test_a_run_that_cannot_be_rebuilt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = tmp_path / "run.jsonl"
    bz.minimize(lambda x: float(x @ x), np.ones(5000), (bz.RandomVector(0.1), bz.SGD(1e-3)), budget=20, journal=journal)
    page = report(journal, capsys)
    assert "They cannot be drawn. Journals record the start up to dimension 4096" in page.text
    assert page.tags.count("svg") == 2


def test_the_twelve_that_vary_most_are_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = tmp_path / "run.jsonl"
    unit = np.ones(20)
    bz.minimize(
        lambda x: float(x @ x),
        np.zeros(20),
        budget=60,
        bounds=[(-1e-9, 1e-9)] * 8 + [(-9, 9)] * 12,
        unit=unit,
        journal=journal,
    )
    history, page = History(bz.read_journal(journal)), report(journal, capsys)
    assert [axis.name for axis in history.drawn] == [f"x[{i}]" for i in range(8, 20)]
    assert "The 12 of 20 that vary most." in page.text and "x[3]" in page.text and page.tags.count("svg") == 14


def test_ten_thousand_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = tmp_path / "run.jsonl"
    method = (bz.RandomVector(0.05, 50), bz.SGD(0.1))
    bz.minimize(lambda x: float(x @ x), np.ones(3), method, budget=10_000, journal=journal)
    report(journal, capsys)
    assert journal.with_suffix(".html").stat().st_size < 1_500_000


def test_a_journal_that_is_being_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal, reported = tmp_path / "run.jsonl", threading.Event()

    def fun(x: Any) -> float:
        if len(seen) == 12:
            seen.append(0.0)
            page = report(journal, capsys)
            assert "12" in page.text
            with journal.open("a") as file:  # as a report would meet it in the middle of a write
                file.write('{"step": 9, "at"')
            assert History(bz.read_journal(journal)).n == 12
            journal.write_text(journal.read_text().removesuffix('{"step": 9, "at"'))
            reported.set()
        seen.append(float(x @ x))
        return seen[-1]

    seen: list[float] = []
    bz.minimize(fun, np.ones(2), budget=20, journal=journal)
    assert reported.is_set() and History(bz.read_journal(journal)).n == 20


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["run.jsonl", "-o", "run.pdf"], "--output 'run.pdf' must end in .html or .png."),
        (["run.jsonl", "-o", "run.jsonl"], "must end in .html or .png."),
        (["run.jsonl", "-o", "nowhere/run.html"], "'nowhere/run.html' is in a folder that does not exist"),
        (["missing.jsonl"], "No such file"),
        (["empty.jsonl"], "'empty.jsonl' is empty; no run has been recorded in it."),
        (["text.jsonl"], "'text.jsonl' is "),
    ],
)
def test_bad_input_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], given: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    bz.minimize(lambda x: float(x[0]), [0.0], budget=2, journal="run.jsonl")
    Path("empty.jsonl").touch()
    Path("text.jsonl").write_text("hello\nworld\n")
    before = Path("run.jsonl").read_bytes()
    assert main(["report", *given]) == 2
    assert words in capsys.readouterr().err
    assert Path("run.jsonl").read_bytes() == before and not Path("run.html").exists()


def test_without_matplotlib(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = tmp_path / "run.jsonl"
    bz.minimize(lambda x: float(x[0]), [0.0], budget=2, journal=journal)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["report", str(journal)]) == 2
    assert "pip install 'blackbox-zo[cli]'" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------------- scales


def test_numbers_are_short() -> None:
    shown = [number(v) for v in (1e-5, 0.0001, 25.0, 1e12, 123456789.0, -3.5e-20, 0.0)]
    assert shown == ["1e-5", "0.0001", "25", "1e12", "1.23457e8", "-3.5e-20", "0"]


@pytest.mark.parametrize(
    ("low", "high"), [(1e-8, 1.0), (0.01, 0.5), (2.0, 3.0), (1e-50, 1e50), (0.9, 11.0), (3.0, 3.1)]
)
def test_log_ticks(low: float, high: float) -> None:
    ticks = log_ticks(low, high, 5)
    assert 1 <= len(ticks) <= 7 and ticks == sorted(ticks)
    assert all(low <= tick <= high * (1 + 1e-12) for tick in ticks)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.2, 7.9), (1e6, 1e6 + 3), (-1e-9, 1e-9)])
def test_round_ticks(low: float, high: float) -> None:
    ticks = round_ticks(low, high, 5)
    assert 2 <= len(ticks) <= 7
    assert all(low - 1e-9 * (high - low) <= tick <= high + 1e-9 * (high - low) for tick in ticks)


def test_scales() -> None:
    assert Scale.of(np.array([1e-3, 1.0]), False).log
    assert not Scale.of(np.array([0.0, 1.0]), False).log
    assert not Scale.of(np.array([1.0, 2.0]), False).log
    assert Scale.of(np.array([np.nan]), False).empty
    ordinary = np.linspace(-1, 1, 50)
    far = Scale.of(np.append(ordinary, 1e9), False)
    assert (far.high, far.beyond, far.cut) == (1.0, 1, 1.0)
    best = Scale.of(np.append(ordinary, -1e9), False)  # the best is never cut off
    assert (best.low, best.beyond) == (-1e9, 0)
    low = Scale.of(np.append(ordinary, -1e9), True)
    assert (low.low, low.beyond, low.cut) == (-1.0, 1, -1.0)


def test_what_each_method_spent_and_gained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = tmp_path / "run.jsonl"
    found = bz.minimize(lambda x: float(np.abs(np.sin(3 * x)).sum()), np.ones(2), budget=900, journal=journal)
    history, page = History(bz.read_journal(journal)), report(journal, capsys)
    assert history.trace == found.trace
    assert len(found.trace) > 2
    for run in found.trace[:12]:
        assert run.member in page.text and f"{run.queries:,}" in page.text and run.ended in page.text
    bz.minimize(lambda x: float(x @ x), np.ones(2), bz.PGPE(0.1, 4), budget=40, journal=tmp_path / "other.jsonl")
    assert History(bz.read_journal(tmp_path / "other.jsonl")).trace == []


def test_far_values_are_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = tmp_path / "run.jsonl"
    cma = bz.EvolutionStrategy(0.3)
    bz.minimize(lambda x: float(x @ x - 1 + 1e9 * (x[0] > 1.2)), np.ones(2), cma, budget=60, journal=journal)
    history = History(bz.read_journal(journal))
    beyond = int((history.values > 1e6).sum())
    assert beyond > 0 and f"{beyond} worse value" in report(journal, capsys).text
