"""`blackbox-zo report`: one file that shows a run."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from oracles.cli._errors import BadInput
from oracles.cli._history import history_of
from oracles.cli._summary import summary_of

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add the command's arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "report",
        help="draw a run to one HTML or PNG file",
        description="Draw convergence, parameters and failures of a run, which may still be going on, to one file.",
        allow_abbrev=False,
    )
    parser.set_defaults(command=_run)
    parser.add_argument("journal", type=Path, metavar="FILE", help="the journal")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="an .html or .png file; default: the journal's name with .html",
    )


def _run(given: argparse.Namespace) -> int:
    output: Path = given.output or given.journal.with_suffix(".html")
    kind = output.suffix.lower()
    if kind not in (".html", ".png"):
        raise BadInput(f"--output {str(output)!r} must end in .html or .png.")
    if not output.parent.is_dir():
        raise BadInput(f"--output {str(output)!r} is in a folder that is not there; make it first.")
    history = history_of(given.journal)
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise BadInput("a report needs matplotlib; pip install 'blackbox-zo[cli]'") from None
    beside = output.with_name(f".{output.name}.{os.getpid()}")  # a reader never meets half a report
    try:
        if kind == ".html":
            from oracles.cli._page import page

            beside.write_text(page(history, summary_of(history)), encoding="utf-8")
        else:
            from oracles.cli._picture import picture

            picture(history, summary_of(history), beside)
        beside.replace(output)
    finally:
        beside.unlink(missing_ok=True)
    print(f"{output}: {history.n} answers, {output.stat().st_size / 1000:,.0f} kB")
    return 0
