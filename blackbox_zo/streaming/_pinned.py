"""Memory of the host that a device reads and writes by itself."""

from __future__ import annotations

import errno
import mmap
from typing import Any

import torch

__all__ = ["HostMemory"]


class HostMemory:
    """Memory of the host of an exact size, page-locked if weights are to go from it to a device.

    One mapping, registered with CUDA once: torch's allocator of page-locked memory would round its size up to a power
    of two. Devices other than CUDA use that allocator.

    Args:
        size: Bytes.
        device: Where the weights go; for the CPU it is plain memory.

    Attributes:
        memory: The bytes; copies between them and the device can run while the host goes on.

    Raises:
        OSError: The memory cannot be page-locked.
    """

    def __init__(self, size: int, device: torch.device) -> None:
        self.registered = device.type == "cuda" and size > 0
        if not self.registered:
            self.memory = torch.empty(size, dtype=torch.uint8, pin_memory=device.type != "cpu" and size > 0)
            return
        self.memory = torch.frombuffer(mmap.mmap(-1, size), dtype=torch.uint8, count=size)
        with torch.cuda.device(device):
            code = int(_runtime().cudaHostRegister(self.memory.data_ptr(), size, 0))
        if code:
            raise OSError(
                errno.ENOMEM,
                f"{size / 2**30:.3g} GiB of the host's memory cannot be page-locked for {device} (CUDA error {code}). "
                "Free memory, or stream from the disk (store='disk').",
            )

    def close(self) -> None:
        """Give the memory back; no copy may be under way."""
        if self.registered:
            _runtime().cudaHostUnregister(self.memory.data_ptr())
            self.registered = False
        self.memory = torch.empty(0, dtype=torch.uint8)


def _runtime() -> Any:
    cuda: Any = torch.cuda
    return cuda.cudart()
