"""`AugmentedRandomSearch` against the paper's algorithm written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import blackbox_zo as bz


def proposed(n: int, b: int | None = None) -> tuple[bz.Search, bz.Proposal]:
    search = bz.Search(np.zeros(5), bz.AugmentedRandomSearch(0.1, n, b), bz.SGD(0.02), seed=3)
    return search, search.ask()


@pytest.mark.parametrize(("n", "b"), [(1, None), (4, None), (4, 2), (6, 1)])
def test_the_move_is_that_of_algorithm_2(n: int, b: int | None) -> None:
    search, proposal = proposed(n, b)
    rewards = np.random.default_rng(0).standard_normal(2 * n)
    search.tell(proposal, bz.Values(-rewards))
    u = proposal.points[::2] / 0.1
    up, down = rewards[::2], rewards[1::2]
    best = np.argsort(-np.maximum(up, down))[: b or n]
    sigma = np.concatenate((up[best], down[best])).std()
    want = 0.02 / (len(best) * sigma) * ((up - down)[best] @ u[best])
    assert search.x == pytest.approx(want)


def test_scale_and_shift_of_values_do_not_matter() -> None:
    f = np.random.default_rng(1).standard_normal(8)
    found = []
    for values in (f, 100 * f + 7):
        search, proposal = proposed(4, 2)
        search.tell(proposal, bz.Values(values))
        found.append(search.x)
    assert found[0] == pytest.approx(found[1])


def test_a_failed_direction_is_left_out() -> None:
    search, proposal = proposed(3)
    search.tell(proposal, bz.Values([1.0, 3.0, np.nan, -9.0, 2.0, 5.0]))
    u = proposal.points[::2] / 0.1
    assert search.x == pytest.approx(-0.02 / (2 * np.std([1, 3, 2, 5])) * (-2 * u[0] - 3 * u[2]))


def test_equal_answers_move_nothing() -> None:
    search, proposal = proposed(2)
    search.tell(proposal, bz.Values([4.0] * 4))
    assert not search.x.any()


def test_a_ranking_counts_by_losses_less_wins() -> None:
    search, proposal = proposed(3, 2)
    ranking = bz.Ranking([4, (0, 1), 2], n=6)  # 3 and 5 are worse than all of these
    search.tell(proposal, ranking)
    other, same = proposed(3, 2)
    other.tell(same, bz.Values(ranking.net_losses()))
    assert search.x == pytest.approx(other.x) and search.x.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"radius": -1}, "`AugmentedRandomSearch(radius=...)` must be a positive number, got -1."),
        ({"n_directions": 0}, "`AugmentedRandomSearch(n_directions=...)` must be a whole number of at least 1, got 0."),
        ({"n_best": 9}, "`AugmentedRandomSearch(n_best=...)` must be at most n_directions=8, got 9."),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        bz.AugmentedRandomSearch(**{"radius": 0.1, **arguments})
    assert str(error.value) == message
