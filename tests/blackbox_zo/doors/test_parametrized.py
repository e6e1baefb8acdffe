"""`minimize` with nevergrad's parametrisations."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ng = pytest.importorskip("nevergrad", reason="needs nevergrad: pip install 'blackbox-zo[nevergrad]'")

import blackbox_zo as bz  # noqa: E402

from .test_nevergrad import mixed, mixed_loss  # noqa: E402


def test_an_instrumentation() -> None:
    r = bz.minimize(mixed_loss, mixed(), budget=300, seed=1)
    args, kwargs = r.x
    assert mixed_loss(*args, **kwargs) == r.fun < 0.1
    assert (kwargs["kind"], kwargs["depth"], kwargs["n"], kwargs["more"]["fixed"]) == ("b", 3, 7, "x")
    assert r.luckiest.x[1]["kind"] == "b" and len(r.center) == 2


@pytest.mark.parametrize(
    ("parameter", "start"),
    [
        (ng.p.Array(shape=(2, 3)), np.zeros((2, 3))),
        (ng.p.Array(init=[1.0, 2.0], lower=-3, upper=3), np.array([1.0, 2.0])),
        (ng.p.Array(shape=(2,)).set_bounds(-1, 5, method="clipping"), np.array([0.0, 0.0])),
        (ng.p.Array(shape=(2,)).set_bounds(-1, 5, method="tanh"), np.array([0.0, 0.0])),
        (ng.p.Scalar(init=-2), -2.0),
        (ng.p.Log(lower=0.1, upper=10.0), 1.0),
    ],
)
def test_single_parameters(parameter: Any, start: Any) -> None:
    asked = []

    def f(x: Any) -> float:
        asked.append(x)
        return float(((np.asarray(x) - 0.7) ** 2).sum())

    r = bz.minimize(f, parameter, budget=200)
    assert np.allclose(asked[0], start) and type(r.x) is type(start)
    assert np.allclose(r.x, 0.7, atol=1e-3)


def test_bounds_hold_and_are_reached() -> None:
    asked = []

    def f(x: Any) -> float:
        asked.append(x)
        return float(x.sum())

    r = bz.minimize(f, ng.p.Array(shape=(2,), lower=[-1.0, 2.0], upper=[3.0, 4.0]), budget=60)
    assert r.x == pytest.approx([-1.0, 2.0]) and np.min(asked, axis=0) == pytest.approx([-1.0, 2.0])


def test_a_choice_is_no_draw() -> None:
    asked = [bz.minimize(lambda x: float(x), ng.p.Choice([3.0, 1.0, 2.0]), budget=60).fun for _ in range(2)]
    assert asked == [1.0, 1.0]


def test_a_callback_gets_their_values() -> None:
    seen = []
    bz.minimize(mixed_loss, mixed(), budget=30, callback=lambda so_far: seen.append(so_far.x[1]["kind"]))
    assert seen and set(seen) <= {"a", "b", "c"}


def test_a_journal_and_workers(tmp_path: Path) -> None:
    whole = bz.minimize(mixed_loss, mixed(), budget=40, seed=2)
    bz.minimize(mixed_loss, mixed(), budget=25, seed=2, journal=tmp_path / "j")
    parts = bz.minimize(mixed_loss, mixed(), budget=40, seed=2, journal=tmp_path / "j", workers=2)
    assert parts.fun == whole.fun
    with pytest.raises(bz.JournalError):
        bz.minimize(lambda x, lr: 0.0, ng.p.Instrumentation(x=ng.p.Scalar(), lr=ng.p.Scalar()), journal=tmp_path / "j")


def test_failures_and_a_small_budget() -> None:
    assert bz.minimize(lambda x: math.nan, ng.p.Scalar(), budget=20).nfailed == 20
    assert bz.minimize(mixed_loss, mixed(), budget=1).nfev == 1


class Strange(ng.p.Parameter):  # type: ignore[misc, name-defined]
    """One of the user's own."""

    def _layered_get_value(self) -> Any:
        return 3

    def _get_name(self) -> str:
        return "Strange"


def right_of_one(x: Any) -> bool:
    return bool(x >= 1)


def test_what_cannot_be_represented_is_named() -> None:
    constrained = ng.p.Scalar(init=2)
    constrained.register_cheap_constraint(right_of_one)
    with pytest.raises(ValueError, match="has a cheap constraint, which `minimize` cannot keep; return NaN"):
        bz.minimize(abs, constrained)
    with pytest.raises(ValueError, match="has nothing to vary"):
        bz.minimize(len, ng.p.Instrumentation(3, a="x"))
    with pytest.raises(ValueError, match="Parameter 'odd' is a `Strange`, which has no coordinates; use Array, Scalar"):
        bz.minimize(len, ng.p.Dict(odd=Strange(), x=ng.p.Scalar()))


@pytest.mark.parametrize("given", [{"bounds": (0, 1)}, {"unit": 2.0}, {"vectorized": True}])
def test_arguments_without_a_meaning(given: Any) -> None:
    with pytest.raises(ValueError, match=r"cannot be given with|must be a function of one point"):
        bz.minimize(abs, ng.p.Scalar(), **given)
