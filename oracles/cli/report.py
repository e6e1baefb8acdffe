"""`blackbox-zo report`: one file that shows a run, or compares several."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from blackbox_zo._paths import expanded
from oracles import _files as files
from oracles._files import appearing
from oracles.cli._which import opened
from oracles.kind import Kind
from oracles.options import BadInput, add_options, named
from oracles.page import Chart, Facts, Layer, Page, Section, Table

__all__ = ["add", "check_output", "write"]

_COLOURS = ("#3b74d8", "#d99a2b", "#2c9a72", "#c2538a", "#7a62c9", "#b4642d", "#4aa3b8", "#8a8f3a")
"""Colours of the compared runs; the ninth run repeats the first colour."""


def add(commands: Any, kinds: Sequence[Kind]) -> None:
    """Add the command's arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "report",
        help="write an HTML or PNG report of a run, or a comparison of several",
        description="Write a report of a run, finished or not, to one file. Several runs of one kind are compared in "
        "the same charts. A journal is data: the code that it names is neither imported nor run without --trust.",
        allow_abbrev=False,
    )
    parser.set_defaults(command=lambda given: _run(given, kinds))
    parser.add_argument("journals", type=named, metavar="FILE", nargs="+", help="the journal or store, or several")
    parser.add_argument(
        "-o",
        "--output",
        type=expanded,
        metavar="FILE",
        help="an .html or .png file; default: the journal's name with .html",
    )
    parser.add_argument("--trust", action="store_true", help="allow importing and running code that the journal names")
    for kind in kinds:
        add_options(parser, kind.report_options)


def check_output(output: Path, option: str) -> None:
    """Check the name of the output file.

    Raises:
        BadInput: It is no HTML or PNG file, or in a folder that does not exist.
    """
    if output.suffix.lower() not in (".html", ".png"):
        raise BadInput(f"{option} {str(output)!r} must end in .html or .png.")
    if not output.absolute().parent.is_dir():
        raise BadInput(f"{option} {str(output)!r} is in a folder that does not exist; create it first.")


def write(
    journals: Sequence[str | Path], output: Path, kinds: Sequence[Kind], given: argparse.Namespace | None = None
) -> str:
    """Write the report of some journals to a file, atomically.

    Args:
        journals: One journal, or several of one kind.
        output: The file.
        kinds: All kinds.
        given: The options of `report`; None takes their defaults.

    Returns:
        One line that summarises the report.

    Raises:
        JournalError: A file is empty, damaged, or not a journal.
        BadInput: matplotlib is missing, or the journals are of several kinds.
        OSError: A file cannot be read or written.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise BadInput("a report needs matplotlib; pip install 'blackbox-zo[cli]'") from None
    if given is None:
        parser = argparse.ArgumentParser()
        add(parser.add_subparsers(), kinds)
        given = parser.parse_args(["report", *map(str, journals)])
    found, readers = zip(*(opened(str(journal), kinds) for journal in journals), strict=True)
    for kind, reader in zip(found, readers, strict=True):
        if kind is not found[0]:
            raise BadInput(
                f"'{readers[0].path}' is a run of {found[0].name or 'a Python function'}, '{reader.path}' one of "
                f"{kind.name or 'a Python function'}; only runs of one kind can be compared."
            )
    pages = [kind.page(reader, given) for kind, reader in zip(found, readers, strict=True)]
    page = pages[0] if len(pages) == 1 else _compared(pages)
    if output.suffix.lower() == ".png":
        from oracles.cli._png import png

        with appearing(output) as partial:
            png(page, partial)
    else:
        from oracles.cli._html import html

        files.write(output, html(page))
    what = ", ".join(f"{label} {figure}" for label, figure in page.tiles[:2])
    return f"{output}: {what or f'{len(pages)} runs'}, {output.stat().st_size / 1000:,.0f} kB"


def _compared(pages: Sequence[Page]) -> Page:
    """One page about several runs: a chart for each comparable curve, and a table of their figures."""
    names = [f"{i + 1}. {page.title}" for i, page in enumerate(pages)]
    charts: dict[tuple[str, str], Chart] = {}
    for page, name, colour in zip(pages, names, _COLOURS * len(pages), strict=False):
        for chart in (part for section in page.sections for part in section.parts if isinstance(part, Chart)):
            for layer in chart.layers:
                if chart.compared and layer.label == chart.compared and len(layer.x):
                    key = chart.title, chart.compared
                    title = chart.title or chart.compared
                    known = charts.setdefault(key, replace(chart, layers=(), title=title))
                    mine = Layer(layer.x, layer.y, name, layer.look, colour, layer.spread)  # type: ignore[arg-type]
                    charts[key] = replace(known, layers=(*known.layers, mine))
    if len(charts) == 1:
        charts = {key: replace(chart, title="") for key, chart in charts.items()}
    labels = list(dict.fromkeys(label for page in pages for label, _ in page.tiles))
    rows = [
        [name, *(dict(page.tiles).get(label, "") for label in labels)] for name, page in zip(names, pages, strict=True)
    ]
    facts = [_differences(pages, names)]
    return Page(
        f"{len(pages)} runs",
        "",
        [],
        [
            *(
                Section(chart.title or chart.compared.capitalize(), [replace(chart, title="")])
                for chart in charts.values()
            ),
            Section("Figures", [Table(rows, ("run", *labels), text=(0,))]),
            *(Section("Differences", [fact]) for fact in facts if fact.rows),
        ],
    )


def _differences(pages: Sequence[Page], names: Sequence[str]) -> Facts:
    """The facts in which the runs differ."""
    told = [
        dict(row for section in page.sections for part in section.parts if isinstance(part, Facts) for row in part.rows)
        for page in pages
    ]
    keys = dict.fromkeys(key for one in told for key in one)
    different = [key for key in keys if len({one.get(key) for one in told}) > 1]
    return Facts(
        [(f"{name}: {key}", one.get(key, "–")) for key in different for name, one in zip(names, told, strict=True)]
    )


def _run(given: argparse.Namespace, kinds: Sequence[Kind]) -> int:
    first = Path(given.journals[0].rpartition("://")[2]).with_suffix(".html")
    output: Path = given.output or (Path(first.name) if "://" in given.journals[0] else first)
    check_output(output, "--output")
    print(write(given.journals, output, kinds, given))
    return 0
