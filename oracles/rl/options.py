"""The options of `blackbox-zo train-policy`."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from oracles._arguments import count, seconds, whole

__all__ = ["EXAMPLE", "NAMES", "PRESET_LINES", "add_options"]

PRESET_LINES = {
    "auto": "by the first steps of episodes: CMA-ES for up to 32 parameters, else PGPE by the best of 10 pairs",
    "ars": "augmented random search, V2-t of Mania et al. 2018: the same as ars-v2-t",
    "ars-v1": "observations as they are, all 8 directions",
    "ars-v1-t": "observations as they are, the best 4 of 8 directions",
    "ars-v2": "observations normalised, all 8 directions",
    "ars-v2-t": "observations normalised, the best 4 of 8 directions",
    "openai-es": "evolution strategy of Salimans et al. 2017: ranks, Adam, weight decay",
    "pgpe": "PGPE with ClipUp, Toklu et al. 2020",
    "cma": "CMA-ES, Hansen 2016; diagonal above 100 parameters",
    "consensus": "consensus hopping, Riedl et al. 2023",
    "rank": "by the order of episodes alone: auto without values",
    "rank-sgd": "by the order of episodes alone: ZO-RankSGD, Tang et al. 2024",
}

_WIDTH = max(map(len, PRESET_LINES))

EXAMPLE = """examples:
  blackbox-zo train-policy --env CartPole-v1 --steps 20 --save policy.npz
  blackbox-zo train-policy --env HalfCheetah-v5 --preset ars --steps 500 --workers 2 --journal run.jsonl
  blackbox-zo train-policy --env my_module:make_env --policy mlp --hidden 32,32 --env-steps 1000000

presets:
""" + "\n".join(f"  {name:<{_WIDTH}}  {line}" for name, line in PRESET_LINES.items())

NAMES = {
    "kind": "kind of run",
    "env": "--env",
    "versions": "set of versions",
    "policy": "--policy",
    "n_inputs": "number of observations",
    "n_outputs": "number of outputs",
    "normalize": "--normalize (or --preset)",
    "hidden": "--hidden",
    "policy_seed": "--seed",
    "seed": "--seed",
    "episodes": "--episodes",
    "rank": "--preset",
    "num_envs": "--num-envs",
    "horizon": "--horizon (or --preset)",
    "survival_bonus": "--survival-bonus",
    "max_steps": "--max-steps",
    "estimator": "--preset",
    "rule": "--preset",
}
"""The option for each entry of the problem that tells two runs apart."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add them."""
    _what(parser.add_argument_group("what is searched"))
    _episodes(parser.add_argument_group("how episodes are played"))
    _kept(parser.add_argument_group("how long, and what is kept"))


def _what(group: Any) -> None:
    add = group.add_argument
    add(
        "--env",
        required=True,
        metavar="ID|MODULE:FUNCTION",
        help="the id of a Gymnasium environment, or a function that makes one",
    )
    add("--preset", default="auto", choices=PRESET_LINES, metavar="NAME", help="see below; default %(default)s")
    add("--policy", choices=("linear", "mlp"), help="default linear, or mlp with --hidden")
    add("--hidden", type=_widths, metavar="N,N", help="widths of the hidden layers of mlp; default 64,64")
    add(
        "--normalize",
        action=argparse.BooleanOptionalAction,
        help="normalise observations by those seen so far; default the preset's",
    )
    add("--seed", type=int, default=0, help="all randomness is a function of it; default %(default)s")


def _episodes(group: Any) -> None:
    add = group.add_argument
    add("--workers", type=count, default=1, metavar="N", help="processes that play; 0: in this one; default 1")
    add(
        "--num-envs",
        type=whole,
        default=1,
        metavar="N",
        help="environments that step together in a process, as gymnasium.make_vec makes them; default 1",
    )
    add("--episodes", type=whole, metavar="N", help="episodes for each candidate; default the preset's")
    add("--max-steps", type=whole, metavar="N", help="most steps of an episode; default the environment's")
    add(
        "--horizon",
        type=count,
        metavar="N",
        help="play the first N steps of episodes only, one more in each step, until an episode ends of itself; 0: "
        "whole episodes; default the preset's",
    )
    add(
        "--survival-bonus",
        type=_finite,
        default=0.0,
        metavar="X",
        help="taken off the reward of each step, where the environment pays for being alive; default 0",
    )
    add(
        "--timeout",
        type=seconds,
        default=300.0,
        metavar="S",
        help="seconds for one episode; a longer one is ended, and has failed; default %(default)g",
    )


def _kept(group: Any) -> None:
    add = group.add_argument
    add("--steps", type=whole, metavar="N", help="steps of the search in all; default 500 without --env-steps")
    add("--env-steps", type=whole, metavar="N", help="end after so many steps of the environment in all")
    add(
        "--evaluate",
        type=count,
        default=5,
        metavar="N",
        help="episodes of their own by which the present policy is evaluated; 0: never; default %(default)s",
    )
    add("--every", type=whole, default=10, metavar="K", help="steps between evaluations; default %(default)s")
    add("--save", type=Path, metavar="FILE.npz", help="write the best evaluated policy there, else the last")
    add("--onnx", type=Path, metavar="FILE.onnx", help="write it as an ONNX model, too")


def _widths(text: str) -> tuple[int, ...]:
    return tuple(whole(part.strip()) for part in text.split(","))


def _finite(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}")
    return number
