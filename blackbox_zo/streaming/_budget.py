"""Which entries stay in memory, and how much the others need."""

from __future__ import annotations

import re
from collections.abc import Sequence

from blackbox_zo.streaming._encoding import Encoding
from blackbox_zo.streaming._units import Entry

__all__ = ["Plan", "check_room", "in_bytes", "in_store", "planned"]

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
          "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}  # fmt: skip


class Plan:
    """What a budget allows.

    Attributes:
        kept: Numbers of the entries that stay.
        ring: Bytes for those that come and go, two at a time.
        spare: Bytes for a third, which goes back while the next comes.
        in_store: Whether the store's own memory is what the model reads.
        total: Bytes of everything beside the store.
    """

    in_store = False

    def __init__(
        self, fixed: int, order: Sequence[Entry], kept: set[int], encoding: Encoding | None = None, spare: bool = False
    ) -> None:
        self.kept = kept
        coming = [entry for entry in order if entry.number not in kept]
        self.ring = _ring(coming)
        self.spare = max((entry.nbytes for entry in coming if spare and not entry.table), default=0)
        codes = 0 if encoding is None else 2 * max(map(encoding.nbytes, order), default=0)  # read, and to be written
        self.total = fixed + self.ring + self.spare + codes + sum(e.nbytes for e in set(order) if e.number in kept)


def planned(
    fixed: int, order: Sequence[Entry], budget: int | None, encoding: Encoding | None = None, spare: bool = False
) -> Plan:
    """Keep as many entries as a budget allows, at even distances, so that each fetch has passes to hide behind.

    Args:
        fixed: Bytes of what always stays.
        order: The entries in the order in which they are needed; some may be needed twice.
        budget: In bytes; none keeps none.
        encoding: How they are held, which takes room while it is decoded.
        spare: Whether there is to be room for a third block beside two.

    Raises:
        ValueError: The budget is too small for any two entries that follow each other.
    """
    plan = Plan(fixed, order, set(), encoding, spare)
    _check(plan, budget, "two blocks and what always stays take")
    if budget is None:
        return plan
    for entry in _spread(sorted(set(order), key=lambda e: e.number), order):
        more = Plan(fixed, order, plan.kept | {entry.number}, encoding, spare)
        if more.total <= budget:
            plan = more
    return plan


def in_store(fixed: int, order: Sequence[Entry], budget: int | None) -> Plan:
    """The plan where the store is memory that the model can read as it is: nothing is copied.

    Raises:
        ValueError: The budget is too small for what always stays.
    """
    plan = Plan(fixed, order, {entry.number for entry in order})
    plan.in_store, plan.total = True, fixed
    _check(plan, budget, "what always stays takes")
    return plan


def check_room(plan: Plan, free: int | None, device: object) -> None:
    """Refuse a plan that a device has no memory for.

    Raises:
        ValueError: It takes more than is free.
    """
    if free is not None and plan.total > free:
        raise ValueError(
            f"{device} has {_said(free)} free, and the weights that are to be there at a time take "
            f"{_said(plan.total)}. Give a smaller budget, or another device."
        )


def _check(plan: Plan, budget: int | None, what: str) -> None:
    if budget is not None and plan.total > budget:
        raise ValueError(
            f"`budget` of {_said(budget)} is too small: {what} {_said(plan.total)}. "
            f'Give at least budget="{_rounded_up(plan.total)}".'
        )


def _spread(entries: list[Entry], order: Sequence[Entry]) -> list[Entry]:
    """Those needed twice first, then halves, quarters and so on of the others."""
    twice = [e for e in entries if order.count(e) > 1]
    once = [e for e in entries if e not in twice]
    bits = max(1, len(once).bit_length())
    turned = sorted(range(len(once)), key=lambda i: int(f"{i:0{bits}b}"[::-1], 2))
    return [*twice, *(once[i] for i in turned)]


def _ring(order: Sequence[Entry]) -> int:
    pairs = zip(order, [*order[1:], *order[:1]], strict=True)
    return max((a.nbytes + b.nbytes if a is not b else a.nbytes for a, b in pairs), default=0)


def in_bytes(size: int | str | None) -> int | None:
    """A size such as "2GiB", or a number of bytes.

    Raises:
        ValueError: It is no size.
    """
    if size is None or isinstance(size, int):
        if size is not None and size <= 0:
            raise ValueError(f"`budget` must be positive, got {size}.")
        return size
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", size)
    if not found or found[2].lower() not in _UNITS or not float(found[1]):
        raise ValueError(f'`budget` must be a size such as "2GiB" or "500MB", got {size!r}.')
    return int(float(found[1]) * _UNITS[found[2].lower()])


def _said(size: int) -> str:
    unit, name = next((u, n) for u, n in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")) if size >= u or n == "KiB")
    return f"{size / unit:.3g} {name}"


def _rounded_up(size: int) -> str:
    return f"{-(-size // 2**20)}MiB" if size >= 2**24 else f"{-(-size // 2**10)}KiB"
