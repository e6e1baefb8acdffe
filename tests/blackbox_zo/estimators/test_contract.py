"""Every estimator through every law. A new method needs one row here, and no other test to be held to the contract."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pytest

import blackbox_zo as bz
from blackbox_zo._typing import Floats
from blackbox_zo.testing import check_estimator

from ..helpers import bits, run, sphere, told
from ..rules.test_rules import RULES


@dataclass(frozen=True)
class Row:
    """One configuration to be checked.

    Attributes:
        estimator: The configuration.
        rule: The rule it is used with; none is its own.
        budget: Queries in which it must make progress on the sphere.
        least_d: The smallest dimension it can be used in.
        order_only: Whether of values, too, it uses the order alone, if it accepts rankings.
        shift_invariant: Whether adding a constant to f changes no step.
    """

    estimator: bz.Estimator
    rule: bz.Rule | None = None
    budget: int = 1000
    least_d: int = 1
    order_only: bool = True
    shift_invariant: bool = True


def random_vectors() -> list[Row]:
    distributions: tuple[Any, ...] = ("gaussian", "sphere", "rademacher", "orthogonal", "lowrank")
    differences: tuple[Any, ...] = ("central", "forward", "residual")
    rules = {"central": bz.SGD(0.1), "forward": bz.SGD(0.1), "residual": bz.Adam(0.01)}
    return [Row(bz.RandomVector(0.05, 3, a, b), rules[b], 1500) for a in distributions for b in differences]


PORTFOLIO = bz.Portfolio((bz.QuasiNewton(), bz.EvolutionStrategy(0.3, model=True)), (1.0, 2.0))
TWO = bz.Portfolio((bz.EvolutionStrategy(0.3), bz.ConsensusBased(0.5, 20)), (2.0, 0.0))

ROWS = [
    *random_vectors(),
    Row(bz.RandomVector(0.05)),
    Row(bz.RandomVector(0.05, 1, difference="residual"), bz.Adam(0.01), budget=2000),
    Row(bz.RandomVector(0.05, 7, "orthogonal"), bz.Momentum(0.05, nesterov=True)),
    Row(bz.RandomVector(0.05, 6, difference="relative"), bz.SGD(0.1), 1500),
    Row(bz.RandomVector(0.05, 6, "lowrank", "relative", group=3), bz.SGD(0.1), 1500),
    Row(bz.RandomVector(0.05, 2, "lowrank", rank=2)),
    Row(bz.RandomVector(0.05, 3, n_blocks=1), bz.SGD(0.1), 1500),
    Row(bz.RandomVector(0.05, 2, "lowrank", n_blocks=2), bz.SGD(0.1), 1500),
    Row(bz.Coordinatewise(0.1)),
    Row(bz.Coordinatewise(0.1, difference="forward")),
    Row(bz.Coordinatewise(0.1, "block:3")),
    Row(bz.Coordinatewise(0.1, (3, 0, 2)), least_d=4),
    Row(bz.AugmentedRandomSearch(0.05, 4), bz.SGD(0.1), order_only=False),
    Row(bz.AugmentedRandomSearch(0.05, 4, 2), bz.SGD(0.05), order_only=False),
    Row(bz.PGPE(0.1, 6)),
    Row(bz.PGPE(0.1, 4, sigma_rate=0.0)),
    Row(bz.PGPE(0.1, 4, elite=0.25)),
    Row(bz.RankBased(0.1, 8)),
    Row(bz.RankBased(0.1, 8, 3)),
    Row(bz.RankBased(0.1, 2, 1), budget=2000),
    Row(bz.RankSGD(0.1, 8)),
    Row(bz.RankSGD(0.1, 8, 4, n_ranked=3)),
    Row(bz.RankSGD(0.1, 6, shared_round=True)),
    Row(bz.PreferenceGP(0.5), budget=120),
    Row(bz.PreferenceGP(0.5, 3), budget=120),
    Row(bz.PreferenceGP(0.5, 6, n_ranked=1, history=12), budget=120),
    Row(bz.Surrogate(0.1, 3, 20), budget=150),
    Row(bz.Surrogate(0.1, 2, 9, noise=1e-4), bz.SGD(0.1), budget=150),
    Row(bz.OrdinalCoordinateSearch(), shift_invariant=False),
    Row(bz.OrdinalSurrogate(0.5), budget=300),
    Row(bz.OrdinalSurrogate(0.5, 2), budget=600),
    Row(bz.EvolutionStrategy(0.5)),
    Row(bz.EvolutionStrategy(0.5, 7, model=True), order_only=False),
    Row(bz.Asynchronous(bz.EvolutionStrategy(0.5))),
    Row(bz.Asynchronous(bz.EvolutionStrategy(0.5, 7, model=True))),
    Row(bz.Asynchronous(bz.EvolutionStrategy(0.5, 6, "low-rank", step_size="path"))),
    Row(bz.EvolutionStrategy(0.5, covariance="diagonal")),
    Row(bz.EvolutionStrategy(0.5, covariance="isotropic")),
    Row(bz.EvolutionStrategy(0.2, 12, "isotropic", adapt_radius=False)),
    Row(bz.EvolutionStrategy(0.5, 3, weights="all")),
    Row(bz.EvolutionStrategy(0.5, 9, "diagonal", step_size="line")),
    Row(bz.EvolutionStrategy(0.5, 8, step_size="both")),
    Row(bz.EvolutionStrategy(0.5, 9, "low-rank")),
    Row(bz.EvolutionStrategy(0.5, 6, "low-rank", step_size="path")),
    Row(bz.EvolutionStrategy(0.5, learning_rate="adapted")),
    Row(bz.EvolutionStrategy(0.5, covariance="isotropic", learning_rate="adapted")),
    Row(bz.EvolutionStrategy(0.5, 5, "isotropic", weights="best", step_size="line")),
    Row(bz.EvolutionStrategy(0.5, 8, "full", step_size="line")),
    Row(bz.EvolutionStrategy(0.5, 2, "diagonal", weights="all")),
    Row(bz.EvolutionStrategy(0.5, 3, "isotropic", weights="all")),
    Row(bz.EvolutionStrategy(0.1, 3, "isotropic", adapt_radius=False, weights="all")),
    Row(bz.ConsensusBased(0.5, 20, alpha=30.0)),
    Row(bz.QuasiNewton(0.2), shift_invariant=False),
    Row(bz.NoisyQuasiNewton(0.2), shift_invariant=False),
    Row(bz.TrustRegion(0.2), shift_invariant=False),
    Row(bz.TrustRegion(0.2, 9), shift_invariant=False),
    Row(bz.BlockDescent(0.2), shift_invariant=False),
    Row(bz.BlockDescent(0.2, 3), shift_invariant=False),
    Row(bz.CoordinateSearch(), shift_invariant=False),
    Row(bz.SPSA()),
    Row(bz.SPSA(0.2, 3, 100)),
    Row(PORTFOLIO, order_only=False, shift_invariant=False),
    Row(TWO, order_only=False),
    Row(bz.ConsensusBased(0.5, 20, noise="isotropic"), budget=2000),
    Row(bz.ConsensusBased(0.2, 20, alpha=30.0, scheme="hopping")),
    Row(bz.QuasiNewton(0.2, pairs=3), shift_invariant=False),
]


each = pytest.mark.parametrize("row", ROWS, ids=lambda row: repr(row.estimator))


@each
def test_laws(row: Row) -> None:
    check_estimator(
        row.estimator,
        rule=row.rule,
        budget=row.budget,
        order_only=row.order_only,
        shift_invariant=row.shift_invariant,
    )


@each
def test_laws_in_a_tree_within_bounds(row: Row) -> None:
    tree = {"w": np.array([[0.5, -0.9], [0.99, 0.1]]), "more": [0.3, np.array([-0.2])]}
    check_estimator(
        row.estimator,
        rule=row.rule,
        x0=tree,
        bounds=(-1.0, 1.0),
        seed=5,
        budget=0,
        order_only=row.order_only,
        shift_invariant=row.shift_invariant,
    )


@pytest.mark.parametrize("row", [row for row in ROWS if row.least_d == 1], ids=lambda row: repr(row.estimator))
def test_laws_for_a_single_number(row: Row) -> None:
    check_estimator(
        row.estimator,
        rule=row.rule,
        x0=1.0,
        seed=7,
        budget=0,
        order_only=row.order_only,
        shift_invariant=row.shift_invariant,
    )


def draws_again(estimator: bz.Estimator) -> bool:
    """Whether its directions are functions of a key, so that momentum can draw old ones again."""
    x = bz.Vector(np.linspace(-1.0, 1.0, 6))
    state = estimator.start(x)
    for t in range(estimator.warmup + 1):
        queries = estimator.sample(state, x, bz.Key(2, t))
        state, step = estimator.estimate(state, x, queries, told(estimator, sphere(x.points(queries))))
    return hasattr(step.directions, "key")


def bowl(points: Floats) -> Floats:
    """Bounded, so that no rate is too high for it."""
    return np.asarray(1.0 - 1.0 / (1.0 + sphere(points)))


@pytest.mark.parametrize("rule", [rule for rule, _ in RULES], ids=repr)
@each
def test_any_rule_goes_with_any_estimator(row: Row, rule: bz.Rule) -> None:
    """The budget is spent to the last query, nothing leaves the finite numbers, and the run can be repeated."""

    def search() -> bz.Search:
        s = bz.Search(np.linspace(-1.0, 1.0, 6), row.estimator, rule, seed=2, budget=31)
        while not s.exhausted:
            run(s, bowl, 1)
        return s

    if "memory" in repr(rule).replace("memory=None", "") and not draws_again(row.estimator):
        with pytest.raises(TypeError, match="needs directions drawn from a seed"):
            search()
        return
    first, second = search(), search()
    assert first.nfev == 31
    assert np.isfinite(first.x).all()
    assert np.isfinite(first.best.value) or bz.Values not in row.estimator.accepts
    assert bits(first.x) == bits(second.x) and first.best.id == second.best.id


@each
def test_workers_that_share_values_make_the_same_move(row: Row) -> None:
    """Each computes its own queries and the step; only numbers are exchanged."""
    one, other = (bz.Search(np.ones(6), row.estimator, row.rule, seed=4) for _ in range(2))
    for _ in range(row.estimator.warmup + 2):
        mine, theirs = one.ask(), other.ask()
        half = mine.n // 2
        values = np.concatenate((sphere(mine.points[:half]), sphere(theirs.points[half:])))
        for search, proposal in ((one, mine), (other, theirs)):
            search.tell(proposal, told(row.estimator, values))
    assert bits(one.x) == bits(other.x)


@pytest.mark.parametrize(
    "row", [row for row in ROWS if bz.Values in row.estimator.accepts], ids=lambda row: repr(row.estimator)
)
def test_gradient_has_the_structure_of_x(row: Row) -> None:
    x = {"w": np.ones((2, 2)), "b": 0.5}
    g = bz.gradient(lambda x: float((x["w"] ** 2).sum() + x["b"] ** 2), x, row.estimator, seed=1)
    assert list(g) == ["w", "b"] and g["w"].shape == (2, 2) and isinstance(g["b"], float)
    assert np.isfinite(g["w"]).all()
    assert g["w"].any() or (g["b"] and getattr(row.estimator, "n_blocks", None))  # one block a step


@pytest.mark.parametrize("radius", [0, 0.0, -0.1, float("nan"), float("inf"), None, "1", True], ids=str)
@pytest.mark.parametrize(
    "row",
    [row for row in ROWS if not isinstance(row.estimator, bz.Portfolio | bz.Asynchronous)],
    ids=lambda row: repr(row.estimator),
)
def test_radius_must_be_positive(row: Row, radius: Any) -> None:
    assert "radius" in {f.name for f in fields(row.estimator)}  # type: ignore[arg-type]
    with pytest.raises(ValueError) as error:
        replace(row.estimator, radius=radius)  # type: ignore[type-var]
    name = type(row.estimator).__name__
    assert str(error.value) == f"`{name}(radius=...)` must be a positive number, got {radius!r}."


@pytest.mark.parametrize(
    "row", [row for row in ROWS if bz.Ranking not in row.estimator.accepts], ids=lambda row: repr(row.estimator)
)
def test_rankings_are_refused_by_name(row: Row) -> None:
    search = bz.Search(np.ones(6), row.estimator, row.rule)
    proposal = search.ask()
    with pytest.raises(bz.FeedbackError) as error:
        search.tell(proposal, bz.Ranking([0], proposal.n))
    name = type(row.estimator).__name__
    assert str(error.value) == (
        f"Cannot use `{name}` with this oracle: it needs the value of each query, but the oracle answered `Ranking`. "
        "Use `RankBased`."
    )


def test_every_estimator_has_a_row() -> None:
    public = {v for v in vars(bz).values() if isinstance(v, type) and issubclass(v, bz.Estimator)} - {bz.Estimator}
    elsewhere = {bz.Nevergrad}  # it needs a package; `doors/test_nevergrad.py` checks its laws
    assert {type(row.estimator) for row in ROWS} == public - elsewhere


def test_every_rule_has_a_row() -> None:
    public = {v for v in vars(bz).values() if isinstance(v, type) and issubclass(v, bz.Rule)} - {bz.Rule}
    assert {type(rule) for rule, _ in RULES} >= public


@each
def test_a_search_says_once_that_it_asks_about_points_that_are_out(row: Row) -> None:
    """In every phase of the estimator; and where a second worker gets points of its own, it says nothing."""
    search = bz.Search(np.linspace(-1.0, 1.0, 6), row.estimator, row.rule, seed=3)
    quiet = bz.Search(np.linspace(-1.0, 1.0, 6), row.estimator, row.rule, seed=3)
    said = 0
    for _ in range(row.estimator.warmup + 6):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            first, second = search.ask(), search.ask()
        merged = [quiet.ask(repeats=True), quiet.ask(repeats=True)]  # warnings are errors
        assert np.array_equal(merged[1].points, second.points)
        again = np.array_equal(first.points, second.points)
        assert len(caught) == (again and not said and not row.estimator.any_age)
        if caught:
            said, message = 1, str(caught[0].message)
            assert f"`{type(row.estimator).__name__}`" in message and "Tell these first" in message
            assert f"Step {second.step} asks about the very points of step {first.step}" in message
        for p, q in zip((first, second), merged, strict=True):
            for s, proposal in ((search, p), (quiet, q)):
                s.tell(proposal, told(row.estimator, sphere(proposal.points)))
    assert said == waits(row.estimator)


def waits(estimator: bz.Estimator) -> bool:
    """Whether there are steps whose points depend on nothing but answers."""
    if isinstance(estimator, bz.RankSGD):
        return not estimator.shared_round
    if isinstance(estimator, bz.Coordinatewise):
        return not isinstance(estimator.coordinates, str)  # else each step has the next block
    return isinstance(estimator, DETERMINED) or getattr(estimator, "model", False)


DETERMINED = (
    bz.QuasiNewton
    | bz.NoisyQuasiNewton
    | bz.TrustRegion
    | bz.BlockDescent
    | bz.CoordinateSearch
    | bz.OrdinalCoordinateSearch
    | bz.Portfolio
)
