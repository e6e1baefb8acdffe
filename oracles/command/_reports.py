"""The reports of a program: lines of its output that its stopping rule decides by."""

from __future__ import annotations

import math

from blackbox_zo.stopping import Curve, Stopper

__all__ = ["Reports"]


class Reports:
    """Listens to the output of one run of a program.

    Args:
        stopper: Decides.
        curve: The reports of the run.
        maximize: Whether a higher report is better.

    Attributes:
        trouble: Why a report cannot be used; empty while all can.
    """

    def __init__(self, stopper: Stopper, curve: Curve, maximize: bool) -> None:
        self._stopper, self.curve, self._sign = stopper, curve, -1.0 if maximize else 1.0
        self.trouble = ""

    def __call__(self, line: str) -> bool:
        """Whether the run is to end after a line."""
        word, *rest = line.split() or [""]
        if word != "report":
            return False
        try:
            value, step = self._read(rest)
        except ValueError as error:
            self.trouble = f"the line {line.strip()[:80]!r} is no report: {error}; write `report 0.83`"
            return True
        return self._stopper.stops(self.curve, step, self._sign * value)

    def _read(self, words: list[str]) -> tuple[float, float]:
        last = self.curve.steps[-1] if self.curve.steps else 0.0
        if not words or len(words) > 2 or (len(words) == 2 and not words[1].startswith("step=")):
            raise ValueError("it has not the form `report VALUE` or `report VALUE step=NUMBER`")
        value = float(words[0])
        step = last + 1 if len(words) == 1 else float(words[1].removeprefix("step="))
        if not (math.isfinite(value) and math.isfinite(step)):
            raise ValueError("it holds no finite number")
        if self.curve.steps and step <= last:
            raise ValueError(f"its step does not come after {last:g}")
        return value, step
