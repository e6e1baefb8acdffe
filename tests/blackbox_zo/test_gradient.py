from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import blackbox_zo as bz
from blackbox_zo.function import FunctionOracle
from blackbox_zo.proposal import Proposal

from .helpers import Quadratic, bits, sphere


def test_is_the_gradient_in_the_structure_of_x() -> None:
    g = bz.gradient(
        lambda x: x["a"] ** 2 + (x["b"] ** 3).sum(), {"a": 3.0, "b": np.array([[1.0, 2.0]])}, bz.Coordinatewise(1e-4)
    )
    assert isinstance(g["a"], float) and g["a"] == pytest.approx(6.0)
    np.testing.assert_allclose(g["b"], [[3.0, 12.0]], rtol=1e-6)


def test_of_a_number_is_a_number() -> None:
    assert bz.gradient(lambda x: x * x, 2.0, bz.Coordinatewise(0.1)) == pytest.approx(4.0)


def test_vectorized_gives_the_same_bits() -> None:
    f, estimator = Quadratic(5), bz.RandomVector(0.1, 4)
    one_by_one = bz.gradient(lambda x: float(f(x[None])[0]), f.x, estimator)
    assert bits(bz.gradient(f, f.x, estimator, vectorized=True)) == bits(one_by_one)


def test_takes_an_oracle() -> None:
    oracle = FunctionOracle(sphere, vectorized=True)
    np.testing.assert_allclose(bz.gradient(oracle, np.ones(3), bz.Coordinatewise(0.1)), 2.0)
    assert oracle.calls == 6


def test_takes_an_oracle_that_ranks() -> None:
    class Judge(bz.Oracle):
        def answer(self, proposal: Proposal) -> bz.Ranking:
            return bz.Values(sphere(proposal.points)).ranking()

    g = bz.gradient(Judge(), np.ones(3), bz.RankBased(0.1, 500))
    assert g @ np.ones(3) / np.linalg.norm(g) / np.sqrt(3) > 0.95
    with pytest.raises(bz.FeedbackError, match="Cannot use `RandomVector` with this oracle"):
        bz.gradient(Judge(), np.ones(3), bz.RandomVector(0.1))


def test_seed_decides() -> None:
    f, estimator = Quadratic(5), bz.RandomVector(0.1)
    found = [bits(bz.gradient(f, f.x, estimator, seed, vectorized=True)) for seed in (1, 2, 1)]
    assert found[0] == found[2] != found[1]


def test_is_the_first_estimate_of_a_search() -> None:
    f, estimator = Quadratic(5), bz.RandomVector(0.1, 2)
    search = bz.Search(f.x, estimator, bz.SGD(1.0), seed=3)
    proposal = search.ask()
    search.tell(proposal, bz.Values(f(proposal.points)))
    np.testing.assert_allclose(f.x - search.x, bz.gradient(f, f.x, estimator, 3, vectorized=True), rtol=1e-10)


def test_residual_feedback_warms_up() -> None:
    calls = []

    def f(x: Any) -> float:
        calls.append(x)
        return float(x @ x)

    assert bz.gradient(f, np.ones(3), bz.RandomVector(0.1, 2, difference="residual")).any()
    assert len(calls) == 4


def test_population_gives_minus_its_first_move() -> None:
    estimator = bz.EvolutionStrategy(0.5)
    search = bz.Search(np.ones(3), estimator, seed=1)
    proposal = search.ask()
    search.tell(proposal, bz.Values(sphere(proposal.points)))
    np.testing.assert_allclose(
        1.0 - bz.gradient(sphere, np.ones(3), estimator, 1, vectorized=True), search.x, rtol=1e-12
    )


def test_x_is_not_moved() -> None:
    x = np.ones(3)
    bz.gradient(lambda p: float(p @ p), x, bz.Coordinatewise(0.1))
    assert x.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("fun", "x", "kind", "words"),
    [
        (sphere, [], ValueError, "`x0` is empty"),
        (sphere, [1.0, float("nan")], ValueError, "`x0` holds nan at flat index 1"),
        (sphere, "abc", TypeError, "`x0` is 'abc', which is not a number"),
        (lambda x: None, [1.0], TypeError, "`fun` returned None; it must return one number."),
        (lambda x: "low", [1.0], TypeError, "`fun` returned 'low' (str); it must return one number."),
        (lambda x: x, [1.0, 2.0], TypeError, "`fun` returned an array of shape (2,); it must return one number."),
        (3.0, [1.0], TypeError, "`fun` must be a function of x, got 3.0."),
    ],
)
def test_bad_arguments(fun: Any, x: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind) as error:
        bz.gradient(fun, x, bz.Coordinatewise(0.1))
    assert words in str(error.value)
