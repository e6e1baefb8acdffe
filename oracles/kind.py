"""The abstract `Kind`: what the command line knows of one kind of run. Each family of oracles has one."""

from __future__ import annotations

import argparse
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from blackbox_zo._stop import Stop
from blackbox_zo.errors import JournalError
from blackbox_zo.journal import JournalReader
from blackbox_zo.run import Observer, Run
from blackbox_zo.tally import Tally
from oracles.page import Page

__all__ = ["BadInput", "Kind", "Session", "told"]


class BadInput(Exception):
    """What the user gave cannot be used; the message names it and the mend."""


@contextmanager
def told() -> Iterator[None]:
    """Inside this block a ValueError or TypeError is the user's input, not a fault of ours."""
    try:
        yield
    except JournalError:
        raise
    except (ValueError, TypeError) as error:
        raise BadInput(str(error)) from error


class Session(ABC):
    """One run that is ready to go: what a `Kind` makes of the command's arguments.

    Attributes:
        tally: What is shown of the run; it has seen what the journal holds already.
        saves: Whether answers are kept without a journal.
        unkept: What to say at the end where there is no journal, and the run found something that was not saved.
    """

    tally: Tally
    saves: bool = False
    unkept: str = ""

    @abstractmethod
    def run(self, observers: Sequence[Observer], stop: Stop) -> Run:
        """The loop, with its limits and measures. It is not iterated over yet.

        Args:
            observers: Who is told how it goes.
            stop: Hears signals.
        """

    def introduction(self) -> Iterator[str]:
        """Lines that say what is about to run; what the journal holds already is said by who performs the run."""
        return iter(())

    @abstractmethod
    def result(self, run: Run) -> Iterator[str]:
        """Lines that say what was found. Files are saved here."""

    def failure(self, run: Run) -> str:
        """What to say where every query failed."""
        return run.message

    def close(self) -> None:  # noqa: B027 - most hold nothing
        """Give back processes and files."""


class Kind(ABC):
    """What the command line knows of one kind of run.

    `name` is the command, and stands in the journal as `header["problem"]["kind"]`. How a run was begun is kept in
    `header["settings"]`: the words of its command line as "arguments", and its folder as "cwd".

    Attributes:
        name: Of the command.
        help: What it does, in a line.
        example: Commands that work, for the end of the help.
        extra: What to install for it: `pip install 'blackbox-zo[EXTRA]'`.
        journaled: Whether its runs are recorded in a journal; else they keep themselves.
        names: The option for each entry of the problem that tells two runs apart, for the message that refuses one.
    """

    name: ClassVar[str]
    help: ClassVar[str]
    example: ClassVar[str] = ""
    extra: ClassVar[str] = "cli"
    journaled: ClassVar[bool] = True
    names: ClassVar[Mapping[str, str]] = {}

    @abstractmethod
    def options(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's own options; `--journal`, `--report`, `--time-limit` and `--quiet` are there already."""

    @abstractmethod
    def open(self, given: argparse.Namespace, settings: dict[str, Any]) -> Session:
        """Make everything a run needs, from the options; nothing is asked yet.

        Args:
            given: The options. `given.journal` is a path or None; `given.header` is the journal's header where the run
                is resumed from its journal alone, else None.
            settings: For the journal's header, beside what the kind adds.

        Raises:
            BadInput: An option, or what it names, cannot be used.
            JournalError: The journal is of another run.
        """

    def arguments(self, header: Mapping[str, Any]) -> list[str]:
        """The words of the command line that began a run, without the command's name; `resume` runs them again.

        Raises:
            BadInput: They are not known, since a Python program began the run.
        """
        settings = header.get("settings") or {}
        if "arguments" not in settings:
            raise BadInput(
                "This run was begun by a Python program, and only that program can go on with it: call it again with "
                "the same arguments and the same journal."
            )
        return [str(word) for word in settings["arguments"]]

    def recognises(self, header: Mapping[str, Any]) -> bool:
        """Whether a journal is of this kind."""
        problem = header.get("problem")
        return isinstance(problem, dict) and problem.get("kind") == self.name

    @abstractmethod
    def tally(self, header: Mapping[str, Any]) -> Tally:
        """What can be said of a run from its lines, for `watch` and for the bar of a run."""

    @abstractmethod
    def page(self, reader: JournalReader, given: argparse.Namespace) -> Page:
        """What a report says of a run.

        Args:
            reader: Of its journal. Nothing that the journal names is imported or run unless `given.trust` is true.
            given: The options of `report`, among them what `report_options` added.

        Raises:
            BadInput: An option cannot be used.
        """

    def report_options(self, parser: argparse.ArgumentParser) -> None:  # noqa: B027 - most have none
        """Add options of `report` that only this kind has."""

    def export(self, reader: JournalReader, given: argparse.Namespace) -> Iterator[str]:
        """Write what a run has found, its best or that of `given.step`, to `given.output`; lines that say what.

        Raises:
            BadInput: There is nothing that can be written, or it cannot be written there.
        """
        del reader, given
        raise BadInput(f"A run of `{self.name}` has nothing to export.")

    def export_options(self, parser: argparse.ArgumentParser) -> None:  # noqa: B027 - most have none
        """Add options of `export` that only this kind has."""


def problem_of(path: Path, header: Mapping[str, Any]) -> dict[str, Any]:
    """What a run is about, from the header of its journal.

    Raises:
        JournalError: The header does not say.
    """
    problem = header.get("problem")
    if not isinstance(problem, dict):
        raise JournalError(f"Journal '{path}' does not say what its run is about.")
    return problem
