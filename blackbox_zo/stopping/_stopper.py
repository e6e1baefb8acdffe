"""`Stopper`: what an oracle knows of the reports of all queries, and its rule's decisions."""

from __future__ import annotations

import json
import threading
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from blackbox_zo.learning import Learner, Learning
from blackbox_zo.proposal import Proposal
from blackbox_zo.stopping._base import Curve, StoppingRule

__all__ = ["Stopper"]

Reports = dict[int, list[list[float]]]
"""The reports of queries that have ended, each a step and a value, by the id of the query."""


class Stopper:
    """Decides for the queries of an oracle, from any thread.

    What was reported is what the oracle learns: the journal has it with the answers, so a resumed run decides by the
    same reports.

    Args:
        rule: The rule.
        what: What should report, for the warning if it never does.
    """

    def __init__(self, rule: StoppingRule, what: str) -> None:
        if not isinstance(rule, StoppingRule):
            raise TypeError(f"`stopping` must be a rule such as `SuccessiveHalving()`, got {rule!r:.60}.")
        self.rule, self._what = rule, what
        self._lock = threading.Lock()
        self._learning: Learning | None = None
        self._curves = dict[int, Curve]()
        self._state: Any = None
        self._heard, self._silent, self._first = False, 0, 0

    def begin(self, oracle: Learner, proposal: Proposal, query: int) -> Curve:
        """The empty curve of a query that begins, or begins again."""
        state, told = proposal.state(oracle), proposal.moment.told_of(oracle)
        with self._lock:
            if self._learning is not proposal.moment.learning:  # another search
                self._learning, self._curves, self._state = proposal.moment.learning, {}, None
            if state is not self._state:
                self._add(state)
                self._state = state
            self._add(told)
            self._first = self._first or proposal.n
            curve = self._curves[query] = Curve()
            return curve

    def _add(self, reports: Mapping[int, Any]) -> None:
        for query, found in reports.items():
            if query not in self._curves:
                self._curves[query] = Curve(found, ended=True)

    def stops(self, curve: Curve, step: float, value: float) -> bool:
        """Add a report; whether the query is to end."""
        with self._lock:
            self._heard = True
            if curve.ended:
                return False
            curve.add(step, value)
            return self.rule.stops(curve, [c for c in self._curves.values() if c is not curve and c.values])

    def end(
        self, oracle: Learner, proposal: Proposal, query: int, curve: Curve, *, stopped: bool, failed: bool
    ) -> dict[str, Any]:
        """Note that a query has ended; returns its entries for the journal.

        Says once, after as many queries as the first step has, that none has reported anything.
        """
        with self._lock:
            curve.ended = True
        if not curve.values:
            self._silent += not failed
            if not self._heard and not failed and self._silent == self._first:
                warnings.warn(
                    f"`stopping={self.rule!r}` has nothing to decide by: {self._what} reported nothing in the first "
                    "step.",
                    stacklevel=2,
                )
            return {}
        proposal.learn(oracle, query, [list(pair) for pair in zip(curve.steps, curve.values, strict=True)])
        return {"reports": len(curve.values), **({"stopped": True} if stopped else {})}

    # ------------------------------------------------------------------------------------------- what an oracle learns

    @staticmethod
    def absorb(state: Reports, evidence: Mapping[int, Any]) -> Reports:
        """See `Oracle.absorb`."""
        return {**state, **{int(query): found for query, found in evidence.items()}}

    @staticmethod
    def save(state: Reports) -> dict[str, Any]:
        """See `Oracle.save`."""
        return {"reports": np.array(json.dumps(state))}

    @staticmethod
    def load(saved: Mapping[str, Any]) -> Reports:
        """See `Oracle.load`."""
        if "reports" not in saved:
            raise ValueError("The state was not saved by an oracle with a stopping rule.")
        return {int(query): found for query, found in json.loads(str(saved["reports"])).items()}
