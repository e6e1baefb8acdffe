"""A search's state as a flat dictionary of arrays and numbers, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from blackbox_zo._state import pack, unpack
from blackbox_zo.feedback import Ranking, Values
from blackbox_zo.randomness import Key

if TYPE_CHECKING:
    from blackbox_zo.search import Search

__all__ = ["load", "save"]


def save(search: Search) -> dict[str, Any]:
    """See `Search.state_dict`. An open proposal is kept as what it takes to sample it again, and its answers so far."""
    out: dict[str, Any] = {
        "format": 1,
        **{f"x/{name}": array for name, array in search.variable.state().items()},
        "version": search.variable.version,
        "seed": search.seed,
        "step": search._step,
        "asked": search._asked,
        "nfev": search.nfev,
        "failed": search.failed,
        **({} if search._best.x is None else {"best_x": search._best.x.copy()}),
        "best_value": search._best.value,
        "best_id": search._best.id,
        **pack("estimator", search._state),
        **pack("rule", search._rule_state),
    }
    for step, pending in search._open.items():
        name = f"open/{step}"
        out[f"{name}/version"] = pending.version
        out[f"{name}/first_id"] = pending.first_id
        out[f"{name}/n"] = pending.queries.n
        if search.variable.dense:
            out[f"{name}/origin"] = pending.queries.origin.copy()
        elif pending.version != search.variable.version:
            raise ValueError(
                f"Step {step} was asked before the last move, so its answers are of no use; tell it first."
            )
        out[f"{name}/values"] = pending.values.copy()
        out[f"{name}/waiting"] = pending.waiting.copy()
        if pending.stderr is not None:
            out[f"{name}/stderr"] = pending.stderr.copy()
        for i, (positions, ranking) in enumerate(pending.rankings):
            out[f"{name}/ranking/{i}/positions"] = positions.copy()
            out[f"{name}/ranking/{i}/levels"] = ranking.levels.copy()
            if ranking.weights is not None:
                out[f"{name}/ranking/{i}/weights"] = ranking.weights.copy()
        out.update(pack(f"{name}/estimator", pending.state))
    return out


def load(search: Search, state: dict[str, Any]) -> None:
    """See `Search.load_state_dict`."""
    if search.journal is not None:
        raise ValueError("A search with a journal resumes from the journal; load a state into one without.")
    for name, mine in (("format", 1), ("seed", search.seed)):
        if name not in state or int(state[name]) != mine:
            raise ValueError(f"The state has {name} {state.get(name)}, this search {mine}; they must agree.")
    x = {name[2:]: value for name, value in state.items() if name.startswith("x/")}
    search.variable.load(x, int(state["version"]))
    estimator_state = unpack("estimator", search._state, state)
    rule_state = unpack("rule", search._rule_state, state)
    search._state, search._rule_state = estimator_state, rule_state
    search._step, search._asked = int(state["step"]), int(state["asked"])
    search.nfev, search.failed = int(state["nfev"]), int(state["failed"])
    search._best.x = np.array(state["best_x"]) if search.variable.dense else None
    search._best.value, search._best.id = float(state["best_value"]), int(state["best_id"])
    search._open.clear()
    for step in sorted({int(name.split("/")[1]) for name in state if name.startswith("open/")}):
        _reopen(search, step, state)
    if search.variable.dense:
        search.variable.load(x, int(state["version"]))


def _reopen(search: Search, step: int, state: dict[str, Any]) -> None:
    """Sample an open proposal again, where and as it was sampled first."""
    name = f"open/{step}"
    if search.variable.dense:
        search.variable.load({"z": state[f"{name}/origin"]}, int(state[f"{name}/version"]))
    old = unpack(f"{name}/estimator", search._state, state)
    queries = search.estimator.sample(old, search.variable, Key(search.seed, step))
    queries = queries.take(slice(int(state[f"{name}/n"])))
    pending = search._hold(step, search.variable.version, old, queries, int(state[f"{name}/first_id"]))
    pending.values = np.array(state[f"{name}/values"])
    pending.waiting = np.array(state[f"{name}/waiting"])
    if f"{name}/stderr" in state:
        pending.stderr = np.array(state[f"{name}/stderr"])
    pending.left = int(np.count_nonzero(pending.waiting))
    if pending.left < queries.n:
        pending.told_as = Values
    i = 0
    while f"{name}/ranking/{i}/positions" in state:
        ranking = Ranking.from_levels(
            np.array(state[f"{name}/ranking/{i}/levels"]), state.get(f"{name}/ranking/{i}/weights")
        )
        pending.rankings.append((np.array(state[f"{name}/ranking/{i}/positions"]), ranking))
        pending.told_as = Ranking
        i += 1
