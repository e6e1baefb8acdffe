"""Values that were measured before: a table, a file of JSON lines, or the journal of another run."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from blackbox_zo._typing import Floats
from blackbox_zo.journal import Answers, JournalReader, Known
from oracles.command._template import did_you_mean
from oracles.command.oracle import CommandOracle
from oracles.command.parameters import Float, parameters_of_problem
from oracles.options import BadInput

__all__ = ["known_of"]

VALUE = "value"
_FAILED = ("", "nan", "null", "none", "na", "failed")


def known_of(path: Path, oracle: CommandOracle) -> list[tuple[Floats, float]]:
    """The points of a file, in the coordinates of the search, and their values, lower being better; NaN for a failure.

    A table has a row of names first: those of the parameters, and "value". So does each object of a file of JSON lines,
    or it has "params" and "value", as `export` writes it. Other columns are passed over. Of a journal, the values are
    those of its answers.

    Args:
        path: The file.
        oracle: Has the parameters, and says whether a higher value is better.

    Raises:
        BadInput: The file cannot be read, lacks a column, or holds a value that is out of its range.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"--known {str(path)!r} cannot be read: {error}") from None
    if not text.strip():
        raise BadInput(f"--known {str(path)!r} is empty; leave it out.")
    first = text.lstrip().split("\n", 1)[0]
    if first.startswith('{"journal"'):
        rows = _of_journal(path, oracle)
    elif first.startswith("{"):
        rows = _of_json(path, text)
    else:
        rows = _of_table(path, text)
    return [_point(where, row, oracle) for where, row in rows]


Row = tuple[str, Mapping[str, Any]]
"""Where a point stands, and its values by name, with that of "value"."""


def _of_table(path: Path, text: str) -> Iterator[Row]:
    delimiter = "\t" if "\t" in text.split("\n", 1)[0] else ","
    for number, row in enumerate(csv.DictReader(text.splitlines(), delimiter=delimiter, skipinitialspace=True), 2):
        if None in row:
            raise BadInput(f"--known {str(path)!r}, line {number}, has more values than there are columns.")
        yield f"{str(path)!r}, line {number}", row


def _of_json(path: Path, text: str) -> Iterator[Row]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        where = f"{str(path)!r}, line {number}"
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise BadInput(f"--known {where}: {line[:60]!r} is not a JSON object; write one a line.")
        params = found.get("params")
        yield where, {**params, VALUE: found.get(VALUE)} if isinstance(params, dict) else found


def _of_journal(path: Path, oracle: CommandOracle) -> Iterator[Row]:
    reader = JournalReader(path)
    problem = reader.header.get("problem")
    if not isinstance(problem, dict) or "parameters" not in problem:
        raise BadInput(
            f"--known {str(path)!r} is the journal of another kind of run; give one of `blackbox-zo minimize`."
        )
    if (problem.get("maximize") is True) != oracle.maximize:
        does = "does not maximise" if oracle.maximize else "maximises"
        raise BadInput(f"--known {str(path)!r} is the journal of a run that {does}, unlike this one; leave it out.")
    parameters = parameters_of_problem(problem)
    sign = -1.0 if oracle.maximize else 1.0
    for line in reader:
        where = f"{str(path)!r}, line {getattr(line, 'number', 0)}"
        if isinstance(line, Known):
            for point, value in zip(line.points, line.values, strict=True):
                values = {name: p.decode(u) for (name, p), u in zip(parameters.items(), point, strict=True)}
                yield where, {**values, VALUE: sign * value}
        elif isinstance(line, Answers) and line.values is not None and line.info is not None:
            for value, info in zip(line.values, line.info, strict=True):
                if info and isinstance(info.get("params"), dict):
                    yield where, {**info["params"], VALUE: sign * value}


def _point(where: str, row: Mapping[str, Any], oracle: CommandOracle) -> tuple[Floats, float]:
    if VALUE not in row:
        raise BadInput(f"--known {where} has no {VALUE!r}; name the column, or the entry, of the values so.")
    if VALUE in oracle.parameters:
        raise BadInput(f"--known cannot be read: a parameter is called {VALUE!r}. Rename it.")
    values = {}
    for name, parameter in oracle.parameters.items():
        fixed = isinstance(parameter, Float) and parameter.low == parameter.high
        if row.get(name) in (None, ""):
            if fixed:
                continue
            strange = [key for key in row if key not in oracle.parameters and key != VALUE]
            hint = did_you_mean(name, strange)
            raise BadInput(f"--known {where} has no value for parameter {name!r}{hint}.")
        values[name] = row[name]
    try:
        point = oracle.encode(values)
    except ValueError as error:
        raise BadInput(f"--known {where}: {str(error).removeprefix('`start` of ')}") from None
    number = _number(where, row[VALUE])
    return point, -number if oracle.maximize else number


def _number(where: str, value: Any) -> float:
    if value is None or (isinstance(value, str) and value.strip().lower() in _FAILED):
        return math.nan
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise BadInput(f"--known {where}: the value {value!r} is not a number; leave it empty for a failure.") from None
    if math.isinf(number):
        raise BadInput(f"--known {where}: the value is {number}; leave it empty for a failure.")
    return number
