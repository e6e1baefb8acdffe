"""A report as one PNG."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from oracles.cli._chart import PAPER, draw, drawing
from oracles.page import Chart, Commands, Facts, Failure, Page, Section, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["png"]

_WIDTH, _COLUMNS, _LINE = 12.0, 4, 0.19
"""Width in inches; panels per row; height of a text line in inches."""

_CELLS, _CHARACTERS, _ROWS = 10, 118, 20
"""Maximum columns of a table; characters per line of text; rows of a table."""

Block = tuple[float, "Callable[[list[Axes]], None]", int]
"""Height in inches, the function that draws it, and the number of axes side by side."""


def png(page: Page, path: Path) -> None:
    """Draw the report to a file."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    rows = [""]
    for tile in (f"{label}: {figure}" for label, figure in page.tiles):
        fits = len(rows[-1]) + len(tile) + 6 <= _CHARACTERS
        rows = [*rows[:-1], f"{rows[-1]}      {tile}".strip()] if fits else [*rows, tile]
    head = [*textwrap.wrap(page.subject, _CHARACTERS)[:3], *textwrap.wrap(page.note, _CHARACTERS), *rows]
    blocks: list[Block] = [_text(page.title, head), *(block for section in page.sections for block in _blocks(section))]
    with drawing():
        height = sum(block[0] for block in blocks) + 0.3
        figure = Figure(figsize=(_WIDTH, height), layout=ConstrainedLayoutEngine(rect=(0.02, 0.0, 0.96, 1.0)))
        parts = figure.subfigures(len(blocks), 1, height_ratios=[block[0] for block in blocks], squeeze=False)
        for part, (_, fill, columns) in zip(parts[:, 0], blocks, strict=True):
            fill(list(part.subplots(1, columns, squeeze=False)[0]))
        figure.savefig(path, format="png", dpi=120, facecolor=PAPER.surface, metadata={"Software": None})


def _blocks(section: Section) -> list[Block]:
    charts = [part for part in section.parts if isinstance(part, Chart)]
    lines, mono = _lines(section)
    out: list[Block] = []
    if charts:
        out.append(_text(section.title, []))
    if len(charts) == 1:
        out.append((3.8, lambda axes: draw(axes[0], charts[0], PAPER, key=True), 1))
    elif charts:
        out += [_panels(charts[first : first + _COLUMNS]) for first in range(0, len(charts), _COLUMNS)]
    return out + ([_text("" if charts else section.title, lines, mono)] if lines else [])


def _panels(charts: Sequence[Chart]) -> Block:
    def fill(axes: list[Axes]) -> None:
        for ax, chart in zip(axes, charts, strict=False):
            draw(ax, chart, PAPER)
        for ax in axes[len(charts) :]:
            ax.set_axis_off()

    return 2.6, fill, _COLUMNS


def _lines(section: Section) -> tuple[list[str], bool]:
    """The text of a section, and whether its columns must be aligned; pictures and commands are only in the HTML."""
    lines, mono = textwrap.wrap(section.note, _CHARACTERS), False
    for part in section.parts:
        if isinstance(part, Table):
            mono = True
            lines += _aligned([*([part.head] if part.head else []), *part.rows][:_ROWS], part.text)
        elif isinstance(part, Facts):
            lines += [
                line
                for name, value in part.rows
                for line in textwrap.wrap(f"{name}: {value}", _CHARACTERS, subsequent_indent="    ")
            ]
        elif isinstance(part, Commands) and section.title.startswith("Best"):
            lines += [text for _, text in part.rows]
    for failure in [part for part in section.parts if isinstance(part, Failure)][:3]:
        lines += ["", f"query {failure.query}: {failure.reason}", f"  {failure.values}"]
        lines += [f"  | {line}" for line in failure.output.splitlines()[-5:]]
    return lines, mono


def _text(title: str, lines: Sequence[str], mono: bool = True) -> Block:
    shown = [line[:_CHARACTERS] for line in lines]
    return _LINE * len(shown) + (0.45 if title else 0.15), lambda axes: _write(axes[0], title, shown, mono), 1


def _write(ax: Axes, title: str, lines: list[str], mono: bool) -> None:
    ax.set_axis_off()
    ax.set_title(title, loc="left", color=PAPER.ink, fontweight="bold", fontsize=12)
    family = "monospace" if mono else "sans-serif"
    body = "\n".join("".join(c if c.isprintable() else " " for c in line) for line in lines)
    ax.text(0, 1, body, va="top", ha="left", color=PAPER.ink, family=family, fontsize=9.5, transform=ax.transAxes)


def _aligned(rows: Sequence[Sequence[str]], text: tuple[int, ...]) -> list[str]:
    cut = [list(row[:_CELLS]) for row in rows]
    widths = [max(map(len, column)) for column in zip_longest(*cut, fillvalue="")]
    return [
        "  ".join(
            f"{cell:{'<' if i == 0 or i in text else '>'}{width}}"
            for i, (cell, width) in enumerate(zip(row, widths, strict=False))
        )
        for row in cut
    ]
