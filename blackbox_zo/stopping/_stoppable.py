"""`Stoppable`: an oracle whose queries may be stopped early, and which learns what they report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from blackbox_zo._typing import override
from blackbox_zo.oracle import Oracle
from blackbox_zo.stopping._stopper import Stopper

__all__ = ["Stoppable"]


class Stoppable(Oracle):
    """An abstract oracle with a stopping rule, or none.

    Attributes:
        stopper: Decides, and knows all reports; None without a rule.
    """

    stopper: Stopper | None = None

    @override
    def start(self) -> Any:
        return () if self.stopper is None else {}

    @override
    def absorb(self, state: Any, evidence: Mapping[int, Any]) -> Any:
        return state if self.stopper is None else self.stopper.absorb(state, evidence)

    @override
    def save(self, state: Any) -> dict[str, Any]:
        return super().save(state) if self.stopper is None else self.stopper.save(state)

    @override
    def load(self, saved: Mapping[str, Any]) -> Any:
        return super().load(saved) if self.stopper is None else self.stopper.load(saved)
