"""The kind of run "golf": with it come `resume`, `watch`, `report` and `export`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

import blackbox_zo as bz
from blackbox_zo.tally import StepTally, Tally
from golf.options import OPTIONS
from golf.oracle import HOLE, Golf
from oracles.kind import Kind, Session
from oracles.page import Chart, Facts, Layer, Page, Section
from oracles.recorded import Recorded
from oracles.sections import library, measures, method


class Round(Session):
    """One search of angle and speed."""

    def __init__(self, kind: Kind, given: argparse.Namespace, settings: dict[str, Any]) -> None:
        super().__init__(kind, given)
        self.oracle, self.tally = Golf(given.wind), StepTally(given.steps)
        journal = self.journal({"wind": given.wind}, {**settings, "steps": given.steps})
        x0 = bz.Vector(np.array([0.0, 10.0]), bounds=[(-45, 45), (1, 60)], unit=np.array([10.0, 5.0]))
        self.search = bz.Search(x0, bz.EvolutionStrategy(0.5, 8), seed=given.seed, journal=journal)

    def run(self, observers: Sequence[bz.Observer], stop: Any) -> bz.Run:
        """Steps, a measure of the centre, and no more than ten steps of nothing but failures."""
        hole = bz.Measure("centre", lambda search: float(search.x[1] ** 2 / 10 - HOLE[0]), every=5)
        left = self.given.steps - self.search.moves
        return bz.Run(
            self.search, self.oracle, steps=left, patience=10, time_limit=self.given.time_limit,
            measures=[hole], observers=observers,
        )  # fmt: skip

    def result(self, run: bz.Run) -> Iterator[str]:
        """The best stroke."""
        best, wind = self.search.best, self.search.state_of(self.oracle)
        yield f"{best.x[0]:.1f} degrees at {best.x[1]:.1f} m/s: {best.value:.2f} m from the hole"
        yield f"the wind blows {wind.drift:.2f} m aside, by {wind.strokes} strokes"


class GolfKind(Kind):
    """What the command line knows of golf."""

    name, help = "golf", "find the stroke that brings the ball to the hole"
    options = OPTIONS

    def open(self, given: argparse.Namespace, settings: dict[str, Any]) -> Session:
        """See `Kind.open`."""
        return Round(self, given, settings)

    def tally(self, header: Mapping[str, Any]) -> Tally:
        """See `Kind.tally`."""
        return StepTally(header["settings"]["steps"])

    def page(self, reader: bz.JournalReader, given: argparse.Namespace) -> Page:
        """Distances by step, and where the balls came to rest."""
        run = Recorded(reader)
        steps, metres = run.step.astype(float), run.values
        rests = np.array([info["rest"] for info in run.infos if "rest" in info]).reshape(-1, 2)
        best = np.fmin.accumulate(metres) if run.n else metres
        distance = Chart(
            "step", "metres from the hole",
            [Layer(steps, metres, "a stroke", "dots", "time"), Layer(steps, best, "best so far", "step", "ink")],
            compared="best so far",
        )  # fmt: skip
        green = Chart(
            "metres ahead", "metres aside",
            [Layer(rests[:, 0], rests[:, 1], "a ball", "dots", "time"),
             Layer(HOLE[:1], HOLE[1:], "the hole", "ring", "ink")],
            linear=True,
        )  # fmt: skip
        tiles = [("best", f"{best[-1]:.2f} m" if len(best) else "–"), ("strokes", str(len(metres)))]
        facts = Facts([("wind", f"{run.problem['wind']} m"), *method(run.header), library(run.header)])
        sections = [
            Section("Distance", [distance]),
            Section("The green", [green]),
            *measures(run.measured),
            Section("The run", [facts]),
        ]
        return Page(reader.path.name, "golf", tiles, sections)

    def export(self, reader: bz.JournalReader, given: argparse.Namespace) -> Iterator[str]:
        """Where the ball came to rest nearest to the hole, as JSON."""
        value, rest = min(
            (value, info["rest"])
            for line in reader.answers()
            for value, info in zip(line.values or (), line.info or (), strict=True)
            if info and "rest" in info
        )
        given.output.write_text(json.dumps({"metres": value, "rest": rest}) + "\n")
        yield f"{given.output}: {value:.2f} m from the hole"
