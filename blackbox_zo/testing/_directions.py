"""`check_directions`."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from blackbox_zo._typing import Floats
from blackbox_zo.directions import Block, Directions
from blackbox_zo.randomness import Key
from blackbox_zo.testing._laws import close, require, same

__all__ = ["check_directions"]

_BLOCKS = (Block("matrix", (3, 2)), Block("vector", (4,)), Block("number", ()))

Make = Callable[[tuple[Block, ...], int, Key], Directions]


def check_directions(
    directions: Directions | Make,
    *,
    blocks: tuple[Block, ...] = _BLOCKS,
    k: int = 3,
    nested: bool = True,
    local: bool = True,
    variance: float | None = None,
) -> None:
    """Check the laws of `Directions`.

    - `add_` adds `sum_j weights[j] u_j[block]` to `out`, is linear in the weights, and changes nothing else;
    - blocks in any order give the same bits; so does a second call;
    - `rows` is (k, d), read-only, and equal to what `add_` gives;
    - `combine` is `weights @ rows`, to the same bits before and after `rows` was read;
    - `part` is a piece of a row, to the same bits when several threads ask at once;
    - `points` is `origin + scale * rows[index]`.

    Given a class, or a function of (blocks, k, key), also check that the key determines everything:

    - the same key gives the same bits; another seed or another step gives different ones;
    - `nested`: fewer rows are the first rows of more;
    - `local`: a block's entries do not depend on which other blocks there are;
    - `variance`: over many keys the entries have mean 0, are uncorrelated and have this variance (six standard errors).

    Args:
        directions: The directions, their class, or a function that makes them.
        blocks: With a class or function: the blocks to try it on.
        k: With a class or function: the number of directions.
        nested: False where rows are drawn jointly, such as orthonormal ones.
        local: False where blocks are drawn jointly, such as unit vectors.
        variance: 1 for elements of unit variance, 1/d for unit vectors; None skips the statistics.

    Raises:
        AssertionError: A law does not hold.

    Example:
        >>> import blackbox_zo as bz
        >>> from blackbox_zo.testing import check_directions
        >>> check_directions(bz.Gaussian, variance=1.0)
        >>> check_directions(bz.Sphere, local=False, variance=1 / 11)
    """
    if isinstance(directions, Directions):
        _check_algebra(lambda: directions, directions.blocks, directions.k, type(directions).__name__)
        return
    make, name = directions, getattr(directions, "__name__", type(directions).__name__)
    key = Key(3, 5)
    _check_algebra(lambda: make(blocks, k, key), blocks, k, name)
    rows = make(blocks, k, key).rows
    _check_key(make, blocks, k, rows, name)
    if nested:
        require(
            same(make(blocks, k + 2, key).rows[:k], rows),
            f"The first {k} of {k + 2} directions of `{name}` differ from {k} directions with the same key. Let row j "
            "depend on the key and j alone; where rows are drawn jointly by design, pass `nested=False`.",
        )
    if local:
        start = 0
        for block in blocks:
            alone = make((block,), k, key).rows
            require(
                same(alone, rows[:, start : start + block.size]),
                f"The entries of `{name}` in block {block.name!r} depend on which other blocks there are. Let them "
                "depend on the block's name; where blocks are drawn jointly by design, pass `local=False`.",
            )
            start += block.size
    if variance is not None:
        _check_moments(make, blocks, k, variance, name)


def _check_algebra(fresh: Callable[[], Directions], blocks: tuple[Block, ...], k: int, name: str) -> None:
    u = fresh()
    d = sum(block.size for block in blocks)
    require(u.k == k, f"`{name}.k` is {u.k}, but {k} directions were asked for.")
    require(u.blocks == blocks, f"`{name}.blocks` is {u.blocks}, but the blocks are {blocks}.")
    require(u.size == d, f"`{name}.size` is {u.size}, but the blocks have {d} elements.")
    w, v = np.sin(1.0 + np.arange(k)), np.cos(2.0 * np.arange(k))
    before = fresh().combine(w)
    require(
        before.shape == (d,) and before.dtype == np.float64,
        f"`{name}.combine` gives shape {before.shape} and dtype {before.dtype}; it must be ({d},), float64.",
    )
    scale = float(np.abs(before).max(initial=0.0)) + 1.0
    for block in blocks:
        _check_add(fresh(), block, w, v, scale, name)
    forward, backward = _by_block(fresh(), blocks, w), _by_block(fresh(), blocks[::-1], w)
    require(
        all(same(forward[b], backward[b]) for b in blocks),
        f"`{name}.add_` gives other bits when the order of blocks changes. Draw every block from a hash of its "
        "address, never from a generator that is carried along.",
    )
    rows = u.rows
    require(
        rows.shape == (k, d) and rows.dtype == np.float64 and bool(np.isfinite(rows).all()),
        f"`{name}.rows` has shape {rows.shape} and dtype {rows.dtype}; it must be ({k}, {d}), float64, and finite.",
    )
    require(not rows.flags.writeable, f"`{name}.rows` can be written to; set `rows.flags.writeable = False`.")
    for j in range(k):
        row = np.concatenate(list(_by_block(fresh(), blocks, np.eye(k)[j]).values()))
        require(
            close(row, rows[j], scale), f"Row {j} of `{name}.rows` differs from what `add_` gives with weight 1 on it."
        )
    _check_parts(fresh(), rows, scale, name)
    require(close(before, w @ rows, scale * k), f"`{name}.combine(weights)` is not `weights @ rows`.")
    for weights in (w, 0.0 * w):
        require(
            same(fresh().combine(weights), u.combine(weights)) and same(u.combine(weights), u.combine_blocks(weights)),
            f"`{name}.combine({weights})` gives other bits once `rows` has been read; a replayed run would diverge "
            "from the first. Sum in the same order both ways (`blackbox_zo.randomness.combine`).",
        )
    index, lengths, origin = np.arange(2 * k) % k, np.sin(np.arange(2 * k)), np.cos(np.arange(d))
    kept = origin.copy()
    points = u.points(origin, index, lengths)
    require(same(origin, kept), f"`{name}.points` writes to `origin`; it must return an array of its own.")
    require(
        close(points, origin + lengths[:, None] * rows[index], scale),
        f"`{name}.points(origin, index, scale)` is not `origin + scale * rows[index]`.",
    )


def _check_parts(u: Directions, rows: Floats, scale: float, name: str) -> None:
    places = [(block, j, a, b) for block in u.blocks for j in range(u.k) for a, b in _cuts(block.size)]
    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(u.part, *place) for place in places]
    for place, one in zip(places, found, strict=True):
        block, j, a, b = place
        here = one.result()
        require(
            close(here, rows[j, u.place(block)][a:b], scale),
            f"`{name}.part({block.name!r}, {j}, {a}, {b})` differs from that piece of `rows`.",
        )
        require(
            same(np.array(here), np.array(u.part(*place))),
            f"`{name}.part` gives other bits when several threads ask at once. Let it depend on its arguments alone.",
        )


def _cuts(size: int) -> list[tuple[int, int]]:
    return sorted({(0, size), (0, size // 2), (size // 2, size), (size // 3, -(-2 * size // 3))})


def _by_block(u: Directions, order: tuple[Block, ...], weights: Floats) -> dict[Block, Floats]:
    out: dict[Block, Floats] = {block: np.zeros(block.size) for block in order}
    for block in order:
        u.add_(out[block], block, weights)
    return out


def _check_add(u: Directions, block: Block, w: Floats, v: Floats, scale: float, name: str) -> None:
    def add(weights: Floats, start: float = 0.0) -> Floats:
        out = np.full(block.size, start)
        u.add_(out, block, weights)
        return out

    there = f"of `{name}` in block {block.name!r} with the weights {w}"
    kept, first = w.copy(), add(w)
    require(same(w, kept), f"`add_` {there} changes the weights; work on a copy.")
    require(
        same(add(w), first),
        f"`add_` {there} gives other bits the second time. Draw every block from a hash of its address, never from a "
        "generator that is carried along.",
    )
    require(close(add(w, 1.5), 1.5 + add(w), scale), f"`add_` {there} overwrites what is in `out`; it must add to it.")
    require(same(add(0.0 * w, 1.5), np.full(block.size, 1.5)), f"`add_` {there} times 0 changes `out`.")
    require(
        close(add(2.0 * w - 3.0 * v), 2.0 * add(w) - 3.0 * add(v), 10.0 * scale),
        f"`add_` {there} is not linear in the weights.",
    )


def _check_key(make: Make, blocks: tuple[Block, ...], k: int, rows: Floats, name: str) -> None:
    require(
        same(make(blocks, k, Key(3, 5)).rows, rows),
        f"Two `{name}` with the same blocks, k and key differ. Draw from `blackbox_zo.randomness`, which hashes the "
        "key.",
    )
    for other in (Key(4, 5), Key(3, 6), Key(5, 3)):
        require(
            not same(make(blocks, k, other).rows, rows),
            f"`{name}` gives the same directions for {Key(3, 5)} and {other}; both numbers must matter.",
        )


def _check_moments(make: Make, blocks: tuple[Block, ...], k: int, variance: float, name: str) -> None:
    n = 6000 // k
    samples = np.concatenate([make(blocks, k, Key(seed, 1)).rows for seed in range(n)])
    d = samples.shape[1]
    mean = np.abs(samples.mean(axis=0)).max() / np.sqrt(variance / len(samples))
    require(mean < 6.0, f"The mean of `{name}` over {len(samples)} draws is {mean:.1f} standard errors away from 0.")
    covariance = samples.T @ samples / len(samples)
    away = np.abs(covariance - variance * np.eye(d)).max() / (variance * np.sqrt(3.0 / len(samples)))
    require(
        away < 6.0,
        f"E u u' of `{name}` over {len(samples)} draws is not {variance:.4g} I: it is {away:.1f} standard errors "
        f"away, with {np.diag(covariance).mean():.4g} on its diagonal.",
    )
