"""One model of utility for a whole study: it finds what the answers were made from."""

from __future__ import annotations

import numpy as np

import blackbox_zo as bz
from oracles.ranking._liking import MOST, liking_of


def test_liking_grows_as_utility_did() -> None:
    """Choices by Bradley and Terry's rule from u(x) = -8 |x|², by rounds that come nearer to 0."""
    rng = np.random.default_rng(0)
    points = [rng.standard_normal((8, 2)) * 0.8**i for i in range(15)]
    true = [-8 * (x**2).sum(axis=1) for x in points]
    rankings = [bz.Values(-(u + rng.gumbel(size=8))).ranking() for u in true]
    winners: list[int | None] = [int(np.argmin(r.net_losses())) for r in rankings]
    found = liking_of(points, rankings, winners)
    assert found is not None and found.rounds.tolist() == list(range(15))
    assert found.mean[0] == 0.0 and found.stderr[0] == 0.0
    want = np.array([u[w] for u, w in zip(true, winners, strict=True) if w is not None])
    assert np.corrcoef(found.mean[1:], want[1:])[0, 1] > 0.8
    assert (np.abs(found.mean - (want - want[0])) < 4 * found.stderr + 0.5).all()


def test_points_that_come_again_are_one_and_rounds_without_a_winner_are_left_out() -> None:
    x = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    order, tie = bz.Ranking([0, 1, 2], 3), bz.Ranking([(0, 1, 2)], 3)
    found = liking_of([x, x, x], [order, tie, order], [0, None, 0])
    assert found is not None and found.rounds.tolist() == [0, 2]
    assert found.mean.tolist() == [0.0, 0.0] and found.stderr.tolist() == [0.0, 0.0]  # the same point


def test_too_little_or_too_much_is_not_fitted() -> None:
    x, order = np.eye(2), bz.Ranking([0, 1], 2)
    assert liking_of([], [], []) is None and liking_of([x], [order], [0]) is None
    assert liking_of([x] * MOST, [order] * MOST, [0] * MOST) is None
