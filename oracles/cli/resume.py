"""`blackbox-zo resume`: go on with a run from its journal alone."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from blackbox_zo.errors import JournalError
from blackbox_zo.journal import FORMAT, read_header
from oracles.cli._which import kind_of
from oracles.kind import BadInput, Kind

__all__ = ["add"]


def add(commands: Any, kinds: Sequence[Kind], parsers: Mapping[str, argparse.ArgumentParser]) -> None:
    """Add the command's arguments.

    Args:
        commands: Where to.
        kinds: All kinds.
        parsers: The parser of each kind's own command, by its name.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        "resume",
        help="go on with a run from its journal",
        description="Go on with a run from its journal, in the folder where it was begun. No answered query is asked "
        "again. Any option of the command that began it may be given anew, such as a larger --budget; what the run's "
        "answers depend on is refused.",
        allow_abbrev=False,
    )
    parser.set_defaults(command=lambda given: _run(given, kinds, parsers))
    parser.add_argument("journal", type=Path, metavar="FILE", help="the journal")
    parser.add_argument("options", nargs=argparse.REMAINDER, metavar="...", help="options that are to change")


def _run(given: argparse.Namespace, kinds: Sequence[Kind], parsers: Mapping[str, argparse.ArgumentParser]) -> int:
    path: Path = given.journal.absolute()
    header = read_header(path)
    if header["format"] != FORMAT:
        raise JournalError(
            f"Journal '{given.journal}' was written by format version {header['format']}, of blackbox_zo "
            f"{header.get('library')}. This version shows and exports it; only that one goes on with its run."
        )
    kind = kind_of(header, given.journal, kinds)
    words = kind.arguments(header)
    folder = (header.get("settings") or {}).get("cwd")
    if kind.name not in parsers:
        raise BadInput(f"'{given.journal}' records a run that no command can go on with.")
    if folder and not Path(folder).is_dir():
        raise BadInput(f"The run belongs in folder {folder!r}, which is gone; bring it back, or make it anew.")
    typed = [*words, *given.options, "--journal", os.fspath(path)]
    shown = shlex.join(["blackbox-zo", kind.name, *typed])
    print(f"in folder {folder or '.'}: {shown}", file=sys.stderr, flush=True)
    if folder:
        os.chdir(folder)
    again = parsers[kind.name].parse_args(typed, argparse.Namespace(typed=[*words, *given.options]))
    again.header = header
    return int(again.command(again))
