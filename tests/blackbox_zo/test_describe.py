"""Descriptions of methods, by which a journal knows its own."""

from __future__ import annotations

import blackbox_zo as bz
from blackbox_zo._describe import describe, rebuild

BEFORE = {
    "name": "RandomVector", "radius": 0.1, "n_directions": 4, "distribution": "gaussian", "difference": "central",
    "rank": 1, "n_blocks": None,
}  # fmt: skip
"""As it was written before `group` came."""


def test_a_field_that_came_later_is_left_out_at_its_default() -> None:
    assert describe(bz.RandomVector(0.1, 4)) == BEFORE
    assert rebuild(BEFORE, lambda name: getattr(bz, name)) == bz.RandomVector(0.1, 4)


def test_a_field_that_came_later_is_described_where_it_is_given() -> None:
    grouped = bz.RandomVector(0.1, 4, difference="relative", group=2)
    assert describe(grouped) == {**BEFORE, "difference": "relative", "group": 2}
    assert rebuild(describe(grouped), lambda name: getattr(bz, name)) == grouped
