"""Random numbers as pure functions of (run seed, step, block name, row, element).

Nothing here carries a stream from call to call: every array is drawn from a generator whose whole state is a hash of
its address. Blocks, rows and steps may therefore be drawn in any order, by any worker, in any process.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from blackbox_zo._buffers import empty
from blackbox_zo._typing import Floats, Signs, Words

__all__ = ["TILE", "Key", "SignTable", "Tiles", "add_normals", "normals", "signs"]

TILE = 1 << 15
"""Elements drawn from one hashed state. To read one element, at most this many are drawn."""

GOLDEN, MIX1, MIX2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_GOLDEN, _MIX1, _MIX2 = np.uint64(GOLDEN), np.uint64(MIX1), np.uint64(MIX2)


@dataclass(frozen=True, slots=True)
class Key:
    """What a random direction depends on, besides its own row, block and element.

    Attributes:
        seed: The seed of the run, any integer.
        step: The number of the proposal, from 0.
    """

    seed: int
    step: int

    def digest(self, name: str, row: int = 0, column: int = 0, size: int = 24) -> bytes:
        """Hash an address to `size` bytes (at most 64)."""
        address = f"{self.seed}|{self.step}|{row}|{column}|{name}"
        return hashlib.blake2b(address.encode(), digest_size=size).digest()

    def generator(self, name: str) -> np.random.Generator:
        """A fresh numpy generator for anything that is not a direction (a permutation, a candidate set)."""
        return np.random.Generator(np.random.SFC64(int.from_bytes(self.digest(name), "little")))


class _Normal(threading.local):
    """One generator per thread, whose state is replaced before every draw (1 µs; making one takes 11)."""

    def __init__(self) -> None:
        self.bits = np.random.SFC64(0)
        self.draw = np.random.Generator(self.bits).standard_normal
        self.words = np.ones(4, dtype=np.uint64)
        self.state: Any = {"bit_generator": "SFC64", "state": {"state": self.words}, "has_uint32": 0, "uinteger": 0}

    def fill(self, out: Floats, digest: bytes) -> None:
        """Draw into the contiguous array `out` from the state that the 24 bytes of `digest` spell."""
        self.words[:3] = np.frombuffer(digest, dtype="<u8")
        self.words[3] = 1  # SFC64's own counter starts at 1
        self.bits.state = self.state
        self.draw(out=out)


_normal = _Normal()


def normals(key: Key, name: str, k: int, size: int) -> Floats:
    """`k` rows of `size` standard normals, shape (k, size), for the block called `name`.

    Rows do not depend on `k`. Small rows share a tile, large rows span several.
    """
    out = empty((k, size))
    if size <= TILE:
        per_tile = max(1, TILE // max(size, 1))
        for row in range(0, k, per_tile):
            _normal.fill(out[row : row + per_tile], key.digest(name, row))
    else:
        for row in range(k):
            for column in range(0, size, TILE):
                _normal.fill(out[row, column : column + TILE], key.digest(name, row, column))
    return out


class Tiles:
    """The newest tile of each of the newest few blocks that parts were drawn of.

    Parts that follow one another, such as an expert's rows or a word's, begin in the tile where the last one ended.
    """

    def __init__(self) -> None:
        self._kept: tuple[tuple[tuple[str, int, int], Floats], ...] = ()

    def get(self, place: tuple[str, int, int]) -> Floats | None:
        """The tile that was kept for a block's name, row and column, or None."""
        return next((tile for key, tile in self._kept if key == place), None)

    def keep(self, place: tuple[str, int, int], tile: Floats) -> None:
        """Keep a tile, in place of that of the same block or else of the oldest; replaced at once, so threads may."""
        others = tuple(entry for entry in self._kept if entry[0][0] != place[0])
        self._kept = (*others[-3:], (place, tile))


def normals_between(
    key: Key, name: str, row: int, size: int, start: int, stop: int, tiles: Tiles | None = None
) -> Floats:
    """Elements `start` to `stop` of row `row` of `normals`, shape (stop - start,), from the tiles that hold them.

    A tile that is used in part is kept in `tiles`, and what is there is not drawn again.
    """
    tiles = tiles or Tiles()
    if size <= TILE:
        per_tile = max(1, TILE // max(size, 1))
        first, place = row - row % per_tile, (name, row, 0)
        tile = tiles.get(place)
        if tile is None:
            tile = normals_tile(key, name, first, (row - first + 1) * size)[(row - first) * size :]
            if stop - start == size:
                return tile
            tiles.keep(place, tile)
        return tile[start:stop].copy()
    out = np.empty(stop - start)
    for column in range(start - start % TILE, stop, TILE):
        end = min(column + TILE, size)
        a, b, place = max(start, column), min(stop, end), (name, row, column)
        here, kept = out[a - start : b - start], tiles.get(place)
        if kept is None and (a, b) == (column, end):
            _normal.fill(here, key.digest(name, row, column))
            continue
        if kept is None:
            kept = normals_tile(key, name, row, end - column, column)
            tiles.keep(place, kept)
        here[:] = kept[a - column : b - column]
    return out


def normals_tile(key: Key, name: str, row: int, count: int, column: int = 0) -> Floats:
    """The first `count` normals of one tile, shape (count,)."""
    out = np.empty(count)
    _normal.fill(out, key.digest(name, row, column))
    return out


def add_normals(out: Floats, key: Key, name: str, weights: Floats, lengths: Floats | None = None) -> None:
    """`out += weights @ (lengths * normals(key, name, len(weights), out.size))`, holding one tile at a time.

    The same bits as `combine` of the stored rows.

    Args:
        out: Flat array of the block, shape (size,); written in place.
        key: The key of the step.
        name: The block's name.
        weights: One weight per row, shape (k,).
        lengths: A factor per row, shape (k,); None means 1.
    """
    size = out.size
    if size <= TILE:
        rows = normals(key, name, len(weights), size)
        if lengths is not None:
            rows *= lengths[:, None]
        out += combine(weights, rows)
        return
    scratch, total = np.empty(TILE), np.empty(TILE)
    for column in range(0, size, TILE):
        width = min(TILE, size - column)
        total[:width] = 0.0
        for row, weight in enumerate(weights):
            _normal.fill(scratch[:width], key.digest(name, row, column))
            if lengths is not None:
                scratch[:width] *= lengths[row]
            scratch[:width] *= weight
            total[:width] += scratch[:width]
        out[column : column + width] += total[:width]


def combine(weights: Floats, rows: Floats, *, squared: bool = False) -> Floats:
    """`weights @ rows`, shape (d,), summed row by row in order; or `weights @ rows**2`.

    A BLAS product would round differently with another number of threads; this gives the same bits on every machine,
    which is what lets a journal be replayed elsewhere.
    """
    k, d = rows.shape
    if k * d <= TILE:
        if d >= 128 and np.count_nonzero(weights) < k:  # adding nothing changes no bit
            used = np.flatnonzero(weights)
            weights, rows = weights[used], rows[used]
        terms = np.multiply(weights[:, None], rows, order="C")  # in another layout numpy would sum pairwise
        if squared:
            terms *= rows
        if d == 1 and k:  # numpy would sum a single column pairwise, in another order
            return np.add.accumulate(terms[:, 0])[-1:] + 0.0  # never -0.0, as below
        small: Floats = np.add.reduce(terms, axis=0)
        return small
    out = np.empty(d)
    scratch = np.empty(min(d, TILE))
    used = np.flatnonzero(weights)
    for a in range(0, d, TILE):  # both scratch and total stay in the cache
        total = out[a : a + TILE]
        total[:] = 0.0
        part = scratch[: total.size]
        for j in used:
            row = rows[j, a : a + TILE]
            np.multiply(row, weights[j], out=part)
            if squared:
                part *= row
            total += part
    return out


def _mix(z: Words) -> Words:
    """The finaliser of SplitMix64 (Steele et al. 2014), in place."""
    shifted = np.empty_like(z)
    for shift, factor in ((30, _MIX1), (27, _MIX2), (31, None)):
        np.right_shift(z, np.uint64(shift), out=shifted)
        z ^= shifted
        if factor is not None:
            z *= factor
    return z


def words(key: Key, name: str, k: int, count: int) -> Words:
    """`k` rows of `count` random 64-bit words, shape (k, count).

    Word c = j count + i of row j is `mix(k1 ^ mix(k0 + c golden))`, where k0 and k1 are the two halves of the digest.

    Only additions, multiplications and shifts of integers: the same bits in numpy, in torch and on any device.
    """
    return words_of(halves_of([key.digest(name, size=16)]), k * count).reshape(k, count)


def halves_of(digests: Sequence[bytes]) -> Words:
    """Digests of 16 bytes as two numbers each, shape (len(digests), 2)."""
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64).reshape(-1, 2)


def words_of(halves: Words, count: int, first: int = 0) -> Words:
    """Words `first` to `first + count` of each pair of halves of a digest, shape (len(halves), count)."""
    return words_at(halves, np.arange(first, first + count, dtype=np.uint64))


def words_at(halves: Words, numbers: Words) -> Words:
    """Words of these numbers, of each pair of halves of a digest, shape (len(halves), len(numbers))."""
    counter = numbers * _GOLDEN
    z: Words = counter[None] if len(halves) == 1 else counter[None].repeat(len(halves), axis=0)
    z += halves[:, :1]
    _mix(z)
    z ^= halves[:, 1:]
    return _mix(z)


class SignTable:
    """`signs(key, name, k, size)` for many names with few elements each, drawn in one go and held as fp32.

    Args:
        key: The key of the step.
        k: Number of rows.
        sizes: For each name its number of elements.

    Attributes:
        words: All of them as bits, 64 a word, 1 for -1, shape (k, total / 64).
        starts: For each name its first column, a multiple of 64.
    """

    def __init__(self, key: Key, k: int, sizes: dict[str, int]) -> None:
        counts = np.array([-(-size // 64) for size in sizes.values()], dtype=np.uint64)
        halves = np.array(
            [np.frombuffer(key.digest(name, size=16), dtype="<u8") for name in sizes], dtype=np.uint64
        ).reshape(-1, 2)
        ends, repeats = np.cumsum(counts, dtype=np.uint64), counts.astype(np.intp)
        z = np.arange(repeats.sum(), dtype=np.uint64) - np.repeat(ends - counts, repeats)
        z = z[None, :] + np.arange(k, dtype=np.uint64)[:, None] * np.repeat(counts, repeats)[None, :]
        z *= _GOLDEN
        z += np.repeat(halves[:, 0], repeats)
        _mix(z)
        z ^= np.repeat(halves[:, 1], repeats)
        self.words: Words = _mix(z)
        self.starts = dict(zip(sizes, (64 * (ends - counts)).tolist(), strict=True))

    @cached_property
    def signs(self) -> Signs:
        """All of them, shape (k, total), unpacked at the first read."""
        bits = np.unpackbits(self.words.astype("<u8", copy=False).view(np.uint8), axis=1, bitorder="little")
        signs: Signs = np.multiply(bits, np.float32(-2.0), dtype=np.float32)
        signs += np.float32(1.0)
        return signs

    def of(self, name: str, size: int) -> Signs:
        """The signs of one name, shape (k, size)."""
        start = self.starts[name]
        return self.signs[:, start : start + size]


def signs(key: Key, name: str, k: int, size: int) -> Floats:
    """`k` rows of `size` random signs, -1.0 or +1.0, shape (k, size). Element e is bit e % 64 of word e // 64."""
    return unpacked(words(key, name, k, -(-size // 64)), size)


def unpacked(words: Words, size: int) -> Floats:
    """The signs in rows of words, shape (k, size): -1.0 for a bit that is set, else 1.0."""
    bits = np.unpackbits(words.astype("<u8", copy=False).view(np.uint8), axis=1, count=size, bitorder="little")
    out = empty((len(words), size))
    np.multiply(bits, -2.0, out=out)
    out += 1.0
    return out
