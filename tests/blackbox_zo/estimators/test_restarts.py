"""`Restarts`: a portfolio of one method, by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import blackbox_zo as bz
from blackbox_zo._typing import Floats

ES = bz.EvolutionStrategy(0.3)


def wavy(x: Floats) -> float:
    return float((10 + x**2 - 10 * np.cos(2 * np.pi * x)).sum() + 0.5 * x.sum() ** 2)


@pytest.mark.parametrize(
    ("restarts", "portfolio"),
    [
        (bz.Restarts(ES), bz.Portfolio((ES,), (2.0,))),
        (bz.Restarts(ES, 1.0), bz.Portfolio((ES,))),
        (bz.Restarts(ES, growth=(2, 0), spread=3.0), bz.Portfolio((ES, ES), (2.0, 0.0), 3.0)),
        (bz.Restarts(bz.QuasiNewton()), bz.Portfolio((bz.QuasiNewton(),))),
    ],
)
def test_it_is_a_portfolio(restarts: bz.Portfolio, portfolio: bz.Portfolio) -> None:
    assert restarts == portfolio


def test_populations_grow() -> None:
    sizes = []
    search = bz.Search(bz.Vector(np.full(3, 2.2), (-5, 5)), bz.Restarts(ES), seed=0, budget=6000)
    while not search.exhausted:
        p = search.ask()
        sizes.append(p.n)
        search.tell(p, bz.Values([wavy(x) for x in p.points]))
    assert set(sizes[:-1]) >= {1, 7, 14, 28}


def test_a_local_search_gains_by_it() -> None:
    once, restarted = bz.QuasiNewton(), bz.Restarts(bz.QuasiNewton())
    a, b = (bz.minimize(wavy, np.full(3, 3.3), m, budget=3000, bounds=(-5, 5)).fun for m in (once, restarted))
    assert b < a - 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((bz.RandomVector(0.1),), "estimates a gradient"),
        ((bz.QuasiNewton(), 2.0), "has no `n_queries`"),
        ((ES, ()), "at least one estimator"),
        ((ES, -1.0), "at least 0"),
        ((3,), "must be estimators"),
    ],
)
def test_bad_arguments(given: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bz.Restarts(*given)
