"""Real fits: unlike in suites of functions, scales differ, bounds are loose, and f overflows far from the start."""

from __future__ import annotations

import numpy as np
import pytest

import blackbox_zo as bz
from oracles.bench.fits import FITS

LOOSE = {"none": None, "positive": (0.0, 100.0), "both signs": (-1000.0, 1000.0)}

HARD = {  # what `minimize` misses, as peers do: see `benchmarks/fits.json`
    ("MGH10, start 1", "none"), ("MGH10, start 2", "none"), ("MGH09, start 1", "none"), ("BoxBOD, start 1", "positive"),
    ("MGH10, start 2", "positive"), ("MGH09, start 1", "positive"), ("MGH10, start 1", "positive"),
    ("MGH10, start 1", "both signs"), ("MGH10, start 2", "both signs"), ("MGH09, start 1", "both signs"),
}  # fmt: skip


@pytest.mark.parametrize("name", FITS)
def test_the_certified_sum_of_squares_is_the_least(name: str) -> None:
    fit = FITS[name]
    start = fit.start if "start 2" in name else FITS[name.replace("start 1", "start 2")].start
    found = bz.minimize(fit, start, bz.QuasiNewton(), unit=np.abs(start), budget=1500 * len(start)).fun
    assert found > fit.certified * (1 - 1e-6)
    if not name.startswith("MGH10"):  # which is as hard as it is made to be
        assert found < fit.certified * (1 + 1e-5)


@pytest.mark.parametrize("bounds", LOOSE)
@pytest.mark.parametrize("name", FITS)
def test_a_fit_is_found_with_the_unit_that_x0_suggests(name: str, bounds: str) -> None:
    if (name, bounds) in HARD:
        pytest.skip("another minimum, or a narrow valley, holds the search for as long as this test lasts")
    fit, factors = FITS[name], LOOSE[bounds]
    box = None if factors is None else [(factors[0] * b, factors[1] * b) for b in np.abs(fit.start).tolist()]
    result = bz.minimize(fit, fit.start, budget=150 * len(fit.start), bounds=box)
    assert result.fun < fit.certified * (1 + 1e-4)
