"""`blackbox-zo answers`: the answers of a study as CSV or JSON."""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from oracles._files import write
from oracles.options import BadInput

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add the command's arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "answers",
        help="export the answers of a ranking study as CSV or JSON",
        description="Export every answer of a study run with `blackbox-zo rank`, including withdrawn ones.",
        allow_abbrev=False,
    )
    parser.set_defaults(command=_run)
    parser.add_argument("store", metavar="FILE|URL", help="the study's store")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="a .csv or .json file; default: CSV on stdout"
    )


def _run(given: argparse.Namespace) -> int:
    try:
        from oracles.ranking.study._export import rows_of
        from oracles.ranking.study._store import Store
    except ModuleNotFoundError as error:
        raise BadInput(f"This needs {error.name}, which is not installed: pip install 'blackbox-zo[human]'") from None
    if "://" not in given.store and not Path(given.store).is_file():
        raise BadInput(f"There is no store {given.store!r}.")
    if given.output is not None and given.output.suffix not in (".csv", ".json"):
        raise BadInput(f"--output must end in .csv or .json, got {given.output}.")
    try:
        store = Store(given.store)
    except ValueError as error:
        raise BadInput(str(error)) from error
    try:
        rows = rows_of(store)
    finally:
        store.close()
    for row in rows:
        row["time"] = datetime.fromtimestamp(row["time"], UTC).isoformat(timespec="milliseconds")
    if given.output is not None and given.output.suffix == ".json":
        write(given.output, json.dumps(rows, indent=1) + "\n")
    else:
        out = io.StringIO()
        writer = csv.DictWriter(out, list(rows[0]) if rows else ["step"], lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: json.dumps(v) if isinstance(v, list | dict) else v for k, v in row.items()})
        if given.output is None:
            sys.stdout.write(out.getvalue())
        else:
            write(given.output, out.getvalue())
    if given.output is not None:
        print(f"{len(rows)} answers in {given.output}")
    return 0
