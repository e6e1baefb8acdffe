"""The state of a search as a flat dict of arrays and numbers, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from blackbox_zo._engine import Engine
from blackbox_zo._open import Open
from blackbox_zo._past import Past
from blackbox_zo._state import pack, unpack
from blackbox_zo.feedback import Ranking, Values
from blackbox_zo.learning import packed, unpacked

__all__ = ["load", "save"]

FORMAT = 2
"""Version of the layout. 2 added what oracles learn, and the count of barren steps."""


def save(engine: Engine, steps: int | None = None) -> dict[str, Any]:
    """The state of an engine; of open proposals, the answers so far and what is needed to sample them again.

    Args:
        engine: The engine.
        steps: Leave out x, and the steps from this one on, which nobody has answered; None for the whole state.
    """
    (x, value, query), learning = engine.best.found, engine.learning
    held = {step: pending for step, pending in engine.open.items() if steps is None or step < steps}
    asked = engine.asked - sum(p.queries.n for step, p in engine.open.items() if step not in held)
    out: dict[str, Any] = {
        "format": FORMAT,
        **({f"x/{name}": array for name, array in engine.variable.state().items()} if steps is None else {}),
        "version": engine.variable.version,
        "seed": engine.seed,
        "step": engine.steps if steps is None else min(engine.steps, steps),
        "asked": asked,
        "nfev": engine.nfev,
        "failed": engine.failed,
        "barren": engine.barren,
        "barren_steps": engine.barren_steps,
        **({} if x is None else {"best_x": x.copy()}),
        "best_value": value,
        "best_id": query,
        "begun": engine.begun,
        **({"known": engine.past.known, "known_values": engine.past.known_values} if len(engine.past.known) else {}),
        **pack("estimator", engine.state),
        **pack("rule", engine.rule_state),
        **learning.save("oracle", learning.states),
    }
    for step, pending in held.items():
        out.update(_saved(engine, f"open/{step}", step, pending))
    return out


def _saved(engine: Engine, name: str, step: int, pending: Open) -> dict[str, Any]:
    """The state of an open step."""
    if pending.begun != engine.begun:
        raise ValueError(f"Step {step} was asked by an earlier method and cannot be saved; tell its answers first.")
    out: dict[str, Any] = {
        "version": pending.version,
        "ended": pending.ended,
        "first_id": pending.first_id,
        "n": pending.queries.n,
    }
    if engine.variable.dense:
        out["origin"] = pending.queries.origin.copy()
    elif pending.version != engine.variable.version:
        raise ValueError(f"Step {step} was asked before the last move and cannot be saved; tell its answers first.")
    out |= {"values": pending.values.copy(), "waiting": pending.waiting.copy()}
    if pending.stderr is not None:
        out["stderr"] = pending.stderr.copy()
    for i, (positions, ranking) in enumerate(pending.rankings):
        out[f"ranking/{i}/positions"] = positions.copy()
        out[f"ranking/{i}/levels"] = ranking.levels.copy()
        if ranking.weights is not None:
            out[f"ranking/{i}/weights"] = ranking.weights.copy()
    if pending.learnt:
        out["learnt"] = packed(pending.learnt)
    out |= pack("estimator", pending.state)
    if pending.moment.states is not engine.learning.states:
        out |= {"then": 1, **engine.learning.save("oracle", pending.moment.states)}
    return {f"{name}/{key}": value for key, value in out.items()}


def load(engine: Engine, state: Mapping[str, Any], put: Callable[[int], None] | None = None) -> None:
    """Load a state from `save` into an engine that was made with the same arguments.

    Args:
        engine: The engine.
        state: The state.
        put: Sets x, and the number of moves, once the rest is known to fit; None for the x in `state`.

    Raises:
        ValueError: The state does not fit.
    """
    if "format" not in state or int(state["format"]) != FORMAT:
        raise ValueError(
            f"The state has format {state.get('format')}, this search {FORMAT}; load it with the version that saved it."
        )
    if int(state["seed"]) != engine.seed:
        raise ValueError(f"The state has seed {state['seed']}, this search {engine.seed}; they must agree.")
    x = {name[2:]: value for name, value in state.items() if name.startswith("x/")}
    if put is None:
        engine.variable.load(x, int(state["version"]))
    estimator_state = unpack("estimator", engine.state, state)
    rule_state = unpack("rule", engine.rule_state, state)
    if put is not None:
        put(int(state["version"]))
        x = engine.variable.state() if engine.variable.dense else {}
    engine.state, engine.rule_state = estimator_state, rule_state
    engine.learning.states = engine.learning.load("oracle", state)
    engine.steps, engine.asked = int(state["step"]), int(state["asked"])
    engine.nfev, engine.failed = int(state["nfev"]), int(state["failed"])
    engine.barren, engine.barren_steps = int(state["barren"]), int(state["barren_steps"])
    best = np.array(state["best_x"]) if engine.variable.dense else None
    engine.best.found = best, float(state["best_value"]), int(state["best_id"])
    engine.begun, engine.past = int(state.get("begun", 0)), Past(engine.past.variable)
    if "known" in state:
        engine.past.add(np.array(state["known"]), np.array(state["known_values"]))
    engine.open.clear()
    now = engine.state, engine.learning.states
    for step in sorted({int(name.split("/")[1]) for name in state if name.startswith("open/")}):
        head = f"open/{step}/"
        mine = {name.removeprefix(head): value for name, value in state.items() if name.startswith(head)}
        _reopen(engine, step, mine)
        engine.state, engine.learning.states = now
    if engine.variable.dense:
        engine.variable.load(x, int(state["version"]))


def _reopen(engine: Engine, step: int, mine: dict[str, Any]) -> None:
    """Sample an open proposal again, at the same x and from the same state as before."""
    if engine.variable.dense:
        engine.variable.load({"z": mine["origin"]}, int(mine["version"]))
    engine.state = unpack("estimator", engine.state, mine)
    if "then" in mine:
        engine.learning.states = engine.learning.load("oracle", mine)
    queries = engine.sample(step)
    pending = engine.hold(step, queries.take(slice(int(mine["n"]))), int(mine["first_id"]))
    pending.ended = int(mine.get("ended", pending.ended))
    pending.values = np.array(mine["values"])
    pending.waiting = np.array(mine["waiting"])
    if "stderr" in mine:
        pending.stderr = np.array(mine["stderr"])
    pending.left = int(np.count_nonzero(pending.waiting))
    if pending.left < pending.queries.n:
        pending.told_as = Values
    if "learnt" in mine:
        pending.learnt |= unpacked(mine["learnt"])
    i = 0
    while f"ranking/{i}/positions" in mine:
        ranking = Ranking.from_levels(np.array(mine[f"ranking/{i}/levels"]), mine.get(f"ranking/{i}/weights"))
        pending.rankings.append((np.array(mine[f"ranking/{i}/positions"]), ranking))
        pending.told_as = Ranking
        i += 1
