from __future__ import annotations

import numpy as np
import pytest

from blackbox_zo._checks import all_finite


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", [(1,), (4,), (3, 2)])
def test_one_number_that_is_not_finite_is_found(value: float, shape: tuple[int, ...]) -> None:
    array = np.ones(shape)
    assert all_finite(array)
    array.flat[-1] = value
    assert not all_finite(array)
    array.flat[0] = -value
    assert not all_finite(array)


@pytest.mark.filterwarnings("error")
def test_numbers_whose_squares_overflow_are_finite() -> None:
    assert all_finite(np.array([1e300, -1e308])) and all_finite(np.empty(0))
    assert all_finite(np.full((4, 4), 1e200)[:, ::2])
