"""What is particular to devices: how arrays get there, and how exactly products of matrices are made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from blackbox_zo._typing import Floats

__all__ = ["full_precision", "is_coarse", "sent", "uses_tf32", "weights_of"]


def sent(array: np.ndarray[Any, Any], device: torch.device) -> torch.Tensor:
    """An array as a tensor on a device. To CUDA through pinned memory: from any other, a copy waits for what runs."""
    tensor = torch.from_numpy(array)
    if device.type == "mps" and tensor.dtype is torch.float64:  # which it does not have
        tensor = tensor.float()
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def uses_tf32() -> bool:
    """Whether products of fp32 matrices on a GPU round their factors to TF32, which has ten bits after the first."""
    matmul = torch.backends.cuda.matmul
    try:
        return bool(matmul.allow_tf32)
    except RuntimeError:  # set through torch's newer name for it
        return str(matmul.fp32_precision) == "tf32"


@contextmanager
def full_precision() -> Iterator[None]:
    """Inside, products of fp32 matrices are not rounded to TF32: moves must not depend on that setting."""
    matmul = torch.backends.cuda.matmul
    if not uses_tf32():
        yield
        return
    try:
        old = bool(matmul.allow_tf32)
    except RuntimeError:
        old = None
    try:
        if old is None:
            matmul.fp32_precision = "ieee"
        else:
            matmul.allow_tf32 = False
        yield
    finally:
        if old is None:
            matmul.fp32_precision = "tf32"
        else:
            matmul.allow_tf32 = True


def is_coarse(p: torch.Tensor) -> bool:
    """Whether a model with such parameters computes about three digits: in 16-bit floats, or in TF32."""
    if p.element_size() == 2 or torch.is_autocast_enabled(p.device.type):
        return True
    return p.device.type == "cuda" and p.dtype is torch.float32 and uses_tf32()


def weights_of(w: Floats, device: torch.device) -> torch.Tensor:
    """Weights in fp32."""
    return sent(np.asarray(w, dtype=np.float32), device)
