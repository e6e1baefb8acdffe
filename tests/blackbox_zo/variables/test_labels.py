"""Series and tables of pandas as x0: their names come back, from every front."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import blackbox_zo as bz
from blackbox_zo.variables._tree import flatten, names

START = pd.Series({"lr": 1.0, "decay": 2.0}, name="rates")


def loss(rates: Any) -> float:
    assert list(rates.index) == ["lr", "decay"] and rates.name == "rates"
    return float((rates["lr"] - 1.5) ** 2 + rates.decay**2)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_series_keeps_its_names(workers: int, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    seen = list[Any]()
    r = bz.minimize(
        loss, START, budget=60, workers=workers, journal=path, callback=lambda so_far: seen.append(so_far.x)
    )
    plain = bz.minimize(lambda x: float((x[0] - 1.5) ** 2 + x[1] ** 2), [1.0, 2.0], budget=60)
    for x in (r.x, r.center, seen[-1]):
        assert isinstance(x, pd.Series) and list(x.index) == ["lr", "decay"] and x.name == "rates"
    assert r.x.tolist() == plain.x.tolist()
    assert bz.minimize(loss, START, budget=60, journal=path).x.equals(r.x)
    assert START.tolist() == [1.0, 2.0]


def test_vectorised_it_is_a_table_of_points() -> None:
    def fun(points: Any) -> Any:
        assert isinstance(points, pd.DataFrame) and list(points.columns) == ["lr", "decay"]
        points["lr"] -= 1.5  # which is its own
        return points["lr"] ** 2 + points["decay"] ** 2

    alone = bz.minimize(loss, START, budget=60)
    assert bz.minimize(fun, START, budget=60, vectorized=True).fun == pytest.approx(alone.fun)


def test_bounds_may_name_them() -> None:
    boxes: list[Any] = [{"decay": (1, 3)}, pd.DataFrame({"low": [-9, 1], "high": [9, 3]}, index=START.index)]
    for bounds in boxes:
        r = bz.minimize(loss, START, bounds=bounds, budget=200)
        assert r.x["decay"] == pytest.approx(1.0) and r.x["lr"] == pytest.approx(1.5, abs=1e-2)
    with pytest.raises(ValueError, match=r"`bounds` names 'rate', .* it has \['lr', 'decay'\]"):
        bz.minimize(loss, START, bounds={"rate": (0, 1)})
    with pytest.raises(ValueError, match=r"`x0` is outside `bounds` at decay: 2.0"):
        bz.minimize(loss, START, bounds={"decay": (0, 1)})


def test_within_a_tree_with_tables_and_at_every_front() -> None:
    table = pd.DataFrame({"a": [1.0, 2.0], "b": [3, 4]}, index=["x", "y"])
    tree = {"rates": START, "more": [table, 0.5]}
    flat, treedef = flatten(tree)
    assert flat.tolist() == [1.0, 2.0, 1.0, 3.0, 2.0, 4.0, 0.5]
    assert list(names(treedef)) == [
        "rates/lr", "rates/decay", "more/0/x,a", "more/0/x,b", "more/0/y,a", "more/0/y,b", "more/1",
    ]  # fmt: skip
    again: Any = treedef.unflatten(flat)
    assert again["rates"].equals(START) and again["more"][0].equals(table.astype(float)) and again["more"][1] == 0.5
    search = bz.Search(tree, bz.RandomVector(0.1))
    x: Any = search.ask().tree(0)
    assert list(x["more"][0].columns) == ["a", "b"] and isinstance(search.x["rates"], pd.Series)
    slope: Any = bz.gradient(loss, START, bz.Coordinatewise(1e-3))
    assert slope["lr"] == pytest.approx(-1.0) and slope["decay"] == pytest.approx(4.0)


def test_without_numbers_it_is_refused() -> None:
    with pytest.raises(TypeError, match=r"`x0` is array.*'b'.* which is not a number or an array of numbers"):
        bz.Vector(pd.Series({"lr": 1.0, "decay": "b"}))


def test_x0_may_be_written_in_any_numbers() -> None:
    import torch

    starts: list[Any] = [
        [Decimal(1), Fraction(2)],
        np.array([Decimal(1), 2], dtype=object),
        torch.tensor([1.0, 2.0], requires_grad=True),
    ]
    for start in starts:
        assert bz.Vector(start).x.tolist() == [1.0, 2.0]
    assert bz.Vector({"a": Decimal(1)}).x == {"a": 1.0}
