"""Runs of `blackbox-zo rank`: people rank what a function renders."""

from __future__ import annotations

import argparse
import json
import webbrowser
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, final

import numpy as np

import blackbox_zo as bz
from blackbox_zo._stop import Stop
from blackbox_zo._typing import override
from blackbox_zo.journal import Answers, JournalReader, Line
from blackbox_zo.tally import Tally
from oracles._files import write
from oracles._imported import imported
from oracles.kind import Kind, Session
from oracles.options import BadInput, told
from oracles.page import Page
from oracles.ranking.methods import ranking_method
from oracles.ranking.options import EXAMPLE, OPTIONS

if TYPE_CHECKING:
    from oracles.ranking import RaterModel

__all__ = ["RankKind", "raters_of"]


class RoundTally(Tally):
    """Counts the answered rounds."""

    unit = "rounds"

    @override
    def begin(self, run: bz.Run) -> None:
        self.done = run.search.moves

    @override
    def see(self, line: Line) -> None:
        self.done += isinstance(line, Answers)

    @override
    def __str__(self) -> str:
        return "answered"


class _Rounds(bz.Observer):
    """Prints each answered round, for whoever waits."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds

    @override
    def stepped(self, run: bz.Run, report: bz.Report) -> None:
        print(f"round {report.step + 1} of {self.rounds} is answered", flush=True)


class _Study(Session):
    saves = True  # the store does

    def __init__(self, kind: Kind, given: argparse.Namespace) -> None:
        super().__init__(kind, given)
        from oracles.ranking.study.human import HumanRanking

        if given.candidates < 2:
            raise BadInput(f"--candidates must be at least 2, got {given.candidates}.")
        if given.ranked is not None and given.ranked > given.candidates:
            raise BadInput(f"--ranked {given.ranked} is more than --candidates {given.candidates}.")
        render = imported(given.render, "--render")
        try:
            variable = bz.Vector(_start(given.x0, render, given.render))
        except (TypeError, ValueError) as error:
            raise BadInput(f"--x0: {error}") from error
        self.tally = RoundTally(given.rounds)
        self.search = bz.Search(variable, _estimator(given, variable.size), seed=given.seed)
        with told():
            self.oracle = HumanRanking(
                render,
                given.store,
                given.port,
                given.ranked,
                raters=given.raters,
                rounds=given.rounds,
                host=given.host,
                allowed_hosts=given.allow_host,
                title=given.title,
                question=given.question,
                patience=given.patience,
            )

    @override
    def run(self, observers: Sequence[bz.Observer], stop: Stop) -> bz.Run:
        given = self.given
        for number in range(given.raters):
            url = self.oracle.url
            print(f"{'open' if given.raters == 1 else f'rater {number + 1}'}: {url}", flush=True)
            if given.open and number == 0:
                webbrowser.open(url)
        print("Each link works once. Ctrl-C stops; the same command continues.", flush=True)
        return bz.Run(
            self.search, self.oracle, steps=given.rounds, ahead=given.ahead, observers=[_Rounds(given.rounds)]
        )

    @override
    def result(self, run: bz.Run) -> Iterator[str]:
        if run.ended is bz.Ended.INTERRUPTED:
            return
        yield from raters_of(self.oracle.reliability)
        found = json.dumps(_plain(self.search.x))
        if self.given.save is not None:
            write(self.given.save, found + "\n")
        yield f"x = {found}" if self.given.save is None else f"x is in {self.given.save}"

    @override
    def close(self) -> None:
        self.oracle.close()
        super().close()


def _estimator(given: argparse.Namespace, d: int) -> bz.Estimator:
    if given.method == "auto":
        return ranking_method(d, given.candidates, given.ranked, given.rounds, given.radius)
    if given.method == "preference":
        return bz.PreferenceGP(given.radius, given.candidates)
    return bz.EvolutionStrategy(given.radius, given.candidates, "diagonal", weights="all")


@final
class RankKind(Kind):
    """Studies, recorded in a store instead of a journal."""

    name = "rank"
    help = "ask people to rank what a function renders, on a web page"
    example = EXAMPLE
    extra = "human"
    journaled = False
    options = OPTIONS

    @override
    def open(self, given: argparse.Namespace, settings: dict[str, Any]) -> Session:
        del settings
        return _Study(self, given)

    @override
    def recognises(self, header: Mapping[str, Any]) -> bool:
        return False  # a study has no journal

    @override
    def tally(self, header: Mapping[str, Any]) -> Tally:
        return RoundTally(None)

    @override
    def page(self, reader: JournalReader, given: argparse.Namespace) -> Page:
        raise BadInput("A study has no journal; `blackbox-zo answers` exports its store.")


def raters_of(model: RaterModel) -> list[str]:
    """A table of the raters, if there are several, as lines."""
    if len(model.raters) < 2:
        return []
    lines = [f"{'rater':<20} {'weight':>7} {'agrees':>7} {'time, % a round':>16}"]
    for name in model.raters:
        agreed = model.agreement(name)
        share = f"{100 * np.nanmean(agreed):.0f} %" if np.isfinite(agreed).any() else "-"
        trend = model.fatigue(name).seconds.slope
        tired = f"{100 * np.expm1(trend):+.1f}" if np.isfinite(trend) else "-"
        lines.append(f"{name:<20.20} {model.weights[name]:>7.2f} {share:>7} {tired:>16}")
    return lines


def _plain(x: Any) -> Any:
    """Arrays as lists, for JSON."""
    if isinstance(x, dict):
        return {k: _plain(v) for k, v in x.items()}
    if isinstance(x, list | tuple):
        return [_plain(v) for v in x]
    return np.asarray(x).tolist()


def _start(text: str | None, render: Any, name: str) -> Any:
    if text is None:
        x0 = getattr(render, "x0", None)
        if x0 is None:
            raise BadInput(f"--x0 is needed: {name} has no x0 of its own.")
        return np.array(x0, dtype=np.float64)
    if text.endswith(".npy"):
        try:
            return np.load(text, allow_pickle=False).astype(np.float64)
        except (OSError, ValueError) as error:
            raise BadInput(f"--x0 {text}: {error}.") from error
    try:
        found = json.loads(text)
    except ValueError:
        raise BadInput(f"--x0 {text!r:.60} is not JSON, such as '[0, 0, 0]'.") from None
    try:
        return np.array(found, dtype=np.float64) if isinstance(found, list) else found
    except (TypeError, ValueError):
        return found  # lists of lists of several lengths, or dicts inside: a tree
