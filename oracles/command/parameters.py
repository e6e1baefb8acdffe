"""Parameters of a program: their names, and how they are written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from blackbox_zo._describe import rebuild
from blackbox_zo.parameters import Choice, Float, Integer, Parameter, Value, bounds_of, parse_range

__all__ = [
    "Choice",
    "Float",
    "Integer",
    "Parameter",
    "Value",
    "bounds_of",
    "parameters_of",
    "parameters_of_problem",
    "parse_parameter",
]


def parse_parameter(text: str) -> tuple[str, Parameter]:
    """A parameter as it is written on a command line.

    Args:
        text: `name=low:high` for a real number, with `:log` and `:int` after it in any order, or `name=a,b,c`.

    Returns:
        The name and the parameter.

    Raises:
        ValueError: It is malformed, or its range is invalid.

    Example:
        >>> parse_parameter("lr=1e-4:1e-1:log")
        ('lr', Float(low=0.0001, high=0.1, log=True))
        >>> parse_parameter("depth=2:12:int")
        ('depth', Integer(low=2, high=12, log=False))
        >>> parse_parameter("rule=sgd,adam")
        ('rule', Choice(options=('sgd', 'adam')))
    """
    name, equals, spec = text.partition("=")
    if not equals:
        raise ValueError(f"Parameter {text!r} has no '='; write name=low:high or name=a,b,c.")
    check_name(name, text)
    try:
        return name, parse_range(spec)
    except ValueError as error:
        raise ValueError(f"Parameter {text!r}: {error}") from None


def parameters_of(given: Mapping[str, Parameter | str] | Iterable[str]) -> dict[str, Parameter]:
    """Parameters by name, from a mapping of names to parameters or what follows `name=`, or a list of `name=...`.

    Raises:
        ValueError: None is given, a name is used twice, or one is malformed.
        TypeError: An entry is neither a parameter nor text.
    """
    if isinstance(given, str):
        given = [given]
    out: dict[str, Parameter] = {}
    pairs = given.items() if isinstance(given, Mapping) else ((None, entry) for entry in given)
    for name, entry in pairs:
        if isinstance(entry, str):
            name, parameter = parse_parameter(entry if name is None else f"{name}={entry}")
        elif name is not None and isinstance(entry, Float | Integer | Choice):
            check_name(name, name)
            parameter = entry
        else:
            raise TypeError(f"Parameter {name!r} must be a Float, an Integer, a Choice or text, got {entry!r:.60}.")
        if name in out:
            raise ValueError(f"Parameter {name!r} is given twice; each name is used once.")
        out[name] = parameter
    if not out:
        raise ValueError("There is no parameter; give at least one, such as lr=1e-4:1e-1:log.")
    return out


def parameters_of_problem(problem: Mapping[str, Any]) -> dict[str, Parameter]:
    """The parameters that `CommandOracle.problem` describes, as found in the header of a journal.

    Raises:
        ValueError: A description is malformed.
        KeyError: They are of an unknown kind.
    """
    kinds = {"Float": Float, "Integer": Integer, "Choice": Choice}
    return {name: rebuild(entry, kinds.__getitem__) for name, entry in problem["parameters"].items()}


def check_name(name: str, text: str) -> None:
    """Check that a name can stand in `{name}`.

    Raises:
        ValueError: It is not an identifier, or is reserved.
    """
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", name):
        raise ValueError(
            f"Parameter {text!r}: {name!r} is not a name; use letters, digits, '_' and '-', a letter first."
        )
    if name in ("python", "id"):
        raise ValueError(f"Parameter {text!r}: {{{name}}} has a meaning of its own in a command; choose another name.")
