"""`Pairs`, the BFGS matrix of the last few moves, and `QuasiNewton` and "auto" where they use it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import blackbox_zo as bz
from blackbox_zo._typing import Floats
from blackbox_zo.estimators import _quasi_newton_queries
from blackbox_zo.estimators._bfgs import Whole
from blackbox_zo.estimators._limited_memory import Pairs

from .test_quasi_newton import SEEDS, searched


def array(b: Pairs) -> Floats:
    """B as an array, shape (d, d)."""
    rows, sign = b._sum()
    return np.diag(b.diagonal) + (rows.T * sign) @ rows


def rosenbrock(x: Floats) -> float:
    return float(100 * ((x[1:] - x[:-1] ** 2) ** 2).sum() + ((1 - x[:-1]) ** 2).sum())


# ------------------------------------------------------------------------------------------- the matrix


@given(SEEDS, st.integers(2, 12), st.sampled_from([1.0, 1e3, 1e6]))
def test_it_is_the_whole_matrix_while_no_pair_is_forgotten(seed: int, d: int, condition: float) -> None:
    """Damped and scaled down as that is: some of these moves are along negative curvature."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.standard_normal((d, d)))[0]
    hessian = (turn * np.geomspace(1.0, condition, d)) @ turn.T - 0.1 * np.eye(d)
    diagonal = np.full(d, float(rng.uniform(0.1, 10.0)))
    whole, few = Whole.of(diagonal), Pairs.of(diagonal, 6)
    for _ in range(6):
        s = rng.standard_normal(d) * 10.0 ** rng.uniform(-6, 1)
        y = hessian @ s if rng.random() < 0.7 else np.linalg.norm(s) * rng.standard_normal(d)
        whole, few = whole.updated(s, y), few.updated(s, y)
        np.testing.assert_allclose(array(few), whole.b, rtol=1e-6, atol=1e-9 * np.abs(whole.b).max())
        g, low, high = rng.standard_normal(d), rng.random(d) < 0.3, rng.random(d) < 0.3
        high &= ~low
        none, kappa = np.zeros(d, dtype=np.bool_), float(np.linalg.cond(whole.b))
        for held in (none, none), (low, high):
            p, exact = few.step(g, *held), whole.step(g, *held)
            if kappa < 1e12:  # beyond, neither is more than rounding
                np.testing.assert_allclose(p, exact, atol=1e-11 * kappa * np.abs(exact).max(), rtol=0.0)
    assert len(few.s) == 6


@given(SEEDS)
def test_it_is_bfgs_on_its_diagonal_with_the_pairs_that_are_left(seed: int) -> None:
    """Nocedal & Wright 2006, eq. (6.19), move by move."""
    rng = np.random.default_rng(seed)
    b = Pairs.of(np.ones(7), 3)
    for i in range(9):
        s = rng.standard_normal(7)
        b = b.updated(s, (1.0 + np.arange(7)) * s)
        assert len(b.s) == min(i + 1, 3)
    plain = np.diag(b.diagonal)
    for s, y in zip(b.s, b.y, strict=True):
        bs = plain @ s
        plain = plain + np.outer(y, y) / (y @ s) - np.outer(bs, bs) / (s @ bs)
    np.testing.assert_allclose(array(b), plain, rtol=1e-9, atol=1e-9)
    assert np.linalg.eigvalsh(array(b))[0] > 0
    np.testing.assert_allclose(array(b) @ b.s[-1], b.y[-1], rtol=1e-9)


def test_a_diagonal_that_misleads_gives_way_and_one_that_helps_stays() -> None:
    rng = np.random.default_rng(0)
    right = np.asarray(np.geomspace(1.0, 1e4, 30), dtype=np.float64)
    s = rng.standard_normal(30)
    kept = Pairs.of(right, 5).updated(s, right * s)
    np.testing.assert_array_equal(kept.diagonal, right)
    wrong, other = right[::-1].copy(), rng.standard_normal(30)
    before = Pairs.of(wrong, 5).updated(other, wrong * other)
    begun = before.updated(s, 3.0 * s)
    np.testing.assert_allclose(array(begun), 3.0 * np.eye(30), atol=1e-12)
    against = Pairs.of(right, 5).updated(s, -s)  # no curvature is no judgement
    assert against.diagonal[-1] / against.diagonal[0] == pytest.approx(1e4)


def test_moves_in_one_direction_leave_it_positive_definite() -> None:
    b, s = Pairs.of(np.ones(4), 8), np.array([1.0, 2.0, 0.0, 0.0])
    for i in range(8):
        b = b.updated(s, (2.0 + 1e-9 * i) * s)
    assert np.linalg.eigvalsh(array(b))[0] > 0.5
    np.testing.assert_allclose(array(b) @ s, 2.0 * s, rtol=1e-6)


# ------------------------------------------------------------------------------------------- the search


def test_with_enough_pairs_the_search_is_that_with_the_whole_matrix() -> None:
    """On a separable quadratic, whose diagonal is exact; where f is coupled, the two judge it by other means."""
    scales = np.geomspace(1.0, 1e3, 12)

    def f(x: Floats) -> float:
        return float(scales @ (x - 0.1) ** 2 + 1e-3 * (x**4).sum())

    whole, _ = searched(f, np.linspace(-3, 3, 12), bz.QuasiNewton(), 150)
    few, _ = searched(f, np.linspace(-3, 3, 12), bz.QuasiNewton(pairs=20), 150)
    assert whole.best.value == pytest.approx(few.best.value, rel=1e-6)
    assert few.best.value < 1.001 * whole.best.value < 1e-3


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("pairs", [None, 5])
def test_asking_in_parts_changes_nothing(monkeypatch: Any, pairs: int | None, fails: bool) -> None:
    """To the bit, within bounds, and where 100 of the differences fail upwards and are asked downwards."""
    d = 150
    x0 = np.random.default_rng(0).uniform(-1.4, 0.85, d)

    def course() -> tuple[list[float], list[int]]:
        search = bz.Search(bz.Vector(x0, (-1.5, 0.95)), bz.QuasiNewton(pairs=pairs))
        values, sizes = [], []
        while search.nfev < 2500:
            x, p = search.x, search.ask()
            found = np.array([rosenbrock(point) for point in p.points])
            up = (p.points[:, :100] > x[:100]).any(axis=1) & ((p.points != x).sum(axis=1) == 1)
            search.tell(p, bz.Values(np.where(up & fails, math.nan, found)))
            sizes.append(p.n)
            if (search.x != x).any():
                values.append(rosenbrock(search.x))
        return values, sizes

    whole, at_once = course()
    monkeypatch.setattr(_quasi_newton_queries, "AT_ONCE", 1)
    parts, few = course()
    assert parts == whole
    assert len(whole) > 5 and whole[-1] < 0.5 * whole[0]
    assert max(at_once) == 2 * d + 1 and max(few) == 2 * 64 + 1
    assert (100 in at_once) is fails


def test_it_keeps_and_asks_a_multiple_of_d_numbers() -> None:
    d = 3000
    search, _ = searched(lambda x: float((x**2).sum()), np.linspace(-1, 1, d), bz.QuasiNewton(pairs=4), 6 * d)
    assert max(np.asarray(part).size for part in search.state.matrix) <= 4 * d
    assert search.state.matrix.s.shape[0] > 0
    state, variable = bz.QuasiNewton().start(bz.Vector(np.zeros(10**6))), bz.Vector(np.zeros(10**6))
    assert bz.QuasiNewton().sample(state, variable, bz.Key(0, 0)).n == 2 * 64 + 1


@pytest.mark.parametrize("pairs", [0, -3, 2.5])
def test_the_number_of_pairs_is_checked(pairs: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="pairs"):
        bz.QuasiNewton(pairs=pairs)


# ------------------------------------------------------------------------------------------- "auto"


def quadratic(d: int, condition: float, seed: int = 0) -> tuple[Any, Floats, Floats]:
    """F, its optimum, and a start."""
    rng = np.random.default_rng(seed)
    best, weights = rng.uniform(-4, 4, d), rng.permutation(np.geomspace(1.0, condition, d))
    return (lambda x: float(weights @ (x - best) ** 2)), best, rng.uniform(-4, 4, d)


def test_three_sweeps_of_blocks_come_before_whole_gradients() -> None:
    x0 = np.random.default_rng(0).uniform(-2, 2, 1000)
    members = [run.member for run in bz.minimize(rosenbrock, x0, budget=3000).trace]
    assert members == ["BlockDescent"]
    later = bz.minimize(rosenbrock, x0, budget=5000).trace
    assert [(run.member, run.queries > 3000) for run in later] == [("BlockDescent", True), ("QuasiNewton", False)]


def test_bounds_that_are_active_in_2000_dimensions() -> None:
    f, best, x0 = quadratic(2000, 100.0)
    r = bz.minimize(f, np.clip(x0, -2, 2), bounds=(-2.0, 2.0), budget=9 * 2000)
    answer = np.clip(best, -2, 2)
    assert np.abs(r.x).max() <= 2.0
    assert f(r.x) - f(answer) < 1e-9 * f(x0)
    outside = np.abs(best) > 2.01
    assert outside.mean() > 0.4
    np.testing.assert_array_equal(r.x[outside], answer[outside])


@pytest.mark.parametrize("name", ["quadratic", "coupled", "valley"])
def test_it_is_never_behind_l_bfgs_b(name: str) -> None:
    """At 1, 3, 10 and 15 d queries, scipy's differences counted."""
    from scipy import optimize

    d = 1500
    f, best, x0 = quadratic(d, 1e4)
    if name == "coupled":
        f = lambda x: float((np.diff(x - best) ** 2).sum() + 1e-3 * ((x - best) ** 2).sum())  # noqa: E731
    if name == "valley":
        f = rosenbrock

    def course(solve: Any) -> Floats:
        seen: list[float] = []

        def counted(x: Floats) -> float:
            if len(seen) >= 15 * d:
                raise StopIteration
            seen.append(f(x))
            return seen[-1]

        try:
            solve(counted)
        except StopIteration:
            pass
        return np.minimum.accumulate(seen)[[d - 1, 3 * d - 1, 10 * d - 1, 15 * d - 1]]

    options = {"ftol": 0.0, "gtol": 0.0, "maxcor": 20, "maxiter": 10**9, "maxfun": 10**9}
    ours = course(lambda g: bz.minimize(g, x0, budget=15 * d))
    theirs = course(lambda g: optimize.minimize(g, x0, method="L-BFGS-B", options=options))
    assert (ours <= theirs).all(), (ours, theirs)
    assert ours[0] < 0.5 * f(x0)


@pytest.mark.parametrize("share", [0.3, 3.2, 5.0, 5.6, 7.4])
def test_a_run_is_resumed_to_the_bit(tmp_path: Any, share: float, monkeypatch: Any) -> None:
    """In a sweep, the opening, and amid a gradient."""
    monkeypatch.setattr(_quasi_newton_queries, "AT_ONCE", 1)
    d, journal = 720, tmp_path / "j.jsonl"
    x0 = np.random.default_rng(0).uniform(-2, 2, d)
    whole = bz.minimize(rosenbrock, x0, budget=8 * d)
    bz.minimize(rosenbrock, x0, budget=int(share * d), journal=journal)
    rest = bz.minimize(rosenbrock, x0, budget=8 * d, journal=journal)
    assert rest.nfev == whole.nfev == 8 * d
    assert [run.member for run in rest.trace] == ["BlockDescent", "QuasiNewton"]
    assert (rest.x.tobytes(), rest.fun) == (whole.x.tobytes(), whole.fun)


def test_a_saved_search_goes_on_to_the_bit() -> None:
    f, _, x0 = quadratic(30, 100.0)

    def search() -> bz.Search:
        return bz.Search(x0, bz.QuasiNewton(pairs=3))

    def told(s: bz.Search) -> Floats:
        p = s.ask()
        s.tell(p, bz.Values([f(x) + rosenbrock(x) for x in p.points]))
        return p.points

    first, second = search(), search()
    while len(first.state.matrix.s) < 3:
        told(first)
    second.load_state_dict(first.state_dict())
    for _ in range(20):
        np.testing.assert_array_equal(told(first), told(second))
