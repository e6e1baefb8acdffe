"""Where `minimize` begins: at x0, at several starts, or at the best of what is known."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from blackbox_zo._methods import Recorded, recorded
from blackbox_zo._number import number
from blackbox_zo._typing import Tree
from blackbox_zo.journal import Journal
from blackbox_zo.variables import Starts
from blackbox_zo.variables._tree import flatten

__all__ = ["begun", "pairs_of", "start_of"]

Pair = tuple[Tree, float]


def pairs_of(known: Any) -> list[Pair]:
    """The points and values of `known`.

    Raises:
        TypeError: It is no list of pairs, or a value is no real number.
    """
    if known is None:
        return []
    if isinstance(known, dict | str) or not isinstance(known, Iterable):
        raise TypeError(f"`known` must be a list of pairs (x, value), got {known!r:.60}.")
    out = []
    for i, pair in enumerate(known):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise TypeError(f"`known[{i}]` must be a pair (x, value), got {pair!r:.60}.")
        x, value = pair
        out.append((x, np.nan if value is None else number(value, f"`known[{i}]`")))
    return out


def begun(journal: str | Path | Journal | None) -> Recorded | None:
    """What a journal holds already; None without one, or where it holds no run."""
    if journal is None:
        return None
    return recorded((journal if isinstance(journal, Journal) else Journal(journal)).path)


def start_of(x0: Tree | Starts | None, known: list[Pair], then: Recorded | None) -> Tree | Starts:
    """X0, or where it is None the start of the recorded run, or the best known point.

    Raises:
        ValueError: There is neither.
    """
    if x0 is not None:
        return x0
    usable = [pair for pair in known if np.isfinite(pair[1])]
    if not usable:
        why = "every known point is known to fail" if known else "there are no known points"
        raise ValueError(f"`x0` is None, but {why}, so there is nowhere to begin. Give `x0`.")
    best: Tree = min(usable, key=lambda pair: pair[1])[0]
    if then is not None and "variable" in then.header:  # other points may have been known then
        flat, _ = flatten(then.header["variable"]["x0"])
        mine, treedef = flatten(best, "known")
        if mine.size == flat.size:
            return treedef.unflatten(flat)
    return best
