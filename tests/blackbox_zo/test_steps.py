from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import blackbox_zo as bz
from blackbox_zo._typing import Floats
from blackbox_zo.randomness import Key

from .helpers import BLOCKS, bits

ORIGIN: Floats = np.arange(11.0) / 7


def queries() -> bz.Queries:
    index, scale = np.array([0, 0, 2, 1]), np.array([0.5, -0.5, 0.0, 2.0])
    return bz.Queries(bz.Gaussian(BLOCKS, 3, Key(0, 0)), index, scale, ORIGIN)


def test_matrix_form() -> None:
    q = queries()
    assert q.n == 4
    np.testing.assert_array_equal(q.matrix, [[0.5, 0, 0], [-0.5, 0, 0], [0, 0, 0], [0, 2.0, 0]])
    np.testing.assert_allclose(q.points(), q.origin + q.matrix @ q.directions.rows, rtol=1e-14)


def test_scale_zero_asks_about_the_origin_itself() -> None:
    assert bits(queries().points()[2]) == bits(ORIGIN)


@pytest.mark.parametrize("which", [slice(1, 3), np.array([3, 0]), slice(0)])
def test_take_keeps_the_points(which: slice) -> None:
    q = queries()
    assert bits(q.take(which).points()) == bits(q.points()[which])
    assert q.take(which).directions is q.directions


def test_step_is_weights_times_rows() -> None:
    u = bz.Gaussian(BLOCKS, 3, Key(0, 0))
    step = bz.Step(u, np.array([1.0, -2.0, 0.5]), 0.25)
    np.testing.assert_allclose(step.dense(), step.w @ u.rows, rtol=1e-12)
    assert bits(step.scaled(4.0).w) == bits(4.0 * step.w)
    assert step.scaled(4.0).shrink == 1.0


def test_replaced_keeps_the_pull() -> None:
    other = bz.Dense(BLOCKS, np.ones((1, 11)))
    step = bz.Step(bz.Gaussian(BLOCKS, 3, Key(0, 0)), np.ones(3), 0.25).replaced(other, np.ones(1))
    assert step.directions is other and step.shrink == 0.25


def test_records_are_frozen() -> None:
    for record, name in ((queries(), "scale"), (bz.Step(queries().directions, np.ones(3)), "w")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(record, name, np.ones(3))
