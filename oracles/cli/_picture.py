"""A report as one PNG."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from oracles.cli._history import History
from oracles.cli._plots import PAPER, convergence, drawing, parameter
from oracles.cli._summary import Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["picture"]

_WIDTH, _COLUMNS, _LINE = 12.0, 4, 0.19
"""Inches; panels in a row; inches of a line of text."""

_CELLS, _CHARACTERS = 6, 118
"""Parameters in the table; characters in a line of text."""


def picture(history: History, summary: Summary, path: Path) -> None:
    """Draw the report into a file."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    blocks: list[tuple[float, Callable[[list[Axes]], None], int]] = []

    def text(title: str, lines: list[str], mono: bool = True) -> None:
        shown = [line[:_CHARACTERS] for line in lines]
        blocks.append((_LINE * len(shown) + 0.45, lambda axes: _write(axes[0], title, shown, mono), 1))

    figures = "      ".join(f"{label}: {figure}" for label, figure in summary.tiles)
    text(
        summary.title,
        [*textwrap.wrap(summary.command, _CHARACTERS)[:3], *([summary.note] * bool(summary.note)), figures],
    )
    if summary.best:
        width = max(len(name) for name, _ in summary.best)
        text("Best parameters", [f"{name:<{width}}  {value}" for name, value in summary.best[:20]])
    if history.n and not history.ranked:
        blocks.append((3.4, lambda axes: convergence(axes[0], history, PAPER), 1))
    for first in range(0, len(history.drawn), _COLUMNS):
        some = history.drawn[first : first + _COLUMNS]

        def panels(axes: list[Axes], some: list[object] = list(some)) -> None:  # noqa: B006 - bound on purpose
            for ax, axis in zip(axes, some, strict=False):
                parameter(ax, history, axis, PAPER)  # type: ignore[arg-type]
            for ax in axes[len(some) :]:
                ax.set_axis_off()

        blocks.append((2.6, panels, _COLUMNS))
    if history.no_axes:
        text("Parameters", textwrap.wrap(f"They cannot be drawn. {history.no_axes}", _CHARACTERS))
    if summary.rows:
        text(f"Best {len(summary.rows)}", _aligned([summary.columns, *summary.rows], 2 + _CELLS))
    if summary.kinds:
        lines = [f"{count:>5}  {error}" for error, count in summary.kinds[:6]]
        for failure in summary.failures[:3]:
            lines += ["", f"query {failure.query}: {failure.error}", f"  {failure.values}"]
            lines += [f"  | {line}" for line in failure.tail.splitlines()[-5:]]
        text("Failures", lines)
    text("The run", [f"{name}: {value}" for name, value in summary.facts], mono=False)
    with drawing():
        height = sum(block[0] for block in blocks) + 0.3
        figure = Figure(figsize=(_WIDTH, height), layout=ConstrainedLayoutEngine(rect=(0.02, 0.0, 0.96, 1.0)))
        parts = figure.subfigures(len(blocks), 1, height_ratios=[block[0] for block in blocks], squeeze=False)
        for part, (_, draw, columns) in zip(parts[:, 0], blocks, strict=True):
            draw(list(part.subplots(1, columns, squeeze=False)[0]))
        figure.savefig(path, format="png", dpi=120, facecolor=PAPER.surface, metadata={"Software": None})


def _write(ax: Axes, title: str, lines: list[str], mono: bool) -> None:
    ax.set_axis_off()
    ax.set_title(title, loc="left", color=PAPER.ink, fontweight="bold", fontsize=12)
    family = "monospace" if mono else "sans-serif"
    body = "\n".join("".join(c if c.isprintable() else " " for c in line) for line in lines)
    ax.text(0, 1, body, va="top", ha="left", color=PAPER.ink, family=family, fontsize=9.5, transform=ax.transAxes)


def _aligned(rows: list[list[str]], most: int) -> list[str]:
    cut = [row[:most] for row in rows]
    widths = [max(len(row[i]) for row in cut) for i in range(len(cut[0]))]
    return ["  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)) for row in cut]
