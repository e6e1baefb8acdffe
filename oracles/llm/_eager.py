"""Compiled models run eagerly: a compiled graph reads the parameters where no query can displace them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["eagerly", "uncompiled"]


@contextmanager
def eagerly() -> Iterator[None]:
    """Within the context, what `torch.compile` has compiled runs eagerly; compiling itself costs nothing here."""
    if "torch._dynamo" not in sys.modules:  # nothing has been compiled, and loading the compiler takes seconds
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def uncompiled(model: torch.nn.Module) -> torch.nn.Module:
    """The model that `torch.compile(model)` wraps; any other model itself."""
    inner = getattr(model, "_orig_mod", model)
    return inner if isinstance(inner, torch.nn.Module) else model
