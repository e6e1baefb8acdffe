"""What ranks run in tests of `LossOracle`: every case once, and what came of it."""

from __future__ import annotations

import json
import sys
from typing import Any, NamedTuple

import torch

import blackbox_zo as bz
from oracles.llm import LossOracle
from tests.oracles.llm.loss_helpers import RV, net, regression, squares


class Case(NamedTuple):
    """A run of a few steps.

    Attributes:
        estimator: The estimator.
        exact: Whether any number of ranks gives the bits of one process.
        more: Arguments of `LossOracle`.
        loss: The loss.
    """

    estimator: bz.Estimator
    exact: bool
    more: dict[str, Any]
    loss: Any = squares


def mixed(model: Any, batch: Any) -> torch.Tensor:
    """What no rank can take apart: each row's loss depends on the others."""
    values = squares(model, batch)
    return values * values.mean().sqrt()


def mean(model: Any, batch: Any) -> torch.Tensor:
    """One number for the rows."""
    return squares(model, batch).mean()


def partly(model: Any, batch: Any) -> torch.Tensor:
    """NaN on one row."""
    values = squares(model, batch)
    return torch.where(batch["y"] > 0.993, torch.nan, values)


def trouble(batch: Any, row: int) -> str:
    """Why it is."""
    return f"y is {float(batch['y'][row]):.4f}"


vars(partly)["trouble"] = trouble

CASES = {
    "pair, scratch": Case(RV(1e-2), True, {"sweep": "scratch", "micro_batch": 2}),
    "pair, rows": Case(RV(1e-2, 1, "lowrank"), True, {"micro_batch": 6}),
    "pair, rows, any pass": Case(RV(1e-2, 1, "lowrank"), False, {}),
    "several": Case(RV(1e-2, 3, "lowrank", "forward"), False, {}),
    "a direction an example": Case(RV(1e-2, 12, "lowrank"), True, {"directions_per": "example", "micro_batch": 6}),
    "forward, an example": Case(RV(1e-2, 6, "lowrank", "forward"), False, {"directions_per": "example"}),
    "groups": Case(RV(1e-2, 8, "lowrank", "relative", group=2), False, {"directions_per": "example"}),
    "mixes": Case(RV(1e-2, 3), True, {"sweep": "scratch"}, mixed),
    "a mean": Case(RV(1e-2, 2), True, {"sweep": "scratch"}, mean),
    "fails": Case(RV(1e-2), True, {"sweep": "scratch"}, partly),
}


def outcome(case: Case, ranks: bz.Ranks | None) -> dict[str, Any]:
    """The values of all steps, why the first query failed, the weights, the forwards, and the bytes of a step."""
    model, values = net(), []
    search = bz.Search(bz.Module(model), case.estimator, bz.SGD(1e-2))
    oracle = LossOracle(model, [regression()], case.loss, ranks=ranks, **case.more)
    info, sent = None, 0
    for _ in range(4):
        before = 0 if ranks is None else ranks.traffic.sent
        proposal = search.ask()
        answer = oracle.answer(proposal)
        assert isinstance(answer, bz.Values)
        info = answer.info[0] if answer.info else None
        values += answer.values.tolist()
        search.tell(proposal, answer)
        sent = 0 if ranks is None else ranks.traffic.sent - before
    return {"values": values, "info": info, "x": search.variable.digest(), "forwards": oracle.forwards, "sent": sent}


if __name__ == "__main__":
    torch.set_num_threads(1)
    with bz.Ranks(check_every=2) as ranks:
        found = {name: outcome(case, ranks) for name, case in CASES.items()}
        print(json.dumps(found))
        if sys.argv[1:] == ["too many"]:
            outcome(CASES["mixes"]._replace(estimator=RV(1e-2)), ranks)
