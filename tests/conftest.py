"""For all tests: how many processes run them; and Ctrl-C reaches the programs they start, also from the background."""

import os
import signal
from collections.abc import Generator
from pathlib import Path

import pytest

from .disks import failing_disk as failing_disk

signal.signal(signal.SIGINT, signal.default_int_handler)  # such a shell has it ignored, and children inherit that

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # before numpy; more would fight the other workers for CPUs
    os.environ.setdefault(threads, "1")

MOST_WORKERS = 8
"""Each takes half a gigabyte, and the longest file a tenth of the time that one process takes for all."""


@pytest.hookimpl(optionalhook=True, wrapper=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> Generator[None, int, int]:
    """A worker a CPU for the whole suite; none where a file or folder is named, or where output is looked at (`-s`)."""
    found = yield
    tests = Path(__file__).parent
    whole = any(tests.is_relative_to((config.invocation_params.dir / name).resolve()) for name in config.args)
    return min(found, MOST_WORKERS) if whole and config.getoption("capture") != "no" else 0


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Workers begin with the tutorials, pages and programs, which take long, and end with the core's small tests."""
    if hasattr(config, "workerinput"):
        files = list(dict.fromkeys(item.path for item in items))
        items.sort(key=lambda item: -files.index(item.path))
