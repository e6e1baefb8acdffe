"""A study as the command line runs it: its search, its rounds, and what is told of them."""

from __future__ import annotations

import argparse
import copy
import json
import sys
import webbrowser
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import blackbox_zo as bz
from blackbox_zo._describe import describe
from blackbox_zo._stop import Stop
from blackbox_zo._typing import override
from blackbox_zo.journal import Answers, Line
from blackbox_zo.tally import Tally
from oracles._files import write
from oracles._imported import imported
from oracles.kind import Kind, Session
from oracles.options import BadInput, told
from oracles.ranking.methods import ranking_method
from oracles.words import span

if TYPE_CHECKING:
    from oracles.ranking import HumanRanking, RaterModel, StudyDesign

__all__ = ["RoundTally", "StudySession", "estimator_of", "raters_of"]

CHECK_EVERY = 8
"""Rounds of a rater of which one is a check and one repeats another, where several people rate."""


class RoundTally(Tally):
    """Counts the answered rounds."""

    unit = "rounds"

    @override
    def begin(self, run: bz.Run) -> None:
        self.done = run.search.moves

    @override
    def see(self, line: Line) -> None:
        if isinstance(line, Answers):  # a round that was withdrawn comes again
            self.done = max(self.done, line.step + 1)

    @override
    def told(self, line: Line) -> Iterator[str]:
        self.see(line)
        if isinstance(line, Answers):
            said: Mapping[str, float | None] = ((line.info or [None])[0] or {}).get("said", {})
            who = ", ".join(name + (f" in {span(s)}" if s else "") for name, s in said.items())
            of = f" of {self.total}" if self.total else ""
            yield f"round {line.step + 1}{of}: {who or 'nobody could see anything'}"

    @override
    def __str__(self) -> str:
        return "answered"


class _Rounds(bz.Observer):
    """Prints each answered round, and keeps the state of the search."""

    def __init__(self, rounds: int, oracle: HumanRanking, say: Callable[[str], None]) -> None:
        self.rounds, self.oracle, self._say = rounds, oracle, say

    @override
    def stepped(self, run: bz.Run, report: bz.Report) -> None:
        self.oracle.keep(run.search)  # type: ignore[arg-type]  # a whole search
        self._say(f"round {report.step + 1} of {self.rounds} is answered: {self.oracle.summary()}")


class StudySession(Session):
    """One run of `blackbox-zo rank`.

    Args:
        kind: The kind.
        given: The options.
        settings: Of the run, for its record.
    """

    saves = True  # the store does

    def __init__(self, kind: Kind, given: argparse.Namespace, settings: dict[str, Any]) -> None:
        super().__init__(kind, given)
        from oracles.ranking.study._known import fitting
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
        self.name = str(getattr(given, "study", ""))  # where it is one of several
        self.x0 = copy.deepcopy(variable.x)
        self.search = bz.Search(variable, estimator_of(given, variable.size), seed=given.seed)
        self.origin = self.search.snapshot()
        with told():
            design = _design(given)
            for which, candidates in enumerate(design.known or ()):
                fitting(candidates, variable, which)
            self.oracle = HumanRanking(
                render,
                given.store,
                given.port,
                given.ranked,
                raters=given.raters,
                rounds=given.rounds,
                host=given.host,
                name=self.name,
                public_url=given.public_url,
                allowed_hosts=given.allow_host,
                title=given.title,
                question=given.question,
                patience=given.patience,
                consent=given.consent,
                reveal=given.show_winners,
                design=design,
            )
        kept = ("render", "candidates", "ranked", "rounds", "raters")
        about = {"title": given.title, "question": given.question, "seed": given.seed, "dimension": variable.size}
        about |= {"settings": {**settings, **{name: getattr(given, name) for name in kept}}}
        about |= {"library": bz.__version__, "numpy": np.__version__}
        self.oracle.store.describe({**about, "estimator": describe(self.search.estimator)})
        try:
            self.oracle.restore(self.search)
        except ValueError:  # other arguments; the store refuses them by the round that they ask about
            pass

    def _say(self, text: str) -> None:
        sys.stdout.write(f"{self.name}: {text}\n" if self.name else f"{text}\n")  # whole lines, also from threads
        sys.stdout.flush()

    @override
    def run(self, observers: Sequence[bz.Observer], stop: Stop) -> bz.Run:
        given = self.given
        for i, (name, url) in enumerate(self.oracle.links()):
            self._say(f"{'open' if given.raters == 1 else name}: {url}")
            if given.open and i == 0:
                webbrowser.open(url)
        self._say(f"researcher: {self.oracle.lead()}")
        self._say("Each link works once. Ctrl-C pauses; the same command continues.")
        left = max(0, given.rounds - self.search.moves)
        observers = [_Rounds(given.rounds, self.oracle, self._say)]
        return bz.Run(self.search, self.oracle, steps=left, ahead=given.ahead, observers=observers, origin=self.origin)

    @override
    def result(self, run: bz.Run) -> Iterator[str]:
        if run.ended is bz.Ended.INTERRUPTED:
            return
        if run.ended in (bz.Ended.STEPS, bz.Ended.STOPPED):
            yield from self._finish(vote=self.given.final_vote and run.ended is bz.Ended.STEPS)
        from oracles.ranking.study._store import plain

        yield from raters_of(self.oracle.reliability, self.oracle.store.people.names())
        yield from (f"note: {warning}" for warning in self.oracle.warnings())
        found = json.dumps(plain(self.search.x))
        if self.given.save is not None:
            write(self.given.save, found + "\n")
        yield f"x = {found}" if self.given.save is None else f"x is in {self.given.save}"

    def _finish(self, vote: bool) -> Iterator[str]:
        """End the study, with the final vote where it is asked for."""
        try:
            if vote:
                yield "all rounds are answered; each rater is asked whether the winner or the start is better"
                yield f"final vote: {self.oracle.vote(self.search.x, self.x0)}"
        except bz.StopRun:
            yield "final vote: the researcher finished the study before all had voted"
        except bz.Rewind as error:
            raise _withdrawn(error) from None
        try:
            self.oracle.finish()
        except bz.Rewind as error:
            raise _withdrawn(error) from None

    @override
    def close(self) -> None:
        self.oracle.close()
        super().close()


def _withdrawn(error: bz.Rewind) -> BadInput:
    return BadInput(f"Round {error.step + 1} was withdrawn at the last moment; run the same command again.")


def _design(given: argparse.Namespace) -> StudyDesign:
    from oracles.ranking.study._design import StudyDesign
    from oracles.ranking.study._known import known_of

    every = given.check_every if given.check_every is not None else CHECK_EVERY if given.raters > 1 else 0
    return StudyDesign(
        practice=given.practice,
        check_every=every,
        known=None if given.known is None else known_of(given.known),
        rounds_each=given.rounds_each,
        break_every=given.break_every,
        break_seconds=given.break_seconds,
        most_raters=given.most_raters,
    )


def estimator_of(given: argparse.Namespace, d: int) -> bz.Estimator:
    """The method that the options name, for x of d numbers."""
    if given.method == "auto":
        return ranking_method(d, given.candidates, given.ranked, given.rounds, given.radius)
    if given.method == "preference":
        return bz.PreferenceGP(given.radius, given.candidates)
    return bz.EvolutionStrategy(given.radius, given.candidates, "diagonal", weights="all")


def raters_of(model: RaterModel, names: Mapping[int, str]) -> list[str]:
    """A table of the raters, if there are several, as lines; names by the rater's number."""
    if len(model.raters) < 2:
        return []
    lines = [f"{'rater':<20} {'weight':>7} {'agrees':>7} {'time, % a round':>16}"]
    for name in model.raters:
        agreed = model.agreement(name)
        share = f"{100 * np.nanmean(agreed):.0f} %" if np.isfinite(agreed).any() else "-"
        trend = model.fatigue(name).seconds.slope
        tired = f"{100 * np.expm1(trend):+.1f}" if np.isfinite(trend) else "-"
        lines.append(f"{names[int(name)]:<20.20} {model.weights[name]:>7.2f} {share:>7} {tired:>16}")
    return lines


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
