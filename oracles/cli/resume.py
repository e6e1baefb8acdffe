"""`blackbox-zo resume`: continue a run from its journal alone."""

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
from oracles.kind import Kind
from oracles.options import BadInput

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
        help="continue a run from its journal",
        description="Continue a run from its journal, in the folder where it was started. No answered query is asked "
        "again. Options of the original command may be changed, such as a larger --budget, unless the answers "
        "recorded so far depend on them.",
        allow_abbrev=False,
    )
    parser.set_defaults(command=lambda given: _run(given, kinds, parsers))
    parser.add_argument("journal", type=Path, metavar="FILE", help="the journal")
    parser.add_argument("options", nargs=argparse.REMAINDER, metavar="...", help="options to change")


def _run(given: argparse.Namespace, kinds: Sequence[Kind], parsers: Mapping[str, argparse.ArgumentParser]) -> int:
    path: Path = given.journal.absolute()
    header = read_header(path)
    if header["format"] != FORMAT:
        raise JournalError(
            f"Journal '{given.journal}' was written by format version {header['format']}, of blackbox_zo "
            f"{header.get('library')}. This version can show and export it; only that version can continue the run."
        )
    kind = kind_of(header, given.journal, kinds)
    words = kind.arguments(header)
    folder = (header.get("settings") or {}).get("cwd")
    if kind.name not in parsers:
        raise BadInput(f"'{given.journal}' holds a run that no command can continue.")
    if folder and not Path(folder).is_dir():
        raise BadInput(f"The run was started in folder {folder!r}, which no longer exists; restore it or create it.")
    typed = [*words, *given.options, "--journal", os.fspath(path)]
    shown = shlex.join(["blackbox-zo", kind.name, *typed])
    print(f"in folder {folder or '.'}: {shown}", file=sys.stderr, flush=True)
    if folder:
        os.chdir(folder)
    again = parsers[kind.name].parse_args(typed, argparse.Namespace(typed=[*words, *given.options]))
    again.header = header
    return int(again.command(again))
