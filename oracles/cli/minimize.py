"""`blackbox-zo minimize`: find the arguments with which a program prints the smallest number."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from blackbox_zo.journal import Journal
from oracles.cli._arguments import seconds, whole
from oracles.cli._errors import BadInput, told
from oracles.cli._run import Run
from oracles.command import CommandOracle

__all__ = ["add", "add_limits"]

_EXAMPLE = """example:
  blackbox-zo minimize --run 'python train.py --lr {lr} --depth {depth}' \\
      --param lr=1e-4:1e-1:log --param depth=2:12:int --budget 100 --workers 2 --journal run.jsonl
"""


def add(commands: Any) -> None:
    """Add the command's arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "minimize",
        help="find the arguments with which a program prints the smallest number",
        description="Run a program again and again, looking for the arguments with which its number is smallest.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(command=_run)
    parser.add_argument(
        "--run",
        required=True,
        metavar="COMMAND",
        help="the command; {name} stands for a parameter, {id} for the query's number, {python} for this Python",
    )
    parser.add_argument(
        "--param",
        required=True,
        nargs="+",
        action="extend",
        metavar="NAME=LOW:HIGH",
        help="a parameter: name=low:high, with :log and :int after it, or name=a,b,c; may be repeated",
    )
    parser.add_argument(
        "--read",
        default="last",
        metavar="WHERE",
        help="where the number is: last (the last word of stdout's last line), json:a.b, file:PATH, or regex:PATTERN "
        "(group 1, last match in stdout and stderr); default %(default)s",
    )
    parser.add_argument("--maximize", action="store_true", help="look for the largest number instead")
    parser.add_argument(
        "--start",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="where to begin; default mid-range",
    )
    parser.add_argument("--seed", type=int, default=0, help="all randomness is a function of it; default %(default)s")
    parser.add_argument(
        "--journal", type=Path, metavar="FILE", help="record every answer; if the file holds this run, it goes on"
    )
    add_limits(parser, budget=100, workers=1)


def add_limits(parser: argparse.ArgumentParser, budget: int | None, workers: int | None) -> None:
    """Add the arguments that may change when a run goes on."""
    unless = "as before" if budget is None else "%(default)s"
    parser.add_argument(
        "--budget", type=whole, default=budget, metavar="N", help=f"most times to run the program; default {unless}"
    )
    parser.add_argument(
        "--workers", type=whole, default=workers, metavar="N", help=f"how many to run at a time; default {unless}"
    )
    parser.add_argument(
        "--timeout", type=seconds, metavar="S", help="seconds for one run; a longer one is ended, and has failed"
    )
    parser.add_argument("--time-limit", type=seconds, metavar="S", help="seconds after which to stop asking")
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def _run(given: argparse.Namespace) -> int:
    with told():
        oracle = CommandOracle(
            given.run,
            given.param,
            read=given.read,
            timeout=given.timeout,
            workers=given.workers,
            maximize=given.maximize,
            start=_values(given.start),
        )
    settings = {
        "budget": given.budget,
        "workers": given.workers,
        "timeout": given.timeout,
        "cwd": str(Path.cwd()),
    }
    journal = None if given.journal is None else Journal(given.journal, problem=oracle.problem, settings=settings)
    run = Run(oracle, journal, given.budget, given.time_limit, given.quiet)
    return run.minimize(oracle.x0, bounds=oracle.bounds, seed=given.seed)


def _values(pairs: list[str]) -> dict[str, str]:
    out: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise BadInput(f"--start {pair!r} has no '='; write name=value.")
        if name in out:
            raise BadInput(f"--start names {name!r} twice; give it one value.")
        out[name] = value
    return out
