"""Perform one run of any kind, show its progress and report how it ended."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import blackbox_zo as bz
from blackbox_zo._paths import expanded
from blackbox_zo._stop import Stop
from blackbox_zo._typing import override
from blackbox_zo.errors import JournalError
from blackbox_zo.journal import Answers
from blackbox_zo.observers import Counted, display
from blackbox_zo.tally import Tally
from oracles.cli._ranks import prepare
from oracles.cli.report import check_output, write
from oracles.kind import Kind, Session
from oracles.options import BadInput, Table, add_options, auto_or_count, check_file, option, seconds

__all__ = ["add_run", "perform"]


_RUN: Table = {
    "": (
        option(
            "--journal",
            "record every answer; if the file already holds this run, continue it",
            expanded,
            metavar="FILE",
        ),
        option(
            "--snapshot-every",
            "save the state beside the journal every N moves of x, from which resume and export start instead of "
            "replaying every move; the last two are kept, so they take twice the disk of a model's searched weights, "
            "three times while one is written; auto: when a replay would take ten seconds and twenty times as long as "
            "writing, if the disk has room for four; 0: never; default auto",
            auto_or_count,
            metavar="N",
            default="auto",
        ),
        option("--report", "write a report at the end: an .html or .png file", expanded, metavar="FILE"),
        option("--time-limit", "stop after this many seconds", seconds, metavar="S"),
    )
}


def add_run(commands: Any, kind: Kind, kinds: Sequence[Kind]) -> argparse.ArgumentParser:
    """Add the command of a kind."""

    def run(given: argparse.Namespace) -> int:
        return perform(kind, given, kinds)

    parser: argparse.ArgumentParser = commands.add_parser(
        kind.name,
        help=kind.help,
        description=f"{kind.help[0].upper()}{kind.help[1:]}.",
        epilog=kind.example or None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(command=run, header=None, ranks=None)
    add_options(parser, kind.options)
    if kind.journaled:
        add_options(parser, _RUN)
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    return parser


class _Notes(bz.Observer):
    """Shows the first failure and each measure when they happen."""

    def __init__(self, tally: Tally, shown: Sequence[bz.Observer]) -> None:
        self.tally, self.shown, self.failed = tally, shown, tally.failed > 0

    @override
    def answered(self, run: bz.Run, answers: Answers) -> None:
        if run.first_failure is not None and not self.failed:
            self.failed = True
            self._note(self.tally.failure(run.first_failure.query, run.first_failure.info))

    @override
    def measured(self, run: bz.Run, measured: bz.Measured) -> None:
        self._note(self.tally.measure(measured))

    def _note(self, text: str) -> None:
        for observer in self.shown:
            observer.note(text)


def perform(kind: Kind, given: argparse.Namespace, kinds: Sequence[Kind]) -> int:
    """Perform a run, say how it went, and return the exit code.

    Args:
        kind: The kind of the run.
        given: The options; `typed` has the words after the command's name.
        kinds: All kinds, for the report.
    """
    prepare(given)
    if kind.journaled:
        check_file(given.journal, "--journal")
    if kind.journaled and given.journal is None and given.snapshot_every not in ("auto", 0):
        raise BadInput("--snapshot-every saves the state beside the journal; add --journal FILE.")
    if kind.journaled and given.report is not None:
        if given.journal is None:
            raise BadInput("--report is drawn from the journal; add --journal FILE.")
        check_output(given.report, "--report")
    settings = {"arguments": list(given.typed), "cwd": str(Path.cwd())}
    with Stop() as stop:
        try:
            session = kind.open(given, settings)
            try:
                return _go(kind, session, given, stop, kinds)
            finally:
                session.close()
        except KeyboardInterrupt:
            print("blackbox-zo: interrupted.", file=sys.stderr)
            return 128 + (stop.number or 2)


def _go(kind: Kind, session: Session, given: argparse.Namespace, stop: Stop, kinds: Sequence[Kind]) -> int:
    observers = [Counted(session.tally)] if given.quiet else display(True, session.tally)
    for text in session.introduction():
        for observer in observers:
            observer.note(text)
    run = session.run([*observers, _Notes(session.tally, observers)], stop)
    journal: Path | None = given.journal if kind.journaled else None
    if journal is not None and run.search.nfev:
        unit = session.tally.unit
        done = f"{run.search.moves if unit == 'steps' else session.tally.done:,} {unit}"
        option = "budget" if unit == "queries" else unit
        over = run.reached()
        more = "nothing is left to ask" if session.whole else f"give a larger --{option} to continue"
        what = f"all {done} of this run; {more}" if over else f"{done} of this run, which continues"
        print(f"{journal} holds {what}.", flush=True)
    trouble = ""
    try:
        run.to_the_end()
    except OSError as error:  # e.g. a full disk: the answers so far are kept
        trouble = str(error)
    if given.ranks is not None:  # none need wait until this one has saved
        given.ranks.leave(
            2 if trouble else 128 + (stop.number or 2) if run.ended is bz.Ended.INTERRUPTED else 0, trouble
        )
    failed = run.ended in (bz.Ended.FAILED, bz.Ended.BARREN)
    interrupted = run.ended is bz.Ended.INTERRUPTED
    if trouble or failed:
        print(f"blackbox-zo: {trouble or session.failure(run)}", file=sys.stderr)
    if interrupted:
        print("Interrupted" + ("; every answer is kept." if journal or session.saves else "."))
    elif run.ended in (bz.Ended.TIME, bz.Ended.TARGET):
        print(run.message)
    lost = False
    try:
        for line in session.result(run):
            print(line, flush=True)
    except BrokenPipeError:
        raise
    except (BadInput, OSError) as error:  # the result could not be saved, but can be rebuilt from the journal
        print(f"blackbox-zo: {error}", file=sys.stderr, flush=True)
        lost = True
    if journal is not None:
        name = shlex.quote(os.fspath(journal))
        if trouble or interrupted or run.ended in (bz.Ended.TIME, bz.Ended.TARGET, bz.Ended.STOPPED):
            print(f"to continue: blackbox-zo resume {name}")
        elif lost:
            print(f"to save the result: blackbox-zo resume {name}")
        drawn = False
        if given.report is not None and not trouble:
            try:
                print(f"report: {write([journal], given.report, kinds)}")
                drawn = True
            except BrokenPipeError:
                raise
            except (BadInput, JournalError, OSError) as error:
                print(f"blackbox-zo: {error}", file=sys.stderr, flush=True)
                lost = True
        if not drawn:
            print(f"to see it: blackbox-zo report {name}")
    elif session.unkept:
        print(session.unkept)
    return 2 if trouble or lost else 128 + (stop.number or 2) if interrupted else 1 if failed else 0
