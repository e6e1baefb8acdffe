from __future__ import annotations

import math

import numpy as np
import pytest

import blackbox_zo as bz
from blackbox_zo.estimators._cma_constants import constants
from blackbox_zo.estimators._evolution_state import RANK, EvolutionState, first_state
from blackbox_zo.estimators._low_rank import shaped, unshaped, with_shape

from ..helpers import run, stretched


def some_low_rank(d: int, generation: int) -> EvolutionState:
    rng = np.random.default_rng(d)
    s = first_state(d, 1.0, "low-rank", path=False)
    return s._replace(
        vectors=rng.standard_normal(s.vectors.shape), lengths=rng.uniform(0.5, 2.0, d), generation=generation
    )


@pytest.mark.parametrize("generation", [0, 2, 9])
@pytest.mark.parametrize("d", [1, 3, 40])
def test_low_rank_draws_are_those_of_their_formula_and_can_be_undone(d: int, generation: int) -> None:
    s = some_low_rank(d, generation)
    z = np.random.default_rng(0).standard_normal((6, d))
    y = shaped(s, z.copy())
    for row, start in zip(y, z, strict=True):
        expected = start
        for i in range(min(generation, RANK)):
            c = min(0.5, 1 / (1.5**i * d))
            expected = (1 - c) * expected + c * s.vectors[i] * (s.vectors[i] @ expected)
        np.testing.assert_allclose(row, s.lengths * expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(unshaped(s, y), z, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(unshaped(s, y[0]), z[0], rtol=1e-9, atol=1e-9)


def test_low_rank_directions_and_scales_are_learnt_as_written() -> None:
    d, n = 30, 12
    s, c = some_low_rank(d, 3), constants(d, n, "low-rank")
    rng = np.random.default_rng(1)
    z, pull = rng.standard_normal((n, d)), rng.uniform(0, 0.3, n)
    then = with_shape(s, c, c.weights, pull, z)
    z_w = math.sqrt(c.mu_eff) * (pull @ z)
    for i in range(RANK):
        rate = min(0.5, n / (4**i * d))
        np.testing.assert_allclose(then.vectors[i], (1 - rate) * s.vectors[i] + math.sqrt(rate * (2 - rate)) * z_w)
    path = math.sqrt(c.c_c * (2 - c.c_c)) * z_w
    change = 0.25 * (c.c_mu * (c.weights @ (z * z - 1)) + c.c_1 * (path * path - 1))
    np.testing.assert_allclose(then.lengths, s.lengths * np.exp(np.clip(change, -0.3, 0.3)), rtol=1e-10)


def test_low_rank_beats_the_diagonal_on_a_turned_ellipsoid_and_equals_it_on_a_straight_one() -> None:
    d = 160
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((d, d)))[0]
    ends = {}
    for covariance in ("low-rank", "diagonal"):
        for name, f in (("turned", lambda p: stretched((p - 0.3) @ turn + 0.3)), ("straight", stretched)):
            search = bz.Search(
                np.zeros(d), bz.EvolutionStrategy(0.3, covariance=covariance, step_size="line"),
                seed=1, budget=60 * d,
            )  # fmt: skip
            while not search.exhausted:
                run(search, f, 1)
            ends[covariance, name] = search.best.value
    assert ends["low-rank", "turned"] < 0.3 * ends["diagonal", "turned"]
    assert ends["low-rank", "straight"] < 3 * ends["diagonal", "straight"]
