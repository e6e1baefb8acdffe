"""`Starts`: several starts instead of one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

from blackbox_zo._typing import Tree

__all__ = ["Starts"]


@final
@dataclass(frozen=True, eq=False)
class Starts:
    """Several starts, to be given in place of x0.

    All are asked in the first step, in this order. The search goes on from the best. A `Portfolio` restarts from the
    others, in the order of their values, before it goes to random places.

    A list cannot say this: `[x1, x2]` is one start with two leaves.

    Args:
        points: One start or more, each as x0 would be; all of one structure.

    Raises:
        ValueError: There is none.
        TypeError: It is one start, and no list of them.

    Example:
        >>> import blackbox_zo as bz
        >>> r = bz.minimize(lambda x: (x[0] ** 2 - 4) ** 2 + x[0], bz.Starts([[3.0], [-3.0]]), budget=60)
        >>> bool(r.x[0] < 0)
        True
    """

    points: tuple[Tree, ...]

    def __init__(self, points: Iterable[Tree]) -> None:
        if isinstance(points, dict | str) or hasattr(points, "columns"):
            raise TypeError(
                f"`Starts(points)` needs a list of starts, got {points!r:.60}. Write `Starts([...])` around them."
            )
        try:
            found = tuple(points)
        except TypeError:
            raise TypeError(
                f"`Starts(points)` needs a list of starts, got {points!r:.60}. Write `Starts([...])` around them."
            ) from None
        if not found:
            raise ValueError("`Starts(points)` is empty; give at least one start.")
        object.__setattr__(self, "points", found)
