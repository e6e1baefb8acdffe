"""Lines for what happens to a run between its answers: values that somebody else measured, and a change of method."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from blackbox_zo._typing import Floats

__all__ = ["Changed", "Known", "change_line", "event_of", "known_line"]

Asked = Sequence[tuple[int, int, int]]


class Known(NamedTuple):
    """Values that were known, and not asked.

    Attributes:
        points: The points, flat, in the units of x: n lists of d numbers.
        values: Their values, NaN for a point that is known to fail.
        steps: Number of steps asked before.
        asked: Other steps asked since the previous line; see `Answers.asked`.
        number: Number of the line in the file, from 1.
    """

    points: list[list[float]]
    values: list[float]
    steps: int
    asked: Asked = ()
    number: int = 0


class Changed(NamedTuple):
    """From here on the run goes by another method.

    Attributes:
        estimator: The estimator, as the header describes one.
        rule: The rule.
        steps: Number of steps asked before.
        asked: Other steps asked since the previous line; see `Answers.asked`.
        number: Number of the line in the file, from 1.
        keeps: Whether only learning rates changed, so that the states of estimator and rule go on.
    """

    estimator: Any
    rule: Any
    steps: int
    asked: Asked = ()
    number: int = 0
    keeps: bool = False


def known_line(points: Floats, values: Floats, steps: int, asked: Asked) -> str:
    """The line of known points, shape (n, d), and their values, shape (n,)."""
    pairs = zip(points.tolist(), values.tolist(), strict=True)
    return _line("known", [[point, None if value != value else value] for point, value in pairs], steps, asked)


def change_line(estimator: Any, rule: Any, steps: int, asked: Asked, keeps: bool = False) -> str:
    """The line of a change of method, from the descriptions of the new one."""
    what = {"estimator": estimator, "rule": rule, **({"keeps": True} if keeps else {})}
    return _line("change", what, steps, asked)


def _line(kind: str, what: Any, steps: int, asked: Asked) -> str:
    return json.dumps({kind: what, "steps": steps, **({"asked": asked} if asked else {})}) + "\n"


def event_of(entry: Mapping[str, Any], number: int) -> Known | Changed | None:
    """The event in a line, from its JSON object; None if it has none.

    Raises:
        KeyError: A key is missing.
        TypeError: A value is of another type.
        ValueError: A value is malformed.
    """
    if "known" not in entry and "change" not in entry:
        return None
    asked = [(int(s), int(at), int(done)) for s, at, done in entry.get("asked", ())]
    if "change" in entry:
        what = entry["change"]
        return Changed(what["estimator"], what["rule"], int(entry["steps"]), asked, number, bool(what.get("keeps")))
    points = [[float(v) for v in point] for point, _ in entry["known"]]
    values = [math.nan if value is None else float(value) for _, value in entry["known"]]
    return Known(points, values, int(entry["steps"]), asked, number)
