"""Statistics of observations, against numpy's of all data."""

from __future__ import annotations

import json

import numpy as np
import pytest

from oracles.rl import Statistics

DATA = np.random.default_rng(0).normal([0.0, 3.0, -1e4, 1e-3], [1.0, 5.0, 0.1, 1e-4], (500, 4))


def test_of_some_observations() -> None:
    seen = Statistics.of(DATA)
    assert seen.n == 500
    np.testing.assert_array_equal(seen.mean, DATA.mean(axis=0))
    np.testing.assert_allclose(seen.squares / 500, DATA.var(axis=0), rtol=1e-12)
    np.testing.assert_allclose(seen.scale(), 1 / DATA.std(axis=0, ddof=1), rtol=1e-12)


@pytest.mark.parametrize("cuts", [[1], [499], [3, 3, 4, 250], list(range(1, 500))])
def test_merged_of_parts_is_of_all(cuts: list[int]) -> None:
    merged = Statistics.none(4)
    for part in np.split(DATA, cuts):
        merged = merged.merged(Statistics.of(part) if len(part) else Statistics.none(4))
    assert merged.n == 500
    np.testing.assert_allclose(merged.mean, DATA.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(merged.squares / 500, DATA.var(axis=0), rtol=1e-7)  # 1e-5 of the mean's square


def test_the_first_merge_changes_no_bit() -> None:
    seen = Statistics.of(DATA)
    for merged in (Statistics.none(4).merged(seen), seen.merged(Statistics.none(4))):
        assert merged.n == seen.n
        assert merged.mean.tobytes() == seen.mean.tobytes() and merged.squares.tobytes() == seen.squares.tobytes()


def test_json_keeps_every_bit() -> None:
    seen = Statistics.of(DATA / 3)
    again = Statistics.from_json(json.loads(json.dumps(seen.to_json())))
    assert again.n == seen.n
    assert again.mean.tobytes() == seen.mean.tobytes() and again.squares.tobytes() == seen.squares.tobytes()


def test_what_does_not_vary_is_switched_off_and_one_observation_tells_nothing() -> None:
    assert Statistics.of(np.array([[1.0, 5.0], [3.0, 5.0]])).scale().tolist() == [1 / np.sqrt(2.0), 0.0]
    assert Statistics.of(np.array([[1.0, 5.0], [3.0, 5.0 + 1e-9]])).scale()[1] == 0.0
    assert Statistics.of(np.array([[1.0, 5.0]])).scale().tolist() == [1.0, 1.0]
    assert Statistics.none(2).scale().tolist() == [1.0, 1.0]
