"""The options of `blackbox-zo rank`."""

from __future__ import annotations

from blackbox_zo._paths import expanded
from oracles.options import SEED, Table, count, named, option, positive, seconds, whole

__all__ = ["EXAMPLE", "OPTIONS"]

EXAMPLE = """example:
  blackbox-zo rank --render oracles.ranking.renderers.demo:palette --store study.db
  blackbox-zo rank --render my_module:draw --x0 '[0, 0, 0, 0]' --store study.db --ranked 3
"""


OPTIONS: Table = {
    "": (
        option(
            "--render",
            "a function of x that returns a PIL image, an array, PNG, SVG or WAV bytes, text, HTML or a path",
            required=True, metavar="MODULE:FUNCTION",
        ),
        option("--x0", "starting point: JSON or a .npy file; default: the function's attribute x0", metavar="JSON"),
        option("--store", "where answers are stored", named, default="study.db", metavar="FILE|URL"),
        option("--candidates", "candidates per round", whole, default=8, metavar="M"),
        option("--ranked", "rank only the K best of a round; default: all", whole, metavar="K"),
        option("--rounds", "number of rounds", whole, default=20, metavar="N"),
        option(
            "--method",
            "preference: Gaussian process on preferences, best with few answers; evolution: evolution strategy, for "
            "hundreds of rounds or of dimensions; auto: by dimensions, candidates and rounds; default %(default)s",
            choices=("auto", "preference", "evolution"), default="auto",
        ),
        option("--radius", "spread of the candidates", positive, default=1.0),
        SEED,
        option("--ahead", "rounds to render in advance, for slow renderers; default 0", count, default=0, metavar="N"),
        option("--save", "write the final x to this file instead of printing it", expanded, metavar="FILE.json"),
    ),
    "raters": (
        option("--raters", "people who answer each round", whole, default=1, metavar="N"),
        option(
            "--patience",
            "seconds to wait for the other raters after the first answer of a round; default: no limit",
            seconds, metavar="S",
        ),
        option("--practice", "practice rounds that each rater begins with; default 0", count, default=0, metavar="N"),
        option(
            "--check-every",
            "of each M rounds of a rater, make one a check, whose answer is known, and one a repeat of an earlier "
            "round, to see how far they can be relied on; 0 for neither; default: 8 with several raters, else 0",
            count, metavar="M",
        ),
        option(
            "--known",
            "JSON file of rounds with a known answer, for practice and checks: a list of rounds, each a list of "
            "candidates like x0, best first; default: numbers, of which the largest is best", expanded, metavar="FILE",
        ),
        option("--rounds-each", "rounds that one rater answers at most; default: no limit", whole, metavar="N"),
        option("--break-every", "rounds after which a rater rests; default: never", whole, metavar="N"),
        option("--break-seconds", "for how long, at least; default %(default)s", seconds, default=60, metavar="S"),
        option("--most-raters", "maximum number of raters who have a link; default: no limit", whole, metavar="N"),
        option(
            "--final-vote", "at the end, ask each rater, blind, whether the winner or x0 is better", action="store_true"
        ),
    ),
    "the page": (
        option("--title", "title of the page; default %(default)r", default="Which is best?"),
        option("--question", "the question put to the raters", default=""),
        option("--consent", "file of Markdown or HTML that people read before they begin", expanded, metavar="FILE"),
        option("--show-winners", "show raters each round's winner and how far they agree", action="store_true"),
        option("--open", "open the page in a browser on this machine", action="store_true"),
    ),
    "who can reach it": (
        option("--host", "address to bind", default="127.0.0.1"),
        option("--port", "port of the page; default: the last one used, or any free port", count, default=0),
        option(
            "--public-url",
            "where people find the page through a proxy with TLS, such as https://study.example.org/path: sets links, "
            "host, origin, cookies and paths", metavar="URL",
        ),
        option(
            "--allow-host", "further host names under which browsers may reach the page",
            nargs="+", default=[], metavar="NAME",
        ),
    ),
}  # fmt: skip
