"""How many queries and examples one forward pass of the model holds."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch

from blackbox_zo.modules import Module

__all__ = ["Passes", "batch_size", "is_out_of_memory", "on_device_of", "run_together", "tokens_in"]

T = TypeVar("T")

CPU_TOKENS = 1024
"""Tokens in one pass on a CPU: larger activations leave the cache, smaller passes read the weights too often."""


AT_ONCE = 16
"""Passes that may be under way at once, each with the activations of up to a thousand tokens."""


class Passes:
    """Splits n queries on B examples into forward passes.

    Args:
        micro_batch: Maximum examples in a pass, summed over its queries; None lets the device decide.

    Attributes:
        limit: The current maximum: `micro_batch`, halved whenever memory ran out; None is no limit.
        used: Examples in the latest pass.
    """

    def __init__(self, micro_batch: int | None) -> None:
        self.limit, self.used = micro_batch, 0

    def examples(self, batch: Any, size: int) -> int:
        """Maximum number of examples in a pass, summed over its queries."""
        if self.limit is not None:
            return self.limit
        tokens = tokens_in(batch, size)
        if tokens is None or _device(batch).type != "cpu":
            return 2**31
        return max(1, CPU_TOKENS // max(1, tokens))

    def plan(self, n: int, rows: int, most: int, together: bool = True) -> Iterator[tuple[slice, slice]]:
        """Passes as (queries, rows): as many rows as fit for a pair of queries, then as many queries as fit.

        What depends on the query alone is thus made for few queries at a time and reused for many rows.

        Args:
            n: Number of queries.
            rows: Rows that each query sees.
            most: The maximum, from `examples`.
            together: Whether a pass can hold several queries; otherwise it holds one, on as many rows as fit.
        """
        least = min(2, n, max(1, most)) if together else 1
        each = min(rows, max(1, most // least))
        queries = min(n, max(1, most // each)) if together else 1
        queries -= queries % 2 if queries < n and queries > 2 else 0  # pairs stay together
        for a in range(0, n, queries):
            for b in range(0, rows, each):
                yield slice(a, min(a + queries, n)), slice(b, min(b + each, rows))

    def fit(self, batch: Any, size: int, work: Callable[[int], T]) -> T:
        """Call `work(most)`; if memory runs out, warn and retry with half as many examples in a pass.

        Args:
            batch: The batch.
            size: Its number of examples.
            work: A function of the maximum from `examples`; it notes the size of each pass in `used`.
        """
        while True:
            self.used = 0
            try:
                return work(self.examples(batch, size))
            except Exception as error:
                if not is_out_of_memory(error) or self.used <= 1:
                    raise
            self.limit = self.used // 2
            warnings.warn(
                f"Out of memory with {self.used} examples in a pass; continuing with {self.limit}.", stacklevel=2
            )


def run_together(model: Any, tasks: Sequence[Callable[[], Any]]) -> None:
    """Run passes through a model; where its weights come and go, each is fetched once for many of them."""
    streamed: Module | None = vars(model).get("_zo_streamed")
    if streamed is not None:
        streamed.run_together(tasks, AT_ONCE)
        return
    for task in tasks:
        task()


def batch_size(batch: Any) -> int:
    """The number of examples: the first axis of the first tensor, or the length of the first list.

    Raises:
        TypeError: The batch holds neither.
    """
    for value in _values(batch):
        if isinstance(value, torch.Tensor) and value.dim():
            return value.shape[0]
        if isinstance(value, list) and value:
            return len(value)
    raise TypeError(f"A batch must hold a tensor whose first axis is the examples, got {batch!r:.80}.")


def tokens_in(batch: Any, size: int) -> int | None:
    """The padded length of the examples in tokens; None if the batch has no token ids of shape (B, T)."""
    for value in _values(batch):
        if isinstance(value, torch.Tensor) and value.dim() == 2 and not value.is_floating_point():
            return value.shape[1] if value.shape[0] == size else None
    return None


def _device(batch: Any) -> torch.device:
    return next((v.device for v in _values(batch) if isinstance(v, torch.Tensor)), torch.device("cpu"))


def _values(batch: Any) -> Iterator[Any]:
    inner = getattr(batch, "data", None)
    if isinstance(batch, torch.Tensor):
        yield batch
    elif isinstance(batch, dict):
        for value in batch.values():
            yield from _values(value)
    elif isinstance(inner, dict):  # transformers' BatchEncoding
        yield from _values(inner)
    elif isinstance(batch, tuple):
        for value in batch:
            yield from _values(value)
    elif isinstance(batch, list):
        if batch and isinstance(batch[0], torch.Tensor):
            yield from batch
        else:
            yield batch


def on_device_of(model: torch.nn.Module, batch: Any) -> Any:
    """A batch whose tensors on the CPU are moved to the model's device; those on another device stay where they are."""
    parameters = getattr(model, "parameters", tuple)  # a loss may be called with anything that is like a model
    device = next((p.device for p in parameters() if not p.is_meta), torch.device("cpu"))
    if device.type == "cpu":
        return batch

    def one(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.to(device) if value.device.type == "cpu" else value
        inner = getattr(value, "data", None)
        if isinstance(inner, dict) and not isinstance(value, dict):  # transformers' BatchEncoding
            return type(value)({k: one(v) for k, v in inner.items()})
        if isinstance(value, dict):
            return {k: one(v) for k, v in value.items()}
        if isinstance(value, tuple | list):
            parts = [one(v) for v in value]
            return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
        return value

    return one(batch)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the exception means out of memory, on any device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(said in text for said in _SAID)


_SAID = ("can't allocate memory", "out of memory", "cublas_status_alloc_failed", "cudnn_status_alloc_failed")
