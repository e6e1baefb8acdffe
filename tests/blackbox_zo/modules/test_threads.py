"""Directions that are drawn in threads: the same bits, everything once, and errors that are seen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

import blackbox_zo as bz
from blackbox_zo.directions import Block, Gaussian, Sphere
from blackbox_zo.modules._tensors import add_direction_
from blackbox_zo.modules._threads import in_threads


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("count", "least", "runs"), [(0, 1, 1), (7, 4, 1), (8, 4, 2), (12, 4, 3), (1000, 4, 3)])
def test_each_number_is_worked_on_once(count: int, least: int, runs: int) -> None:
    seen: list[tuple[int, int]] = []
    in_threads(lambda a, b: seen.append((a, b)), count, least)
    assert len(seen) == runs
    assert sorted(i for a, b in seen for i in range(a, b)) == list(range(count))


@pytest.mark.parametrize("where", [0, 9])
def test_an_error_of_any_thread_is_raised_when_all_have_ended(where: int) -> None:
    done: list[int] = []

    def work(a: int, b: int) -> None:
        if a <= where < b:
            raise KeyError(where)
        done.append(a)

    with pytest.raises(KeyError, match=str(where)):
        in_threads(work, 12, 4)
    assert len(done) == 2


@pytest.mark.parametrize("make", [Gaussian, Sphere])
def test_directions_have_the_same_bits_however_many_threads_draw_them(make: Any) -> None:
    block = Block("w", (700, 701))  # fifteen tiles, the last one not full
    found = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        out = torch.ones(block.size, requires_grad=False)
        add_direction_(out, make((block,), 2, bz.Key(1, 2)), block, 1, 0.5, 0, torch.empty(block.size + 64))
        found.append(out)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
    assert float(found[0].std()) > 0.0
