"""What the tests of `LossOracle` share: two losses, their batches, and their values by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

import blackbox_zo as bz
from blackbox_zo._typing import Floats
from oracles.llm import LossOracle

from ...blackbox_zo.modules.helpers import made, written

RV = bz.RandomVector
TWO = RV(0.05, 2, "lowrank")


def loss(model: Any, batch: Any) -> torch.Tensor:
    """Cross-entropy of the label after the last token."""
    z = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, -1]
    return nn.functional.cross_entropy(z, batch["label"], reduction="none")


def texts(size: int = 6, seed: int = 0) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    mask = torch.ones(size, 5, dtype=torch.int64)
    mask[::2, :2] = 0
    ids = torch.randint(1, 40, (size, 5), generator=g) * mask
    return {"input_ids": ids, "attention_mask": mask, "label": torch.randint(0, 40, (size,), generator=g)}


def regression(size: int = 12) -> dict[str, torch.Tensor]:
    x = torch.randn(size, 4, generator=torch.Generator().manual_seed(3))
    return {"x": x, "y": torch.sin(x.sum(1))}


def squares(model: Any, batch: Any) -> torch.Tensor:
    return (model(batch["x"])[:, 0] - batch["y"]) ** 2  # type: ignore[no-any-return]


def net() -> Any:
    return made(lambda: nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1)))()


def ask(model: Any, estimator: bz.Estimator = TWO, select: Any = "all", seed: int = 0) -> bz.Proposal:
    return bz.Search(bz.Module(model, select), estimator, bz.SGD(0.1), seed=seed).ask()


def answered(oracle: LossOracle, proposal: bz.Proposal) -> Floats:
    feedback = oracle.answer(proposal)
    assert isinstance(feedback, bz.Values)
    return feedback.values


@torch.no_grad()
def by_hand(proposal: bz.Proposal, batch: Any, of: Callable[[Any, Any], torch.Tensor]) -> Floats:
    """The loss of each example under each query, shape (n, B)."""
    assert isinstance(proposal.variable, bz.Module)
    models = [written(proposal.variable, proposal.queries, i) for i in range(proposal.n)]
    return np.array([of(model, batch).double().numpy() for model in models])


class Runs:
    """A loss that notes how many rows each run has."""

    def __init__(self, of: Callable[[Any, Any], torch.Tensor]) -> None:
        self.of, self.rows = of, list[int]()

    def __call__(self, model: Any, batch: Any) -> torch.Tensor:
        self.rows.append(len(next(iter(batch.values()))))
        return self.of(model, batch)
