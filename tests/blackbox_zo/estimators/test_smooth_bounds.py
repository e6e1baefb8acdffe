from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import blackbox_zo as bz
from blackbox_zo._typing import Floats
from blackbox_zo.estimators._smooth_bounds import SmoothBounds

from ..helpers import bits, laws

BOXES: tuple[Any, ...] = ((-1.0, 1.0), (None, 3.0), (-2.0, None), (0.0, 1e-3), (1e6, 1e6 + 5), (None, None))


def of(bounds: Any, margin: float = 0.1) -> tuple[SmoothBounds, bz.Vector]:
    low, high = bounds
    start = 0.0 if low is None and high is None else high if low is None else low
    variable = bz.Vector(np.full(1, start), (low, high))
    return SmoothBounds(variable, margin), variable


@laws
@given(box=st.sampled_from(BOXES), u=st.floats(-30, 30))
def test_every_point_comes_to_lie_in_the_box_and_mirror_images_coincide(box: Any, u: float) -> None:
    smooth, _ = of(box)
    scale = 1.0 if not np.isfinite(smooth.upper - smooth.lower)[0] else float(smooth.upper[0] - smooth.lower[0])
    centre = next((float(b) for b in (*smooth.lower, *smooth.upper) if np.isfinite(b)), 0.0)
    g = np.array([centre + scale * u])
    x = smooth.into(g)
    assert smooth.lower[0] <= x[0] <= smooth.upper[0]
    folded = smooth.folded(g)
    np.testing.assert_allclose(smooth.into(folded), x, rtol=1e-12, atol=1e-12 * scale)
    assert bits(smooth.clipped(folded)) == bits(folded)


@laws
@given(box=st.sampled_from(BOXES), share=st.floats(0, 1))
def test_back_is_the_inverse(box: Any, share: float) -> None:
    smooth, _ = of(box)
    low = smooth.lower if np.isfinite(smooth.lower).all() else np.minimum(smooth.upper, 9.0) - 1.0
    high = smooth.upper if np.isfinite(smooth.upper).all() else low + 1.0
    x = low + share * (high - low)
    g = smooth.back(x)
    assert bits(smooth.clipped(g)) == bits(g)
    np.testing.assert_allclose(smooth.into(g), x, rtol=1e-15, atol=1e-12 * float(high[0] - low[0]))


def test_what_is_kept_of_the_last_point_is_of_no_other() -> None:
    smooth, _ = of((-1.0, 1.0))
    x = np.array([0.99])
    assert bits(smooth.back(x)) != bits(x)
    x[0] = 0.5  # an array that can change is not kept
    assert bits(smooth.back(x)) == bits(x)
    for value in (0.99, 0.5, 0.99):
        fixed = np.array([value])
        fixed.flags.writeable = False
        expected, _ = of((-1.0, 1.0))
        assert bits(smooth.back(fixed)) == bits(smooth.back(fixed)) == bits(expected.back(fixed))
    with pytest.raises(ValueError, match="read-only"):
        smooth.back(fixed)[0] = 0.0


def test_what_is_kept_of_the_last_steps_is_of_no_others() -> None:
    smooth, _ = of((-1.0, 1.0))
    x, y = np.array([[0.9], [0.2]]), np.array([[[0.3], [-0.1]], [[0.2], [0.1]]])
    changing = y[0].copy()
    smooth.steps(x[0], changing, 1.0)
    changing[:] = -0.5  # an array that can change is not kept
    np.testing.assert_allclose(smooth.steps(x[0], changing, 1.0), -0.5)
    x.flags.writeable = y.flags.writeable = False
    places, displacements = list(x), list(y)
    for i, j, radius in ((0, 0, 1.0), (0, 0, 1.0), (1, 0, 1.0), (1, 1, 1.0), (1, 1, 0.5)):
        expected = (smooth.into(smooth.back(x[i]) + radius * y[j]) - x[i]) / radius
        assert bits(smooth.steps(places[i], displacements[j], radius)) == bits(expected)


def test_it_is_the_parabola_of_its_formula_and_smooth() -> None:
    smooth, _ = of((-1.0, 1.0))
    a = 0.1
    g: Floats = np.asarray(np.linspace(-1.1, -0.9, 201)[:, None], dtype=np.float64)
    np.testing.assert_allclose(smooth.into(g), -1.0 + (g - (-1.0 - a)) ** 2 / (4 * a), atol=1e-13)
    np.testing.assert_allclose(smooth.into(-g), -smooth.into(g), atol=1e-13)
    g = np.asarray(np.linspace(-0.9, 0.9, 50)[:, None], dtype=np.float64)
    assert bits(smooth.into(g)) == bits(g)
    wide: Floats = np.asarray(np.linspace(-4, 4, 80_001)[:, None], dtype=np.float64)
    slope = np.diff(smooth.into(wide)[:, 0]) / np.diff(wide[:, 0])
    assert np.abs(slope).max() < 1 + 1e-6
    assert np.abs(np.diff(slope)).max() < 0.01, "the slope jumps nowhere"


def test_the_vertex_is_the_bound_to_the_bit() -> None:
    smooth, _ = of((-1 / 3, 2 / 3))
    ends = smooth.into(np.array([[-9.0], [9.0]]).clip(smooth.first, smooth.last))
    assert ends.ravel().tolist() == [-1 / 3, 2 / 3]
    assert smooth.into(smooth.first + 1e-8).tolist() == [-1 / 3]


def test_equal_bounds_fix_a_variable() -> None:
    variable = bz.Vector(np.full(1, 4.0), (4.0, 4.0))
    smooth = SmoothBounds(variable, 0.1)
    assert smooth.into(np.array([[-1.0], [4.0], [9.0]])).ravel().tolist() == [4.0] * 3
    assert smooth.back(variable.value).tolist() == [4.0]


def test_one_sided_bounds_take_the_margin_given_and_infinite_ones_none() -> None:
    assert of((-2.0, None), 0.3)[0].first.tolist() == [-2.3]
    assert of((None, 3.0), 0.3)[0].last.tolist() == [3.3]
    smooth, _ = of((None, None))
    g = np.array([[-1e300], [0.0], [1e300]])
    assert bits(smooth.into(g)) == bits(g)


@pytest.mark.parametrize("y", [-8.0, 8.0])
def test_short_ends_on_the_bound(y: float) -> None:
    smooth, variable = of((-1.0, 1.0))
    rows = smooth.short(variable.value, np.array([[y]]), 0.5)
    assert smooth.into(smooth.back(variable.value) + 0.5 * rows).ravel().tolist() == [np.sign(y)]
