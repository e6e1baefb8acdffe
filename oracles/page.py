"""What a report says, as data: a kind of run says it, `oracles.cli` draws it as HTML or PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np

from blackbox_zo._typing import Floats

__all__ = ["Chart", "Commands", "Facts", "Failure", "Layer", "Media", "Page", "Part", "Section", "Table"]

NONE: Floats = np.empty(0)


@dataclass(frozen=True)
class Layer:
    """One thing that is drawn in a chart.

    Attributes:
        x: Shape (n,).
        y: Shape (n,), NaN where there is nothing; crosses have no height of their own.
        label: What it is, for the key; empty leaves it out of the key.
        look: "dots"; "line"; "step", a line that keeps its height until the next x; "dashed", such a line in the
            background; "crosses" along the top, for failures; "ring" round one point, for the best.
        colour: "early" and "late" are the two colours of the page, "time" runs from one to the other with the order of
            the points, "ink" and "muted" are those of the text, "bad" is that of failures.
        spread: Half the height of a band around a line, shape (n,); empty for none.
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
        x: What the horizontal axis shows, with its unit.
        y: What the vertical axis shows.
        layers: What is drawn, from the back to the front.
        title: Above it; a chart that fills its section has none.
        maximize: Whether higher is better; worse values that lie far off are cut, and counted.
        linear: Whether the vertical axis is never logarithmic; else it is where that shows more.
        log_x: Whether equal steps along the horizontal axis multiply.
        options: What the numbers 0, 1, … on the horizontal axis stand for, where they are a choice; else empty.
        swapped: Whether `log_x` and `options` are of the vertical axis instead.
        compared: The label of the layer by which runs of this kind are compared; empty for a chart of one run alone.
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
        text: Columns of running text, which are set flush left and may be broken.
    """

    rows: Sequence[Sequence[str]]
    head: Sequence[str] = ()
    text: tuple[int, ...] = ()


@dataclass(frozen=True)
class Failure:
    """A failed query: a line, and what can be unfolded.

    Attributes:
        query: Its number.
        reason: Why it failed.
        values: What was asked about.
        output: The last lines of what it printed.
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
        kind: Its media type, such as "image/webp".
        data: Its bytes.
        width: In pixels.
        height: In pixels.
        alt: What it shows, for those who do not see it.
        facts: What is worth knowing of it.
    """

    kind: str
    data: bytes
    width: int
    height: int
    alt: str
    facts: Sequence[tuple[str, str]] = ()


Part: TypeAlias = Chart | Table | Facts | Commands | Media | Failure


@dataclass(frozen=True)
class Section:
    """A part of a page under a heading.

    Attributes:
        title: The heading.
        parts: What it shows; several charts stand side by side, and failures in a list.
        note: What to know first.
    """

    title: str
    parts: Sequence[Part]
    note: str = ""


@dataclass(frozen=True)
class Page:
    """What a report says, in plain text; whoever draws it escapes it.

    Attributes:
        title: The journal's name.
        subject: What was run: a command, a model, an environment; may be empty.
        tiles: The few figures that matter, each as (label, figure).
        sections: The rest, in order.
        note: What a reader should know first; may be empty.
    """

    title: str
    subject: str
    tiles: Sequence[tuple[str, str]]
    sections: Sequence[Section]
    note: str = ""
