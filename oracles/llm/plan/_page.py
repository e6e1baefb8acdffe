"""A plan as a page: the pipeline as a picture, and all figures with where they come from."""

from __future__ import annotations

import re
from collections.abc import Iterator

from oracles.llm.plan._pipeline import Span
from oracles.llm.plan._plan import Plan
from oracles.llm.plan._quantities import said
from oracles.llm.plan._sweep import COMPUTE, DISK, DOWN, UP, WRITE
from oracles.llm.plan._text import FIGURES, command, described, figure_said, limit_said, notes, used, waits_said
from oracles.llm.plan._ways import Way
from oracles.page import Bar, Commands, Facts, Page, Part, Section, Table, Timeline
from oracles.words import span

__all__ = ["page_of", "timeline"]

SHOWN = 6
"""Entries that come and go which the picture shows."""


def page_of(plan: Plan) -> Page:
    """The page of a plan."""
    best, shape = plan.best, plan.shape
    device = next(iter(best.memory))
    tiles = [
        ("step, simulated", span(best.seconds)),
        ("of the throughput with all weights in place, simulated", f"{best.ratio:.0%}"),
        (f"{device} in use", said(sum(best.memory[device].values()))),
        ("limited by", best.limit[0] if best.limit[1] >= 0.9 else "waiting"),
    ]
    work = best.work
    subject = (
        f"{shape.numbers / 1e9:.4g} billion parameters, {said(shape.nbytes)} in {plan.dtype}; a step has "
        f"{work.queries} queries on {work.tokens:,} tokens; {plan.machine.name}"
    )
    sections = [
        Section("Pipeline", list(_pipeline(best)), _told(plan)),
        Section(
            "Memory of each tier", [_tiers(best)], "Bytes follow from the model's shape, activations from its code."
        ),
        Section("Other ways, simulated", [_others(plan)]) if plan.others else None,
        Section("Figures of the machine", [_figures(plan)], "Only what is marked as measured was measured."),
        Section("To run it", [Commands([("", told)])]) if (told := command(plan)) else None,
    ]
    note = " ".join(line for line in notes(plan) if not line.startswith("To run it"))
    return Page(f"Plan of {shape.name}", subject, tiles, [s for s in sections if s is not None], note)


def _told(plan: Plan) -> str:
    best = plan.best
    if best.store == "none":
        return f"Simulated. {described(best).capitalize()}."
    return (
        f"Simulated. {described(best).capitalize()}; {len(best.kept.kept)} of {len(plan.shape.entries)} blocks and "
        f"tables stay, and a ring of {best.sweep.slots} holds the others in turn. Hatched lanes wait. "
        f"Limited by {limit_said(best)}."
    )


def _pipeline(way: Way) -> Iterator[Part]:
    if way.store == "none":
        yield Table([[COMPUTE, span(way.step.busy[COMPUTE]), "100 %"]], ("lane", "works", "of a step"))
        return
    yield timeline(way)
    rows = [
        [lane, span(way.step.busy[lane]), f"{min(1, way.step.busy[lane] / way.step.seconds):.0%}", _waits(way, lane)]
        for lane in _lanes(way)
    ]
    yield Table(rows, ("lane", "works", "of a step", "waits"), text=(3,))


def _waits(way: Way, lane: str) -> str:
    return ", ".join(f"{span(s)} for {whom}" for who, whom, s in waits_said(way) if who == lane) or "–"


def _lanes(way: Way) -> list[str]:
    return [lane for lane in (DISK, UP, COMPUTE, DOWN, WRITE) if way.step.busy.get(lane)]


def timeline(way: Way) -> Timeline:
    """A few blocks in the middle of a step: what each lane works on, and for whom it waits."""
    lanes, spans = _lanes(way), way.step.spans
    fetched = [s for s in spans if s.task.lane in (DISK, UP)]
    names = list(dict.fromkeys(s.task.what for s in fetched))
    order = {name: i for i, name in enumerate(dict.fromkeys(map(_entry, spans)))}
    middle = names[len(names) // 2 :][:SHOWN] or names
    shown = [s for s in spans if s.task.lane == COMPUTE and _entry(s) in middle]
    begin, end = min(s.begin for s in shown), max(s.end for s in shown)
    bars = [bar for s in spans for bar in _bars(s, lanes.index(s.task.lane), order) if s.task.seconds]
    alt = "Lanes " + ", ".join(lanes) + " over time. " + "; ".join(
        f"{who} waits {span(seconds)} of a step for {whom}" for who, whom, seconds in waits_said(way)
    )  # fmt: skip
    return Timeline(lanes, bars, begin, end, alt)


def _entry(s: Span) -> str:
    return s.task.what.removesuffix(", move")


def _bars(s: Span, lane: int, order: dict[str, int]) -> Iterator[Bar]:
    if s.whom and s.waited > 0:
        yield Bar(lane, s.begin - s.waited, s.begin, f"waits for {s.whom}", "wait")
    name = _entry(s)
    number = re.search(r"\.(\d+)$", name)
    label = number[1] if number else name.rpartition(".")[2]
    moved = s.task.what.endswith(", move")
    yield Bar(lane, s.begin, s.end, f"{label} moves" if moved else label, "early" if order.get(name, 0) % 2 else "late")


def _tiers(way: Way) -> Table:
    rows = [[tier, what, said(n)] for tier, parts in way.memory.items() for what, n in parts.items() if n]
    return Table(rows, ("tier", "what", "bytes"), text=(1,))


def _others(plan: Plan) -> Table:
    rows = [
        [described(way) + (f"; does not fit: {way.lacking}" if way.lacking else ""), span(way.seconds),
         f"{way.ratio:.0%}", way.limit[0]]
        for way in plan.others
    ]  # fmt: skip
    return Table(rows, ("way", "step", "throughput", "limited by"), text=(0,))


def _figures(plan: Plan) -> Facts:
    return Facts([(FIGURES[name][0], f"{figure_said(name, f)}, {f.source}") for name, f in used(plan).items()])
