"""What a journal, and the validations beside it, tell about a fine-tuning."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from blackbox_zo._describe import spell
from blackbox_zo.journal import read
from oracles.cli._finetune_journal import go_on
from oracles.cli._finetune_validation import Validations, beside
from oracles.cli._history import Floats
from oracles.cli._scale import number
from oracles.cli._summary import span

__all__ = ["Tuning", "tuning_of"]

_LOSSES = {"accuracy": "1 - accuracy", "exact-match": "1 - share of exact matches", "f1": "1 - F1"}


@dataclass(frozen=True)
class Tuning:
    """A run over the parameters of a model.

    Attributes:
        path: Of the journal.
        header: Of the journal.
        losses: The mean of each step's losses, shape (steps,); NaN where all failed, or where they are rankings.
        queries: Answered queries.
        ranked: Whether the answers are rankings.
        validations: What was measured in between.
    """

    path: Path
    header: dict[str, Any]
    losses: Floats
    queries: int
    ranked: bool
    validations: Validations

    @property
    def steps(self) -> int:
        """Number of steps that have an answer."""
        return len(self.losses)

    @property
    def problem(self) -> dict[str, Any]:
        """What was minimised; empty if a program of its user's minimised it."""
        problem = self.header.get("problem")
        return problem if isinstance(problem, dict) else {}

    @property
    def settings(self) -> dict[str, Any]:
        """What may change between resumes."""
        return self.header.get("settings") or {}

    @property
    def loss_name(self) -> str:
        """What the losses are."""
        return _LOSSES.get(str(self.problem.get("objective")), "loss")

    @property
    def note(self) -> str:
        """What a reader should know first; may be empty."""
        if not self.steps:
            return "No step has been recorded yet."
        if self.ranked:
            return "The answers are rankings, so there is no loss to draw."
        if not np.isfinite(self.losses).any():
            return "No step had a finite loss, so the weights have not moved."
        return ""

    def tiles(self) -> list[tuple[str, str]]:
        """Large figures, each with its label."""
        steps = self.settings.get("steps")
        of = f" of {steps:,}" if steps and steps > self.steps else ""
        out = [("steps", f"{self.steps:,}{of}"), ("queries", f"{self.queries:,}")]
        if not self.ranked:
            out.append(("failed steps", f"{int(np.count_nonzero(~np.isfinite(self.losses))):,}"))
        measured, last = self.validations.measured, self.validations.last
        if last < 0:
            return out
        first, name = min(measured), list(measured[last])[-1]
        for measure in measured[last]:
            before, after = (shown(measure, measured[step].get(measure, np.nan)) for step in (first, last))
            out.append((f"validation {measure}", f"{before} → {after}" if last > first else after))
        best = self.validations.best(name)
        if best >= 0:
            out.append((f"best {name}, after step {best:,}", shown(name, measured[best][name])))
        return out

    def commands(self) -> list[tuple[str, str]]:
        """What to do with the run, and the command for it."""
        journal, arguments = shlex.quote(str(self.path)), self.settings.get("arguments")
        model = shlex.quote(str(self.settings.get("model", "BASE")))
        export = f"blackbox-zo export {journal} --model {model} -o DIR"
        out = [("its weights", export)]
        best = self._best()
        if 0 < best < self.steps:
            out.append(("its best weights", f"{export} --step {best}"))
        if isinstance(arguments, list):
            more = self.steps >= int(self.settings.get("steps") or 0)
            out.insert(0, ("to go on, with a larger --steps" if more else "to go on", go_on(list(map(str, arguments)))))
        return out

    def facts(self) -> list[tuple[str, str]]:
        """The settings of the run."""
        header, settings, problem = self.header, self.settings, self.problem
        out = [(_label(name), _spelt(value)) for name, value in problem.items() if name != "kind" and value is not None]
        out += [("estimator", spell(header.get("estimator"))), ("rule", _rule(header.get("rule")))]
        variable = {k: v for k, v in (header.get("variable") or {}).items() if k != "name" and v is not None}
        out += [(_label(name), _spelt(value)) for name, value in variable.items()]
        out += [("numbers searched", f"{header.get('dimension'):,}"), ("seed", str(header.get("seed")))]
        shown_settings = ("data", "eval_every", "sweep", "reuse", "micro_batch", "cwd")
        out += [(_label(n), _spelt(settings[n])) for n in shown_settings if settings.get(n) is not None]
        seconds = self.validations.seconds.get(self.validations.last, 0.0)
        if seconds:
            out.append((f"time until step {self.validations.last:,}", span(seconds)))
        out.append(("library", f"blackbox_zo {header.get('library')}, numpy {header.get('numpy')}"))
        return out

    def _best(self) -> int:
        measured, last = self.validations.measured, self.validations.last
        return self.validations.best(list(measured[last])[-1]) if last >= 0 else -1


def tuning_of(path: Path) -> Tuning:
    """Read a journal, which may still be written to, and the validations beside it.

    Raises:
        JournalError: It is empty, damaged, or no journal.
        OSError: It cannot be read.
    """
    header, records = read(path)
    values: dict[int, list[float]] = {}
    for record in records:
        value = record.get("value")
        values.setdefault(record["step"], []).append(np.nan if value is None else float(value))
    losses = np.array([_mean(np.array(values[step])) for step in sorted(values)], dtype=np.float64)
    queries = sum(len(r["ids"]) if "ids" in r else 1 for r in records)
    return Tuning(path, header, losses, queries, any("ids" in r for r in records), Validations.of(beside(path)))


def shown(measure: str, value: float) -> str:
    """A measure as it is shown: a loss as a number, others in per cent."""
    if not np.isfinite(value):
        return "–"
    return f"{value:.4f}" if measure == "loss" else f"{100 * value:.1f}\u00a0%"


def _mean(values: Floats) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else np.nan


def _label(name: str) -> str:
    labels = {"train": "training rows", "validation": "validation rows", "cwd": "folder", "reuse": "reuse of layers"}
    return labels.get(name, name.replace("_", " "))


def _spelt(value: Any) -> str:
    if isinstance(value, dict) and {"rows", "digest"} <= value.keys():
        return f"{value['rows']:,} (digest {value['digest']})"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value) if isinstance(value, float) else str(value)


def _rule(description: Any) -> str:
    """A rule as it would be typed; the links of a chain in a row."""
    if isinstance(description, dict) and description.get("name") == "Chain":
        return ", ".join(map(spell, description["rules"]))
    return spell(description)
