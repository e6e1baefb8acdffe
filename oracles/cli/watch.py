"""`blackbox-zo watch`: follow a run while it goes on."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from oracles.cli._arguments import count

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add the command's arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "watch",
        help="follow a run while it goes on",
        description="Follow a run by its journal, which is only read: a line for each step of a training, for each "
        "answer of another run. Ends when the run has ended, or by Ctrl-C.",
        allow_abbrev=False,
    )
    parser.set_defaults(command=_run)
    parser.add_argument("journal", type=Path, metavar="FILE", help="the journal")
    parser.add_argument(
        "--last", type=count, default=10, metavar="N", help="how many earlier lines to show first; default %(default)s"
    )


def _run(given: argparse.Namespace) -> int:
    from oracles.cli._rl_watch import watch

    return watch(given.journal, given.last)
