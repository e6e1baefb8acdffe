from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import blackbox_zo as bz

from ..helpers import Quadratic, laws, one_step, sphere


@laws
@given(d=st.integers(1, 12), seed=st.integers(0, 99), h=st.floats(1e-2, 10.0))
def test_central_differences_are_exact_on_quadratics(d: int, seed: int, h: float) -> None:
    f = Quadratic(d, seed)
    _, _, step = one_step(bz.Coordinatewise(h), f, f.x)
    exact = f.gradient(f.x)
    np.testing.assert_allclose(step.dense(), exact, atol=1e-9 * np.abs(exact).max() + 1e-12)


@laws
@given(d=st.integers(1, 12), seed=st.integers(0, 99))
def test_forward_differences_are_off_by_half_h_times_the_curvature(d: int, seed: int) -> None:
    f, h = Quadratic(d, seed), 0.5
    _, _, step = one_step(bz.Coordinatewise(h, difference="forward"), f, f.x)
    np.testing.assert_allclose(step.dense(), f.gradient(f.x) + 0.5 * h * np.diag(f.a), rtol=1e-9, atol=1e-9)


@laws
@given(st.permutations(range(6)), st.integers(1, 6))
def test_chosen_coordinates_and_no_others(order: list[int], count: int) -> None:
    f, chosen = Quadratic(6), order[:count]
    _, queries, step = one_step(bz.Coordinatewise(0.1, np.array(chosen)), f, f.x)
    expected = np.zeros(6)
    expected[chosen] = f.gradient(f.x)[chosen]
    np.testing.assert_allclose(step.dense(), expected, rtol=1e-9, atol=1e-12)
    assert queries.n == 2 * count


@laws
@given(d=st.integers(1, 20), m=st.integers(1, 25), first=st.integers(0, 50))
def test_blocks_cover_every_coordinate_once_in_turn(d: int, m: int, first: int) -> None:
    estimator, rounds = bz.Coordinatewise(0.1, f"block:{m}"), -(-d // m)
    seen = [estimator.chosen(first + step, d) for step in range(rounds)]
    assert sorted(np.concatenate(seen).tolist()) == list(range(d))
    assert max(map(len, seen)) <= m


def test_a_round_of_blocks_is_the_whole_gradient() -> None:
    f = Quadratic(7)
    parts = [one_step(bz.Coordinatewise(0.1, "block:3"), f, f.x, step=step)[2].dense() for step in range(3)]
    np.testing.assert_allclose(sum(parts), f.gradient(f.x), rtol=1e-9)


@pytest.mark.parametrize(("difference", "n"), [("central", 10), ("forward", 6)])
def test_number_of_queries(difference: Any, n: int) -> None:
    assert one_step(bz.Coordinatewise(0.1, difference=difference), sphere, np.ones(5))[1].n == n


def test_central_at_a_bound_is_half_the_inward_slope() -> None:
    """F counts as flat beyond a bound, for points are clipped."""
    variable, estimator = bz.Vector([0.0, 0.5], (0.0, 1.0)), bz.Coordinatewise(0.1)
    queries = estimator.sample((), variable, bz.Key(0, 0))
    values = bz.Values(variable.points(queries) @ np.array([4.0, 3.0]))
    np.testing.assert_allclose(estimator.estimate((), variable, queries, values)[1].dense(), [2.0, 3.0])


def test_failures_and_a_short_budget_leave_zeros() -> None:
    f = Quadratic(4)
    variable, estimator = bz.Vector(f.x), bz.Coordinatewise(0.1)
    queries = estimator.sample((), variable, bz.Key(0, 0)).take(slice(5))
    values = f(queries.points())
    values[1] = np.nan
    expected = np.array([0.0, f.gradient(f.x)[1], 0.0, 0.0])
    np.testing.assert_allclose(
        estimator.estimate((), variable, queries, bz.Values(values))[1].dense(), expected, rtol=1e-9
    )


def test_memory_is_a_few_numbers_a_coordinate() -> None:
    """As d rows of d numbers, the directions would take 80 GB."""
    variable = bz.Vector(np.zeros(100_000))
    queries = bz.Coordinatewise(0.1).sample((), variable, bz.Key(0, 0))
    point = queries.take(np.array([7])).points()
    assert np.flatnonzero(point[0]).tolist() == [3] and point[0, 3] == -0.1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"radius": 0.0}, "`Coordinatewise(radius=...)` must be a positive number, got 0.0."),
        ({"coordinates": []}, "`Coordinatewise(coordinates=...)` must be a flat array of at least one index, got []."),
        ({"coordinates": [[0]]}, "must be a flat array of at least one index, got [[0]]."),
        ({"coordinates": [0.5]}, "must be a flat array of at least one index, got [0.5]."),
        ({"coordinates": 3}, "must be a flat array of at least one index, got 3."),
        (
            {"coordinates": [1, 1]},
            "`Coordinatewise(coordinates=...)` must name each index once, from 0 up; got [1, 1].",
        ),
        ({"coordinates": [-1]}, "must name each index once, from 0 up; got [-1]."),
        ({"coordinates": "block"}, "`Coordinatewise(coordinates=...)` must look like \"block:16\", got 'block'."),
        ({"coordinates": "block:0"}, "got 'block:0'."),
        ({"coordinates": "block:-2"}, "got 'block:-2'."),
        ({"coordinates": "blocks:2"}, "got 'blocks:2'."),
        (
            {"difference": "residual"},
            "`Coordinatewise(difference=...)` must be one of 'central', 'forward'; got 'residual'.",
        ),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError) as error:
        bz.Coordinatewise(**{"radius": 0.1, **arguments})
    assert words in str(error.value)


def test_an_index_outside_x_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match=r"`Coordinatewise\(coordinates=...\)` names index 5, but x has 3 elements"):
        bz.Search(np.zeros(3), bz.Coordinatewise(0.1, [0, 5]))
