"""How far each rater is believed, and what is doubtful."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from blackbox_zo._typing import Floats
from blackbox_zo.feedback import Ranking
from blackbox_zo.learning import Learner
from blackbox_zo.proposal import Proposal
from oracles.ranking.raters._reliability import Agreement, RaterModel
from oracles.ranking.study._answers import Closed
from oracles.ranking.study._study import Study

__all__ = ["Weights", "doubts", "model_of"]

RECENT = 10
"""Rounds of which the page tells how often the raters agree."""

PREDICTABLE = 100
"""Dimensions up to which a rater's answers are compared with what their earlier ones let expect."""

_log = logging.getLogger("blackbox_zo")


class Weights:
    """The newest model of the raters, and what follows from it.

    Args:
        raters: How many people answer each round.
        names: From the number of each rater to their name.

    Attributes:
        model: The model after the newest round.
        agreement: Share of recent comparisons in which the raters agreed; None if unknown.
    """

    def __init__(self, raters: int, names: Callable[[], Mapping[int, str]]) -> None:
        self.raters, self.names = raters, names
        self.model = RaterModel()
        self.agreement: float | None = None
        self._warned: set[str] = set()
        self._updated: tuple[RaterModel, Any] | None = None  # what `model` was computed from

    def after(self, state: RaterModel, evidence: Mapping[int, Any]) -> RaterModel:
        """The model after a step, from the one before it."""
        for told in evidence.values():
            worked_out = self._updated is not None and state is self._updated[0] and told is self._updated[1]
            state = self.model if worked_out else _updated(state, told)
        return state

    def weighed(self, oracle: Learner, proposal: Proposal, known: RaterModel, closed: Closed) -> Ranking:
        """The answers as one ranking, each rater weighted by their reliability so far."""
        if not closed.said:
            return closed.ranking
        evidence = _evidence(closed, proposal.points)
        said = evidence[0]
        proposal.learn(oracle, int(proposal.ids[0]), evidence)
        self.model = model = _updated(known, evidence)
        self._updated = known, evidence
        recent = model.disagreement[-RECENT:]
        if np.isfinite(recent).any():
            self.agreement = 1.0 - float(np.nanmean(recent))
        for warning in self.warnings():
            kind = re.sub(r"[\d.,]+", "", warning)  # its figures change with every round
            if kind not in self._warned:
                self._warned.add(kind)
                _log.warning("Rater %s", warning)
        return model.merge(said) if self.raters > 1 else closed.ranking

    def warnings(self) -> list[str]:
        """What makes answers doubtful, in sentences that begin with a rater's name; see `RaterModel.warnings`."""
        return doubts(self.model, self.names())

    def facts(self) -> dict[str, Any]:
        """For the researcher's page."""
        model = self.model
        retest = {name: _agreed(model.retest(name)) for name in model.raters}
        checks = {name: model.checks(name) for name in model.raters}
        return {"weights": model.weights, "warnings": self.warnings(), "retest": retest, "checks": checks}


def doubts(model: RaterModel, names: Mapping[int, str]) -> list[str]:
    """The warnings of a model whose raters are numbers, by their names."""
    found = (text.partition(": ") for text in model.warnings())
    return [f"{names.get(int(who), who) if who.isdecimal() else who}: {what}" for who, _, what in found]


def model_of(study: Study) -> RaterModel:
    """The model after all rounds of a study that are over."""
    model = RaterModel()
    for round_, closed in study.over():
        if closed.said:
            model = _updated(model, _evidence(closed, study.store.rounds.points(round_)))
    return model


def _agreed(found: Agreement) -> dict[str, Any] | None:
    return None if not found.n else {"tau": found.tau, "n": found.n}


def _evidence(closed: Closed, points: Floats | None) -> Any:
    """What a round says of its raters: their answers, and those to checks and repeated rounds since the one before."""
    said = {str(rater): ranking for rater, ranking in closed.said.items()}
    seconds = {str(rater): time for rater, time in closed.seconds.items()}
    shown = {str(rater): order for rater, order in closed.shown.items()}
    return said, seconds, points if points is not None and points.shape[1] <= PREDICTABLE else None, shown, closed.extra


def _updated(model: RaterModel, evidence: Any) -> RaterModel:
    said, seconds, points, shown, extra = evidence
    for e in extra:
        name = str(e.rater)
        earlier = {} if e.earlier is None else {name: e.earlier}
        model = model.update({name: e.said}, {name: e.seconds}, check=e.known, repeats=earlier, shown={name: e.shown})
    return model.update(said, seconds, points=points, shown=shown)
