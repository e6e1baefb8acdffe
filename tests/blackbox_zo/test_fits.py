"""Real fits: unlike in suites of functions, scales differ, bounds are loose, and f overflows far from the start."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import blackbox_zo as bz
from oracles.bench.fits import FITS

LOOSE = {"none": None, "positive": (0.0, 100.0), "both signs": (-1000.0, 1000.0)}

HARD = {  # what "auto" misses within 150 d queries, at another minimum or in a valley to infinity
    ("MGH10, start 1", "none"), ("MGH10, start 2", "none"), ("MGH09, start 1", "none"),
    ("MGH10, start 1", "positive"), ("MGH10, start 2", "positive"), ("MGH09, start 1", "positive"),
    ("MGH10, start 1", "both signs"), ("MGH10, start 2", "both signs"), ("MGH09, start 1", "both signs"),
    ("BoxBOD, start 1", "positive"),  # its solution is outside
}  # fmt: skip


@pytest.mark.parametrize("name", FITS)
def test_the_sum_of_squares_is_the_certified_one(name: str) -> None:
    fit = FITS[name]
    assert fit(fit.best) == pytest.approx(fit.certified, rel=1e-8)
    assert fit(fit.start) > fit.certified


@pytest.mark.parametrize(("name", "bounds"), [case for case in itertools.product(FITS, LOOSE) if case not in HARD])
def test_a_fit_is_found_with_the_unit_that_x0_suggests(name: str, bounds: str) -> None:
    fit, factors = FITS[name], LOOSE[bounds]
    box = None if factors is None else [(factors[0] * b, factors[1] * b) for b in np.abs(fit.start).tolist()]
    result = bz.minimize(fit, fit.start, budget=150 * len(fit.start), bounds=box)
    assert result.fun < fit.certified * (1 + 1e-4)
