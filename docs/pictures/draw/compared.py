"""The report of three runs beside each other: three methods on Rosenbrock's function in ten dimensions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import blackbox_zo as bz
import numpy as np

from draw._pages import run, shot
from draw._style import Theme

HEIGHT = 808  # to the end of the table
METHODS = {
    "cma": bz.EvolutionStrategy(0.3),
    "cma-model": bz.EvolutionStrategy(0.3, model=True),
    "consensus": bz.ConsensusBased(0.5, n_queries=20),
}


def f(x: Any) -> float:
    """Rosenbrock's function, least at 1."""
    return float(((x[:-1] - 1) ** 2 + 100 * (x[1:] - x[:-1] ** 2) ** 2).sum())


def page(folder: Path) -> Path:
    """Make the runs, once, and draw the report."""
    out = folder / "compared.html"
    if not out.exists():
        place = folder / "compared"
        place.mkdir()
        for name, estimator in METHODS.items():
            bz.minimize(f, np.zeros(10), estimator, budget=2000, journal=place / f"{name}.jsonl")
        run(place, "report", *(f"{name}.jsonl" for name in METHODS), "-o", str(out))
    return out


def photograph(browser: Any, theme: Theme, folder: Path) -> bytes:
    """The beginning of the page."""
    return shot(browser, theme, page(folder), HEIGHT)
