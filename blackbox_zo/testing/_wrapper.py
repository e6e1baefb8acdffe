"""`check_wrapper`: a wrapper passes on the state of the wrapped oracle and what it learns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from blackbox_zo._typing import Tree
from blackbox_zo.estimators import Estimator, RankBased
from blackbox_zo.feedback import Values
from blackbox_zo.oracle import Answers, Oracle
from blackbox_zo.proposal import Proposal
from blackbox_zo.testing._broken_runs import Drive
from blackbox_zo.testing._laws import require
from blackbox_zo.testing._learning import check_learning
from blackbox_zo.variables import Vector

__all__ = ["check_wrapper"]


class _Probe(Oracle):
    """Learns the sum of all its answers, and adds it; records which search's proposals it was asked about."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def start(self) -> float:
        return 0.0

    def answer(self, proposal: Proposal) -> Values:
        self.asked.append(proposal.moment.learning)
        values = np.add.reduce(proposal.points**2, axis=1)
        for i, value in zip(proposal.ids.tolist(), values.tolist(), strict=True):
            proposal.learn(self, i, value)
        return Values(values + proposal.state(self))

    def absorb(self, state: float, evidence: Mapping[int, Any]) -> float:
        return float(state + sum(evidence.values()))


class _Unreplayable(_Probe):
    not_replayable = "it says so"


def check_wrapper(wrap: Callable[[Oracle], Answers], x0: Tree, estimator: Estimator | None = None) -> None:
    """Check that a wrapper passes on the state of the wrapped oracle and what it learns.

    Args:
        wrap: Makes the wrapper around an oracle that answers `Values`, such as `lambda oracle: Repeat(oracle, 3)`.
        x0: Centre of the queries.
        estimator: The estimator, as for `check_learning`.

    Raises:
        AssertionError: The wrapped oracle is asked about proposals not made from the one that was given, or a law of
            `check_learning` does not hold.

    Example:
        >>> import numpy as np
        >>> from blackbox_zo.testing import check_wrapper
        >>> from blackbox_zo.wrappers import Repeat
        >>> check_wrapper(lambda oracle: Repeat(oracle, 3), np.ones(2))
    """
    probe = _Probe()
    drive = Drive(lambda: (wrap(probe), Vector(x0)), RankBased(0.1, 4) if estimator is None else estimator, None, 2)
    outer, search = drive.search()
    name = f"`{type(outer).__name__}`"
    proposal = search.ask()
    outer.answer(proposal)
    require(bool(probe.asked), f"{name} answers a first proposal without asking the wrapped oracle.")
    require(
        all(learning is proposal.moment.learning for learning in probe.asked),
        f"{name} asks the wrapped oracle about a proposal made from scratch, so that it finds no state and learns "
        "nothing. Make it from the one that was given, by `proposal.take` or `proposal.about`.",
    )
    for inside in (_Probe, _Unreplayable):
        check_learning(lambda inside=inside: (wrap(inside()), Vector(x0)), estimator)  # type: ignore[misc]
