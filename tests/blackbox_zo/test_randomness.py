from __future__ import annotations

import threading
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import blackbox_zo as bz
from blackbox_zo._typing import Floats
from blackbox_zo.randomness import (
    TILE,
    Key,
    SignTable,
    Tiles,
    _normal,
    add_normals,
    combine,
    halves_of,
    normals,
    normals_between,
    signs,
    words,
    words_of,
)

from .helpers import bits, few, laws


def by_hand(weights: Floats, rows: Floats) -> Floats:
    """`weights @ rows`, one element and one row after another."""
    out = []
    for column in rows.T.tolist():
        total = 0.0
        for weight, element in zip(weights.tolist(), column, strict=True):
            total += weight * element
        out.append(total)
    return np.array(out, dtype=np.float64)


@laws
@given(k=st.integers(1, 40), d=st.integers(1, 40), seed=st.integers(0, 9))
def test_combine_sums_row_by_row(k: int, d: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights, rows = rng.standard_normal(k), rng.standard_normal((k, d))
    assert bits(combine(weights, rows)) == bits(by_hand(weights, rows))


@pytest.mark.parametrize("d", [1, 2, 3, TILE - 1, TILE, TILE + 1, 2 * TILE + 5])
@pytest.mark.parametrize("k", [1, 2, 9])
def test_combine_across_tiles(k: int, d: int) -> None:
    rng = np.random.default_rng(d + k)
    weights, rows = rng.standard_normal(k), rng.standard_normal((k, d))
    assert bits(combine(weights, rows)) == bits(by_hand(weights, rows))


@laws
@given(k=st.integers(1, 40), d=st.integers(1, 12))
def test_combine_does_not_depend_on_memory_layout(k: int, d: int) -> None:
    rng = np.random.default_rng(k)
    weights, wide = rng.standard_normal(k), rng.standard_normal((k, 2 * d))
    rows = np.ascontiguousarray(wide[:, ::2])
    for laid_out in (np.asfortranarray(rows), wide[:, ::2], np.concatenate((rows, rows), axis=1)[:, d:]):
        assert bits(combine(weights, laid_out)) == bits(combine(weights, rows))


@pytest.mark.parametrize("d", [1, 2, TILE + 1])
def test_combine_of_zeros_is_plus_zero(d: int) -> None:
    """So that a sum of stored rows and a sum into zeros have the same bits."""
    assert not np.signbit(combine(np.zeros(3), -np.ones((3, d)))).any()


@pytest.mark.parametrize("d", [1, 2, TILE + 1])
def test_combine_of_no_rows_is_zero(d: int) -> None:
    assert bits(combine(np.empty(0), np.empty((0, d)))) == bits(np.zeros(d))


@pytest.mark.parametrize("size", [1, 7, TILE, TILE + 3, 2 * TILE + 1])
def test_add_normals_is_combine_of_normals(size: int) -> None:
    key, weights, lengths = Key(1, 2), np.array([0.3, -1.7, 2.2]), np.array([0.5, 3.0, 0.1])
    rows = normals(key, "w", 3, size)
    plain, scaled = np.zeros(size), np.zeros(size)
    add_normals(plain, key, "w", weights)
    add_normals(scaled, key, "w", weights, lengths)
    assert bits(plain) == bits(combine(weights, rows))
    assert bits(scaled) == bits(combine(weights, lengths[:, None] * rows))


@pytest.mark.parametrize("size", [1, 5, TILE // 2 + 1, TILE + 1])
def test_rows_do_not_depend_on_how_many_there_are(size: int) -> None:
    key = Key(3, 4)
    for draw in (normals, signs):
        assert bits(draw(key, "w", 3, size)) == bits(draw(key, "w", 8, size)[:3])


@laws
@given(
    a=st.tuples(st.integers(), st.integers(0), st.text(max_size=5)),
    b=st.tuples(st.integers(), st.integers(0), st.text(max_size=5)),
)
def test_different_addresses_have_different_hashes(a: tuple[int, int, str], b: tuple[int, int, str]) -> None:
    digests = {Key(seed, step).digest(name) for seed, step, name in (a, b)}
    assert len(digests) == len({a, b})


def test_an_address_is_not_ambiguous() -> None:
    """No run of digits can belong to two neighbours."""
    addresses = [Key(1, 11).digest("1"), Key(11, 1).digest("1"), Key(1, 1).digest("1|1"), Key(1, 1).digest("1", 1)]
    addresses += [Key(1, 1).digest("1", 11, 1), Key(1, 1).digest("1", 1, 11), Key(-1, 1).digest("1")]
    assert len(set(addresses)) == len(addresses)


def test_ten_thousand_keys_do_not_collide() -> None:
    """`seed * (step + 17) + step` gives 7,674 distinct numbers here."""
    first = {normals(Key(seed, step), "x", 1, 1).tobytes() for seed in range(1000) for step in range(10)}
    assert len(first) == 10_000
    assert len({words(Key(seed, step), "x", 1, 1).tobytes() for seed in range(1000) for step in range(10)}) == 10_000


def test_normals_are_standard_normal() -> None:
    from scipy.stats import kstest

    sample = np.concatenate([normals(Key(seed, 0), "x", 3, 7).ravel() for seed in range(2000)])
    assert kstest(sample, "norm").pvalue > 1e-3
    assert kstest(normals(Key(0, 0), "x", 1, 42_000).ravel(), "norm").pvalue > 1e-3


def test_threads_do_not_disturb_each_other() -> None:
    expected = [normals(Key(0, step), "x", 2, 3 * TILE) for step in range(4)]
    found: list[list[Floats]] = [[] for _ in range(4)]

    def draw(i: int) -> None:
        for _ in range(5):
            found[i].append(normals(Key(0, i), "x", 2, 3 * TILE))

    threads = [threading.Thread(target=draw, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for step in range(4):
        assert {bits(rows) for rows in found[step]} == {bits(expected[step])}


def test_generator_is_fresh_each_time() -> None:
    key = Key(5, 6)
    assert key.generator("a").integers(1 << 60) == key.generator("a").integers(1 << 60)
    assert key.generator("a").integers(1 << 60) != key.generator("b").integers(1 << 60)


def test_global_generator_is_left_alone() -> None:
    before = str(np.random.get_state())  # noqa: NPY002
    bz.Gaussian((bz.Block("x", (9,)),), 4, Key(0, 0)).draw()
    assert str(np.random.get_state()) == before  # noqa: NPY002


# --------------------------------------------------------------------- the same bits in torch, on any device


def shifted(z: torch.Tensor, by: int) -> torch.Tensor:
    """A logical shift to the right of 64-bit words, which torch keeps as signed numbers."""
    return (z >> by) & ((1 << (64 - by)) - 1)


def mixed(z: torch.Tensor) -> torch.Tensor:
    z = (z ^ shifted(z, 30)) * signed(0xBF58476D1CE4E5B9)
    z = (z ^ shifted(z, 27)) * signed(0x94D049BB133111EB)
    return z ^ shifted(z, 31)


def signed(word: int) -> int:
    return word - (1 << 64) if word >= 1 << 63 else word


def torch_words(key: Key, name: str, k: int, count: int) -> torch.Tensor:
    digest = key.digest(name, size=16)
    k0, k1 = (int.from_bytes(digest[a : a + 8], "little", signed=True) for a in (0, 8))
    counter = torch.arange(k * count, dtype=torch.int64)
    return mixed(mixed(counter * signed(0x9E3779B97F4A7C15) + k0) ^ k1).reshape(k, count)


def torch_signs(key: Key, name: str, k: int, size: int) -> torch.Tensor:
    packed = torch_words(key, name, k, -(-size // 64))
    bit = (packed[:, :, None] >> torch.arange(64)) & 1
    return 1.0 - 2.0 * bit.reshape(k, -1)[:, :size].to(torch.float64)


@few
@given(seed=st.integers(-5, 1 << 70), k=st.integers(1, 5), size=st.integers(1, 200))
def test_words_and_signs_are_the_same_bits_in_torch(seed: int, k: int, size: int) -> None:
    key = Key(seed, 3)
    assert bits(words(key, "w", k, size).view(np.int64)) == bits(torch_words(key, "w", k, size).numpy())
    assert bits(signs(key, "w", k, size)) == bits(torch_signs(key, "w", k, size).numpy())


def test_rademacher_is_the_same_bits_in_torch() -> None:
    key, blocks = Key(8, 9), (bz.Block("a", (5, 30)), bz.Block("b", (70,)))
    expected = torch.cat([torch_signs(key, b.name, 3, b.size) for b in blocks], dim=1)
    assert bits(bz.Rademacher(blocks, 3, key).rows) == bits(expected.numpy())


def test_low_rank_factors_are_the_same_bits_in_torch() -> None:
    key, block = Key(8, 9), bz.Block("a", (5, 30))
    found = bz.LowRank((block,), 3, key, rank=2).factors(block)
    assert found is not None
    a, b = found
    assert bits(a) == bits(torch_signs(key, "a|A", 3, 10).reshape(3, 2, 5).float().numpy())
    assert bits(b) == bits(torch_signs(key, "a|B", 3, 60).reshape(3, 2, 30).float().numpy())


@pytest.mark.parametrize("k", [1, 3])
def test_a_table_of_signs_is_the_same_bits_in_torch(k: int) -> None:
    """Names with few elements are drawn together, and as if each were drawn alone."""
    key, sizes = Key(5, 1), {"a": 1, "b": 64, "c": 65, "none": 0, "d": 200}
    table = SignTable(key, k, sizes)
    assert table.signs.dtype == np.float32 and table.signs.shape == (k, 64 * 8)
    assert list(table.starts.values()) == [0, 64, 128, 256, 256]
    for name, size in sizes.items():
        assert bits(table.of(name, size)) == bits(torch_signs(key, name, k, size).float().numpy())
    assert SignTable(key, k, {}).signs.shape == (k, 0)


@few
@given(start=st.integers(0, 20), length=st.integers(0, 20), row=st.integers(0, 4))
def test_some_words_are_those_of_the_whole(start: int, length: int, row: int) -> None:
    whole = words(Key(2, 7), "w", 5, 40)[row, start : start + length]
    assert bits(words_of(halves_of([Key(2, 7).digest("w", size=16)]), length, 40 * row + start)[0]) == bits(whole)


@pytest.mark.parametrize("size", [5, TILE // 2 + 1, TILE, TILE + 1, 2 * TILE + 9])
@pytest.mark.parametrize("row", [0, 1, 4])
def test_some_normals_are_those_of_the_whole(size: int, row: int) -> None:
    whole = normals(Key(2, 7), "w", 5, size)[row]
    for start, stop in (
        (0, size),
        (1, 4),
        (3, 3),
        (size - 2, size),
        (size // 3, size - 1),
        (min(TILE, size - 1), size),
    ):
        assert bits(normals_between(Key(2, 7), "w", row, size, start, stop)) == bits(whole[start:stop])


@pytest.mark.parametrize("size", [TILE // 4, 5 * TILE])
def test_parts_that_follow_one_another_draw_each_tile_once(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, fill = list[bytes](), _normal.fill

    def counted(out: Floats, digest: bytes) -> None:
        drawn.append(digest)
        fill(out, digest)

    monkeypatch.setattr(_normal, "fill", counted)
    key, tiles, edges = Key(2, 7), Tiles(), [*range(0, size, TILE // 3 + 1), size]
    parts = []
    for a, b in pairwise(edges):
        for name in ("a", "b", "c", "d"):  # as where layers or an expert's matrices take turns
            part = normals_between(key, name, 0, size, a, b, tiles)
            if name == "c":
                parts.append(part.copy())
            part *= 0.0  # what was given is the caller's own
    assert len(drawn) == len(set(drawn)) == 4 * max(1, size // TILE)
    assert bits(np.concatenate(parts)) == bits(normals(key, "c", 1, size)[0])


def test_signs_are_balanced_and_independent() -> None:
    rows = np.concatenate([signs(Key(seed, 0), "w", 2, 100) for seed in range(500)])
    assert np.abs(rows.mean(axis=0)).max() * np.sqrt(len(rows)) < 5
    covariance = rows.T @ rows / len(rows) - np.eye(100)
    assert np.abs(covariance).max() * np.sqrt(len(rows)) < 6


def test_words_are_these() -> None:
    """Old journals are replayed with the words they were written with."""
    assert [hex(word) for word in words(Key(1, 2), "x", 1, 2)[0].tolist()] == [
        "0x846ab67f74a2487d",
        "0x8996bab46c088ea9",
    ]
