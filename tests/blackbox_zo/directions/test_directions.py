from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import blackbox_zo as bz
from blackbox_zo._typing import Floats
from blackbox_zo.directions import Joined, Mixed, OnBlocks
from blackbox_zo.randomness import Key
from blackbox_zo.testing import check_directions

from ..helpers import BLOCKS, LARGE, bits, few, laws

Make = Callable[[tuple[bz.Block, ...], int, Key], bz.Directions]


def rank_two(blocks: tuple[bz.Block, ...], k: int, key: Key) -> bz.LowRank:
    return bz.LowRank(blocks, k, key, rank=2)


def sparse(blocks: tuple[bz.Block, ...], k: int, key: Key) -> bz.Sparse:
    return bz.Sparse(blocks, k, key, sparsity=4)


def side_by_side(blocks: tuple[bz.Block, ...], k: int, key: Key) -> Joined:
    """Of different kinds and seeds."""
    return Joined([bz.Gaussian(blocks, 1, key), bz.LowRank(blocks, k - 1, Key(key.seed, key.step + 100))])


def mixed(blocks: tuple[bz.Block, ...], k: int, key: Key) -> Mixed:
    """Each the sum of two, of unit variance."""
    return Mixed(bz.Gaussian(blocks, 2 * k, key), np.repeat(np.eye(k), 2, axis=1) / np.sqrt(2))


def on_one(blocks: tuple[bz.Block, ...], k: int, key: Key) -> OnBlocks:
    return OnBlocks(bz.Gaussian(blocks, k, key), 1, key)


def signs_on_two(blocks: tuple[bz.Block, ...], k: int, key: Key) -> OnBlocks:
    return OnBlocks(bz.Rademacher(blocks, k, key), 2, key)


# name: make, nested, local, whether E u u' is I rather than I / d
DRAWN: dict[str, tuple[Make, bool, bool, bool]] = {
    "gaussian": (bz.Gaussian, True, True, True),
    "sphere": (bz.Sphere, True, False, False),
    "orthogonal": (bz.Orthogonal, False, False, False),
    "rademacher": (bz.Rademacher, True, True, True),
    "lowrank": (bz.LowRank, True, True, True),
    "rank two": (rank_two, True, True, True),
    "sparse": (sparse, True, True, True),
    "joined": (side_by_side, True, True, True),
    "mixed": (mixed, True, True, True),
    "on one block": (on_one, True, False, True),
    "signs on two blocks": (signs_on_two, True, False, True),
}
drawn = pytest.mark.parametrize(("make", "nested", "local", "unit"), DRAWN.values(), ids=DRAWN)


@drawn
def test_drawn_directions_obey_the_laws(make: Make, nested: bool, local: bool, unit: bool) -> None:
    variance = 1.0 if unit else 1 / sum(block.size for block in BLOCKS)
    check_directions(make, blocks=BLOCKS, nested=nested, local=local, variance=variance)


@drawn
def test_so_do_blocks_larger_than_a_tile(make: Make, nested: bool, local: bool, unit: bool) -> None:
    check_directions(make, blocks=(*LARGE, bz.Block("more", (5, 7000))), k=2, nested=nested, local=local)


@drawn
@pytest.mark.parametrize("shape", [(), (1,), (2,), (1, 1), (2, 0, 3), (2, 3, 4)], ids=str)
def test_so_do_odd_shapes(make: Make, nested: bool, local: bool, unit: bool, shape: tuple[int, ...]) -> None:
    blocks = (bz.Block("odd", shape), bz.Block("other", (2,)))
    check_directions(make, blocks=blocks, k=5, nested=nested, local=local)


@pytest.mark.parametrize("layout", ["C", "F"])
@pytest.mark.parametrize("k", [1, 12])
def test_dense_obeys_the_laws(k: int, layout: Any) -> None:
    rows = np.random.default_rng(k).standard_normal((k, 11))
    check_directions(bz.Dense(BLOCKS, rows.copy(order=layout)))


def test_dense_rows_are_what_was_given() -> None:
    rows = np.random.default_rng(0).standard_normal((2, 11))
    directions = bz.Dense(BLOCKS, rows)
    assert bits(directions.rows) == bits(rows)
    with pytest.raises(ValueError, match="read-only"):
        directions.rows[0, 0] = 1.0
    assert rows.flags.writeable  # the giver's array is as it was


@laws
@given(st.sets(st.integers(0, 10), min_size=1).flatmap(lambda s: st.permutations(sorted(s))))
def test_coordinates_obey_the_laws(coordinates: list[int]) -> None:
    check_directions(bz.Coordinates(BLOCKS, np.array(coordinates)))


def test_coordinates_are_rows_of_the_identity() -> None:
    assert bits(bz.Coordinates(BLOCKS, np.array([7, 0, 10])).rows) == bits(np.eye(11)[[7, 0, 10]])


def test_sphere_has_unit_length_over_all_blocks() -> None:
    for blocks in (BLOCKS, LARGE):
        np.testing.assert_allclose(np.linalg.norm(bz.Sphere(blocks, 4, Key(0, 0)).rows, axis=1), 1.0, rtol=1e-12)


def test_sphere_has_the_same_bits_whether_rows_or_lengths_come_first() -> None:
    rows_first, lengths_first = bz.Sphere(BLOCKS, 3, Key(0, 0)), bz.Sphere(BLOCKS, 3, Key(0, 0))
    lengths_first.combine(np.ones(3))
    assert bits(rows_first.rows) == bits(lengths_first.rows)


@few
@given(d=st.integers(1, 9), k=st.integers(1, 20))
def test_orthogonal_frames(d: int, k: int) -> None:
    rows = bz.Orthogonal((bz.Block("x", (d,)),), k, Key(d, k)).rows
    for a in range(0, k, d):
        frame = rows[a : a + d]
        np.testing.assert_allclose(frame @ frame.T, np.eye(len(frame)), atol=1e-12)


def test_orthogonal_frames_are_independent() -> None:
    rows = bz.Orthogonal((bz.Block("x", (2,)),), 4, Key(0, 0)).rows
    assert not np.allclose(np.abs(rows[:2] @ rows[2:].T), np.eye(2), atol=1e-3)


def test_orthogonal_is_uniform_among_rotations_and_reflections() -> None:
    """Without the sign of R's diagonal the first entries would all be negative."""
    first = np.array([bz.Orthogonal((bz.Block("x", (3,)),), 3, Key(seed, 0)).rows for seed in range(400)])
    assert 140 < np.count_nonzero(np.linalg.det(first) > 0) < 260
    assert np.abs(np.mean(first > 0, axis=0) - 0.5).max() < 0.15


@pytest.mark.parametrize("sparsity", [1, 3, 64, 256])
def test_sparse_directions_have_one_element_in_each_run(sparsity: int) -> None:
    """At any place of it, of either sign, equally often within five standard errors."""
    n = 2000
    u = bz.Sparse((bz.Block("w", (n * sparsity,)),), 1, Key(3, 1), sparsity).rows[0].reshape(n, sparsity)
    assert (np.sort(np.abs(u), axis=1) == [0.0] * (sparsity - 1) + [np.sqrt(sparsity)]).all()
    assert abs(np.count_nonzero(u > 0) - n / 2) < 5 * np.sqrt(n / 4)
    counts = np.count_nonzero(u, axis=0)
    assert np.abs(counts - n / sparsity).max() < 5 * np.sqrt(n / sparsity)


@pytest.mark.parametrize("size", [1, 63, 64, 1000])
def test_where_sparse_directions_are_not_zero(size: int) -> None:
    """Exactly where the elements are not, counted from the start of any part."""
    block = bz.Block("w", (size,))
    directions = bz.Sparse((block,), 2, Key(3, 1), 8)
    for start, stop in ((0, size), (size // 3, size // 2), (size // 2, size), (size, size)):
        places, values = directions.nonzeros(block, 1, start, stop)
        part = directions.part(block, 1, start, stop)
        assert np.array_equal(np.flatnonzero(part), np.sort(places))
        assert np.array_equal(part[places], values)
        assert bits(part) == bits(directions.rows[1, start:stop])


def test_low_rank_has_its_rank() -> None:
    block = bz.Block("w", (40, 30))
    for rank in (1, 2, 3):
        u = bz.LowRank((block,), 1, Key(4, 0), rank=rank).rows[0].reshape(40, 30)
        assert np.linalg.matrix_rank(u) == rank


def test_low_rank_views_more_axes_as_a_matrix() -> None:
    """(m, n1, n2) is taken as (m, n1 n2)."""
    deep, flat = bz.Block("w", (2, 3, 4)), bz.Block("w", (2, 12))
    key = Key(1, 1)
    assert bits(bz.LowRank((deep,), 3, key).rows) == bits(bz.LowRank((flat,), 3, key).rows)


def test_signs_are_signs() -> None:
    assert set(np.unique(bz.Rademacher(BLOCKS, 5, Key(0, 0)).rows)) == {-1.0, 1.0}
    assert set(np.unique(bz.LowRank(BLOCKS, 5, Key(0, 0)).rows)) == {-1.0, 1.0}


def test_blocks_of_other_names_draw_other_numbers() -> None:
    blocks = (bz.Block("a", (6,)), bz.Block("b", (6,)))
    for make in (bz.Gaussian, bz.Rademacher, bz.LowRank):
        rows = make(blocks, 4, Key(0, 0)).rows
        assert not np.array_equal(rows[:, :6], rows[:, 6:])


def test_unknown_block_is_named() -> None:
    with pytest.raises(KeyError, match=r"no block 'c'; the blocks are \['matrix', 'vector', 'number'\]"):
        bz.Dense(BLOCKS, np.zeros((1, 11))).add_(np.zeros(1), bz.Block("c", ()), np.ones(1))


@laws
@given(
    n=st.integers(1, 8),
    seed=st.integers(0, 99),
    scales=st.lists(st.sampled_from([0.0, 0.5, -0.5, 2.0, -2.0]), min_size=8, max_size=8),
)
def test_points_are_origin_plus_scaled_rows_to_the_bit(n: int, seed: int, scales: list[float]) -> None:
    rng = np.random.default_rng(seed)
    index, scale = rng.integers(0, 3, n), np.array(scales[:n])
    for blocks in (BLOCKS, LARGE):
        origin = rng.standard_normal(sum(b.size for b in blocks))
        directions = bz.Gaussian(blocks, 3, Key(seed, 0))
        expected: Floats = directions.rows[index] * scale[:, None] + origin
        assert bits(directions.points(origin, index, scale)) == bits(expected)
