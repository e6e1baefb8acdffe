"""Series and tables of pandas, which come back with their names. pandas is used only where the user has imported it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from blackbox_zo._typing import Floats

__all__ = ["Labelled", "labelled", "writable"]


@final
@dataclass(frozen=True, eq=False)
class Labelled:
    """A leaf of a tree that is a `Series` or a `DataFrame`.

    Attributes:
        leaf: Its number.
        index: The names of its rows.
        columns: Those of its columns; None for a series.
        name: The name of the series.
    """

    leaf: int
    index: Any
    columns: Any = None
    name: Any = None

    def fill(self, values: Floats) -> Any:
        """The values, in the shape of the leaf, under their names; n series give a table with n rows."""
        import pandas

        if self.columns is not None:
            return pandas.DataFrame(values, self.index, self.columns) if values.ndim == 2 else values
        if values.ndim == 2:
            return pandas.DataFrame(values, columns=self.index)
        return pandas.Series(values, self.index, name=self.name)

    def names(self) -> Iterator[str]:
        """A label for each element."""
        if self.columns is None:
            yield from map(str, self.index)
        else:
            yield from (f"{row},{column}" for row in self.index for column in self.columns)


def labelled(tree: Any, leaf: int) -> Labelled | None:
    """What keeps the names of a leaf; None if it has none."""
    pandas: Any = sys.modules.get("pandas")
    if pandas is None:
        return None
    if isinstance(tree, pandas.Series):
        return Labelled(leaf, tree.index, name=tree.name)
    if isinstance(tree, pandas.DataFrame):
        return Labelled(leaf, tree.index, tree.columns)
    return None


def writable(leaf: Any) -> Any:
    """A copy of a leaf."""
    return leaf.copy() if hasattr(leaf, "iloc") else np.array(leaf)
