"""The options of `golf`."""

from __future__ import annotations

import argparse


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add them."""
    parser.add_argument("--wind", type=float, default=1.5, help="metres by which it blows a ball aside; default 1.5")
    parser.add_argument("--steps", type=int, default=20, help="of the search; default 20")
    parser.add_argument("--seed", type=int, default=0, help="all randomness is a function of it; default 0")
