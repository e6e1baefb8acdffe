"""What "auto" makes of a problem: its members by dimension, and the unit of each element."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import blackbox_zo as bz
from blackbox_zo._auto import auto, unit_of
from blackbox_zo._typing import Floats


def names(d: int) -> list[str]:
    _, portfolio = auto(bz.Vector(np.zeros(d)), np.zeros(d), None, None)
    assert isinstance(portfolio, bz.Portfolio)
    return [type(member).__name__ for member in portfolio.members]


def test_the_members_by_dimension() -> None:
    es = ["EvolutionStrategy"] * 2
    noise, order = "NoisyQuasiNewton", ["OrdinalCoordinateSearch", "OrdinalSurrogate"]
    assert names(1) == names(7) == ["CoordinateSearch", "TrustRegion", noise, *order, *es]
    assert names(8) == names(20) == ["CoordinateSearch", "QuasiNewton", noise, *order, *es]
    assert names(21) == names(100) == ["CoordinateSearch", "QuasiNewton", noise, *es]
    assert names(101) == names(700) == ["QuasiNewton", noise, *es]
    assert names(701) == names(5000) == ["BlockDescent", "QuasiNewton", "BlockDescent", *es]


@pytest.mark.parametrize(
    ("x0", "bounds", "unit"),
    [
        ([0.0, 1.0, -3.0, 0.011, 9.0], None, [1, 1, 1, 1, 1]),  # a single small one is an accident
        ([0.0, 1.0, -3.0, 0.002, 11.0], None, [1, 1, 1, 0.002, 11]),
        ([0.5, 1.5, -1.0, 0.01, -0.02], None, [1, 1, 1, 0.01, 0.02]),  # two of five are none
        ([75.0, 2.5, 0.07], None, [75, 1, 0.07]),
        ([0.01, 0.02, *[0.5] * 5], None, [1] * 7),  # two of seven are less than a third
        ([0.5, 1.5, 30.0], (0, 100), [0.5, 1.5, 50]),  # loose bounds
        ([99.5, 98.5, 30.0], (0, 100), [0.5, 1.5, 50]),
        ([0.5, -2.0, 30.0], (-100, 100), [0.5, 2, 100]),
        ([0.5, 30.0, 30.0], (0, 100), [50, 50, 50]),
        ([0.002, 30.0, 0.0], (0, 100), [0.002, 50, 50]),
        ([0.002, 30.0, 0.0], (-100, 100), [100, 100, 100]),  # 0 is no place of note in a box
        ([1e-6, -1e4, 1e-300, 0.0], None, [1e-6, 1e4, 1e-300, 1]),
        ([1e-6, 1e4], (-5, 1e5), [1e-6, 50002.5]),
        ([1e-6, 1e4], [(0, None), (None, 1e5)], [1e-6, 1e4]),
        ([1e-6, 1e4, 7.0], [(None, None), (0, 3e4), (7, 7)], [1e-6, 1.5e4, 1]),
        ([np.linspace(-3, 3, 500), 1e-6], None, [1.0] * 500 + [1e-6]),
        ([np.linspace(-3e-4, 3e-4, 101), 5.0], None, [1.5e-4] * 101 + [1.0]),
        (
            np.linspace(-3e-4, 3e-4, 100),
            [(-1, 1)] + [(None, None)] * 99,
            np.abs(np.linspace(-3e-4, 3e-4, 100)),
        ),
        ([np.zeros(200), 1e-5], None, [1.0] * 200 + [1e-5]),
    ],
)
def test_the_unit_of_each_element(x0: Any, bounds: Any, unit: Any) -> None:
    np.testing.assert_array_equal(unit_of(bz.Vector(x0, bounds)), unit)


def test_a_given_unit_is_kept() -> None:
    start, _ = auto(bz.Vector([1e-6, 1e4], unit=7.0), [1e-6, 1e4], None, 7.0)
    assert start.unit is not None
    np.testing.assert_array_equal(start.unit, [7.0, 7.0])


@pytest.mark.parametrize("turned", [False, True])
def test_scales_from_a_millionth_to_a_million(turned: bool) -> None:
    rng = np.random.default_rng(3)
    scales, z0 = 10 ** rng.uniform(-6, 6, 5), rng.uniform(0.5, 4, 5)
    turn = np.linalg.qr(rng.standard_normal((5, 5)))[0] if turned else np.eye(5)
    bend = np.logspace(0, 2, 5)

    def f(x: Floats) -> float:
        return float(bend @ (turn @ (x / scales - 1)) ** 2)

    r = bz.minimize(f, z0 * scales, budget=150)
    assert r.fun < 1e-8


def test_a_run_from_a_tiny_start_is_resumed_from_its_journal_to_the_bit(tmp_path: Any) -> None:
    def f(x: Floats) -> float:
        return float((x[0] / 1e-6 - 2) ** 2 + (x[1] / 1e4 - 3) ** 4 + (x[0] / 1e-6 * x[1] / 1e4) ** 2)

    whole = bz.minimize(f, [1e-6, 1e4], budget=90)
    bz.minimize(f, [1e-6, 1e4], budget=37, journal=tmp_path / "j.jsonl")
    rest = bz.minimize(f, [1e-6, 1e4], budget=90, journal=tmp_path / "j.jsonl")
    assert (rest.x.tobytes(), rest.fun) == (whole.x.tobytes(), whole.fun)
