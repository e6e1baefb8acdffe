"""The queues of a device: what it is asked in one is done in order, and queues wait for marks of each other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

__all__ = ["Streams"]


class Streams:
    """The queues ("streams") of a device, of which each thread has a current one, and marks ("events") in them.

    Args:
        device: The device; torch must know streams of it.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def new(self) -> Any:
        """Another queue."""
        return torch.Stream(self.device)

    def on(self, stream: Any) -> AbstractContextManager[Any]:
        """Within the context, a queue is this thread's current one. Only one thread at a time may use it so."""
        found: AbstractContextManager[Any] = stream
        return found

    def run(self, work: Callable[[], Any]) -> None:
        """Ask for work in the current queue."""
        work()

    def record(self) -> Any:
        """A mark after all that the current queue was asked so far."""
        return torch.accelerator.current_stream(self.device).record_event()

    def wait(self, mark: Any) -> None:
        """Let the current queue wait for a mark. This thread does not."""
        torch.accelerator.current_stream(self.device).wait_event(mark)

    def finish(self, mark: Any) -> None:
        """Let this thread wait for a mark."""
        mark.synchronize()

    def same_order(self) -> Callable[[], None]:
        """A function that makes this thread's current queue another thread's."""
        stream = torch.accelerator.current_stream(self.device)
        return lambda: torch.accelerator.set_stream(stream)
