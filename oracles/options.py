"""Options of a command as data: a kind of run lists them, and the parser, its help and the journal's names follow."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from blackbox_zo.errors import JournalError

__all__ = [
    "SEED", "BadInput", "Option", "Table", "add_options", "check_file", "count", "finite", "names_of", "option",
    "positive", "seconds", "told", "whole",
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
        flag: As it is typed, such as "--steps".
        help: What it does; its default is added.
        entry: The entry of the problem that it decides; answers in a journal depend on it. Empty for none.
        how: Further arguments of `argparse.ArgumentParser.add_argument`.
    """

    flag: str
    help: str
    entry: str
    how: dict[str, Any]

    @property
    def name(self) -> str:
        """Its attribute among the parsed options."""
        return str(self.how.get("dest", self.flag.lstrip("-").replace("-", "_")))


Table: TypeAlias = Mapping[str, Iterable[Option | tuple[Option, ...]]]
"""Options by the title of their group, which may be empty. Of those in a tuple, at most one may be given."""


def option(flag: str, help: str, type: Callable[[str], Any] | None = None, **how: Any) -> Option:
    """An option.

    Args:
        flag: As it is typed.
        help: What it does; "; default ..." is added unless it says so.
        type: From the text to the value.
        **how: `entry=` of `Option`; `decides=True` for an entry of the option's own name; else arguments of argparse.
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
    """From each entry of the problem to the option that decides it."""
    items = [item for group in table.values() for item in group]
    options = [each for item in items for each in (item if isinstance(item, tuple) else (item,))]
    return {each.entry: each.flag for each in options if each.entry}


def check_file(path: Path | None, flag: str) -> None:
    """Refuse a file that could not be written at the end.

    Raises:
        BadInput: It is a folder, or in a folder that does not exist.
    """
    if path is not None and path.is_dir():
        raise BadInput(f"{flag} {str(path)!r} is a folder; name a file.")
    if path is not None and not path.absolute().parent.is_dir():
        raise BadInput(f"{flag} {str(path)!r} is in a folder that does not exist; make it first.")


# ------------------------------------------------------------------------------------------------ types of values


N = TypeVar("N", int, float)


def whole(text: str) -> int:
    """A whole number of at least 1."""
    return _number(text, int, lambda n: n >= 1, "whole number of at least 1")


def count(text: str) -> int:
    """A whole number, 0 or more."""
    return _number(text, int, lambda n: n >= 0, "whole number of at least 0")


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
        number = type(text)
        if good(number):
            return number
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"must be a {what}, got {text!r}")


SEED = option("--seed", "seed of all randomness", int, default=0, entry="seed")
