"""The validations of a run, one line each, in a file beside its journal."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["Validations", "beside"]


def beside(journal: Path) -> Path:
    """Where the validations of a journal's run are."""
    return journal.with_name(journal.name + ".validation.jsonl")


class Validations:
    """The validations so far, by step, in memory and, with a path, in a file.

    Args:
        path: The file; none keeps them in memory alone.

    Attributes:
        measured: The numbers of each validation, by step, in the order of the steps.
        seconds: How long the run had taken by then, by step.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.measured: dict[int, dict[str, float]] = {}
        self.seconds: dict[int, float] = {}

    @classmethod
    def of(cls, path: Path) -> Validations:
        """Those in a file, which may be missing; what is no whole line of ours, such as a torn last one, is skipped."""
        found = cls(path)
        for line in path.read_bytes().split(b"\n") if path.exists() else ():
            try:
                entry = json.loads(line)
                step, seconds = int(entry.pop("step")), float(entry.pop("seconds"))
                numbers = {str(name): math.nan if v is None else float(v) for name, v in entry.items()}
            except (ValueError, TypeError, KeyError, AttributeError):
                continue
            found._put(step, numbers, seconds)
        return found

    def begin(self, step: int) -> None:
        """Drop what is after a step, where the run goes on, and write the file anew."""
        for later in [s for s in self.measured if s > step]:
            del self.measured[later], self.seconds[later]
        if self.path is not None:
            partial = self.path.with_name(f".{self.path.name}.{os.getpid()}")
            partial.write_text("".join(map(self._line, self.measured)), encoding="utf-8")
            partial.replace(self.path)

    def add(self, step: int, numbers: Mapping[str, float], seconds: float) -> None:
        """Note a validation, at the end of the file."""
        self._put(step, dict(numbers), seconds)
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(self._line(step))

    @property
    def last(self) -> int:
        """The step of the last one; -1 without any."""
        return max(self.measured, default=-1)

    def best(self, name: str) -> int:
        """The step at which a measure was best, the loss lowest, any other highest; -1 without any.

        Among equals that of lowest loss, and then the first.
        """
        known = {s: found for s, found in self.measured.items() if math.isfinite(found.get(name, math.nan))}
        sign = 1 if name == "loss" else -1
        return min(known, key=lambda s: (sign * known[s][name], known[s].get("loss", 0.0), s), default=-1)

    def _put(self, step: int, numbers: dict[str, float], seconds: float) -> None:
        self.measured[step], self.seconds[step] = numbers, seconds

    def _line(self, step: int) -> str:
        numbers: dict[str, Any] = {
            name: value if math.isfinite(value) else None for name, value in self.measured[step].items()
        }
        return json.dumps({"step": step, **numbers, "seconds": round(self.seconds[step], 3)}) + "\n"
