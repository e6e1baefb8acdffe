"""The content of a report, as data. A kind of run provides it; `oracles.cli` draws it as HTML or PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np

from blackbox_zo._typing import Floats

__all__ = [
    "Bar", "Chart", "Commands", "Facts", "Failure", "Layer", "Media", "Page", "Part", "Section", "Table", "Timeline",
]  # fmt: skip

NONE: Floats = np.empty(0)


@dataclass(frozen=True)
class Layer:
    """One curve or set of points in a chart.

    Attributes:
        x: Shape (n,).
        y: Shape (n,), NaN where there is nothing; ignored for crosses.
        label: Name in the legend; empty leaves it out of the legend.
        look: "dots"; "line"; "step", a line that keeps its height until the next x; "dashed", such a line in the
            background; "crosses" along the top, for failures; "ring" around one point, for the best.
        colour: "early" and "late" are the two colours of the page, "time" changes from one to the other in the order of
            the points, "ink" and "muted" are the colours of text, "bad" is the colour of failures.
        spread: Half the height of a band around a line, shape (n,); empty for no band.
    """

    x: Floats
    y: Floats
    label: str = ""
    look: Literal["dots", "line", "step", "dashed", "crosses", "ring"] = "line"
    colour: Literal["early", "late", "time", "ink", "muted", "bad"] = "late"
    spread: Floats = field(default_factory=lambda: NONE)


@dataclass(frozen=True)
class Chart:
    """A chart.

    Attributes:
        x: Label of the horizontal axis, with its unit.
        y: Label of the vertical axis.
        layers: The layers, from back to front.
        title: Title above the chart; empty if it fills its section.
        maximize: Whether higher is better; far worse values are cut, and counted.
        linear: Whether the vertical axis is always linear; otherwise it is logarithmic where that shows more.
        log_x: Whether the horizontal axis is logarithmic.
        options: The names of 0, 1, … on the horizontal axis if they are a choice; else empty.
        swapped: Whether `log_x` and `options` apply to the vertical axis instead.
        compared: Label of the layer by which runs of this kind are compared; empty if they are not.
    """

    x: str
    y: str
    layers: Sequence[Layer]
    title: str = ""
    maximize: bool = False
    linear: bool = False
    log_x: bool = False
    options: tuple[str, ...] = ()
    swapped: bool = False
    compared: str = ""


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        rows: Its rows.
        head: Names of the columns; empty for none.
        text: Indices of columns of running text, which are left-aligned and may wrap.
    """

    rows: Sequence[Sequence[str]]
    head: Sequence[str] = ()
    text: tuple[int, ...] = ()


@dataclass(frozen=True)
class Failure:
    """A failed query: a line that can be expanded.

    Attributes:
        query: Number of the query.
        reason: Why it failed.
        values: The point of the query, as text.
        output: The last lines of its output.
    """

    query: int
    reason: str
    values: str = ""
    output: str = ""


@dataclass(frozen=True)
class Facts:
    """Names and values."""

    rows: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Commands:
    """Commands to copy, each with what it does."""

    rows: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Media:
    """A picture or an animation, with facts beside it.

    Attributes:
        kind: Media type, such as "image/webp".
        data: The bytes.
        width: Width in pixels.
        height: Height in pixels.
        alt: Text alternative, for readers who cannot see it.
        facts: Facts shown beside it.
    """

    kind: str
    data: bytes
    width: int
    height: int
    alt: str
    facts: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Bar:
    """Work in a lane of a timeline, or a wait.

    Attributes:
        lane: Number of the lane, from the top.
        begin: In seconds.
        end: In seconds.
        label: What is worked on, or what is waited for.
        colour: "early" or "late", the two colours of the page; "wait" is hatched.
    """

    lane: int
    begin: float
    end: float
    label: str
    colour: Literal["early", "late", "wait"] = "late"


@dataclass(frozen=True)
class Timeline:
    """Who works on what, and who waits, over time.

    Attributes:
        lanes: Their names, from the top.
        bars: The work and the waits.
        begin: Where the picture begins, in seconds.
        end: Where it ends on a wide screen; on a narrow one it shows half of that.
        alt: What it shows, for readers who cannot see it.
    """

    lanes: Sequence[str]
    bars: Sequence[Bar]
    begin: float
    end: float
    alt: str


Part: TypeAlias = Chart | Table | Facts | Commands | Media | Failure | Timeline


@dataclass(frozen=True)
class Section:
    """A part of a page under a heading.

    Attributes:
        title: The heading.
        parts: The content; several charts are placed side by side, and failures in a list.
        note: A remark at the top.
    """

    title: str
    parts: Sequence[Part]
    note: str = ""


@dataclass(frozen=True)
class Page:
    """The content of a report, in plain text; the HTML writer escapes it.

    Attributes:
        title: The journal's name.
        subject: What was run: a command, a model, an environment; may be empty.
        tiles: The few figures that matter most, each as (label, figure).
        sections: The rest, in order.
        note: A remark at the top of the page; may be empty.
    """

    title: str
    subject: str
    tiles: Sequence[tuple[str, str]]
    sections: Sequence[Section]
    note: str = ""
