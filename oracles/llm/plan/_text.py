"""A plan in words and as JSON; every figure says where it comes from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from blackbox_zo.streaming._module import MERGE_EVERY
from oracles.llm.plan._machines import Figure
from oracles.llm.plan._plan import Plan
from oracles.llm.plan._quantities import said, speed_said, tera
from oracles.llm.plan._ways import Way
from oracles.words import span

__all__ = ["FIGURES", "as_json", "command", "described", "figure_said", "kind_of", "limit_said", "lines", "waits_said"]

FIGURES = {
    "flops": ("computing", tera),
    "head_flops": ("computing, outside the blocks", tera),
    "move": ("moving weights", speed_said),
    "again": ("moving them again", speed_said),
    "decode": ("decoding weights", speed_said),
    "disk": ("reading the disk", speed_said),
    "disk_write": ("writing to it", speed_said),
    "link": ("host to device", speed_said),
    "link_back": ("device to host", speed_said),
    "copy": ("copying in memory", speed_said),
    "device_memory": ("memory of the device", said),
    "runtime": ("of it for the runtime", said),
    "host_memory": ("memory of the host", said),
}
"""What a machine's figures are called, and how they are written."""


def figure_said(name: str, figure: Figure) -> str:
    """A figure with its unit."""
    return FIGURES[name][1](figure.value)


def kind_of(figure: Figure) -> str:
    """Given, measured, published or assumed: the first word, or both of what was published and then reckoned."""
    return figure.source.partition(" ")[0].rstrip(",;:")


def used(plan: Plan) -> dict[str, Figure]:
    """The machine's figures that bear on a plan."""
    found = plan.machine.figures()
    idle = {"copy"} if plan.machine.link is not None else set[str]()
    return {name: figure for name, figure in found.items() if name not in idle}


def described(way: Way) -> str:
    """A way in a few words."""
    if way.store == "none":
        return "all weights stay on the device; nothing is streamed"
    writes = f"written back after {MERGE_EVERY} moves" if way.log_structured else "written back after each move"
    return f"from the {'disk' if way.store == 'disk' else 'host’s memory'}, {writes}"


def limit_said(way: Way) -> str:
    """What a step is limited by."""
    lane, share = way.limit
    if share < 0.9:
        return f"nothing alone: {lane} works {share:.0%} of a step, and lanes wait for each other"
    more = ""
    if way.hidden_from is not None:
        more = f"; computing takes longer from {way.hidden_from:,} tokens on"
    return f"{lane}, {min(share, 1):.0%} of a step{more}"


def waits_said(way: Way) -> list[tuple[str, str, float]]:
    """Who waits for whom, and for how many seconds of a step; the longest first."""
    found = [(who, whom, seconds) for (who, whom), seconds in way.step.waits.items()]
    return sorted((w for w in found if w[2] > 0.01 * way.step.seconds), key=lambda w: -w[2])


def lines(plan: Plan) -> Iterator[str]:
    """The plan as text."""
    shape, best = plan.shape, plan.best
    work = best.work
    yield (
        f"{shape.name} ({shape.source}): {shape.numbers / 1e9:.4g} billion parameters, {said(shape.nbytes)} in "
        f"{plan.dtype}, {len(shape.entries)} blocks and tables."
    )
    if not shape.traced:
        yield "Its code does not run without weights, so operations and activations are reckoned from their number."
    texts = f"{work.rows} {'text' if work.rows == 1 else 'texts'} of {work.length:,} tokens"
    yield f"A step: {work.queries} queries on {texts}, at most {max(work.passes(_on_cpu(plan)))} in a pass."
    yield ""
    yield f"Plan: {described(best)}."
    if best.store != "none":
        ring = "two blocks" if best.sweep.slots == 2 else f"{best.sweep.slots} blocks"
        yield f"  {len(best.kept.kept)} of {len(shape.entries)} blocks and tables stay; a ring of {ring} for the rest."
    yield f"  step        {span(best.seconds)}{_range(best)}, simulated"
    yield f"  throughput  {best.ratio:.2f} of that with all weights on the device ({span(best.resident)}), simulated"
    yield f"  limited by  {limit_said(best)}"
    for who, whom, seconds in waits_said(best):
        yield f"              {who} waits {span(seconds)} for {whom}"
    for tier, parts in best.memory.items():
        told = ", ".join(f"{what} {said(n)}" for what, n in parts.items() if n)
        yield f"  {tier:<11} {said(sum(parts.values()))}: {told}" if told else f"  {tier:<11} nothing"
    yield ""
    if plan.others:
        yield "Other ways, simulated:"
        for way in plan.others:
            lacking = f"; does not fit: {way.lacking}" if way.lacking else ""
            yield f"  {span(way.seconds):>8}, {way.ratio:.2f}  {described(way)}; limited by {way.limit[0]}{lacking}"
        yield ""
    yield f"Reckoned with ({plan.machine.name}):"
    for name, figure in used(plan).items():
        yield f"  {FIGURES[name][0]:<29} {figure_said(name, figure):<12} {figure.source}"
    yield ""
    yield from notes(plan)


def notes(plan: Plan) -> Iterator[str]:
    """What to know of these figures, and the command that runs the plan."""
    yield "Times and shares are simulated; bytes follow from the model's shape, activations from its own code."
    if plan.machine.link is not None:
        yield "StreamedModule runs on a CPU so far: streaming to a device cannot be run yet, only planned."
    elif (told := command(plan)) is not None:
        yield f"To run it: {told}"


def command(plan: Plan) -> str | None:
    """The options of `finetune` that run a plan on this machine; none if it is for a device."""
    best = plan.best
    if plan.machine.link is not None:
        return None
    parts = ["blackbox-zo finetune --model", plan.shape.name, "--select all --dtype", plan.dtype]
    if best.store != "none":
        parts += ["--stream", best.store, "--budget", _sized(best.kept.total)]
        parts += ["--log-structured"] * best.log_structured
        parts += ["--transfer-dtype", plan.transfer_dtype] if plan.transfer_dtype else []
    parts += ["--micro-batch", str(best.work.micro_batch)] if best.work.micro_batch else []
    return " ".join(parts) + " --data FILE ..."


def _sized(nbytes: int) -> str:
    return f"{-(-nbytes // 2**20)}MiB" if nbytes >= 2**24 else f"{-(-nbytes // 2**10)}KiB"


def _on_cpu(plan: Plan) -> bool:
    return plan.machine.link is None


def _range(way: Way) -> str:
    if way.most <= 1.02 * way.least:
        return ""
    return f" in the mean, from {span(way.least)} to {span(way.most)} by the moves that wait"


def as_json(plan: Plan) -> dict[str, Any]:
    """The plan as data: seconds and bytes."""
    shape, work = plan.shape, plan.best.work
    return {
        "model": {
            "name": shape.name, "source": shape.source, "parameters": shape.numbers, "bytes": shape.nbytes,
            "dtype": plan.dtype, "transfer dtype": plan.transfer_dtype, "entries": len(shape.entries),
            "traced": shape.traced,
        },
        "machine": {
            "name": plan.machine.name,
            **{name: {"value": figure.value, "source": figure.source} for name, figure in used(plan).items()},
        },
        "work": {"queries": work.queries, "rows": work.rows, "length": work.length, "tokens": work.tokens},
        "plan": _way(plan.best),
        "others": [_way(way) for way in plan.others],
        "simulated": ["seconds", "least", "most", "resident", "ratio", "busy", "waits", "limited by"],
    }  # fmt: skip


def _way(way: Way) -> dict[str, Any]:
    return {
        "store": way.store, "log-structured": way.log_structured, "ring": way.sweep.slots,
        "kept": len(way.kept.kept), "budget": way.kept.total, "micro-batch": way.work.micro_batch,
        "seconds": way.seconds, "least": way.least, "most": way.most, "resident": way.resident, "ratio": way.ratio,
        "limited by": way.limit[0], "busy": way.step.busy,
        "waits": [{"who": who, "for": whom, "seconds": s} for (who, whom), s in way.step.waits.items()],
        "computing takes longer from tokens": way.hidden_from, "memory": way.memory, "lacking": way.lacking,
    }  # fmt: skip
