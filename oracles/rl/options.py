"""The options of `blackbox-zo train-policy`."""

from __future__ import annotations

import argparse

from blackbox_zo._paths import expanded
from oracles.options import SEED, Table, count, finite, option, seconds, whole

__all__ = ["DECIDED", "EXAMPLE", "OPTIONS", "PRESET_LINES", "REPORT_OPTIONS"]

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
    "rank": "like auto, but learns only from the ranking of candidates",
    "rank-sgd": "ZO-RankSGD (Tang et al. 2024), learns only from the ranking of candidates",
}

_WIDTH = max(map(len, PRESET_LINES))

EXAMPLE = """examples:
  blackbox-zo train-policy --env CartPole-v1 --steps 20 --save policy.npz
  blackbox-zo train-policy --env HalfCheetah-v5 --preset ars --steps 500 --workers 2 --journal run.jsonl
  blackbox-zo train-policy --env my_module:make_env --policy mlp --hidden 32,32 --env-steps 1000000

presets:
""" + "\n".join(f"  {name:<{_WIDTH}}  {line}" for name, line in PRESET_LINES.items())


def _widths(text: str) -> tuple[int, ...]:
    return tuple(whole(part.strip()) for part in text.split(","))


OPTIONS: Table = {
    "environment and policy": (
        option(
            "--env", "id of a Gymnasium environment, or a function that returns one",
            required=True, metavar="ID|MODULE:FUNCTION", decides=True,
        ),
        option("--preset", "search method, listed below", default="auto", choices=PRESET_LINES, metavar="NAME"),
        option(
            "--policy", "kind of policy; default linear, or mlp with --hidden", choices=("linear", "mlp"), decides=True
        ),
        option(
            "--hidden", "widths of the hidden layers of an mlp; default 64,64", _widths, metavar="N,N", decides=True
        ),
        option(
            "--normalize", "normalise observations by their running mean and variance; default: set by the preset",
            action=argparse.BooleanOptionalAction,
        ),
        SEED,
    ),
    "episodes": (
        option("--workers", "worker processes; 0 plays in the main process", count, default=1, metavar="N"),
        option(
            "--num-envs", "environments stepped together in each process (gymnasium.make_vec)",
            whole, default=1, metavar="N", decides=True,
        ),
        option(
            "--episodes", "episodes per candidate; default: set by the preset", whole, metavar="N", decides=True
        ),
        option(
            "--max-steps", "maximum steps per episode; default: the environment's own limit",
            whole, metavar="N", decides=True,
        ),
        option(
            "--horizon", "cut episodes after N steps, one more at each step of the search, until an episode ends "
            "before the cut; 0 plays whole episodes; default: set by the preset", count, metavar="N",
        ),
        option(
            "--survival-bonus", "subtract X from the reward of each step, where the environment pays an alive bonus; "
            "default 0", finite, default=0.0, metavar="X", decides=True,
        ),
        option(
            "--timeout", "time limit of an episode in seconds; past it, the episode fails",
            seconds, default=300.0, metavar="S",
        ),
    ),
    "budget and output": (
        option("--steps", "total steps of the search; default 500 without --env-steps", whole, metavar="N"),
        option("--env-steps", "stop after this many environment steps in total", whole, metavar="N"),
        option(
            "--evaluate", "episodes in each evaluation of the current policy; 0 turns evaluation off",
            count, default=5, metavar="N",
        ),
        option("--every", "steps between evaluations", whole, default=10, metavar="K"),
        option(
            "--save", "save the policy with the best evaluation; without evaluations, the last one",
            expanded, metavar="FILE.npz",
        ),
        option("--onnx", "also export it as an ONNX model", expanded, metavar="FILE.onnx"),
    ),
}  # fmt: skip

REPORT_OPTIONS: Table = {
    "": (
        option(
            "--policy", "train-policy runs: show this policy at play; default: the saved one, else the best",
            expanded, metavar="FILE.npz",
        ),
        option("--no-video", "train-policy runs: show no video", action="store_true"),
    )
}  # fmt: skip

DECIDED = {
    "kind": "kind of run",
    "versions": "set of versions",
    "n_inputs": "number of observations",
    "n_outputs": "number of outputs",
    "normalize": "--normalize (or --preset)",
    "policy_seed": "--seed",
    "rank": "--preset",
    "horizon": "--horizon (or --preset)",
    "estimator": "--preset",
    "rule": "--preset",
}
"""Names for entries of the problem that are not determined by the option of the same name."""
