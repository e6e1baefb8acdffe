"""Policies rebuilt from a journal alone, and the environments that may be made for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

import blackbox_zo as bz
from blackbox_zo._describe import rebuild
from blackbox_zo._replay import find_public, restore
from blackbox_zo.journal import Line
from oracles._imported import imported
from oracles.options import BadInput
from oracles.rl.oracle import EpisodeOracle, Experience
from oracles.rl.policies import LinearPolicy, MLPPolicy, Policy
from oracles.rl.rollouts import Rollouts
from oracles.rl.trained import Trained

__all__ = ["env_of", "policy_of", "rebuilt", "trusted_env"]


def env_of(text: str, option: str = "--env") -> Any:
    """The environment that a text names: a function if it has the form module:function, else the id itself.

    Args:
        text: Typed by the user, or from a trusted journal: its module is imported.
        option: Source of the text, for the message.

    Raises:
        BadInput: The function does not exist.
    """
    _, colon, name = text.partition(":")
    if not colon or not name.isidentifier():
        return text  # also module:Name-v0, whose module gymnasium imports
    return imported(text, option)


def trusted_env(text: str, trust: bool) -> Any:
    """The environment that a journal names.

    Args:
        text: Name in the journal.
        trust: Whether code other than gymnasium's own environments may be imported.

    Raises:
        BadInput: It is not one of gymnasium's own and not trusted, or cannot be found.
    """
    import gymnasium

    spec = gymnasium.registry.get(text)
    own = spec is None or str(spec.entry_point or spec.vector_entry_point).startswith("gymnasium.envs.")
    if not trust and (":" in text or not own):
        raise BadInput(
            f"The environment {text!r} is not one of gymnasium's own, and a journal's code is run only with --trust."
        )
    return env_of(text, "the journal's environment")


def policy_of(header: Mapping[str, Any]) -> Policy:
    """The policy that a journal describes, as it was at the start.

    Raises:
        BadInput: The journal does not describe all of it.
    """
    problem = header["problem"]
    if problem["policy"] not in ("LinearPolicy", "MLPPolicy"):
        raise BadInput(
            f"A journal does not record all of a `{problem['policy']}` from a Python program. In that program, "
            "call `Training(..., journal=...).after(step)`."
        )
    told = problem if "n_inputs" in problem else {**problem, **_read_from_start(header)}
    sizes = told["n_inputs"], told["n_outputs"]
    if told["policy"] == "LinearPolicy":
        return LinearPolicy(*sizes, normalize=told["normalize"], bias=told["bias"])
    how = {"normalize": told["normalize"], "seed": told["policy_seed"]}
    return MLPPolicy(*sizes, told["hidden"], told["activation"], **how)


def _read_from_start(header: Mapping[str, Any]) -> dict[str, Any]:
    """The layer sizes of a policy in a journal of format 1, from x0."""
    x0 = (header.get("variable") or {}).get("x0")
    settings = header.get("settings") or {}
    if x0 is None or (header["problem"]["policy"] == "MLPPolicy" and "arguments" not in settings):
        raise BadInput("This journal of format 1 does not record the sizes of its policy.")
    if header["problem"]["policy"] == "LinearPolicy":
        w = np.array(x0["W"] if isinstance(x0, dict) else x0)
        return {"n_inputs": w.shape[1], "n_outputs": w.shape[0], "bias": isinstance(x0, dict)}
    widths = [np.array(x0[f"W{i + 1}"]).shape for i in range(len(x0) // 2)]
    sizes = {"n_inputs": widths[0][1], "n_outputs": widths[-1][0], "hidden": [w[0] for w in widths[:-1]]}
    return {**sizes, "activation": "tanh", "policy_seed": header["seed"]}


def rebuilt(header: Mapping[str, Any], lines: Iterable[Line], step: int | None) -> tuple[int, Trained]:
    """The policy after a number of steps, and that number.

    Args:
        header: Header of the journal.
        lines: Lines of the journal, from `lines_of`.
        step: Number of steps of the search; None for all complete ones.

    Raises:
        BadInput: The journal does not record enough, or has fewer steps.
        JournalError: A line does not fit the run.
    """
    policy = policy_of(header)
    start = restore(header)[0] if "variable" in header else policy.x0
    try:
        estimator, rule = (rebuild(header[name], find_public) for name in ("estimator", "rule"))
    except ValueError as error:
        raise BadInput(str(error)) from None
    search = bz.Search(start, estimator, rule, seed=header["seed"], max_staleness=header["max_staleness"])
    if search.variable.fingerprint() != header["start"]:
        raise BadInput(
            "The policy rebuilt from this journal does not start where the run did; use the version that wrote it."
        )
    search.replay(lines, moves=step)
    if step is not None and search.moves < step:
        raise BadInput(f"The journal holds {search.moves} complete steps, not {step}.")
    known: Experience = search.state_of(
        EpisodeOracle(Rollouts(_plays_nothing), policy, header["problem"]["episodes"], 0)
    )
    assert isinstance(search.variable, bz.Vector)
    seen = known.seen if policy.normalize else None
    return search.moves, Trained(header["problem"]["env"], policy, np.array(search.variable.value), seen)


def _plays_nothing(xs: Any, seeds: Any, seen: Any) -> Any:
    raise AssertionError("The oracle only says which state is read; nothing is played.")
