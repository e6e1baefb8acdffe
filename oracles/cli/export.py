"""`blackbox-zo export`: write the result of a run to a file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from blackbox_zo._paths import expanded
from oracles.cli._which import opened
from oracles.kind import Kind
from oracles.options import add_options, count, named

__all__ = ["add"]


def add(commands: Any, kinds: Sequence[Kind]) -> None:
    """Add the command's arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "export",
        help="write the result of a run to a file: parameters, weights, or a policy",
        description="Rebuild the result of a run from its journal, the best or that of a given step, and write it.",
        allow_abbrev=False,
    )
    parser.set_defaults(command=lambda given: _run(given, kinds))
    parser.add_argument("journal", type=named, metavar="FILE", help="the journal, or a study's store")
    parser.add_argument("-o", "--output", type=expanded, required=True, metavar="PATH", help="file or folder to write")
    parser.add_argument(
        "--step",
        type=count,
        metavar="N",
        help="export the state after step N; default: the best or last, depending on the kind of run",
    )
    parser.add_argument("--trust", action="store_true", help="allow importing and running code that the journal names")
    for kind in kinds:
        add_options(parser, kind.export_options)


def _run(given: argparse.Namespace, kinds: Sequence[Kind]) -> int:
    kind, reader = opened(given.journal, kinds)
    for line in kind.export(reader, given):
        print(line)
    return 0
