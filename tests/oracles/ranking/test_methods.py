"""`ranking_method`, and that a study by the command gets it."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import blackbox_zo as bz
from oracles.ranking import ranking_method
from oracles.ranking.session import estimator_of


def named(d: int, **given: Any) -> bz.Estimator:
    """What the command takes."""
    told = {"method": "auto", "radius": 1.0, "candidates": 8, "ranked": None, "rounds": 20}
    return estimator_of(argparse.Namespace(**(told | given)), d)


@pytest.mark.parametrize(("d", "best"), [(21, 0.7), (30, -0.5)])
def test_duels_above_twenty_dimensions_end_well_below_their_start(d: int, best: float) -> None:
    """40 right answers of "this one"; the median of three starts. An evolution strategy of duels ends above it."""
    ends = []
    for seed in range(3):
        search = bz.Search(np.zeros(d), named(d, candidates=2, rounds=40), seed=seed)
        for _ in range(40):
            proposal = search.ask()
            search.tell(proposal, bz.Values(((proposal.points - best) ** 2).sum(axis=1)))
        ends.append(((search.x - best) ** 2).sum() / (d * best**2))
    assert np.median(ends) < 0.85


@settings(deadline=None, derandomize=True)
@given(
    d=st.integers(1, 5000), m=st.integers(2, 40), rounds=st.integers(1, 2000),
    k=st.integers(1, 40), radius=st.floats(1e-6, 1e6),
)  # fmt: skip
def test_every_study_gets_a_method_of_its_own_size(d: int, m: int, rounds: int, k: int, radius: float) -> None:
    found = ranking_method(d, m, min(k, m), rounds, radius)
    assert isinstance(found, bz.PreferenceGP | bz.EvolutionStrategy)
    assert (found.n_queries, found.radius) == (m, radius)
    assert found == named(d, candidates=m, ranked=min(k, m), rounds=rounds, radius=radius)


def test_it_depends_on_dimensions_candidates_and_rounds() -> None:
    for d, m, rounds in ((3, 8, 20), (30, 8, 20), (30, 2, 40), (60, 4, 40)):
        assert isinstance(ranking_method(d, m, rounds=rounds), bz.PreferenceGP)
    for d, m, rounds in ((3000, 8, 20), (3, 8, 500), (30, 2, 5000), (8, 300, 10)):
        assert isinstance(ranking_method(d, m, rounds=rounds), bz.EvolutionStrategy)


def test_a_method_that_is_named_is_taken() -> None:
    assert named(3000, method="preference") == bz.PreferenceGP(1.0, 8)
    assert isinstance(named(3, method="evolution"), bz.EvolutionStrategy)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"d": 0}, "`ranking_method(d=...)` must be a whole number of at least 1, got 0."),
        ({"n_queries": 1}, "`ranking_method(n_queries=...)` must be a whole number of at least 2, got 1."),
        ({"n_ranked": 9}, "`ranking_method(n_ranked=...)` must be at most n_queries=8, got 9."),
        ({"n_ranked": 0}, "`ranking_method(n_ranked=...)` must be a whole number of at least 1, got 0."),
        ({"rounds": 0}, "`ranking_method(rounds=...)` must be a whole number of at least 1, got 0."),
        ({"radius": -1.0}, "`ranking_method(radius=...)` must be a positive number, got -1.0."),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        ranking_method(**{"d": 5, "n_queries": 8, **arguments})
    assert str(error.value) == message
