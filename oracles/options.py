"""Options of a command as data, from which the parser, its help and the names in journal messages are made."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

from blackbox_zo._paths import expanded
from blackbox_zo.errors import JournalError

__all__ = [
    "SEED", "BadInput", "Option", "Table", "add_options", "auto_or_count", "check_file", "count", "finite", "integer",
    "named", "names_of", "option", "positive", "seconds", "told", "whole", "whole_number",
]  # fmt: skip


class BadInput(Exception):
    """Unusable input from the user; the message names it and says how to fix it."""


@contextmanager
def told() -> Iterator[None]:
    """Inside this block, turn a ValueError or TypeError into `BadInput`."""
    try:
        yield
    except JournalError:
        raise
    except (ValueError, TypeError) as error:
        raise BadInput(str(error)) from error


@dataclass(frozen=True)
class Option:
    """An option of a command.

    Attributes:
        flag: Name on the command line, such as "--steps".
        help: What it does, with its default.
        entry: The entry of the problem that it determines, on which the answers in a journal depend; empty for none.
        how: Further arguments of `argparse.ArgumentParser.add_argument`.
    """

    flag: str
    help: str
    entry: str
    how: dict[str, Any]

    @property
    def name(self) -> str:
        """Name of its attribute in the parsed options."""
        return str(self.how.get("dest", self.flag.lstrip("-").replace("-", "_")))


Table: TypeAlias = Mapping[str, Iterable[Option | tuple[Option, ...]]]
"""Options by the title of their group, which may be empty. Options in a tuple exclude each other."""


def option(flag: str, help: str, type: Callable[[str], Any] | None = None, **how: Any) -> Option:
    """Make an option.

    Args:
        flag: Name on the command line.
        help: What it does; "; default ..." is added unless `help` names the default.
        type: Converts the text to the value.
        **how: `entry=` of `Option`; `decides=True` for an entry with the option's own name; else arguments of argparse.
    """
    entry, decides = how.pop("entry", ""), how.pop("decides", False)
    if type is not None:
        how["type"] = type
    default = how.get("default")
    if default is not None and default is not False and default not in ("", []) and "default" not in help:
        help += f"; default {default:g}" if isinstance(default, float) else "; default %(default)s"
    return Option(flag, help, entry or (flag.lstrip("-").replace("-", "_") if decides else ""), how)


def add_options(parser: argparse.ArgumentParser, table: Table) -> None:
    """Add a table of options to a parser."""
    for title, options in table.items():
        group: Any = parser.add_argument_group(title) if title else parser
        for item in options:
            several = item if isinstance(item, tuple) else (item,)
            target = group.add_mutually_exclusive_group() if isinstance(item, tuple) else group
            for each in several:
                target.add_argument(each.flag, help=each.help, **each.how)


def names_of(table: Table) -> dict[str, str]:
    """The option that determines each entry of the problem."""
    items = [item for group in table.values() for item in group]
    options = [each for item in items for each in (item if isinstance(item, tuple) else (item,))]
    return {each.entry: each.flag for each in options if each.entry}


def check_file(path: Path | None, flag: str) -> None:
    """Refuse a file that cannot be written at the end of the run.

    Raises:
        BadInput: The path is a folder, or in a folder that does not exist.
    """
    if path is not None and path.is_dir():
        raise BadInput(f"{flag} {str(path)!r} is a folder; name a file.")
    if path is not None and not path.absolute().parent.is_dir():
        raise BadInput(f"{flag} {str(path)!r} is in a folder that does not exist; create it first.")


# ------------------------------------------------------------------------------------------------ types of values


N = TypeVar("N", int, float)


def whole(text: str) -> int:
    """A whole number of at least 1."""
    return _number(text, int, lambda n: n >= 1, "whole number of at least 1")


def count(text: str) -> int:
    """A whole number, 0 or more."""
    return _number(text, int, lambda n: n >= 0, "whole number of at least 0")


def auto_or_count(text: str) -> int | Literal["auto"]:
    """The word auto, or a whole number, 0 or more."""
    return "auto" if text == "auto" else _number(text, int, lambda n: n >= 0, "whole number of at least 0, or auto")


def named(text: str) -> str:
    """The name of a file, with the home folder for `~`, or a URL."""
    return text if "://" in text else str(expanded(text))


def positive(text: str) -> float:
    """A positive, finite number."""
    return _number(text, float, lambda x: 0 < x < float("inf"), "positive number")


def seconds(text: str) -> float:
    """A positive, finite number of seconds."""
    return _number(text, float, lambda x: 0 < x < float("inf"), "positive number of seconds")


def finite(text: str) -> float:
    """A finite number."""
    return _number(text, float, lambda x: abs(x) < float("inf"), "number")


def _number(text: str, type: type[N], good: Callable[[N], bool], what: str) -> N:
    try:
        number = whole_number(text) if type is int else type(text)
        if good(number):
            return number
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"must be a {what}, got {text!r}")


def integer(text: str) -> int:
    """A whole number of any sign."""
    return _number(text, int, lambda n: True, "whole number")


def whole_number(text: str) -> int:
    """A whole number, which may be written as 1e3 or 1000.0.

    Raises:
        ValueError: It is none.
    """
    try:
        return int(text)
    except ValueError:
        try:
            number = Decimal(text)
        except InvalidOperation:
            raise ValueError(f"{text!r} is not a number.") from None
        if not number.is_finite() or number.adjusted() > 300 or number != int(number):
            raise ValueError(f"{text!r} is not a whole number.") from None
        return int(number)


SEED = option("--seed", "seed of all randomness", integer, default=0, entry="seed")
