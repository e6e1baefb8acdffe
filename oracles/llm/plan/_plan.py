"""Plan a run: which way to stream a model is fastest among those that fit, and what it takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch

from blackbox_zo.streaming._encoding import ENCODINGS
from oracles.llm.plan._machines import Machine
from oracles.llm.plan._models import Shape, shape_of
from oracles.llm.plan._ways import Way, Work, way_of

__all__ = ["Plan", "plan", "work_of"]


@dataclass(frozen=True)
class Plan:
    """What `plan` found.

    Attributes:
        shape: The model.
        machine: The machine.
        dtype: Of the weights in memory.
        transfer_dtype: How they are held elsewhere; none holds them as they are in memory.
        best: The fastest way that fits.
        others: Other ways, the fastest first, with what they lack.
    """

    shape: Shape
    machine: Machine
    dtype: str
    transfer_dtype: str | None
    best: Way
    others: list[Way]


def plan(
    model: str | Shape,
    machine: Machine,
    tokens: int,
    *,
    length: int | None = None,
    queries: int = 2,
    dtype: str | None = None,
    transfer_dtype: str | None = None,
    store: str | None = None,
    log_structured: bool | None = None,
    budget: int | None = None,
    micro_batch: int | None = None,
) -> Plan:
    """Find the fastest way to stream a model on a machine. Step times are simulated.

    Args:
        model: A preset, a folder, a name on the hub, or a shape.
        machine: The machine.
        tokens: Tokens that each query of a step sees.
        length: Tokens in a text; none takes all of them, or the longest that the model reads.
        queries: Queries in a step.
        dtype: Of the weights in memory, as torch calls it; none takes the model's.
        transfer_dtype: How they are held elsewhere: "bf16", "fp8" or "int8".
        store: "disk" or "host"; none tries both.
        log_structured: Whether blocks are written after 16 moves only; none tries both.
        budget: Bytes for weights; none takes what the device has.
        micro_batch: Examples in a pass at most.

    Raises:
        BadInput: The model cannot be planned for.
        ValueError: Nothing fits, or the tokens are no whole texts.
    """
    chosen = getattr(torch, dtype) if dtype is not None else None
    shape = model if isinstance(model, Shape) else shape_of(model, chosen)
    work = work_of(shape, tokens, length, queries, micro_batch)
    encoding = ENCODINGS[transfer_dtype] if transfer_dtype is not None else None
    rings = (2,) if machine.link is None else (2, 3)
    ways, error = [], None
    both = (
        ("disk",) if machine.link is None and encoding is None else ("host", "disk")
    )  # no memory is saved by a copy in it
    for where, log, slots in product(_either(store, *both), _either(log_structured, False, True), rings):
        try:
            ways.append(way_of(shape, machine, work, str(where), bool(log), encoding, budget, slots))
        except ValueError as found:  # three blocks may not fit where two do
            error = error or found
    if not ways:
        raise error or ValueError("There is no way.")
    ways = _distinct(ways)
    fitting = [way for way in ways if not way.lacking]
    if not fitting:
        raise ValueError(f"It does not fit: {' or '.join(dict.fromkeys(way.lacking for way in ways))} would be needed.")
    best = fitting[0]
    others = [way for way in ways if way is not best]
    return Plan(shape, machine, str(shape.model.dtype).removeprefix("torch."), transfer_dtype, best, others)


def _either(given: object, *all_: object) -> tuple[object, ...]:
    return all_ if given is None else (given,)


def work_of(shape: Shape, tokens: int, length: int | None, queries: int, micro_batch: int | None = None) -> Work:
    """What a step computes.

    Raises:
        ValueError: Texts are longer than the model reads, or the tokens are no whole number of texts.
    """
    each = length or min(tokens, shape.longest or tokens)
    if shape.longest is not None and each > shape.longest:
        raise ValueError(f"--length {each} is longer than the {shape.longest} tokens that {shape.name} reads.")
    if tokens % each:
        raise ValueError(f"--tokens {tokens} are not a whole number of texts of {each}; give another --length.")
    return Work(queries, tokens // each, each, micro_batch)


def _distinct(ways: list[Way]) -> list[Way]:
    """The fastest first; of ways that differ in the ring alone the better, and a model that fits whole once."""
    found: dict[tuple[str, bool], Way] = {}
    for way in _sorted(ways):
        found.setdefault((way.store, way.log_structured), way)
    return list(found.values())


def _sorted(ways: list[Way]) -> Iterator[Way]:
    yield from sorted(ways, key=lambda way: (bool(way.lacking), round(way.seconds, 3), way.log_structured))
