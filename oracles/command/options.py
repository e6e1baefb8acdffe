"""The options of `blackbox-zo minimize`."""

from __future__ import annotations

import argparse

from blackbox_zo._paths import expanded
from blackbox_zo.stopping import MedianRule, StoppingRule, SuccessiveHalving
from oracles.options import SEED, BadInput, Table, count, finite, option, seconds, whole

__all__ = ["EXAMPLE", "OPTIONS", "stopping_rule", "values_of"]

EXAMPLE = """example:
  blackbox-zo minimize --run 'python train.py --lr {lr} --depth {depth}' \\
      --param lr=1e-4:1e-1:log --param depth=2:12:int --budget 100 --workers 2 --journal run.jsonl
"""


def stopping_rule(text: str) -> StoppingRule:
    """A stopping rule as it is written on a command line: `halving`, `halving:ETA` or `median`.

    Raises:
        argparse.ArgumentTypeError: It is none of these, or its number is out of range.
    """
    name, colon, eta = text.partition(":")
    try:
        if name == "halving":
            return SuccessiveHalving(float(eta)) if colon else SuccessiveHalving()
        if text == "median":
            return MedianRule()
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    raise argparse.ArgumentTypeError(f"must be halving, halving:ETA or median, got {text!r}")


OPTIONS: Table = {
    "": (
        option(
            "--run",
            "the command; {name} stands for a parameter, {id} for the query number, {python} for this Python",
            metavar="COMMAND", decides=True,
        ),
        option(
            "--param",
            "a parameter: name=low:high, optionally followed by :log or :int, or name=a,b,c; low = high fixes it; "
            "repeatable",
            nargs="+", action="extend", default=[], metavar="NAME=LOW:HIGH", entry="parameters",
        ),
        option(
            "--read",
            "where to find the number: last (last word of the last line of stdout), json:a.b, file:PATH, or "
            "regex:PATTERN (group 1, last match in stdout and stderr)",
            default="last", metavar="WHERE", decides=True,
        ),
        option(
            "--noisy", "ask combinations of values again; without this, where all parameters are whole numbers and "
            "choices, each combination is tried once",
            action="store_true", decides=True,
        ),
        option("--maximize", "maximise the number instead", action="store_true", decides=True),
        option(
            "--start", "starting values; default: the middle of each range",
            nargs="+", action="extend", default=[], metavar="NAME=VALUE", entry="x0",
        ),
        SEED,
        option("--budget", "maximum number of runs of the program", whole, default=100, metavar="N"),
        option("--workers", "programs to run in parallel", whole, default=1, metavar="N"),
        option(
            "--asynchronous", "start another program whenever one ends, without waiting for a whole step",
            action="store_true", entry="estimator",
        ),
        option(
            "--timeout", "time limit of one run in seconds; past it, the run is killed and the query fails",
            seconds, metavar="S",
        ),
        option(
            "--retries", "how often a failed run is repeated before the query has failed", count,
            default=0, metavar="N",
        ),
        option(
            "--known", "values measured before, which cost no run: a .csv or .jsonl file with the names of the "
            "parameters and a column 'value', or the journal of another run; repeatable",
            expanded, nargs="+", action="extend", default=[], metavar="FILE",
        ),
        option(
            "--method", "auto (the default), or an estimator such as 'EvolutionStrategy(0.1)'; with `resume` the run "
            "changes to it, and keeps what it knows", metavar="NAME", entry="estimator",
        ),
        option(
            "--stopping",
            "end runs early that report worse values than others, in lines `report 0.83` that the program prints and "
            "flushes: halving (at the reports 1, 3, 9, ... the best third goes on), halving:ETA, or median",
            stopping_rule, metavar="RULE",
        ),
        option("--target", "stop as soon as a number at least this good is found", finite, metavar="VALUE"),
    )
}  # fmt: skip


def values_of(pairs: list[str]) -> dict[str, str]:
    """The starting values, from words such as `lr=0.1`.

    Raises:
        BadInput: A word has no "=", or a name is given twice.
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
