"""The abstract `Kind`: what the command line knows about one kind of run. Each family of oracles has one."""

from __future__ import annotations

import argparse
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from blackbox_zo._stop import Stop
from blackbox_zo.journal import Journal, JournalReader
from blackbox_zo.run import Observer, Run
from blackbox_zo.search import Search
from blackbox_zo.tally import Tally
from oracles.options import BadInput, Table, names_of, told
from oracles.page import Page

__all__ = ["BadInput", "Kind", "Session", "told"]


class Session(ABC):
    """One run, ready to start: what a `Kind` builds from the options.

    Args:
        kind: Kind of the run.
        given: The options.

    Attributes:
        tally: Tally of the run; it has already seen the lines in the journal.
        search: The search; `close` closes it.
        saves: Whether answers are saved even without a journal.
        whole: Whether the budget is all that there is to ask, so that a larger one adds nothing.
        unkept: The hint after a run that saved nothing; empty for none.
    """

    tally: Tally
    search: Search
    saves: bool = False
    whole: bool = False
    unkept: str = ""

    def __init__(self, kind: Kind, given: argparse.Namespace) -> None:
        self.kind, self.given = kind, given

    @abstractmethod
    def run(self, observers: Sequence[Observer], stop: Stop) -> Run:
        """The run, with its limits and measures, not yet started.

        Args:
            observers: Receive each answer, step and measure.
            stop: Catches signals.
        """

    def introduction(self) -> Iterator[str]:
        """Lines that describe the run before it starts; the command line adds what the journal already holds."""
        return iter(())

    @abstractmethod
    def result(self, run: Run) -> Iterator[str]:
        """Save the files; yield lines that report the result."""

    def failure(self, run: Run) -> str:
        """The message if every query failed."""
        return run.message

    def journal(self, problem: Mapping[str, Any], settings: dict[str, Any]) -> Journal | None:
        """The requested journal, whose lines the tally sees; None without `--journal`.

        Raises:
            JournalError: The journal is of another run, damaged, or in use.
        """
        if self.given.journal is None:
            return None
        problem = {"kind": self.kind.name, **problem}
        return Journal(
            self.given.journal, problem, settings, see=self.tally.see, names=self.kind.names,
            see_last=self.tally.lines, snapshot_every=self.given.snapshot_every,
        )  # fmt: skip

    def close(self) -> None:
        """Release processes and files."""
        self.search.close()


class Kind(ABC):
    """What the command line knows about one kind of run.

    `name` is the command, and the journal has it as `header["problem"]["kind"]`. `header["settings"]` records how the
    run was started: the words of its command line as "arguments", and its folder as "cwd".

    Attributes:
        name: Name of the command.
        help: What the command does, in one line.
        example: Working commands, shown at the end of `--help`.
        extra: Extra to install for it: `pip install 'blackbox-zo[EXTRA]'`.
        shared: Whether several processes, started by `torchrun`, share the work of a run.
        journaled: Whether a journal records its runs; if not, they have a store of their own.
        record: The option that names the record of a run.
        options: The command's own options; `--journal`, `--snapshot-every`, `--report`, `--time-limit` and `--quiet`
            exist already.
        report_options: Options of `report` that only this kind has.
        export_options: Options of `export` that only this kind has.
        decided: Names for entries of the problem that more than one option determines.
    """

    name: ClassVar[str]
    help: ClassVar[str]
    example: ClassVar[str] = ""
    extra: ClassVar[str] = "cli"
    shared: ClassVar[bool] = False
    journaled: ClassVar[bool] = True
    record: ClassVar[str] = "--journal"
    options: ClassVar[Table] = {}
    report_options: ClassVar[Table] = {}
    export_options: ClassVar[Table] = {}
    decided: ClassVar[Mapping[str, str]] = {}

    @property
    def names(self) -> dict[str, str]:
        """The options that determine each entry of the problem, for the message when a journal is refused."""
        return names_of(self.options) | dict(self.decided)

    @abstractmethod
    def open(self, given: argparse.Namespace, settings: dict[str, Any]) -> Session:
        """Build everything a run needs from the options, before the first query.

        Args:
            given: The options. `given.journal` is a path or None; `given.header` is the journal's header when `resume`
                continues a run from its journal alone, else None.
            settings: Settings for the journal's header; the kind may add to them.

        Raises:
            BadInput: An option, or a file or object that it names, cannot be used.
            JournalError: The journal is of another run.
        """

    def arguments(self, header: Mapping[str, Any]) -> list[str]:
        """The command-line words that started a run, without the command's name; `resume` runs them again.

        Raises:
            BadInput: A Python program started the run, so there are none.
        """
        settings = header.get("settings") or {}
        if "arguments" not in settings:
            raise BadInput(
                "This run was started by a Python program, and only that program can continue it: call it again with "
                "the same arguments and the same journal."
            )
        return [str(word) for word in settings["arguments"]]

    def reader(self, name: str) -> JournalReader | None:
        """A reader of the record of a run of this kind, if its record is not a journal; None for any other.

        Args:
            name: The path or URL that the user gave.

        Raises:
            BadInput: It cannot be read.
        """
        del name
        return None

    def recognises(self, header: Mapping[str, Any]) -> bool:
        """Whether a journal is of this kind."""
        problem = header.get("problem")
        return isinstance(problem, dict) and problem.get("kind") == self.name

    @abstractmethod
    def tally(self, header: Mapping[str, Any]) -> Tally:
        """A tally of the journal's lines, for `watch` and the progress bar."""

    @abstractmethod
    def page(self, reader: JournalReader, given: argparse.Namespace) -> Page:
        """The report of a run.

        Args:
            reader: Reader of its journal. Nothing that the journal names is imported or run unless `given.trust` is
                true.
            given: The options of `report`, including those of `report_options`.

        Raises:
            BadInput: An option cannot be used.
        """

    def export(self, reader: JournalReader, given: argparse.Namespace) -> Iterator[str]:
        """Write the result of a run, the best or that of `given.step`, to `given.output`; yield lines that report it.

        Raises:
            BadInput: The run has no result yet, or the result cannot be written there.
        """
        del reader, given
        raise BadInput(f"A run of `{self.name}` has nothing to export.")
