"""Typed parameters: each maps one coordinate in [0, 1] to a value, and back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias, final

from blackbox_zo.variables._cells import Between, Cells

__all__ = ["Choice", "Float", "Integer", "Parameter", "Value", "bounds_of", "parse_range"]

Value: TypeAlias = float | int | str
"""What a program is given; it sees `str(value)`."""

_WIDEST = 2**40
"""Beyond this, neighbouring whole numbers are too close to tell their shares of [0, 1] apart in double precision."""


@final
@dataclass(frozen=True)
class Float:
    """A real number between `low` and `high`.

    Args:
        low: Its value at 0.
        high: Its value at 1. If it is `low`, the value is fixed.
        log: Whether the scale is logarithmic.

    Raises:
        ValueError: The ends are not finite, cross, or are not positive with `log`.

    Example:
        >>> round(Float(1e-4, 1.0, log=True).decode(0.5), 9)
        0.01
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        _check_ends("Float", self.low, self.high, self.log)

    def decode(self, u: float) -> float:
        """The value at `u`, which is first clipped into [0, 1]."""
        u = _inside(u)
        if self.log:
            value = math.exp((1 - u) * math.log(self.low) + u * math.log(self.high))
        else:
            value = (1 - u) * self.low + u * self.high
        return float(min(max(value, self.low), self.high))

    def encode(self, value: Value) -> float:
        """The coordinate of a value, given as a number or as text; `decode` gives the value back, up to rounding.

        Raises:
            ValueError: It is not a number, or out of range.
        """
        number = _in_range(self, value)
        if self.low == self.high:
            return 0.5
        if self.log:
            low, high, number = math.log(self.low), math.log(self.high), math.log(number)
        else:  # halves, because the whole width may overflow
            low, high, number = self.low / 2, self.high / 2, number / 2
        return (number - low) / (high - low)


@final
@dataclass(frozen=True)
class Integer:
    """A whole number from `low` to `high`, both included.

    Every value has an equal share of [0, 1]; with `log`, value v has the share of log((v + 1) / v).

    Args:
        low: The smallest value.
        high: The largest. If it is `low`, the value is fixed.
        log: See above.

    Raises:
        ValueError: The ends are not whole, too large, cross, or are not positive with `log`.

    Example:
        >>> [Integer(1, 4).decode(u) for u in (0.0, 0.25, 0.5, 0.9, 1.0)]
        [1, 2, 3, 4, 4]
    """

    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        _check_ends("Integer", self.low, self.high, self.log)
        for name, end in (("low", self.low), ("high", self.high)):
            if end != int(end) or abs(end) > _WIDEST:
                raise ValueError(
                    f"`Integer({name}=...)` must be whole and within ±2**40, got {end!r}; use `Float`, or round it."
                )
            object.__setattr__(self, name, int(end))

    def decode(self, u: float) -> int:
        """The value at `u`, which is first clipped into [0, 1]."""
        return self.cells.at(u)

    @property
    def cells(self) -> Cells:
        """The values, in the order of their shares."""
        return Cells(self.low, self.high, self.log)

    def encode(self, value: Value) -> float:
        """The middle of a value's share of [0, 1]; `decode` gives the value back.

        Raises:
            ValueError: It is not a whole number, or out of range.
        """
        number = _in_range(self, value)
        if number != int(number):
            raise ValueError(f"{value!r} is not a whole number; round it.")
        return self.cells.middle(number)


@final
@dataclass(frozen=True)
class Choice:
    """One of several options, each with an equal share of [0, 1], in the order given.

    Neighbours in the order are neighbours for the search, so put options that behave alike next to each other.

    Args:
        options: Different ones. A single one fixes the value.

    Raises:
        ValueError: There is none, one is empty, or one is named twice.

    Example:
        >>> Choice(("sgd", "adam")).decode(0.7)
        'adam'
    """

    options: tuple[Value, ...]

    def __post_init__(self) -> None:
        options = tuple(self.options)
        object.__setattr__(self, "options", options)
        texts = [str(option) for option in options]
        if not options:
            raise ValueError("`Choice(options)` needs an option; one fixes the value.")
        if "" in texts:
            raise ValueError(f"`Choice(options)` has an empty option in {list(options)!r}; remove it.")
        for text in texts:
            if texts.count(text) > 1:
                raise ValueError(f"`Choice(options)` has {text!r} twice; list each option once.")

    def decode(self, u: float) -> Value:
        """The option at `u`, which is first clipped into [0, 1]."""
        return self.options[self.cells.at(u)]

    @property
    def cells(self) -> Cells:
        """The positions of the options."""
        return Cells(0, len(self.options) - 1)

    def encode(self, value: Value) -> float:
        """The middle of an option's share of [0, 1]; `decode` gives the option back.

        Raises:
            ValueError: It is not one of the options.
        """
        texts = [str(option) for option in self.options]
        if str(value) not in texts:
            raise ValueError(f"{value!r} is not one of {', '.join(texts)}.")
        return self.cells.middle(texts.index(str(value)))


Parameter: TypeAlias = Float | Integer | Choice


def bounds_of(parameter: Parameter, noisy: bool) -> tuple[float, float]:
    """The bounds of a parameter's coordinate: equal ones if its value is fixed.

    Args:
        parameter: The parameter.
        noisy: Whether the same value may be asked about again; else they say which points are the same.
    """
    if parameter.low == parameter.high if isinstance(parameter, Float) else parameter.cells.n == 1:
        return (0.5, 0.5)
    return (0.0, 1.0) if noisy or isinstance(parameter, Float) else Between(parameter.cells)


def parse_range(spec: str) -> Parameter:
    """A parameter as it is written: `low:high` for a real number, with `:log` and `:int` after it, or `a,b,c`.

    Raises:
        ValueError: It is malformed, or its range is invalid.

    Example:
        >>> parse_range("1e-4:1:log")
        Float(low=0.0001, high=1.0, log=True)
    """
    if "," in spec:
        options = tuple(part.strip() for part in spec.split(","))
        if any(part in ("log", "int") for part in options) and any(":" in part for part in options):
            raise ValueError("a range is written with ':' throughout, such as 1e-4:1e-1:log.")
        return Choice(options)
    low, *rest = spec.split(":")
    if not rest:
        raise ValueError(f"{spec!r} is neither a range low:high nor a choice a,b,c.")
    high, *suffixes = rest
    for suffix in suffixes:
        if suffix not in ("log", "int"):
            raise ValueError(f"unknown suffix {':' + suffix!r}; there are ':log' and ':int'.")
        if suffixes.count(suffix) > 1:
            raise ValueError(f"suffix {':' + suffix!r} is given twice; once is enough.")
    ends = _number(low), _number(high)
    if "int" not in suffixes:
        return Float(*ends, log="log" in suffixes)
    for end in ends:
        if not end.is_integer():
            raise ValueError(f"with ':int' both ends must be whole, got {end!r}; round it, or leave ':int' out.")
    return Integer(int(ends[0]), int(ends[1]), log="log" in suffixes)


def _check_ends(owner: str, low: object, high: object, log: bool) -> None:
    for name, end in (("low", low), ("high", high)):
        if isinstance(end, bool) or not isinstance(end, int | float) or not math.isfinite(end):
            raise ValueError(f"`{owner}({name}=...)` must be a finite number, got {end!r}.")
        if log and end <= 0:
            raise ValueError(
                f"`{owner}({name}=...)` must be above 0 on a log scale, got {end!r}; raise it, or leave `log` out."
            )
    assert isinstance(low, int | float) and isinstance(high, int | float)
    if not low <= high:
        raise ValueError(f"`{owner}`: `low` must not be above `high`, got {low!r} and {high!r}; swap or widen them.")


def _number(text: Value) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number.") from None
    if math.isnan(number):
        raise ValueError(f"{text!r} is not a number.")
    return number


def _in_range(parameter: Float | Integer, value: Value) -> float:
    number = _number(value)
    if not parameter.low <= number <= parameter.high:
        raise ValueError(f"{value!r} is not between {parameter.low!r} and {parameter.high!r}.")
    return number


def _inside(u: float) -> float:
    return min(max(float(u), 0.0), 1.0)
