"""`HybridOracle`: backpropagation for the top of a model, forward passes alone below it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from blackbox_zo._typing import override
from blackbox_zo.feedback import Feedback
from blackbox_zo.modules import Module
from blackbox_zo.modules._stacking import take_rows
from blackbox_zo.proposal import Proposal
from oracles.llm._oracle import Batches, Chosen, Loss, LossOracle
from oracles.llm._passes import batch_size

__all__ = ["HybridOracle"]


class Top(NamedTuple):
    """What a `HybridOracle` learns: its sweep, and the optimiser's parameters and state."""

    chosen: Chosen
    parameters: list[torch.Tensor]
    optimizer: dict[str, Any]


class HybridOracle(LossOracle):
    """A `LossOracle` that also trains some parameters by backpropagation, one optimiser step per step of the search.

    First it answers the queries of a step. Then one forward and backward pass on the batch gives the gradient of the
    mean loss at x; autograd records only what follows the lowest of the optimiser's parameters. The optimiser steps
    when the search is told the answers. Choose parameters at the top of the model (the head, the last layers): the only
    extra memory is then their activations, a copy of them, and the optimiser's state. The search's `Module` holds the
    other parameters, or some of them.

    The optimiser's parameters and state belong to the search: `Search.state_dict` includes them, and after
    `load_state_dict` they are restored at the next answer, or by `put`. A journal does not hold them, so a search
    with a journal refuses this oracle.

    Args:
        model: See `LossOracle`.
        batches: See `LossOracle`.
        loss: As in `LossOracle`, and differentiable in the optimiser's parameters.
        optimizer: A torch optimiser of parameters that are not in the search. The caller steps its scheduler.
        sweep: See `LossOracle`.
        directions_per: See `LossOracle`.
        micro_batch: As in `LossOracle`; the gradient is accumulated over micro-batches.
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

    not_replayable = "its optimiser moves parameters by gradients, which a journal does not hold"

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
            raise TypeError(f"`HybridOracle(optimizer=...)` must be a torch optimiser, got {optimizer!r:.60}.")
        super().__init__(model, batches, loss, sweep, directions_per, micro_batch=micro_batch, reuse=reuse)
        self.optimizer = optimizer
        self._at: Top | None = None

    @override
    def answer(self, proposal: Proposal) -> Feedback:
        """The loss of each query, as in `LossOracle.answer`. The gradient is evidence, with which the optimiser steps.

        Raises:
            ValueError: One of the optimiser's parameters is in the search or not in the model, or the loss has no
                gradient.
        """
        self.put(proposal.state(self))
        top = self._top(proposal)
        feedback = super().answer(proposal)
        if self._gradient(top, self.batch(proposal.step)):
            gradients = [None if p.grad is None else p.grad.detach().clone() for p in top]
            proposal.learn(self, int(proposal.ids[-1]), {"gradients": gradients})
        return feedback

    # ------------------------------------------------------------------------------------------------- learning

    @override
    def start(self) -> Top:
        # The parameters and the optimiser as they are now
        parameters = [p.detach().clone() for p in self._moved()]
        self._at = Top(Chosen(self.sweep, ()), parameters, _copied(self.optimizer.state_dict()))
        return self._at

    @override
    def absorb(self, state: Top, evidence: Mapping[int, Any]) -> Top:
        # A step of the optimiser
        chosen = super().absorb(state.chosen, evidence)
        for gradients in (found["gradients"] for found in evidence.values() if "gradients" in found):
            self.put(state)
            for p, gradient in zip(self._moved(), gradients, strict=True):
                p.grad = gradient
            self.optimizer.step()
            state = self.start()
        new = state._replace(chosen=chosen)
        if self._at is state:
            self._at = new
        return new

    @override
    def save(self, state: Top) -> dict[str, Any]:
        out = super().save(state.chosen)
        out |= {f"top/{i}": bits_of(p) for i, p in enumerate(state.parameters)}
        for i, kept in state.optimizer["state"].items():
            for name, value in kept.items():
                if value is not None:
                    out[f"optimizer/{i}/{name}"] = bits_of(value) if isinstance(value, torch.Tensor) else value
        return out

    @override
    def load(self, saved: Mapping[str, Any]) -> Top:
        mine = self._moved()
        if sum(name.startswith("top/") for name in saved) != len(mine):
            raise ValueError("The state was saved by a `HybridOracle` whose optimiser has other parameters.")
        parameters = [tensor_of(saved[f"top/{i}"], p) for i, p in enumerate(mine)]
        kept: dict[int, dict[str, Any]] = {}
        for name in (name for name in saved if name.startswith("optimizer/")):
            _, i, field = name.split("/")
            value = saved[name]
            like = mine[int(i)] if np.shape(value) == tuple(mine[int(i)].shape) else None
            kept.setdefault(int(i), {})[field] = tensor_of(value, like) if isinstance(value, np.ndarray) else value
        groups = self.optimizer.state_dict()["param_groups"]
        return Top(super().load(saved), parameters, {"state": kept, "param_groups": groups})

    @override
    def _chosen(self, state: Any) -> Chosen:
        chosen: Chosen = state.chosen
        return chosen

    def _moved(self) -> list[torch.nn.Parameter]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    @torch.no_grad()
    def put(self, state: Top) -> None:
        """Restore the optimiser and its parameters from a state; the learning rates stay as the caller set them.

        `answer` calls this itself. To use the model after loading a search, without a further step:
        `oracle.put(search.state_of(oracle))`.

        Args:
            state: From `Search.state_of`.
        """
        if state is self._at:
            return
        for p, value in zip(self._moved(), state.parameters, strict=True):
            p.copy_(value)
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict(_copied({"state": state.optimizer["state"], "param_groups": groups}))
        self._at = state

    @override
    def _moving(self, module: Module) -> dict[int, str]:
        top = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        return super()._moving(module) | {id(p): n for n, p in self.model.named_parameters() if id(p) in top}

    def _top(self, proposal: Proposal) -> list[torch.nn.Parameter]:
        top = [p for group in self.optimizer.param_groups for p in group["params"]]
        searched = {id(p): name for name, p in getattr(proposal.variable, "parameters", {}).items()}
        both = [searched[id(p)] for p in top if id(p) in searched]
        if both:
            raise ValueError(
                f"The search and the optimiser both have {both[0]!r}. Leave it out of `Module(select=...)`."
            )
        mine = {id(p) for p in self.model.parameters()}
        if any(id(p) not in mine for p in top):
            raise ValueError("The optimiser has a parameter that is not in this model.")
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


def bits_of(tensor: torch.Tensor) -> Any:
    """A tensor as a numpy array, bit for bit; 16-bit types as int16, since numpy lacks some of them."""
    t = tensor.detach().cpu().contiguous()
    return (t.view(torch.int16) if t.element_size() == 2 else t).numpy().copy()


def tensor_of(array: Any, like: torch.Tensor | None) -> torch.Tensor:
    """The tensor of an array from `bits_of`, with the type and device of `like`."""
    t = torch.from_numpy(np.array(array))
    if like is None:
        return t
    if t.dtype is torch.int16:
        t = t.view(like.dtype)
    return t.to(like.device)


def _copied(state: Mapping[str, Any]) -> dict[str, Any]:
    """A deep copy of an optimiser's state."""
    return copy.deepcopy(dict(state))


@contextmanager
def _recorded(model: torch.nn.Module, top: list[torch.nn.Parameter]) -> Iterator[None]:
    """Within the context, autograd records only these parameters."""
    before = [(p, p.requires_grad) for p in model.parameters()]
    chosen = {id(p) for p in top}
    try:
        for p, _ in before:
            p.requires_grad_(id(p) in chosen)
        yield
    finally:
        for p, wanted in before:
            p.requires_grad_(wanted)
