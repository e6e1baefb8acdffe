"""MeZO's published loop, written anew from its paper (Malladi et al. 2023, algorithm 1), to measure against.

Four passes over the weights a step, each drawing the Gaussian direction again from the global generator: +1, -2, +1 and
the move. As in the published code, each pass makes new tensors rather than changing them in place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch

__all__ = ["MeZO"]


class MeZO:
    """One step of MeZO at a time.

    Args:
        parameters: What is tuned.
        lr: eta.
        eps: The radius.
        seed: Of the steps' seeds.
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter], lr: float, eps: float = 1e-3, seed: int = 0) -> None:
        self.parameters = list(parameters)
        self.lr, self.eps = lr, eps
        self.seeds = np.random.default_rng(seed)

    def perturb(self, seed: int, scale: float) -> None:
        """`theta <- theta + scale eps z`."""
        torch.manual_seed(seed)
        for p in self.parameters:
            z = torch.normal(mean=0, std=1, size=p.data.size(), device=p.data.device, dtype=p.data.dtype)
            p.data = p.data + scale * z * self.eps

    @torch.no_grad()
    def step(self, loss: Callable[[], torch.Tensor]) -> float:
        """One step; the loss at `theta + eps z`.

        Args:
            loss: The mean loss of the batch at the present weights.
        """
        seed = int(self.seeds.integers(1_000_000_000))
        self.perturb(seed, 1)
        up = float(loss())
        self.perturb(seed, -2)
        down = float(loss())
        self.perturb(seed, 1)
        g = (up - down) / (2 * self.eps)
        torch.manual_seed(seed)
        for p in self.parameters:
            z = torch.normal(mean=0, std=1, size=p.data.size(), device=p.data.device, dtype=p.data.dtype)
            p.data = p.data - self.lr * (g * z)
        return up
