"""Parameters: text to parameter, coordinate to value and back."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from oracles import Choice, Float, Integer, parse_parameter
from oracles.command.parameters import parameters_of
from tests.blackbox_zo.helpers import laws

numbers = st.floats(-1e300, 1e300)
positive = st.floats(1e-300, 1e300)
whole = st.integers(-(2**40), 2**40)
shares = st.floats(0, 1)


@pytest.mark.parametrize(
    ("text", "name", "parameter"),
    [
        ("lr=1e-4:1e-1:log", "lr", Float(1e-4, 1e-1, log=True)),
        ("x=-2:3.5", "x", Float(-2.0, 3.5)),
        ("depth=2:12:int", "depth", Integer(2, 12)),
        ("width=2:512:log:int", "width", Integer(2, 512, log=True)),
        ("width=2:512:int:log", "width", Integer(2, 512, log=True)),
        ("units=1e1:1e3:int", "units", Integer(10, 1000)),
        ("fixed=3:3", "fixed", Float(3, 3)),
        ("fixed=3:3:log:int", "fixed", Integer(3, 3, log=True)),
        ("rule=sgd,adam", "rule", Choice(("sgd", "adam"))),
        ("inter=::,:::", "inter", Choice(("::", ":::"))),
        ("a-b_2=x=1, y=2", "a-b_2", Choice(("x=1", "y=2"))),
    ],
)
def test_parse(text: str, name: str, parameter: Any) -> None:
    assert parse_parameter(text) == (name, parameter)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lr", ["'lr'", "no '='"]),
        ("lr=", ["'lr='", "neither a range"]),
        ("lr=0.1", ["'lr=0.1'", "neither a range low:high nor a choice"]),
        ("lr=1:0", ["'lr=1:0'", "`low` must not be above `high`", "swap"]),
        ("lr=0:1:log", ["above 0 on a log scale", "leave `log` out"]),
        ("lr=-1:1:log", ["-1.0"]),
        ("n=0:8:log:int", ["above 0 on a log scale"]),
        ("lr=a:b", ["'a' is not a number"]),
        ("lr=nan:1", ["'nan' is not a number"]),
        ("lr=0:inf", ["finite", "inf"]),
        ("lr=0::1", ["unknown suffix ':1'"]),
        ("lr=0:", ["'' is not a number"]),
        ("n=1:2.5:int", ["':int'", "2.5"]),
        ("n=1:inf:int", ["must be whole", "inf"]),
        ("n=1:1e300:int", ["2**40", "Float"]),
        ("lr=1:2:lin", ["unknown suffix ':lin'", "':log' and ':int'"]),
        ("lr=1:2:log:log", ["twice"]),
        ("lr=1e-4:1e-1,log", ["written with ':'"]),
        ("rule=sgd,", ["empty option"]),
        ("rule=,", ["empty option"]),
        ("rule=a,a", ["'a' twice"]),
        ("2lr=0:1", ["'2lr' is not a name"]),
        ("=0:1", ["'' is not a name"]),
        ("l r=0:1", ["'l r' is not a name"]),
        ("python=0:1", ["{python}", "another name"]),
        ("id=0:1", ["{id}"]),
    ],
)
def test_parse_refuses_in_a_sentence(text: str, words: list[str]) -> None:
    with pytest.raises(ValueError) as caught:
        parse_parameter(text)
    for word in words:
        assert word in str(caught.value)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Float(1, 0), "swap"),
        (lambda: Float(0.0, math.nan), "finite"),
        (lambda: Float("0", 1), "finite"),  # type: ignore[arg-type]
        (lambda: Float(True, 2), "finite"),
        (lambda: Integer(0, 1.5), "whole"),  # type: ignore[arg-type]
        (lambda: Integer(0, 2**41), r"2\*\*40"),
        (lambda: Choice(()), "needs an option"),
        (lambda: Choice((1, "1")), "twice"),
    ],
)
def test_constructors_refuse(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_several_parameters() -> None:
    expected = {"lr": Float(0.0, 1.0), "n": Integer(1, 3)}
    assert parameters_of(["lr=0:1", "n=1:3:int"]) == expected
    assert parameters_of({"lr": "0:1", "n": Integer(1, 3)}) == expected
    assert parameters_of("lr=0:1") == {"lr": Float(0.0, 1.0)}
    with pytest.raises(ValueError, match="'lr' is given twice"):
        parameters_of(["lr=0:1", "lr=0:2"])
    with pytest.raises(ValueError, match="no parameter"):
        parameters_of([])
    with pytest.raises(TypeError, match="'lr' must be a Float"):
        parameters_of({"lr": 3.0})


@laws
@given(numbers, numbers, shares)
def test_float_stays_inside_and_comes_back(a: float, b: float, u: float) -> None:
    assume(a != b)
    p = Float(min(a, b), max(a, b))
    value = p.decode(u)
    assert p.low <= value <= p.high
    assert 0 <= p.encode(value) <= 1
    size = max(abs(p.low), abs(p.high))
    assert abs(p.decode(p.encode(value)) - value) <= 1e-14 * size + 5e-324
    assert (p.decode(0.0), p.decode(1.0)) == (p.low, p.high)
    assert (p.encode(p.low), p.encode(p.high)) == (0.0, 1.0)


@laws
@given(positive, positive, shares)
def test_log_float_stays_inside_and_comes_back(a: float, b: float, u: float) -> None:
    assume(a != b and math.log(a) != math.log(b))
    p = Float(min(a, b), max(a, b), log=True)
    value = p.decode(u)
    assert p.low <= value <= p.high
    assert math.isclose(p.decode(p.encode(value)), value, rel_tol=1e-12)
    assert math.isclose(p.decode(0.0), p.low, rel_tol=1e-12) and math.isclose(p.decode(1.0), p.high, rel_tol=1e-12)


@laws
@given(whole, whole, st.booleans(), st.data())
def test_every_integer_comes_back(a: int, b: int, log: bool, data: st.DataObject) -> None:
    if log:
        a, b = abs(a) + 1, abs(b) + 1
        assume(max(a, b) <= 2**40)
    assume(a != b)
    p = Integer(min(a, b), max(a, b), log=log)
    value = data.draw(st.integers(p.low, p.high))
    assert 0 < p.encode(value) < 1
    assert p.decode(p.encode(value)) == value
    assert p.decode(p.encode(str(value))) == value
    assert (p.decode(0.0), p.decode(1.0)) == (p.low, p.high)


@laws
@given(st.integers(-50, 50), st.integers(1, 40))
def test_integers_have_equal_shares(low: int, n: int) -> None:
    p = Integer(low, low + n)
    counts = Counter(p.decode((i + 0.5) / (20 * (n + 1))) for i in range(20 * (n + 1)))
    assert counts == dict.fromkeys(range(low, low + n + 1), 20)


def test_log_integers_have_equal_log_shares() -> None:
    p = Integer(1, 7, log=True)
    n = 100_000
    counts = Counter(p.decode((i + 0.5) / n) for i in range(n))
    for v in range(1, 8):
        assert counts[v] / n == pytest.approx(math.log((v + 1) / v) / math.log(8), abs=1e-4)


@laws
@given(st.lists(st.text(min_size=1), min_size=2, unique=True), st.data())
def test_every_option_comes_back(options: list[str], data: st.DataObject) -> None:
    p = Choice(tuple(options))
    option = data.draw(st.sampled_from(options))
    assert p.decode(p.encode(option)) == option
    n = len(options)
    assert [p.decode((i + 0.5) / n) for i in range(n)] == options
    assert (p.decode(0.0), p.decode(1.0)) == (options[0], options[-1])


@laws
@given(st.floats(-3, 3))
def test_coordinates_are_clipped(u: float) -> None:
    inside = min(max(u, 0.0), 1.0)
    for p in (Float(1, 9), Float(1, 9, log=True), Integer(1, 9), Integer(1, 9, log=True), Choice(("a", "b", "c"))):
        assert p.decode(u) == p.decode(inside)


@pytest.mark.parametrize(
    ("parameter", "value", "words"),
    [
        (Float(0, 1), 2.0, "not between 0 and 1"),
        (Float(0, 1), "x", "'x' is not a number"),
        (Integer(0, 9), 2.5, "not a whole number"),
        (Integer(0, 9), "10", "'10' is not between"),
        (Choice(("a", "b")), "c", "'c' is not one of a, b"),
    ],
)
def test_encode_refuses(parameter: Any, value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parameter.encode(value)


def test_options_keep_their_type() -> None:
    assert Choice((16, 32)).decode(0.0) == 16
    assert Choice((16, 32)).encode("32") == 0.75


@pytest.mark.parametrize(
    ("parameter", "value"),
    [(Float(3, 3), 3.0), (Float(3, 3, log=True), 3.0), (Integer(3, 3), 3), (Choice(("a",)), "a")],
    ids=str,
)
def test_equal_ends_and_one_option_fix_the_value(parameter: Any, value: Any) -> None:
    assert [parameter.decode(u) for u in (0.0, 0.3, 1.0)] == [value] * 3
    assert parameter.encode(value) == 0.5
