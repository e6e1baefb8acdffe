"""`HybridOracle`: autograd for the top of a model, forward passes alone for what lies below."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import torch

from blackbox_zo.feedback import Feedback
from blackbox_zo.modules import Module, take_rows
from blackbox_zo.proposal import Proposal
from oracles.llm._oracle import Batches, Loss, LossOracle
from oracles.llm._passes import batch_size

__all__ = ["HybridOracle"]


class HybridOracle(LossOracle):
    """A `LossOracle` that also moves some parameters by their gradient, once a step.

    The queries of a step are answered first. Then one run of the batch, in which autograd records only what comes after
    the lowest of the optimiser's parameters, gives the gradient of the mean loss at x, and the optimiser makes its
    step. Choose parameters at the top of the model (the head, the last layers): the memory of their activations is
    then all that this adds. The search's `Module` holds the rest, or a part of it.

    The journal of a search does not tell what the optimiser did, so `Search.run` refuses to write one.

    Args:
        model: See `LossOracle`.
        batches: See `LossOracle`.
        loss: See `LossOracle`; it must be differentiable in the optimiser's parameters.
        optimizer: Of torch, over parameters that the search does not have. Its schedule stays the caller's.
        sweep: See `LossOracle`.
        directions_per: See `LossOracle`.
        micro_batch: See `LossOracle`; the gradient is gathered over runs of as many examples.
        reuse: See `LossOracle`.

    Raises:
        ValueError: An argument is out of its range.

    Example:
        >>> import torch, blackbox_zo as bz
        >>> from oracles.llm import HybridOracle
        >>> torch.manual_seed(0)  # doctest: +ELLIPSIS
        <torch._C.Generator object at ...>
        >>> model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
        >>> def loss(model, batch):
        ...     return (model(batch["x"])[:, 0] - batch["y"]) ** 2
        >>> x = torch.randn(32, 3)
        >>> top = torch.optim.Adam(model[2].parameters(), lr=0.03)
        >>> oracle = HybridOracle(model, [{"x": x, "y": x.sum(1)}], loss, top)
        >>> below = bz.Module(model, ["0.weight", "0.bias"])
        >>> search = bz.Search(below, bz.RandomVector(1e-3, 4, "lowrank"), bz.SGD(0.02))
        >>> reports = list(search.run(oracle, steps=100))
        >>> reports[-1].value < 0.1 * reports[0].value
        True
    """

    replayable: ClassVar[bool] = False

    def __init__(
        self,
        model: torch.nn.Module,
        batches: Batches,
        loss: Loss,
        optimizer: torch.optim.Optimizer,
        sweep: Literal["auto", "batched", "scratch"] = "auto",
        directions_per: Literal["step", "example"] = "step",
        *,
        micro_batch: int | None = None,
        reuse: bool | Literal["keep"] = True,
    ) -> None:
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TypeError(f"`HybridOracle(optimizer=...)` must be an optimiser of torch, got {optimizer!r:.60}.")
        super().__init__(model, batches, loss, sweep, directions_per, micro_batch=micro_batch, reuse=reuse)
        self.optimizer = optimizer
        self._moved: int | None = None

    def answer(self, proposal: Proposal) -> Feedback:
        """See `LossOracle.answer`. Then the optimiser makes its step, once for each proposal.

        Raises:
            ValueError: The search has a parameter of the optimiser's, the model has not, or the loss has no gradient.
        """
        top = self._top(proposal)
        feedback = super().answer(proposal)
        if self._moved != proposal.step and self._gradient(top, self.batch(proposal.step)):
            self.optimizer.step()
            self._moved = proposal.step
        return feedback

    def _moving(self, module: Module) -> dict[int, str]:
        top = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        return super()._moving(module) | {id(p): n for n, p in self.model.named_parameters() if id(p) in top}

    def _top(self, proposal: Proposal) -> list[torch.nn.Parameter]:
        top = [p for group in self.optimizer.param_groups for p in group["params"]]
        searched = {id(p): name for name, p in getattr(proposal.variable, "parameters", {}).items()}
        both = [searched[id(p)] for p in top if id(p) in searched]
        if both:
            raise ValueError(
                f"The search and the optimiser both have {both[0]!r}. Give `Module(select=...)` the lower part alone."
            )
        mine = {id(p) for p in self.model.parameters()}
        if any(id(p) not in mine for p in top):
            raise ValueError("The optimiser has a parameter that this model has not.")
        return top

    def _gradient(self, top: list[torch.nn.Parameter], batch: Any) -> bool:
        """Set the gradients of the mean loss; False if the loss is not finite."""
        size = batch_size(batch)

        def work(most: int) -> bool:
            self.optimizer.zero_grad()
            finite = True
            for a in range(0, size, most):
                rows = torch.arange(a, min(a + most, size))
                self.passes.used = len(rows)
                part = batch if len(rows) == size else take_rows(batch, rows, size, lambda t: t)
                values = self.loss(self.model, part)
                if not values.requires_grad:
                    raise ValueError("The loss has no gradient in the optimiser's parameters.")
                total = values.mean() * (len(rows) / size)
                finite = finite and bool(total.isfinite())
                total.backward()  # type: ignore[no-untyped-call]
                self.forwards += len(rows)
            return finite

        with torch.enable_grad(), _recorded(self.model, top):
            return self.passes.fit(batch, size, work)


@contextmanager
def _recorded(model: torch.nn.Module, top: list[torch.nn.Parameter]) -> Iterator[None]:
    """Inside, autograd follows some parameters alone."""
    before = [(p, p.requires_grad) for p in model.parameters()]
    chosen = {id(p) for p in top}
    try:
        for p, _ in before:
            p.requires_grad_(id(p) in chosen)
        yield
    finally:
        for p, wanted in before:
            p.requires_grad_(wanted)
