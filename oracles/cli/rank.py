"""`blackbox-zo rank`: people rank what a function draws, and steer it."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import blackbox_zo as bz
from blackbox_zo._stop import Stop
from oracles.cli._arguments import count, positive, seconds, whole
from oracles.cli._errors import BadInput

if TYPE_CHECKING:
    from oracles.ranking import RaterModel

__all__ = ["add", "function_of", "raters_of"]

MOST_DIMENSIONS = 20
"""Up to how many `PreferenceGP` is the default."""

_EXAMPLE = """example:
  blackbox-zo rank --render oracles.ranking.demo:palette --store study.db
  blackbox-zo rank --render my_module:draw --x0 '[0, 0, 0, 0]' --store study.db --ranked 3
"""


def add(commands: Any) -> None:
    """Add the command's arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "rank",
        help="people rank what a function draws, on a page",
        description="Open a page where people put candidates in order, and search for what they like best. Run again "
        "with the same --store, it goes on where it was.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(command=_run)
    parser.add_argument(
        "--render",
        required=True,
        metavar="MODULE:FUNCTION",
        help="a function of x that gives a PIL image, an array, PNG, SVG or WAV bytes, text, HTML or a path",
    )
    parser.add_argument("--x0", metavar="JSON", help="the start: JSON, or a .npy file; default the function's own x0")
    parser.add_argument("--store", default="study.db", metavar="FILE|URL", help="the record; default %(default)s")
    parser.add_argument("--candidates", type=whole, default=8, metavar="M", help="in a round; default %(default)s")
    parser.add_argument("--ranked", type=whole, metavar="K", help="how many of the best are put in order; default all")
    parser.add_argument("--rounds", type=whole, default=20, metavar="N", help="default %(default)s")
    parser.add_argument(
        "--method",
        choices=("auto", "preference", "evolution"),
        default="auto",
        help="preference learns what is liked, and errs least with few answers; evolution is for many dimensions; "
        f"default: preference up to {MOST_DIMENSIONS} of them",
    )
    parser.add_argument("--radius", type=positive, default=1.0, help="how far candidates spread; default %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="all randomness is a function of it; default %(default)s")
    parser.add_argument("--raters", type=whole, default=1, metavar="N", help="people for each round; default 1")
    parser.add_argument("--patience", type=seconds, metavar="S", help="seconds to wait for the rest of the raters")
    parser.add_argument("--ahead", type=count, default=0, metavar="N", help="rounds to draw ahead, for slow renderers")
    parser.add_argument("--host", default="127.0.0.1", help="address to bind; default %(default)s")
    parser.add_argument("--allow-host", nargs="+", default=[], metavar="NAME", help="further names of this server")
    parser.add_argument("--port", type=count, default=0, help="default the one of last time, or any")
    parser.add_argument("--title", default="Which is best?", help="of the page")
    parser.add_argument("--question", default="", help="what people are asked")
    parser.add_argument("--save", type=Path, metavar="FILE.json", help="where the final x goes; default printed")
    parser.add_argument("--open", action="store_true", help="open the page in a browser here")


def _run(given: argparse.Namespace) -> int:
    try:
        from oracles.ranking.human import HumanRanking
    except ModuleNotFoundError as error:
        raise BadInput(f"This needs {error.name}, which is not installed: pip install 'blackbox-zo[human]'") from None
    if given.candidates < 2:
        raise BadInput(f"--candidates must be at least 2, got {given.candidates}.")
    if given.ranked is not None and given.ranked > given.candidates:
        raise BadInput(f"--ranked {given.ranked} is more than --candidates {given.candidates}.")
    render = function_of(given.render)
    try:
        variable = bz.Vector(_start(given.x0, render, given.render))
    except (TypeError, ValueError) as error:
        raise BadInput(f"--x0: {error}") from error
    try:
        oracle = HumanRanking(
            render,
            given.store,
            given.port,
            given.ranked,
            raters=given.raters,
            rounds=given.rounds,
            host=given.host,
            allowed_hosts=given.allow_host,
            title=given.title,
            question=given.question,
            patience=given.patience,
        )
    except ValueError as error:
        raise BadInput(str(error)) from error
    search = bz.Search(variable, _estimator(given, variable.size), seed=given.seed)
    with Stop():
        try:
            return _steer(given, oracle, search)
        except (ValueError, bz.OracleError) as error:
            raise BadInput(str(error)) from error
        finally:
            oracle.close()


def _estimator(given: argparse.Namespace, d: int) -> bz.Estimator:
    if given.method == "preference" or (given.method == "auto" and d <= MOST_DIMENSIONS):
        return bz.PreferenceGP(given.radius, given.candidates)
    return bz.EvolutionStrategy(given.radius, given.candidates, covariance="diagonal")


def _steer(given: argparse.Namespace, oracle: Any, search: bz.Search) -> int:
    for number in range(given.raters):
        url = oracle.url
        print(f"{'open' if given.raters == 1 else f'rater {number + 1}'}: {url}", flush=True)
        if given.open and number == 0:
            webbrowser.open(url)
    print("Each link works once. Ctrl-C ends; the same command goes on.", flush=True)
    for report in search.run(oracle, given.rounds, ahead=given.ahead):
        print(f"round {report.step + 1} of {given.rounds} is answered", flush=True)
    for line in raters_of(oracle.reliability):
        print(line)
    found = json.dumps(_plain(search.x))
    if given.save is not None:
        given.save.write_text(found + "\n")
    print(f"x = {found}" if given.save is None else f"x is in {given.save}")
    return 0


def raters_of(model: RaterModel) -> list[str]:
    """What is known of each of several raters, as lines of a table."""
    if len(model.raters) < 2:
        return []
    lines = [f"{'rater':<20} {'weight':>7} {'agrees':>7} {'time, % a round':>16}"]
    for name in model.raters:
        agreed = model.agreement(name)
        share = f"{100 * np.nanmean(agreed):.0f} %" if np.isfinite(agreed).any() else "-"
        trend = model.fatigue(name).seconds.slope
        tired = f"{100 * np.expm1(trend):+.1f}" if np.isfinite(trend) else "-"
        lines.append(f"{name:<20.20} {model.weights[name]:>7.2f} {share:>7} {tired:>16}")
    return lines


def _plain(x: Any) -> Any:
    """Arrays as lists, so that JSON takes them."""
    if isinstance(x, dict):
        return {k: _plain(v) for k, v in x.items()}
    if isinstance(x, list | tuple):
        return [_plain(v) for v in x]
    return np.asarray(x).tolist()


def function_of(text: str) -> Any:
    """The function that MODULE:FUNCTION names; the folder of the command is looked in too.

    Raises:
        BadInput: There is none.
    """
    module, colon, name = text.partition(":")
    if not colon or not module or not name:
        raise BadInput(f"--render {text!r} is not of the form module:function.")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found = importlib.import_module(module.removesuffix(".py"))
    except Exception as error:  # the user's module may raise anything
        raise BadInput(f"--render: importing {module!r} failed: {type(error).__name__}: {error}.") from error
    function = getattr(found, name, None)
    if not callable(function):
        there = [n for n, f in vars(found).items() if callable(f) and getattr(f, "__module__", "") == found.__name__]
        raise BadInput(f"--render: {module!r} has no function {name!r}; it has {', '.join(there[:12]) or 'none'}.")
    return function


def _start(text: str | None, render: Any, name: str) -> Any:
    if text is None:
        x0 = getattr(render, "x0", None)
        if x0 is None:
            raise BadInput(f"--x0 is needed: {name} has no x0 of its own.")
        return np.array(x0, dtype=np.float64)
    if text.endswith(".npy"):
        try:
            return np.load(text, allow_pickle=False).astype(np.float64)
        except (OSError, ValueError) as error:
            raise BadInput(f"--x0 {text}: {error}.") from error
    try:
        found = json.loads(text)
    except ValueError:
        raise BadInput(f"--x0 {text!r:.60} is not JSON, such as '[0, 0, 0]'.") from None
    try:
        return np.array(found, dtype=np.float64) if isinstance(found, list) else found
    except (TypeError, ValueError):
        return found  # lists of lists of several lengths, or dicts inside: a tree
