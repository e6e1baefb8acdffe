"""Machines: what their parts can do, each figure with where it comes from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

__all__ = ["DISKS", "LINKS", "MACHINES", "Figure", "Machine"]


class Figure(NamedTuple):
    """A number and where it comes from.

    Attributes:
        value: In bytes, bytes a second or operations a second.
        source: "given", "measured ...", "published ...", or "assumed ...".
    """

    value: float
    source: str


@dataclass(frozen=True)
class Machine:
    """A machine as the planner sees it.

    Attributes:
        name: Its name.
        flops: Operations a second that a step's passes reach, displacements included.
        move: Bytes of weights a second that one low-rank move changes.
        again: As `move`, for a move that was made before and is made again on weights from the store, if that differs.
        decode: Bytes of weights a second that come out of fewer bits, or of another type.
        disk: Bytes a second that are read from the disk.
        disk_write: Bytes a second that are written to it.
        link: Bytes a second from the host's memory to the device; None if the device is the CPU.
        link_back: The way back, at the same time.
        copy: Bytes a second from the host's memory to itself, where the device is the CPU.
        device_memory: Of the device.
        runtime: Bytes of it that the runtime takes before any weights.
        head_flops: As `flops`, of what lies outside the blocks, if that differs.
        cores: Cores that passes, reading and writing share where the device is the CPU; 0 shares nothing.
        threads: Threads of a pass on the CPU.
        host_memory: Of the host; None has as much as is needed.
    """

    name: str
    flops: Figure
    move: Figure
    decode: Figure
    disk: Figure
    disk_write: Figure
    link: Figure | None
    link_back: Figure | None
    copy: Figure
    device_memory: Figure
    runtime: Figure
    head_flops: Figure | None = None
    again: Figure | None = None
    cores: int = 0
    threads: int = 1
    host_memory: Figure | None = None

    def but(self, **figures: Figure | None) -> Machine:
        """The machine with other figures."""
        return replace(self, **figures)  # type: ignore[arg-type]

    def figures(self) -> dict[str, Figure]:
        """All figures by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Figure)}


_SHARE = 0.54
"""What a batched step's passes reached of the published peak: OPT-6.7B, 4,096 tokens, an H200 (llm_cuda.py)."""

_MOVED = 0.025
"""Bytes of weights moved a second over the published bandwidth, in the same run: 13.35 GB in 0.111 s, of 4.8 TB/s."""

_DECODED = 0.3
"""Bytes decoded a second over the published bandwidth: a byte is read and two are written, at nine tenths of it."""

_PCIE = 0.8
"""What copies from pinned memory reach of a link's rate."""

_NVME = 0.85
"""What large reads reach of a disk's rate."""


def _link(rate: float, name: str) -> Figure:
    return Figure(rate * _PCIE, f"published {rate / 1e9:.3g} GB/s each way ({name}) × {_PCIE}, assumed")


LINKS = {
    "pcie3": _link(15.75e9, "PCIe 3 x16"),
    "pcie4": _link(31.5e9, "PCIe 4 x16"),
    "pcie5": _link(63e9, "PCIe 5 x16"),
}
"""Links between host and device by name."""


def _disk(read: float, write: float, name: str) -> tuple[Figure, Figure]:
    return (
        Figure(read * _NVME, f"published {read / 1e9:.3g} GB/s ({name}) × {_NVME}, assumed"),
        Figure(write * _NVME, f"published {write / 1e9:.3g} GB/s ({name}) × {_NVME}, assumed"),
    )


DISKS = {
    "sata": _disk(0.56e9, 0.53e9, "SATA SSD"),
    "nvme3": _disk(3.5e9, 3.3e9, "NVMe, PCIe 3"),
    "nvme4": _disk(7.4e9, 6.9e9, "NVMe, PCIe 4"),
    "nvme5": _disk(14.5e9, 12.7e9, "NVMe, PCIe 5"),
}
"""Disks by name: what they read and write."""


_RUNTIME = Figure(1.5 * 2**30, "assumed, for CUDA and its libraries: what ZO2 publishes beyond its layout")
"""Of the seven sizes of OPT that ZO2's README has, this explains each within 7 % (benchmarks/plan.py)."""


def _card(name: str, peak: float, bandwidth: float, memory: float, link: str, disk: str, share: str) -> Machine:
    tera, tb = peak / 1e12, bandwidth / 1e12
    read, write = DISKS[disk]
    return Machine(
        name,
        flops=Figure(peak * _SHARE, f"published {tera:.4g} TFLOPS (dense bf16) × {_SHARE}, {share}"),
        move=Figure(bandwidth * _MOVED, f"published {tb:.3g} TB/s × {_MOVED}, {share}"),
        decode=Figure(bandwidth * _DECODED, f"published {tb:.3g} TB/s × {_DECODED}, assumed"),
        disk=read,
        disk_write=write,
        link=LINKS[link],
        link_back=LINKS[link],
        copy=Figure(10e9, "assumed"),
        device_memory=Figure(memory, "published"),
        runtime=_RUNTIME,
    )


_MEASURED = "measured on an H200 by benchmarks/llm_cuda.py"
_AS = "assumed to be that of an H200"

MACHINES = {
    "h200": _card("H200, PCIe 5, NVMe 5", 989.4e12, 4.8e12, 141e9, "pcie5", "nvme5", _MEASURED),
    "h100": _card("H100 SXM, PCIe 5, NVMe 5", 989.4e12, 3.35e12, 80 * 2**30, "pcie5", "nvme5", _AS),
    "h100-pcie": _card("H100 PCIe, PCIe 5, NVMe 4", 756e12, 2.0e12, 80 * 2**30, "pcie5", "nvme4", _AS),
    "a100": _card("A100 80 GB, PCIe 4, NVMe 4", 312e12, 2.04e12, 80 * 2**30, "pcie4", "nvme4", _AS),
    "4090": _card("RTX 4090, PCIe 4, NVMe 4", 165.2e12, 1.008e12, 24 * 2**30, "pcie4", "nvme4", _AS),
    "3090": _card("RTX 3090, PCIe 4, NVMe 4", 71e12, 0.936e12, 24 * 2**30, "pcie4", "nvme4", _AS),
}
"""Machines by name; `Machine.but` changes a part."""
