"""The options of `blackbox-zo rank`."""

from __future__ import annotations

import argparse
from pathlib import Path

from oracles._arguments import count, positive, seconds, whole

__all__ = ["EXAMPLE", "MOST_DIMENSIONS", "add_options"]

MOST_DIMENSIONS = 20
"""Up to how many `PreferenceGP` is the default."""

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
