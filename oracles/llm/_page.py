"""The report of a run over the parameters of a model."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping
from typing import Any

import numpy as np

from blackbox_zo._typing import Floats
from blackbox_zo.journal import JournalReader, Measured
from oracles.llm._validations import PLAIN, VALIDATION, best_step, deciding, shown, validations
from oracles.page import Chart, Commands, Facts, Layer, Page, Section
from oracles.recorded import Recorded
from oracles.sections import library, method, of_total, spelt
from oracles.words import span

__all__ = ["page_of"]

_LOSSES = {
    "accuracy": "1 - accuracy",
    "exact-match": "1 - share of exact matches",
    "f1": "1 - F1",
    "reward": "minus reward",
}

_FEWEST, _POINTS = 5, 400
"""Minimum number of losses for a running median; maximum number of its points."""

_NAMES = {"train": "training rows", "validation": "validation rows", "cwd": "folder", "reuse": "reuse of layers"}

_SETTINGS = ("data", "eval_every", "sweep", "reuse", "micro_batch", "device", "cwd")


def page_of(reader: JournalReader) -> Page:
    """The report of a run.

    Raises:
        JournalError: The journal is damaged.
    """
    run = _Tuned(reader)
    subject = " · ".join(str(run.problem[name]) for name in ("model", "template", "text") if run.problem.get(name))
    sections = [*_training(run), *_validation(run), Section("Commands", [Commands(_commands(run))])]
    sections.append(Section("The run", [Facts(_facts(run))]))
    return Page(reader.path.name, subject, _tiles(run), sections, _note(run))


class _Tuned(Recorded):
    """A run: the mean of each step's losses, shape (steps,), NaN where all failed; and its validations."""

    def __init__(self, reader: JournalReader) -> None:
        super().__init__(reader)
        self.measured = self.measured or _beside(reader)
        self.losses = self.mean_by_step(self.values)
        self.good = np.isfinite(self.losses)
        self.validations = validations(self.measured)
        self.best = best_step(self.validations, deciding(self.validations))


def _beside(reader: JournalReader) -> list[Measured]:
    """The validations of a journal of format 1, which are in a separate file next to it."""
    path = reader.path.with_name(reader.path.name + ".validation.jsonl")
    found = []
    for line in path.read_bytes().split(b"\n") if reader.header["format"] == 1 and path.exists() else ():
        try:
            entry = json.loads(line)
            step, seconds = int(entry.pop("step")), float(entry.pop("seconds"))
            values = {str(name): math.nan if v is None else float(v) for name, v in entry.items()}
        except (ValueError, TypeError, KeyError, AttributeError):  # not one of our lines, or a torn last one
            continue
        found.append(Measured(VALIDATION, step, values, seconds=seconds))
    return found


def _note(run: _Tuned) -> str:
    if not run.steps:
        return "No step has been recorded yet."
    if run.ranked:
        return "The answers are rankings, so there is no loss to draw."
    return "" if run.good.any() else "No step had a finite loss, so the weights have not moved."


def _tiles(run: _Tuned) -> list[tuple[str, str]]:
    out = [("steps", of_total(run.steps, run.settings.get("steps"))), ("queries", f"{run.n:,}")]
    if not run.ranked:
        out.append(("failed steps", f"{int(np.count_nonzero(~run.good)):,}"))
    if not run.validations:
        return out
    first, last = run.validations[0], run.validations[-1]
    for name in last.values:
        before, after = (shown(name, m.values.get(name, math.nan)) for m in (first, last))
        out.append((f"validation {name}", f"{before} → {after}" if last.step > first.step else after))
    if run.best >= 0:
        name = deciding(run.validations)
        value = next(m.values[name] for m in run.validations if m.step == run.best)
        out.append((f"best {name}", f"{shown(name, value)}, step {run.best:,}"))
    return out


def _training(run: _Tuned) -> list[Section]:
    """The mean loss of each step, a running median, and the steps without a loss."""
    if not run.good.any():
        return []
    name = _LOSSES.get(str(run.problem.get("objective")), "loss")
    steps = np.arange(1.0, run.steps + 1)
    x, y = steps[run.good], run.losses[run.good]
    layers = [
        Layer(x, y, "mean of a step's queries", "dots"),
        Layer(steps[~run.good], np.empty(0), "no finite loss", "crosses", "bad"),
    ]
    if len(y) >= _FEWEST:
        layers.append(Layer(*_running_median(x, y), "running median", "line", "ink"))
    return [
        Section(
            f"Training {name}", [Chart("step", name, layers, compared=layers[-1 if len(y) >= _FEWEST else 0].label)]
        )
    ]


def _running_median(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """The median of y over windows of a twentieth of the points, at least five, at up to 400 places."""
    half = max(2, len(y) // 40)
    centres = np.unique(np.linspace(0, len(y) - 1, min(len(y), _POINTS)).astype(int))
    medians = [float(np.median(y[max(0, c - half) : c + half + 1])) for c in centres]
    return x[centres], np.array(medians)


def _validation(run: _Tuned) -> list[Section]:
    """A chart for each number of each measure; the best validation has a ring."""
    names = list(dict.fromkeys((m.name, name) for m in run.measured for name in m.values))
    charts = [chart for measure, name in names if (chart := _chart(run, measure, name)) is not None]
    failed = [m for m in run.measured if m.error]
    note = f"{len(failed)} failed, the last one after step {failed[-1].step:,}: {failed[-1].error}" if failed else ""
    return [Section("Validation", charts, note)] if charts or note else []


def _chart(run: _Tuned, measure: str, name: str) -> Chart | None:
    found = [m for m in run.measured if m.name == measure and name in m.values]
    if len(found) < 2:
        return None
    per_cent = measure == VALIDATION and name not in PLAIN
    steps = np.array([m.step for m in found], dtype=np.float64)
    values = np.array([m.values[name] for m in found]) * (100 if per_cent else 1)
    title = name if measure in (VALIDATION, name) else f"{measure}: {name}"
    layers = [Layer(steps, values, title), Layer(steps, values, "", "dots")]
    best = best_step(found, name) if measure == VALIDATION else -1
    if best >= 0:
        layers.append(Layer(steps[steps == best], values[steps == best], "best", "ring", "ink"))
    y = f"{name}, %" if per_cent else name
    return Chart("step", y, layers, title=title, maximize=per_cent or name == "reward", linear=True, compared=title)


def _commands(run: _Tuned) -> list[tuple[str, str]]:
    """Commands for what to do next with the run."""
    journal = shlex.quote(str(run.path))
    named = "" if "model" in run.settings else " --model BASE"
    export = f"blackbox-zo export {journal}{named} -o DIR"
    out = [("its weights", export)]
    if 0 < run.best < run.steps:
        out.append(("its best weights", f"{export} --step {run.best}"))
    steps = int(run.settings.get("steps") or 0)
    if "arguments" in run.settings and run.header["format"] > 1:
        if run.steps < steps:
            out.insert(0, ("to continue", f"blackbox-zo resume {journal}"))
        elif run.settings.get("lr_schedule") == "constant":
            out.insert(0, ("to continue, with more steps", f"blackbox-zo resume {journal} --steps {2 * run.steps}"))
    return out


def _facts(run: _Tuned) -> list[tuple[str, str]]:
    variable = {k: v for k, v in (run.header.get("variable") or {}).items() if k != "name"}
    problem = {k: v for k, v in run.problem.items() if k not in ("kind", "select", "mask", "no_decay")}  # in variable
    settings = {k: run.settings.get(k) for k in _SETTINGS}
    searched = ("parameters searched", f"{run.header.get('dimension'):,}")
    out = [*_spelt(problem), *method(run.header), *_spelt(variable), searched, *_spelt(settings)]
    if run.measured and run.measured[-1].seconds > 0:
        out.append(("time", f"{span(run.measured[-1].seconds)} until step {run.measured[-1].step:,}"))
    return [*out, library(run.header)]


def _spelt(entries: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Entries of a header that have a value."""
    known = [(name, value) for name, value in entries.items() if value is not None]
    return [(_NAMES.get(name, name.replace("_", " ")), _rows(value) or spelt(value)) for name, value in known]


def _rows(value: Any) -> str:
    """A set of rows; empty for anything else."""
    known = isinstance(value, dict) and {"rows", "digest"} <= value.keys()
    return f"{value['rows']:,} (digest {value['digest']})" if known else ""
