"""The values of a loss, one per example."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from blackbox_zo._typing import Floats
from blackbox_zo.modules._stacking import Unstackable

__all__ = ["per_example"]


def per_example(values: Any, count: int, mean_too: bool) -> Floats:
    """The values of a loss in fp64, shape (count,).

    Raises:
        TypeError: The loss returned another shape.
    """
    if not isinstance(values, torch.Tensor):
        raise TypeError(f"`loss(model, batch)` must return a tensor with one value per example, got {values!r:.60}.")
    flat = values.detach().cpu().double().numpy()  # MPS has no fp64
    if flat.shape == (count,):
        return np.asarray(flat)
    if mean_too and flat.ndim == 0:
        return np.full(count, float(flat))
    if flat.ndim == 0:
        raise Unstackable(
            "`loss(model, batch)` returned one number for the whole batch. Return one value per example, shape (B,), "
            "or use sweep='scratch'."
        )
    raise TypeError(
        f"`loss(model, batch)` returned shape {flat.shape} for {count} examples; it must be one value per example."
    )
