"""`as_autograd`: a black box inside a torch graph. Torch is imported only here, and only when it is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from blackbox_zo._checks import check_seed
from blackbox_zo._number import number, numbers
from blackbox_zo.errors import FeedbackError
from blackbox_zo.estimators import Estimator
from blackbox_zo.feedback import Values
from blackbox_zo.randomness import Key
from blackbox_zo.steps import Step
from blackbox_zo.variables import Vector

if TYPE_CHECKING:
    import torch

__all__ = ["as_autograd"]


def as_autograd(
    fun: Callable[[torch.Tensor], Any], estimator: Estimator, *, seed: int = 0, vectorized: bool = False
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Wrap a black box so that torch can differentiate through it; the backward pass queries it.

    Forward is `fun(x)`. Backward estimates the gradient at x with `estimator`, and multiplies it by the incoming
    gradient. Each backward pass draws new directions, the same in every run with this seed, from a fresh state of the
    estimator. There are no second derivatives.

    Args:
        fun: From a detached tensor, of x's shape, dtype and device, to one number. With `vectorized`, from n of them
            stacked to n numbers.
        estimator: Any that takes values.
        seed: Determines all randomness.
        vectorized: See `fun`; the forward pass then calls it with n = 1.

    Returns:
        A function of one tensor, giving a scalar tensor of the same dtype and device.

    Raises:
        ImportError: torch is not installed.
        ValueError: `estimator` needs more than one step for an estimate (residual feedback).
        FeedbackError: `estimator` takes no values.
        TypeError: `fun` gives no number.
        RuntimeError: Second derivatives are taken.

    Example:
        >>> import torch
        >>> import blackbox_zo as bz
        >>> f = bz.as_autograd(lambda x: float((x**2).sum()), bz.Coordinatewise(1e-3))
        >>> x = torch.ones(3, dtype=torch.float64, requires_grad=True)
        >>> f(x * 2).backward()
        >>> [round(g, 6) for g in x.grad.tolist()]
        [8.0, 8.0, 8.0]
    """
    import torch

    if Values not in estimator.accepts:
        raise FeedbackError(f"Cannot use `{type(estimator).__name__}` with `as_autograd`: it takes no values.")
    if estimator.warmup:
        raise ValueError("`as_autograd` needs an estimate from one step; residual feedback needs two. Use `central`.")
    count, seed = 0, check_seed(seed)

    def ask(points: torch.Tensor) -> Any:
        if vectorized:
            return numbers(fun(points), len(points))
        return np.array([number(fun(point)) for point in points])

    class BlackBox(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            ctx.save_for_backward(x)
            return torch.tensor(ask(x.detach().clone()[None])[0], dtype=x.dtype, device=x.device)

        @staticmethod
        def backward(ctx: Any, grad_output: torch.Tensor) -> torch.Tensor:
            nonlocal count
            (x,) = ctx.saved_tensors
            variable = Vector(x.detach().double().cpu().numpy())
            state = estimator.start(variable)
            queries = estimator.sample(state, variable, Key(seed, count))
            count += 1
            points = torch.as_tensor(variable.points(queries).copy()).to(x.dtype).to(x.device)
            values = Values(ask(points.reshape(-1, *x.shape)))
            _, estimate = estimator.estimate(state, variable, queries, values)
            return once(grad_output * _like(estimate, x), x)

    class Once(torch.autograd.Function):
        """Passes a gradient on. Differentiated again, it refuses, for the estimate would count as a constant."""

        @staticmethod
        def forward(ctx: Any, gradient: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
            return gradient.clone()

        @staticmethod
        def backward(ctx: Any, grad_output: torch.Tensor) -> Any:
            raise RuntimeError("`as_autograd` has no second derivatives: a gradient estimate cannot be differentiated.")

    def _like(estimate: Step, x: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(estimate.dense()).to(x.dtype).to(x.device).reshape(x.shape)

    once: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = Once.apply
    apply: Callable[[torch.Tensor], torch.Tensor] = BlackBox.apply
    return apply
