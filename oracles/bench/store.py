"""Trials in a JSON file, a line each, so that a solver can be measured again beside the others."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterable, Iterator
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any

from oracles._files import write
from oracles.bench.solvers import OURS, SOLVERS
from oracles.bench.trials import Task, Trial

__all__ = ["load", "merged", "saving"]

_COLUMNS = [
    "solver", "d", "budget / d", "function", "instance", "seed", "queries", "gap / scale", "CPU us a query",
    "run lengths", "error",
]  # fmt: skip
_NOTE = (
    "Run lengths: queries until f_opt + scale * (10^2, 10^1.8, ..., 10^-8) was first reached, each as the difference "
    "to the one before; those not reached are left out. Starts: numpy.random.default_rng([function, d, instance])"
    ".uniform(-4, 4, d). The scale is 1, but in plain f(x0) / 100."
)


def merged(old: Iterable[Trial], new: Iterable[Trial]) -> list[Trial]:
    """Old trials, without those that were made again."""
    return list({trial.task: trial for trial in (*old, *new)}.values())


def saving(path: Path, trials: Iterable[Trial], machine: dict[str, Any]) -> Iterator[Trial]:
    """Pass trials on, and write them to a file with those that it had, whenever the solver or the dimension changes."""
    kept = load(path)
    for _, some in groupby(trials, lambda trial: (trial.task.d, trial.task.solver)):
        for trial in some:
            kept.append(trial)
            yield trial
        kept = merged(kept, ())
        _save(path, kept, machine)


def load(path: Path) -> list[Trial]:
    """The trials of a file; none if there is no such file.

    Raises:
        ValueError: The file holds something else.
    """
    if not path.exists():
        return []
    try:
        document = json.loads(path.read_text("utf-8"))
        if document["columns"] != _COLUMNS:
            raise KeyError("columns")
        return [_trial(document["suite"], row) for row in document["trials"]]
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} does not hold trials of this version; move it away.") from error


def _save(path: Path, trials: Iterable[Trial], machine: dict[str, Any]) -> None:
    order = {name: i for i, name in enumerate(SOLVERS)}
    kept = sorted(trials, key=lambda t: (t.task.d, order.get(t.task.solver, -1), t.task))
    old = json.loads(path.read_text("utf-8"))["solvers"] if path.exists() else {}
    names = sorted({trial.task.solver for trial in kept}, key=lambda name: order.get(name, -1))
    head = {
        "suite": kept[0].task.suite if kept else "",
        "machine": machine,
        "note": _NOTE,
        "solvers": {name: _about(name) if name in SOLVERS else old[name] for name in names},
        "columns": _COLUMNS,
    }
    lines = ",\n".join(json.dumps(_row(trial), separators=(",", ":")) for trial in kept)
    write(path, json.dumps(head, indent=1)[:-2] + f',\n "trials": [\n{lines}\n]}}\n')


def _about(name: str) -> str:
    solver = SOLVERS[name]
    version = "" if name == OURS else " " + importlib.metadata.version(solver.package)
    return f"{solver.package}{version}: {solver.about}"


def _row(trial: Trial) -> list[Any]:
    task, hits = trial.task, trial.hits
    steps = [b - a for a, b in zip((0, *hits), hits, strict=False)]
    micros = float(f"{trial.micros:.3g}")
    row = [*task[1:], trial.queries, float(f"{trial.gap:.4g}"), micros, steps]
    return [*row, trial.error] if trial.error else row


def _trial(suite: str, row: list[Any]) -> Trial:
    task, (queries, gap, micros, steps, *error) = Task(suite, *row[:6]), row[6:]
    return Trial(task, queries, gap, micros, tuple(accumulate(steps)), *error)
