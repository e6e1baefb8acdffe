from __future__ import annotations

import numpy as np
import pytest

from blackbox_zo._checks import all_finite, all_true, any_true


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", [(1,), (4,), (3, 2)])
def test_one_number_that_is_not_finite_is_found(value: float, shape: tuple[int, ...]) -> None:
    array = np.ones(shape)
    assert all_finite(array)
    array.flat[-1] = value
    assert not all_finite(array)
    array.flat[0] = -value
    assert not all_finite(array)


@pytest.mark.parametrize("array", [[], [0.0], [-0.0, 1e-300], [np.nan], [[1, 2], [3, 0]], [True, True], [True, False]])
def test_any_and_all_are_those_of_numpy(array: list[float]) -> None:
    given = np.array(array)
    assert any_true(given) == given.any() and all_true(given != 0) == (given != 0).all()


@pytest.mark.filterwarnings("error")
def test_numbers_whose_squares_overflow_are_finite() -> None:
    assert all_finite(np.array([1e300, -1e308])) and all_finite(np.empty(0))
    assert all_finite(np.full((4, 4), 1e200)[:, ::2])
