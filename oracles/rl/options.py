"""The options of `blackbox-zo train-policy`."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from oracles._arguments import count, seconds, whole

__all__ = ["EXAMPLE", "NAMES", "PRESET_LINES", "add_options"]

PRESET_LINES = {
    "auto": "CMA-ES up to 32 parameters, else PGPE on the best quarter of 10 pairs; early episodes cut short",
    "ars": "augmented random search (Mania et al. 2018), V2-t: same as ars-v2-t",
    "ars-v1": "ARS V1: raw observations, all 8 directions",
    "ars-v1-t": "ARS V1-t: raw observations, best 4 of 8 directions",
    "ars-v2": "ARS V2: normalised observations, all 8 directions",
    "ars-v2-t": "ARS V2-t: normalised observations, best 4 of 8 directions",
    "openai-es": "evolution strategy (Salimans et al. 2017): centred ranks, Adam, weight decay",
    "pgpe": "PGPE with ClipUp (Toklu et al. 2020)",
    "cma": "CMA-ES (Hansen 2016), diagonal above 100 parameters",
    "consensus": "consensus hopping (Riedl et al. 2023)",
    "rank": "auto, but told only how the candidates rank",
    "rank-sgd": "ZO-RankSGD (Tang et al. 2024), told only how the candidates rank",
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
"""The option behind each entry of `problem`, named when a journal of another run is refused."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add them."""
    _what(parser.add_argument_group("environment and policy"))
    _episodes(parser.add_argument_group("episodes"))
    _kept(parser.add_argument_group("budget and output"))


def _what(group: Any) -> None:
    add = group.add_argument
    add(
        "--env",
        required=True,
        metavar="ID|MODULE:FUNCTION",
        help="id of a Gymnasium environment, or a function that returns one",
    )
    add(
        "--preset",
        default="auto",
        choices=PRESET_LINES,
        metavar="NAME",
        help="search method, listed below; default %(default)s",
    )
    add("--policy", choices=("linear", "mlp"), help="kind of policy; default linear, or mlp with --hidden")
    add("--hidden", type=_widths, metavar="N,N", help="widths of the hidden layers of an mlp; default 64,64")
    add(
        "--normalize",
        action=argparse.BooleanOptionalAction,
        help="normalise observations by their running mean and variance; default: as the preset says",
    )
    add("--seed", type=int, default=0, help="seed of all randomness; default %(default)s")


def _episodes(group: Any) -> None:
    add = group.add_argument
    add(
        "--workers", type=count, default=1, metavar="N", help="worker processes; 0 plays in the main process; default 1"
    )
    add(
        "--num-envs",
        type=whole,
        default=1,
        metavar="N",
        help="environments stepped together in each process (gymnasium.make_vec); default 1",
    )
    add("--episodes", type=whole, metavar="N", help="episodes per candidate; default: as the preset says")
    add("--max-steps", type=whole, metavar="N", help="maximum steps per episode; default: the environment's own limit")
    add(
        "--horizon",
        type=count,
        metavar="N",
        help="cut episodes after N steps, one more at each step of the search, until an episode ends before the cut; "
        "0 plays whole episodes; default: as the preset says",
    )
    add(
        "--survival-bonus",
        type=_finite,
        default=0.0,
        metavar="X",
        help="subtract X from the reward of each step, where the environment pays an alive bonus; default 0",
    )
    add(
        "--timeout",
        type=seconds,
        default=300.0,
        metavar="S",
        help="time limit of an episode in seconds; past it, the episode fails; default %(default)g",
    )


def _kept(group: Any) -> None:
    add = group.add_argument
    add("--steps", type=whole, metavar="N", help="total steps of the search; default 500 without --env-steps")
    add("--env-steps", type=whole, metavar="N", help="stop after this many environment steps in total")
    add(
        "--evaluate",
        type=count,
        default=5,
        metavar="N",
        help="episodes in each evaluation of the current policy; 0 turns evaluation off; default %(default)s",
    )
    add("--every", type=whole, default=10, metavar="K", help="steps between evaluations; default %(default)s")
    add(
        "--save",
        type=Path,
        metavar="FILE.npz",
        help="save the policy with the best evaluation; without evaluations, the last one",
    )
    add("--onnx", type=Path, metavar="FILE.onnx", help="also export it as an ONNX model")


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
