"""What every benchmark here shares: a description of the machine, and a place for the result."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def machine() -> dict[str, Any]:
    """Processor, cores, load and versions, so that a figure can be read later."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }


def save(script: str, result: dict[str, Any]) -> None:
    """Write the result beside the script and print it."""
    result = {"machine": MACHINE, **result, "load_after": round(os.getloadavg()[0], 2)}
    path = Path(script).with_suffix(".json")
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def cpu(task: Callable[[], Any]) -> float:
    """CPU seconds of one call, user and system."""
    start = time.process_time()
    task()
    return time.process_time() - start


def interleaved(tasks: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Median over `rounds` of what each task returns, the tasks taking turns so that all meet the same machine."""
    seen: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            seen[name].append(task())
    return {name: statistics.median(values) for name, values in seen.items()}


MACHINE = machine()
