"""Bounds beyond which f is what it is on the face, and `OrdinalSurrogate` within them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import blackbox_zo as bz
from blackbox_zo._typing import Floats
from blackbox_zo.estimators._flat_bounds import FlatBounds

BOX = bz.Vector([0.0, 0.5, 1.0], [(-1, 1), (0, None), (None, 2)])


def test_the_nearest_point_of_the_box() -> None:
    bounds, g = FlatBounds(BOX), np.array([[-3.0, -1.0, 1e9], [0.2, 1e9, -1e9]])
    for points in (bounds.into(g), bounds.clipped(g)):
        np.testing.assert_array_equal(points, [[-1, 0, 2], [0.2, 1e9, -1e9]])
    assert bounds.back(g) is g


def test_displacements_are_cut_short_at_a_face() -> None:
    x, y = BOX.value, np.array([[4.0, -4.0, 0.5]])
    np.testing.assert_array_equal(FlatBounds(BOX).short(x, y, 0.5), [[2.0, -1.0, 0.5]])


def reached(f: Any, x0: Floats, budget: int) -> Floats:
    search = bz.Search(bz.Vector(x0, (-1, 1)), bz.OrdinalSurrogate(0.3), seed=1, budget=budget)
    while not search.exhausted:
        proposal = search.ask()
        search.tell(proposal, bz.Values(f(proposal.points)).ranking())
    return np.asarray(search.x)


@pytest.mark.parametrize("seed", range(3))
def test_a_narrow_valley_is_followed_along_a_face(seed: int) -> None:
    """An ellipsoid of condition 1e6, the optimum close to every face."""
    rng, d = np.random.default_rng(seed), 5
    axes, least = np.linalg.qr(rng.standard_normal((d, d)))[0], np.where(rng.random(d) < 0.5, 0.95, -0.95)

    def f(points: Floats) -> Floats:
        out: Floats = (np.logspace(0, 6, d) * ((points - least) @ axes) ** 2).sum(axis=-1)
        return out

    assert f(reached(f, rng.uniform(-0.9, 0.9, d), 150 * d)) < 1e-6


@pytest.mark.parametrize("d", [3, 8])
def test_an_optimum_in_a_corner_is_reached_exactly(d: int) -> None:
    slope = np.random.default_rng(d).standard_normal(d)
    np.testing.assert_array_equal(reached(lambda points: points @ slope, np.zeros(d), 60 * d), -np.sign(slope))
