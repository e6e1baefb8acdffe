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
from blackbox_zo.journal import FORMAT
from oracles.cli._which import opened
from oracles.kind import Kind
from oracles.options import BadInput, named

__all__ = ["add"]


def add(commands: Any, kinds: Sequence[Kind], parsers: Mapping[str, argparse.ArgumentParser]) -> None:
    """Add the command's arguments.

    Args:
        commands: The subparsers to add it to.
        kinds: All kinds.
        parsers: The parser of each kind's own command, by name.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        "resume",
        help="continue a run from its journal",
        description="Continue a run from its journal, in the folder where it was started. Recorded answers are not "
        "asked for again. You may change options of the original command, for example give a larger --budget, unless "
        "the recorded answers depend on them.",
        allow_abbrev=False,
    )
    parser.set_defaults(command=lambda given: _run(given, kinds, parsers))
    parser.add_argument("journal", type=named, metavar="FILE", help="the journal, or a study's store")
    parser.add_argument("options", nargs=argparse.REMAINDER, metavar="...", help="options to change")


def _run(given: argparse.Namespace, kinds: Sequence[Kind], parsers: Mapping[str, argparse.ArgumentParser]) -> int:
    ranks = getattr(given, "ranks", None)
    if ranks is not None:
        given.journal = str(ranks.journal(given.journal) or given.journal)
    kind, reader = opened(given.journal, kinds)
    if ranks is not None and not kind.shared:
        raise BadInput(f"'{given.journal}' holds a run of `{kind.name}`, which is for one process: leave out torchrun.")
    header = reader.header
    if header["format"] != FORMAT:
        raise JournalError(
            f"Journal '{given.journal}' was written by format version {header['format']}, of blackbox_zo "
            f"{header.get('library')}. This version can show and export it; only that version can continue the run."
        )
    words = kind.arguments(header)
    folder = (header.get("settings") or {}).get("cwd")
    if kind.name not in parsers:
        raise BadInput(f"'{given.journal}' holds a run that no command can continue.")
    if folder and not Path(folder).is_dir():
        raise BadInput(f"The run was started in folder {folder!r}, which no longer exists; restore it or create it.")
    name = given.journal if "://" in given.journal else str(Path(given.journal).absolute())
    typed = [*words, *given.options, kind.record, name]
    shown = shlex.join(["blackbox-zo", kind.name, *typed])
    print(f"in folder {folder or '.'}: {shown}", file=sys.stderr, flush=True)
    if folder:
        os.chdir(folder)
    again = parsers[kind.name].parse_args(typed, argparse.Namespace(typed=[*words, *given.options]))
    again.header, again.ranks = header, ranks
    return int(again.command(again))
