"""Where `minimize` begins: at x0, at several starts, or at the best of what is known; and what another run knows."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from blackbox_zo._methods import Recorded, recorded
from blackbox_zo._number import number
from blackbox_zo._replay import points_of, restore
from blackbox_zo._typing import Tree
from blackbox_zo.journal import Journal, Known, read_journal
from blackbox_zo.variables import Starts
from blackbox_zo.variables._tree import flatten

__all__ = ["begun", "pairs_of", "read_known", "start_of"]

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


def read_known(path: str | Path) -> list[Pair]:
    """The points and values of a run that a journal records, to be given to another run as `known`.

    Args:
        path: The journal, of a run over numbers whose answers are values.

    Returns:
        Pairs (x, value), x in the structure of the run's x0, in the order of the answers; what was known to that run
        comes first. NaN where a query failed.

    Raises:
        JournalError: The file is damaged, or not a journal.
        ValueError: The run cannot be rebuilt from its header, or its answers are rankings.
        OSError: The file cannot be read.

    Example:
        >>> import blackbox_zo as bz, numpy as np, tempfile
        >>> path = tempfile.mkdtemp() + "/coarse.jsonl"
        >>> coarse = bz.minimize(lambda x: x @ x, np.ones(2), budget=20, journal=path)
        >>> fine = bz.minimize(lambda x: x @ x, known=bz.read_known(path), budget=5)
        >>> fine.nfev, bool(fine.fun <= coarse.fun)
        (5, True)
    """
    reader = read_journal(path)
    variable, _, _ = restore(reader.header)
    out = [(point, value) for line in reader if isinstance(line, Known) for point, value in _of(line)]
    for answers, points in points_of(reader):
        if answers.values is None:
            raise ValueError(f"Journal '{path}' holds rankings, which are no values that could be known.")
        out += zip(points, answers.values, strict=True)
    return [(variable.treedef.unflatten(np.array(point)), value) for point, value in out]


def _of(line: Known) -> zip[tuple[Any, float]]:
    return zip(line.points, line.values, strict=True)
