"""Our methods in nevergrad's registry: what nevergrad asks of its own, and what is promised besides."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ng = pytest.importorskip("nevergrad", reason="needs nevergrad: pip install 'blackbox-zo[nevergrad]'")

import blackbox_zo as bz  # noqa: E402
from blackbox_zo import testing  # noqa: E402
from blackbox_zo.nevergrad import BlackboxZO  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::nevergrad.common.errors.NevergradWarning")
NAMES = ["BlackboxZO", "BlackboxZOCMA", "BlackboxZODiagonalCMA", "BlackboxZOQuasiNewton"]
OPTIMUM = np.array([0.5, -0.8])
each = pytest.mark.parametrize("name", NAMES)


def quadratic(x: Any) -> float:
    return float(((np.asarray(x) - OPTIMUM) ** 2).sum())


def make(name: str, parametrization: Any = 2, budget: int | None = 300, num_workers: int = 1) -> Any:
    optimizer = ng.optimizers.registry[name](parametrization, budget, num_workers)
    optimizer.parametrization.random_state.seed(12)
    return optimizer


@each
@pytest.mark.parametrize("num_workers", [1, 2, 7])
def test_it_converges_as_nevergrad_tests_its_own(name: str, num_workers: int) -> None:
    optimizer = make(name, 2, 300, num_workers)
    assert isinstance(optimizer.provide_recommendation(), ng.p.Parameter)
    best = optimizer.minimize(quadratic)
    assert np.abs(best.value - OPTIMUM).max() < (1e-3 if num_workers == 1 else 0.1)
    assert not optimizer._asked and optimizer.num_tell == 300
    archive = optimizer.archive.values()
    lowest = min(value.pessimistic_confidence_bound for value in archive)
    assert optimizer.current_bests["pessimistic"].pessimistic_confidence_bound == lowest
    optimizer.tell(optimizer.parametrization.spawn_child(new_value=np.array([3.0, 3.0])), 12.0)
    assert optimizer.num_tell_not_asked == 1


@each
def test_the_parametrizations_seed_decides(name: str) -> None:
    found = []
    for seed in (12, 12, 13):
        optimizer = make(name, ng.p.Array(shape=(4,)), 60)
        optimizer.parametrization.random_state.seed(seed)
        found.append([optimizer_step(optimizer).tolist() for _ in range(60)])
    assert found[0] == found[1]
    assert (found[0] == found[2]) == ("CMA" not in name)  # a quasi-Newton method draws nothing


def optimizer_step(optimizer: Any) -> Any:
    candidate = optimizer.ask()
    optimizer.tell(candidate, float(((candidate.value - 1) ** 4).sum() + candidate.value[0] ** 2))
    return candidate.value


def test_it_is_a_search_of_minimize() -> None:
    points: list[list[float]] = []

    def f(x: Any) -> float:
        points.append(np.asarray(x).tolist())
        return quadratic(x)

    optimizer = make("BlackboxZO", ng.p.Array(init=[1.0, 2.0], lower=-5.0, upper=5.0), 80)
    seed = int(np.random.RandomState(12).randint(2**31))
    optimizer.minimize(f)
    theirs, points = points, []
    sigma = 10 / 6
    start = np.array([1.0, 2.0]) / sigma
    bounds = [(-3 - z, 3 - z) for z in start]
    bz.minimize(lambda z: f((z + start) * sigma), np.zeros(2), budget=80, bounds=bounds, seed=seed)
    assert np.abs(np.array(theirs) - np.array(points))[:30].max() < 1e-9


@each
def test_ask_and_tell_in_any_order_without_a_budget(name: str) -> None:
    optimizer = make(name, ng.p.Array(shape=(2,)), None, 5)
    out = [optimizer.ask() for _ in range(5)]
    assert len({tuple(c.value) for c in out}) == 5
    for k in range(250):
        candidate = out.pop(3 * k % 5)
        optimizer.tell(candidate, quadratic(candidate.value))
        out.append(optimizer.ask())
    assert quadratic(optimizer.recommend().value) < 0.05


@each
def test_a_pickled_optimizer_goes_on_as_the_other(name: str, tmp_path: Path) -> None:
    optimizer = make(name, ng.p.Array(shape=(3,)), 100)
    for _ in range(30):
        optimizer_step(optimizer)
    waiting = optimizer.ask()
    optimizer.dump(tmp_path / "it")
    copy = type(optimizer).load(tmp_path / "it")
    for each_one in (optimizer, copy):
        each_one.tell(waiting, 3.0)
    assert [optimizer_step(optimizer).tolist() for _ in range(20)] == [optimizer_step(copy).tolist() for _ in range(20)]


@each
def test_nan_and_infinity_are_failures(name: str) -> None:
    def buggy(x: Any) -> float:
        return math.nan if x[0] > 0.2 else math.inf if x[1] > 0.2 else float(((x + 0.1) ** 2).sum())

    best = make(name, 2, 300).minimize(buggy)
    assert buggy(best.value) < 0.05


@each
def test_all_failing(name: str) -> None:
    optimizer = make(name, 2, 60)
    optimizer.minimize(lambda x: math.nan)
    assert optimizer.num_tell == 60 and math.isnan(optimizer.search.best[1])


@pytest.mark.parametrize("budget", [1, 2, 5])
@each
def test_a_budget_below_the_dimension(name: str, budget: int) -> None:
    optimizer = make(name, ng.p.Array(shape=(9,)), budget)
    best = optimizer.minimize(lambda x: float((x**2).sum()))
    assert optimizer.num_tell == budget and (best.value**2).sum() == 0.0  # the start is asked first


def test_bounds_are_the_search_s_too() -> None:
    """The optimum is in a corner: by bouncing, a method that knows no bounds would look beyond it."""
    optimizer = make("BlackboxZO", ng.p.Array(shape=(3,), lower=-1.0, upper=2.0), 100)
    best = optimizer.minimize(lambda x: float(x.sum()))
    assert best.value.tolist() == [-1.0] * 3
    assert max(np.abs(z).max() for z in (optimizer.search.best[0],)) <= 3 + 1e-9


def mixed() -> Any:
    return ng.p.Instrumentation(
        ng.p.Scalar(lower=-3, upper=4),
        lr=ng.p.Log(lower=1e-4, upper=1.0),
        kind=ng.p.Choice(["a", "b", "c"], deterministic=True),
        depth=ng.p.TransitionChoice([1, 2, 3, 4]),
        n=ng.p.Scalar(init=2, lower=0, upper=9).set_integer_casting(),
        more=ng.p.Dict(u=ng.p.Array(shape=(2,)).set_bounds(-1, 1, method="arctan"), fixed="x"),
    )


def mixed_loss(x: float, lr: float, kind: str, depth: int, n: int, more: Any) -> float:
    assert more["fixed"] == "x" and 1e-4 <= lr <= 1.0 + 1e-9 and -3 <= x <= 4
    off = (x - 1) ** 2 + math.log10(lr / 0.01) ** 2 + (kind != "b") + (depth - 3) ** 2 / 4 + (n - 7) ** 2 / 9
    return float(off + ((more["u"] - 0.5) ** 2).sum())


@pytest.mark.parametrize("name", ["BlackboxZO", "BlackboxZOCMA"])
@pytest.mark.parametrize("num_workers", [1, 4])
def test_mixed_parametrizations(name: str, num_workers: int) -> None:
    start = mixed_loss(*mixed().args, **mixed().kwargs)
    best = make(name, mixed(), 200, num_workers).minimize(mixed_loss)
    assert mixed_loss(*best.args, **best.kwargs) < start / 2


def test_suggestions_and_known_points() -> None:
    optimizer = make("BlackboxZO", ng.p.Array(shape=(2,)), 100)
    optimizer.suggest(OPTIMUM)
    first = optimizer.ask()
    assert first.value.tolist() == OPTIMUM.tolist()
    optimizer.tell(first, 0.0)
    assert optimizer.search.best[1] == 0.0
    assert optimizer.ask().value.tolist() == [0.0, 0.0]


def right_of_one(x: Any) -> bool:
    return bool(x[0] >= 1.0)


def test_a_cheap_constraint_is_nevergrad_s() -> None:
    array = ng.p.Array(shape=(2,))
    array.register_cheap_constraint(right_of_one)
    asked = []

    def f(x: Any) -> float:
        asked.append(float(x[0]))
        return float((x**2).sum())

    optimizer = make("BlackboxZO", array, 200)
    best = optimizer.minimize(f)
    assert min(asked) >= 1.0 and f(best.value) < 1.5
    assert not optimizer._handed  # those that nevergrad turned down were told as failures


def test_noise_is_answered_by_a_recommendation() -> None:
    rng = np.random.default_rng(0)
    optimizer = make("BlackboxZO", ng.p.Array(shape=(4,), lower=-3.0, upper=3.0), 800)
    best = optimizer.minimize(lambda x: float(((x - 1) ** 2).sum() + rng.normal()))
    assert ((best.value - 1) ** 2).sum() < 1.0
    lucky = optimizer.current_bests["minimum"].parameter.value
    assert best.value.tolist() != lucky.tolist()


def test_several_losses_are_nevergrad_s_hypervolume() -> None:
    optimizer = make("BlackboxZO", 2, 100)
    optimizer.minimize(lambda x: [float(((x - 1) ** 2).sum()), float(((x + 1) ** 2).sum())])
    assert len(optimizer.pareto_front()) > 1


def test_any_method() -> None:
    optimizer = BlackboxZO(method=(bz.RandomVector(0.1, 2), bz.Adam(0.1)))(parametrization=2, budget=300)
    assert quadratic(optimizer.minimize(quadratic).value) < 0.01
    assert BlackboxZO(method=bz.QuasiNewton()) == BlackboxZO(method=bz.QuasiNewton())
    with pytest.raises(TypeError, match='`method` must be "auto", an estimator'):
        BlackboxZO(method="cma")


@pytest.mark.parametrize("num_workers", [1, 20])
@pytest.mark.parametrize("d", [2, 30, 200])
@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize("discrete", [False, True])
def test_shapes(num_workers: int, d: int, bounded: bool, discrete: bool) -> None:
    array = ng.p.Array(shape=(d,))
    if bounded:
        array.set_bounds(lower=-12.0, upper=15.0)
    if discrete:
        array.set_integer_casting()
    optimizer = make("BlackboxZO", array, 3 * d, num_workers)
    best = optimizer.minimize(lambda x: float(np.abs(x - 1).sum()))
    assert optimizer.num_tell == 3 * d and np.abs(best.value - 1).sum() <= d


@pytest.mark.parametrize("name", ["OnePlusOne", "CMA"])
def test_the_laws_of_estimators(name: str) -> None:
    testing.check_estimator(bz.Nevergrad(name))
