"""Samples with a temperature that are a function of (seed, step, example, sample number), whoever asks for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from blackbox_zo.randomness import Key

__all__ = ["GumbelNoise", "addresses_of"]


class GumbelNoise:
    """A logits processor of transformers: `z / temperature + g`; its argmax is a sample of `softmax(z / temperature)`.

    g is standard Gumbel noise, `-log E` with E ~ Exp(1) (the Gumbel-max trick; Maddison et al. 2014). It is drawn for
    an address, not from a stream: rows with the same address get the same noise, in any batch, pass or process.

    The address does not name the query, so all queries of a step share their noise (common random numbers). For token
    distributions p and q under two queries, the two samples then differ with probability at most `2 TV / (1 + TV)`, TV
    their total variation distance; with noise of their own they would differ even where p = q, and a difference of
    their rewards would mostly be noise. Its expectation is the same.

    Args:
        addresses: (seed, step, example, sample) of each row.
        temperature: Positive.
    """

    def __init__(self, addresses: Sequence[tuple[int, int, int, int]], temperature: float) -> None:
        self.temperature, self.token = temperature, 0
        self.unique = list(dict.fromkeys(addresses))
        place = {address: i for i, address in enumerate(self.unique)}
        self.rows = torch.tensor([place[address] for address in addresses])

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """The noisy logits of the next token, (rows, V). Each call is about the token after that of the call before."""
        g = torch.from_numpy(np.stack([_gumbel(*a, self.token, scores.shape[-1]) for a in self.unique]))
        self.token += 1
        return scores / self.temperature + g.to(scores.device, scores.dtype)[self.rows.to(scores.device)]


def _gumbel(seed: int, step: int, example: int, sample: int, token: int, size: int) -> NDArray[np.float32]:
    draw = Key(seed, step).generator(f"sample {sample} of example {example}, token {token}")
    e = draw.standard_exponential(size, dtype=np.float32)
    g: NDArray[np.float32] = -np.log(np.maximum(e, np.finfo(np.float32).tiny))
    return g


def addresses_of(batch: Mapping[str, Any], seed: int) -> list[tuple[int, int, int, int]]:
    """The address of each row of a batch that went through `Reward.prepare`."""
    columns = (batch[name].tolist() for name in ("step", "example_id", "sample"))
    return [(seed, *address) for address in zip(*columns, strict=True)]
