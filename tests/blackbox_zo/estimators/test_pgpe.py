"""`PGPE` against the paper's updates written out, and what its scales are for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import blackbox_zo as bz


def asked(n: int = 4, rate: float = 0.1) -> tuple[bz.Search, bz.Proposal]:
    search = bz.Search(np.zeros(3), bz.PGPE(0.5, n, rate), bz.SGD(0.3), seed=2)
    return search, search.ask()


def test_pairs_are_symmetric_and_as_wide_as_sigma() -> None:
    _, proposal = asked(500)
    assert np.array_equal(proposal.points[::2], -proposal.points[1::2])
    assert proposal.points[::2].std(axis=0) == pytest.approx(0.5, rel=0.1)


def test_mean_and_scales_follow_eqs_11_and_12() -> None:
    search, proposal = asked()
    f = np.random.default_rng(0).standard_normal(8)
    search.tell(proposal, bz.Values(f))
    r = (7 - np.argsort(np.argsort(f))) / 7 - 0.5
    e, up, down = proposal.points[::2], r[::2], r[1::2]
    assert search.x == pytest.approx(0.3 * ((up - down) / 2) @ e / 4)
    change = 0.1 * ((up + down) / 2 - r.mean()) @ ((e**2 - 0.25) / 0.5) / 4
    assert np.ravel(search.state.sigma) == pytest.approx(0.5 + np.clip(change, -0.1, 0.1))


def test_elite_rewards_are_the_log_weights_of_the_best() -> None:
    search = bz.Search(np.zeros(3), bz.PGPE(0.5, 4, 0.0, elite=0.5), bz.SGD(0.3), seed=2)
    proposal = search.ask()
    f = np.random.default_rng(0).standard_normal(8)
    search.tell(proposal, bz.Values(f))
    place = np.argsort(np.argsort(f)) + 1
    r = np.where(place <= 4, np.log(4.5 / place), 0.0)
    r *= np.linspace(-0.5, 0.5, 8).std() / r.std()
    e, up, down = proposal.points[::2], r[::2], r[1::2]
    assert search.x == pytest.approx(0.3 * ((up - down) / 2) @ e / 4)


@pytest.mark.parametrize("elite", [0.01, 1.0])
def test_any_share_of_any_number_moves(elite: float) -> None:
    for n in (1, 2, 7):
        search = bz.Search(np.zeros(3), bz.PGPE(0.5, n, elite=elite), bz.SGD(0.3), seed=2)
        proposal = search.ask()
        search.tell(proposal, bz.Values(proposal.points @ [1.0, 2.0, 3.0]))
        assert np.isfinite(search.x).all() and search.x @ [1.0, 2.0, 3.0] < 0


def test_a_pair_with_a_failure_is_left_out() -> None:
    search, proposal = asked(2, 0.0)
    search.tell(proposal, bz.Values([np.nan, 1.0, 2.0, 3.0]))
    assert search.x == pytest.approx(0.3 * proposal.points[2] * (1 / 3) / 2)


def test_equal_answers_change_nothing() -> None:
    search, proposal = asked()
    search.tell(proposal, bz.Values([1.0] * 8))
    assert not search.x.any() and (search.state.sigma == 0.5).all()


def test_scales_shrink_where_the_function_is_steep() -> None:
    def f(x: Any) -> float:
        return float(100 * x[0] ** 2 + 0.01 * (x[1] - 1) ** 2)

    search = bz.Search(np.zeros(2), bz.PGPE(0.5, 10), bz.SGD(0.1), seed=0)
    for _ in range(60):
        proposal = search.ask()
        search.tell(proposal, bz.Values([f(p) for p in proposal.points]))
    steep, flat = search.state.sigma
    assert steep < 0.2 * flat


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"radius": 0}, "`PGPE(radius=...)` must be a positive number, got 0."),
        ({"n_directions": 0}, "`PGPE(n_directions=...)` must be a whole number of at least 1, got 0."),
        ({"sigma_rate": 1.0}, "`PGPE(sigma_rate=...)` must be at least 0 and below 1, got 1.0."),
        ({"elite": 0.0}, "`PGPE(elite=...)` must be a positive number, got 0.0."),
        ({"elite": 1.5}, "`PGPE(elite=...)` must be at most 1, got 1.5."),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        bz.PGPE(**{"radius": 0.1, **arguments})
    assert str(error.value) == message
