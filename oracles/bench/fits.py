"""Real fits: nonlinear regressions of NIST's Statistical Reference Datasets, which are in the public domain.

What users fit differs from what suites of test functions hold: parameters differ in scale by many powers of ten, the
start says on which, bounds are loose or absent, and away from the start the sum of squares is flat or overflows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from blackbox_zo._typing import Floats

__all__ = ["FITS", "Fit"]


@dataclass(frozen=True)
class Fit:
    """A regression: `sum_i (y_i - model(b, x_i))^2` over the parameters b.

    Attributes:
        name: NIST's name, and which of its two starts.
        model: The model's values at all x, shape (m,), given b, shape (d,).
        y: What was observed, shape (m,).
        start: The start, shape (d,).
        best: Where the sum of squares is least, as NIST certifies it, shape (d,).
        certified: That least sum of squares.
    """

    name: str
    model: Callable[[Floats], Floats]
    y: Floats
    start: Floats
    best: Floats
    certified: float

    def __call__(self, b: Floats) -> float:
        """The sum of squares at b; infinite where the model overflows."""
        with np.errstate(all="ignore"):
            value = float(np.square(self.y - self.model(np.asarray(b, dtype=float))).sum())
        return value if np.isfinite(value) else float("inf")


def _data(text: str) -> Floats:
    return np.array(text.split(), dtype=float)


def _rise(x: Floats) -> Callable[[Floats], Floats]:
    return lambda b: b[0] * (1 - np.exp(-b[1] * x))


def _logistic(x: Floats) -> Callable[[Floats], Floats]:
    return lambda b: b[0] / (1 + np.exp(b[1] - b[2] * x))


def _richards(x: Floats) -> Callable[[Floats], Floats]:
    return lambda b: b[0] / (1 + np.exp(b[1] - b[2] * x)) ** (1 / b[3])


def _rational(x: Floats) -> Callable[[Floats], Floats]:
    return lambda b: b[0] * (x**2 + x * b[1]) / (x**2 + x * b[2] + b[3])


def _fits(
    name: str, model: Callable[[Floats], Floats], y: str, certified: float, best: str, *starts: list[float]
) -> list[Fit]:
    one = model, _data(y)
    return [Fit(f"{name}, start {i}", *one, np.array(s), _data(best), certified) for i, s in enumerate(starts, 1)]


_MISRA = _data("77.6 114.9 141.1 190.8 239.9 289.0 332.8 378.4 434.8 477.3 536.8 593.1 689.1 760.0")
_WOOD = _data("1.309 1.471 1.490 1.565 1.611 1.680")
_KOWALIK = _data("4 2 1 .5 .25 .167 .125 .1 .0833 .0714 .0625")
_MEYER = np.arange(50.0, 126.0, 5.0)

FITS: dict[str, Fit] = {
    fit.name: fit
    for fit in (
        *_fits("Misra1a", _rise(_MISRA),
               "10.07 14.73 17.94 23.93 29.61 35.18 40.02 44.82 50.76 55.05 61.01 66.40 75.47 81.78",
               1.2455138894e-01, "238.94212918 5.5015643181e-4", [500, 1e-4], [250, 5e-4]),
        *_fits("BoxBOD", _rise(_data("1 2 3 5 7 10")), "109 149 149 191 213 224",
               1.1680088766e03, "213.80940889 .54723748542", [1, 1], [100, 0.75]),
        *_fits("DanWood", lambda b: b[0] * _WOOD ** b[1], "2.138 3.421 3.597 4.340 4.882 5.660",
               4.3173084083e-03, ".76886226176 3.8604055871", [1, 5], [0.7, 4]),
        *_fits("Rat42", _logistic(_data("9 14 21 28 42 57 63 70 79")),
               "8.93 10.80 18.59 22.33 39.35 56.11 61.73 64.62 67.08",
               8.0565229338, "72.462237576 2.6180768402 .067359200066", [100, 1, 0.1], [75, 2.5, 0.07]),
        *_fits("MGH10", lambda b: b[0] * np.exp(b[1] / (_MEYER + b[2])),
               "34780 28610 23650 19630 16370 13720 11540 9744 8261 7030 6005 5147 4427 3820 3307 2872",
               87.945855171, "5.6096364710e-3 6181.3463463 345.22363462", [2, 4e5, 2.5e4], [0.02, 4000, 250]),
        *_fits("Rat43", _richards(_data("1 2 3 4 5 6 7 8 9 10 11 12 13 14 15")),
               "16.08 33.83 65.80 97.20 191.55 326.20 386.87 520.53 590.03 651.92 724.93 699.56 689.96 637.56 717.41",
               8.7864049080e03, "699.64151270 5.2771253025 .75962938329 1.2792483859",
               [100, 10, 1, 1], [700, 5, 0.75, 1.3]),
        *_fits("MGH09", _rational(_KOWALIK),
               ".1957 .1947 .1735 .1600 .0844 .0627 .0456 .0342 .0323 .0235 .0246",
               3.0750560385e-04, ".19280693458 .19128232873 .12305650693 .13606233068",
               [25, 39, 41.5, 39], [0.25, 0.39, 0.415, 0.39]),
    )
}  # fmt: skip
"""Fits by name: those with two starts, the first far off, the second near."""
