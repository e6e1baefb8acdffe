"""Runs that a Python program started: the command line shows them, but only the program can continue them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from typing import Any, final

import numpy as np

from blackbox_zo._replay import points_of
from blackbox_zo._typing import override
from blackbox_zo.journal import JournalReader, Known
from blackbox_zo.tally import Tally
from oracles._files import write
from oracles.function.history import History
from oracles.function.page import page_of
from oracles.kind import Kind, Session
from oracles.options import BadInput
from oracles.page import Page

__all__ = ["FunctionKind"]


@final
class FunctionKind(Kind):
    """Runs of `bz.minimize` and `bz.Search` over numbers."""

    name = ""
    help = "a run that a Python program started"

    @override
    def open(self, given: argparse.Namespace, settings: dict[str, Any]) -> Session:
        """Refuse: the command line cannot start such a run."""
        raise BadInput("Only a Python program can start a run of a Python function.")

    @override
    def recognises(self, header: Mapping[str, Any]) -> bool:
        """Any journal that does not name its kind."""
        problem = header.get("problem")
        return not isinstance(problem, dict) or "kind" not in problem

    @override
    def arguments(self, header: Mapping[str, Any]) -> list[str]:
        """Refuse: only the program that started the run can continue it."""
        raise BadInput(
            "This journal records a run of a Python function, which only your program can call; to continue, call "
            "bz.minimize with the same arguments and the same journal, or with another method and change=True."
        )

    @override
    def tally(self, header: Mapping[str, Any]) -> Tally:
        """A tally of values as told."""
        settings = header.get("settings") or {}
        return Tally(settings.get("budget"))

    @override
    def page(self, reader: JournalReader, given: argparse.Namespace) -> Page:
        """Convergence, measures, coordinates and failures."""
        return page_of(History(reader))

    @override
    def export(self, reader: JournalReader, given: argparse.Namespace) -> Iterator[str]:
        """The best point, as JSON."""
        best, x = np.inf, None
        for line in reader:
            for value, point in zip(line.values, line.points, strict=True) if isinstance(line, Known) else ():
                if value < best:
                    best, x = value, point
        try:
            for line, points in points_of(reader):
                for value, point in zip(line.values or (), points, strict=False):
                    if value < best:
                        best, x = value, point.tolist()
        except ValueError as error:
            raise BadInput(str(error)) from None
        if x is None:
            raise BadInput(f"'{reader.path}' holds no value yet.")
        write(given.output, json.dumps({"x": x, "value": best}) + "\n")
        yield f"{given.output}: the best of {len(x)} numbers, value {best:.6g}"
