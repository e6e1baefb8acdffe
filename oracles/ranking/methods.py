"""`ranking_method`: the estimator for a study, by its size."""

from __future__ import annotations

import blackbox_zo as bz
from blackbox_zo._checks import check_at_least, check_positive

__all__ = ["ranking_method"]

MOST_DIMENSIONS = 100
"""`PreferenceGP` is chosen up to this many dimensions."""

MOST_POINTS = 800
"""`PreferenceGP` is chosen for studies that show up to this many points; it keeps the newest 200 of them."""


def ranking_method(
    d: int, n_queries: int, n_ranked: int | None = None, rounds: int = 20, radius: float = 1.0
) -> bz.Estimator:
    """The estimator for people who rank, by the size of the study; what `blackbox-zo rank --method auto` takes.

    Chosen by `benchmarks/methods.py`, which compares all methods of the library that take rankings, and CMA-ES, over
    d, the candidates of a round and those that are ranked, the rounds, four kinds of functions at random places, and
    people who err or do not:

    - `PreferenceGP` for all that a person can be asked: while d and the points shown in all are not too many;
    - `EvolutionStrategy` in many dimensions or with hundreds of rounds, for its steps take no time. All ranks move x,
      as far as d carries it.

    Args:
        d: Dimension of x.
        n_queries: m ≥ 2, the candidates of a round.
        n_ranked: k, how many of the best are put in order, 1 to m; None for all.
        rounds: Answers that the study is to have, at least 1.
        radius: Spread of the first candidates, positive, in units of the variable.

    Raises:
        ValueError: An argument is out of its range.

    Example:
        >>> ranking_method(30, n_queries=2, rounds=40)
        PreferenceGP(radius=1.0, n_queries=2, n_ranked=None, history=200)
        >>> ranking_method(1000, n_queries=8, rounds=300, radius=0.1).weights
        'all'
    """
    check_at_least("ranking_method", 1, d=d, rounds=rounds)
    check_at_least("ranking_method", 2, n_queries=n_queries)
    check_positive("ranking_method", radius=radius)
    if n_ranked is not None:
        check_at_least("ranking_method", 1, n_ranked=n_ranked)
        if n_ranked > n_queries:
            raise ValueError(f"`ranking_method(n_ranked=...)` must be at most n_queries={n_queries}, got {n_ranked}.")
    if d <= MOST_DIMENSIONS and rounds * n_queries <= MOST_POINTS:
        return bz.PreferenceGP(radius, n_queries, history=max(200, n_queries))
    return bz.EvolutionStrategy(radius, n_queries, "diagonal", weights="all")
