"""The options of `blackbox-zo rank`."""

from __future__ import annotations

import argparse
from pathlib import Path

from oracles._arguments import count, positive, seconds, whole

__all__ = ["EXAMPLE", "MOST_DIMENSIONS", "add_options"]

MOST_DIMENSIONS = 20
"""`PreferenceGP` is the default up to this many dimensions."""

EXAMPLE = """example:
  blackbox-zo rank --render oracles.ranking.renderers.demo:palette --store study.db
  blackbox-zo rank --render my_module:draw --x0 '[0, 0, 0, 0]' --store study.db --ranked 3
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add them."""
    parser.add_argument(
        "--render",
        required=True,
        metavar="MODULE:FUNCTION",
        help="a function of x that returns a PIL image, an array, PNG, SVG or WAV bytes, text, HTML or a path",
    )
    parser.add_argument(
        "--x0", metavar="JSON", help="starting point: JSON or a .npy file; default: the function's attribute x0"
    )
    parser.add_argument(
        "--store", default="study.db", metavar="FILE|URL", help="where answers are stored; default %(default)s"
    )
    parser.add_argument(
        "--candidates", type=whole, default=8, metavar="M", help="candidates per round; default %(default)s"
    )
    parser.add_argument("--ranked", type=whole, metavar="K", help="rank only the K best of a round; default: all")
    parser.add_argument("--rounds", type=whole, default=20, metavar="N", help="number of rounds; default %(default)s")
    parser.add_argument(
        "--method",
        choices=("auto", "preference", "evolution"),
        default="auto",
        help="preference: Gaussian process on preferences, best with few answers; evolution: evolution strategy, for "
        f"many dimensions; auto: preference up to {MOST_DIMENSIONS} dimensions; default %(default)s",
    )
    parser.add_argument("--radius", type=positive, default=1.0, help="spread of the candidates; default %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="seed of all randomness; default %(default)s")
    parser.add_argument("--raters", type=whole, default=1, metavar="N", help="people who answer each round; default 1")
    parser.add_argument(
        "--patience",
        type=seconds,
        metavar="S",
        help="seconds to wait for the other raters after the first answer of a round; default: no limit",
    )
    parser.add_argument(
        "--ahead", type=count, default=0, metavar="N", help="rounds to render in advance, for slow renderers; default 0"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to bind; default %(default)s")
    parser.add_argument(
        "--allow-host",
        nargs="+",
        default=[],
        metavar="NAME",
        help="further host names under which browsers may reach the page",
    )
    parser.add_argument(
        "--port", type=count, default=0, help="port of the page; default: the last one used, or any free port"
    )
    parser.add_argument("--title", default="Which is best?", help="title of the page; default %(default)r")
    parser.add_argument("--question", default="", help="the question put to the raters")
    parser.add_argument(
        "--save", type=Path, metavar="FILE.json", help="write the final x to this file instead of printing it"
    )
    parser.add_argument("--open", action="store_true", help="open the page in a browser on this machine")
