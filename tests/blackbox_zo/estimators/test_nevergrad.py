"""`Nevergrad`: the laws, exact replays, and what cannot be made."""

from __future__ import annotations

import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("nevergrad", reason="needs nevergrad: pip install 'blackbox-zo[nevergrad]'")

import blackbox_zo as bz
from blackbox_zo.estimators import _nevergrad
from blackbox_zo.testing import check_estimator

from ..helpers import sphere

pytestmark = [
    pytest.mark.filterwarnings("ignore:COBYLA:UserWarning"),  # in a thread of nevergrad's
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # what it could not make
]

METHODS = [
    bz.Nevergrad("OnePlusOne"),
    bz.Nevergrad("CMA", n_queries=5, sigma=0.5),
    bz.Nevergrad("TBPSA", n_queries=4),
    bz.Nevergrad("PSO"),
    bz.Nevergrad("Cobyla", budget=300),
    bz.Nevergrad("NgIohTuned", budget=300),
]


@pytest.mark.parametrize("method", [METHODS[0], METHODS[2], METHODS[5]], ids=repr)
def test_laws(method: bz.Nevergrad) -> None:
    check_estimator(method, shift_invariant=False, budget=0)


def test_laws_within_bounds() -> None:
    check_estimator(METHODS[0], shift_invariant=False, budget=400, bounds=(-2.0, 3.0))


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_a_journal_replays_it_exactly(method: bz.Nevergrad, tmp_path: Path) -> None:
    def go(budget: int, name: str) -> Any:
        _nevergrad._LIVE.clear()  # as in another process
        return bz.minimize(sphere, np.ones(3), method, budget, seed=4, journal=tmp_path / name)

    whole = go(60, "whole")
    for budget in (20, 41, 60):
        parts = go(budget, "parts")
    assert parts.fun == whole.fun and parts.x.tolist() == whole.x.tolist()
    read = [[values_of(line) for line in bz.JournalReader(tmp_path / name)] for name in ("whole", "parts")]
    assert list(chain(*read[0])) == list(chain(*read[1]))


@pytest.mark.parametrize("name", ["PSO", "CMA", "DE", "NGOpt"])
def test_an_optimizer_is_built_again_from_its_state(name: str) -> None:
    method, variable = bz.Nevergrad(name, budget=80), bz.Vector(np.ones(3))
    state = method.start(variable)
    for step in range(25):
        queries = method.sample(state, variable, bz.Key(0, step))
        state, _ = method.estimate(state, variable, queries, bz.Values((queries.points() ** 2).sum(1)))
    usual = method.sample(state, variable, bz.Key(0, 25)).points()
    _nevergrad._LIVE.clear()
    assert method.sample(state, variable, bz.Key(0, 25)).points().tolist() == usual.tolist()


def values_of(line: Any) -> Any:
    return line.values


def test_global_generators_are_left_alone() -> None:
    np.random.seed(3)  # noqa: NPY002
    before = np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002
    bz.minimize(sphere, np.ones(3), bz.Nevergrad("NgIohTuned", budget=40), 40)
    assert np.random.get_state()[1].tolist() == before  # type: ignore[index]  # noqa: NPY002


def test_what_no_seed_reaches_says_so() -> None:
    """pycma's own loop in a thread: it draws when it likes."""
    method = bz.Nevergrad("CmaFmin2", budget=60)
    variable = bz.Vector(np.ones(3))
    state = method.start(variable)
    for step in range(3):
        queries = method.sample(state, variable, bz.Key(0, step))
        state, _ = method.estimate(state, variable, queries, bz.Values((queries.points() ** 2).sum(1)))
    _nevergrad._LIVE.clear()
    with pytest.raises(ValueError, match=r"`Nevergrad\('CmaFmin2'\)` asks about other points the second time"):
        method.sample(state, variable, bz.Key(0, 3))


def test_as_a_member_of_a_portfolio() -> None:
    both = bz.Portfolio((bz.Nevergrad("Cobyla", budget=100), bz.EvolutionStrategy(0.3)), (1.0, 2.0))
    r = bz.minimize(sphere, np.ones(3), both, 400)
    assert r.fun < 1e-6
    assert {spent.member for spent in r.trace} == {"Nevergrad", "EvolutionStrategy"}
    assert r.trace[0].ended == "its budget of 100 is spent"


def test_bounds_hold() -> None:
    for bounds in ((0.5, 2.0), [(0.5, None), (None, 3.0), (1.0, 1.0)]):
        asked: list[Any] = []

        def f(x: Any, asked: Any = asked) -> float:
            asked.append(x)
            return float(sphere(x))

        r = bz.minimize(f, np.ones(3), bz.Nevergrad("CMA", n_queries=8), 160, bounds)
        assert np.array(asked)[:, 0].min() >= 0.5 and r.fun < 3


def test_failures_and_all_failing() -> None:
    r = bz.minimize(lambda x: np.nan if x[0] > 0.9 else sphere(x), np.full(2, 0.8), bz.Nevergrad("CMA"), 200)
    assert r.fun < 0.1
    assert bz.minimize(lambda x: np.nan, np.ones(2), bz.Nevergrad("DE"), 20).nfailed == 20


@pytest.mark.parametrize("budget", [1, 2])
def test_a_budget_below_the_dimension(budget: int) -> None:
    assert bz.minimize(sphere, np.ones(9), bz.Nevergrad("NgIohTuned", budget=budget), budget).nfev == budget


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(
        ValueError, match=r"must be in `nevergrad.optimizers.registry`, got 'NgIohTund'; did you mean 'NgIoh"
    ):
        bz.Nevergrad("NgIohTund")


def test_one_that_cannot_be_made() -> None:
    with pytest.raises(ValueError, match=r"`Nevergrad\(name='Powell'.* cannot be made in 3 dimensions: .*parallel"):
        bz.minimize(sphere, np.ones(3), bz.Nevergrad("Powell", n_queries=3), 10)


@pytest.mark.parametrize("arguments", [{"n_queries": 0}, {"budget": 0}, {"sigma": 0.0}])
def test_arguments_are_checked(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        bz.Nevergrad("CMA", **arguments)


def test_a_numpy_that_breaks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np, "__version__", "2.4.1")
    with pytest.raises(ImportError, match=r"nevergrad 1\.0\.12 breaks on numpy 2.3 and later, and this is numpy 2.4.1"):
        bz.Nevergrad("CMA")


def test_without_nevergrad(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nevergrad", None)
    with pytest.raises(ImportError, match=r"needs the package `nevergrad` .*pip install 'blackbox-zo\[nevergrad\]'"):
        bz.Nevergrad("CMA")


def test_python_ends_though_a_thread_waits() -> None:
    program = (
        "import blackbox_zo as bz\n"
        "s = bz.Search([1.0, 2.0], bz.Nevergrad('Powell'))\n"
        "p = s.ask(); s.tell(p, bz.Values([1.0])); s.ask(); print('done')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100)
    assert done.stdout == "done\n" and done.returncode == 0


def test_it_is_imported_when_it_is_used() -> None:
    program = (
        "import sys, blackbox_zo; print([m for m in ('nevergrad', 'optuna', 'sklearn', 'ray') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "[]\n"
