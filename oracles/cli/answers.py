"""`blackbox-zo answers`: the answers of a study as CSV or JSON."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from blackbox_zo._paths import expanded
from oracles._files import write
from oracles.options import BadInput, named

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add the command's arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "answers",
        help="export the answers of a ranking study as CSV or JSON",
        description="Export every answer of a study run with `blackbox-zo rank`, including withdrawn ones. CSV holds a "
        "row for each answer; JSON also the raters, the rounds, and a codebook that says what each column holds.",
        allow_abbrev=False,
    )
    parser.set_defaults(command=_run)
    parser.add_argument("store", type=named, metavar="FILE|URL", help="the study's store")
    parser.add_argument(
        "-o", "--output", type=expanded, metavar="FILE", help="a .csv or .json file; default: CSV on stdout"
    )


def _run(given: argparse.Namespace) -> int:
    try:
        from oracles.ranking.study._export import as_csv, document_of, rows_of
        from oracles.ranking.study._store import Store
    except ModuleNotFoundError as error:
        raise BadInput(f"This needs {error.name}, which is not installed: pip install 'blackbox-zo[human]'") from None
    if "://" not in given.store and not Path(given.store).is_file():
        raise BadInput(f"Store {given.store!r} does not exist.")
    if given.output is not None and given.output.suffix not in (".csv", ".json"):
        raise BadInput(f"--output must end in .csv or .json, got {given.output}.")
    try:
        store = Store(given.store, new=False)
    except ValueError as error:
        raise BadInput(str(error)) from error
    try:
        whole = document_of(store) if given.output is not None and given.output.suffix == ".json" else {}
        rows = whole.get("answers") or rows_of(store)
    finally:
        store.close()
    if given.output is None:
        sys.stdout.write(as_csv(rows))
    elif given.output.suffix == ".json":
        write(given.output, json.dumps(whole, indent=1) + "\n")
    else:
        write(given.output, as_csv(rows))
    if given.output is not None:
        print(f"{len(rows)} answers in {given.output}")
    return 0
