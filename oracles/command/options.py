"""The options of `blackbox-zo minimize`."""

from __future__ import annotations

import argparse

from oracles._arguments import seconds, whole
from oracles.kind import BadInput

__all__ = ["EXAMPLE", "add_options", "values_of"]

EXAMPLE = """example:
  blackbox-zo minimize --run 'python train.py --lr {lr} --depth {depth}' \\
      --param lr=1e-4:1e-1:log --param depth=2:12:int --budget 100 --workers 2 --journal run.jsonl
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add them."""
    add = parser.add_argument
    add(
        "--run",
        metavar="COMMAND",
        help="the command; {name} stands for a parameter, {id} for the query number, {python} for this Python",
    )
    add(
        "--param",
        default=[],
        nargs="+",
        action="extend",
        metavar="NAME=LOW:HIGH",
        help="a parameter: name=low:high, optionally followed by :log or :int, or name=a,b,c; repeatable",
    )
    add(
        "--read",
        default="last",
        metavar="WHERE",
        help="where to find the number: last (last word of the last line of stdout), json:a.b, file:PATH, or "
        "regex:PATTERN (group 1, last match in stdout and stderr); default %(default)s",
    )
    add("--maximize", action="store_true", help="maximise the number instead")
    add(
        "--start",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="starting values; default: the middle of each range",
    )
    add("--seed", type=int, default=0, help="seed of all randomness; default %(default)s")
    add(
        "--budget",
        type=whole,
        default=100,
        metavar="N",
        help="maximum number of runs of the program; default %(default)s",
    )
    add("--workers", type=whole, default=1, metavar="N", help="programs to run in parallel; default %(default)s")
    add(
        "--timeout",
        type=seconds,
        metavar="S",
        help="time limit of one run in seconds; past it, the run is killed and the query fails",
    )
    add("--target", type=float, metavar="VALUE", help="stop as soon as a number at least this good is found")


def values_of(pairs: list[str]) -> dict[str, str]:
    """The start, from words such as `lr=0.1`.

    Raises:
        BadInput: A word has no "=", or a name comes twice.
    """
    out: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise BadInput(f"--start {pair!r} has no '='; write name=value.")
        if name in out:
            raise BadInput(f"--start names {name!r} twice; give it one value.")
        out[name] = value
    return out
