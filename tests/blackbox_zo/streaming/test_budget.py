"""A budget is a promise both ways: never above it, and used."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from blackbox_zo.streaming._budget import Plan, in_bytes, planned
from blackbox_zo.streaming._units import Entry


def _entries(sizes: list[int]) -> list[Entry]:
    entries = []
    for i, size in enumerate(sizes):
        p = torch.nn.Parameter(torch.empty(16 * size, 1, device="meta"))
        entries.append(Entry(str(i), (str(i),), (p,), i))
    return entries


@given(
    st.lists(st.integers(1, 50), min_size=2, max_size=12),
    st.integers(0, 2000),
    st.integers(0, 40_000),
    st.booleans(),
)
def test_a_plan_is_within_its_budget_and_nothing_more_fits(
    sizes: list[int], fixed: int, budget: int, tied: bool
) -> None:
    """Whatever the sizes; the first entry may be needed twice."""
    entries = _entries(sizes)
    order = [*entries, entries[0]] if tied else entries
    least = Plan(fixed, order, set()).total
    if budget < least:
        with pytest.raises(ValueError, match="too small"):
            planned(fixed, order, budget)
        return
    plan = planned(fixed, order, budget)
    assert plan.total <= budget
    if budget >= fixed + sum(e.nbytes for e in entries):
        more = [e for e in entries if e.number not in plan.kept]
        assert not more or Plan(fixed, order, {e.number for e in entries}).total > budget
    for entry in entries:
        if entry.number not in plan.kept:
            assert plan.total + entry.nbytes > budget or Plan(fixed, order, plan.kept | {entry.number}).total > budget


def test_without_a_budget_two_blocks_are_there() -> None:
    """The largest two that follow each other, the last and the first included."""
    plan = planned(100, _entries([1, 5, 2, 7]), None)
    assert not plan.kept
    assert plan.ring == 9 * 64
    assert plan.total == 100 + 9 * 64
    tied = _entries([6, 1, 2])
    assert planned(0, [*tied, tied[0]], None).ring == 8 * 64, "the last is the first of the next sweep"


@pytest.mark.parametrize(
    ("text", "size"),
    [("2GiB", 2 << 30), ("1.5 GB", 1_500_000_000), ("300kb", 300_000), ("12", 12), (7, 7), (None, None)],
)
def test_sizes_in_words(text: str | int | None, size: int | None) -> None:
    """Binary and decimal units."""
    assert in_bytes(text) == size


@pytest.mark.parametrize("bad", ["", "GiB", "two", "-3GB", "0GB", 0, -5, "3 gallons"])
def test_what_is_no_size_is_refused(bad: str | int) -> None:
    """And an example is given."""
    with pytest.raises(ValueError, match="budget"):
        in_bytes(bad)
