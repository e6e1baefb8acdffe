"""Snapshots where the disk is full, or the process is killed while one is written."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

import blackbox_zo as bz
from blackbox_zo.journal._snapshots import Snapshots

from ..disks import Ballast, FailingDisk, failing_disk, small_disk

__all__ = ["failing_disk"]

D = 4000  # a snapshot takes 32 kB for x alone

CODE = f"""
import blackbox_zo as bz, numpy as np
def go(n, every):
    journal = bz.Journal(sys.argv[1], snapshot_every=every)
    with bz.Search(np.ones({D}), bz.RandomVector(0.1), bz.SGD(1e-4), seed=1, journal=journal) as s:
        for i, report in enumerate(s.run(bz.FunctionOracle(lambda x: float(x @ x)), n)):
            print(i, flush=True)
            yield s
"""


def search(path: Path, every: int) -> bz.Search:
    journal = bz.Journal(path, snapshot_every=every)
    return bz.Search(np.ones(D), bz.RandomVector(0.1), bz.SGD(1e-4), seed=1, journal=journal)


def steps(path: Path, n: int, every: int = 0) -> bz.Search:
    with search(path, every) as s:
        list(s.run(bz.FunctionOracle(lambda x: float(x @ x)), n))
    return s


def test_a_run_killed_while_it_writes_a_snapshot_resumes_from_the_one_before(
    failing_disk: Path, tmp_path: Path
) -> None:
    path = tmp_path / "run.jsonl"
    disk = FailingDisk(failing_disk, tmp_path, on="snapshot-partial")
    disk.set()
    code = CODE + "for s in go(9, 3):\n    if s.steps == 5: faults('slow 60000')\n"
    with subprocess.Popen(disk.command(code, path), env=disk.environment, stdout=subprocess.PIPE) as process:
        partial = tmp_path / "run.jsonl.snapshot-partial"
        deadline = time.monotonic() + 60
        while not (list(Snapshots(path).found()) == [3] and partial.exists() and partial.stat().st_size > 8 * D):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    assert partial.exists() and list(Snapshots(path).found()) == [3]
    with search(path, 3) as s:
        assert s.moves == 6 and not partial.exists()  # the move was told before
    whole = steps(tmp_path / "whole.jsonl", 9)
    resumed = steps(path, 3, every=3)
    assert np.array_equal(resumed.x, whole.x)
    assert path.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_on_a_full_disk_the_run_goes_on_and_nothing_of_the_snapshot_is_left(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "3m") as folder:
        path, ballast = folder / "run.jsonl", Ballast(folder)
        a = steps(path, 5, every=3)
        before = Snapshots(path).found()
        (folder / "ballast").write_bytes(bytes(os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize - 16384))
        with (
            pytest.warns(UserWarning, match=r"The snapshot after move 8 could not be written \(No space left"),
            search(path, 3) as s,
        ):
            list(s.run(bz.FunctionOracle(lambda x: float(x @ x)), 3))
            s._keeper = None  # nothing at the end
        assert Snapshots(path).found() == before and not list(folder.glob("*partial*"))
        ballast.release()
        b = steps(path, 3, every=3)
        assert list(Snapshots(path).found()) == [9, 11]
        whole = steps(tmp_path / "whole.jsonl", 11)
        assert a.moves == 5 and b.moves == 11 and np.array_equal(b.x, whole.x)
        assert path.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


@pytest.mark.parametrize("fault", ["room 30000", "write 5", "fsync 5"])
def test_a_disk_that_takes_no_snapshot_leaves_the_run_and_its_last_snapshots_alone(
    failing_disk: Path, tmp_path: Path, fault: str
) -> None:
    path = tmp_path / "run.jsonl"
    disk = FailingDisk(failing_disk, tmp_path, on="snapshot-partial")
    disk.environment["PYTHONWARNINGS"] = "always"
    disk.set()
    done = disk.run(CODE + f"for s in go(9, 2):\n    if s.steps == 4: faults('{fault}')\n", path)
    assert done.returncode == 0 and done.stdout.split() == list("012345678")
    said = done.stderr.count("could not be written")
    assert said == 1 and "The snapshot after move 6 could not be written" in done.stderr
    assert list(Snapshots(path).found()) == [2, 4] and not list(tmp_path.glob("*partial*"))
    s, whole = steps(path, 1), steps(tmp_path / "whole.jsonl", 10)
    assert np.array_equal(s.x, whole.x) and path.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_snapshot_is_on_the_disk_before_it_has_its_name_and_the_journal_before_it(
    failing_disk: Path, tmp_path: Path
) -> None:
    path, log = tmp_path / "run.jsonl", tmp_path / "log"
    disk = FailingDisk(failing_disk, tmp_path, on="snapshot-partial")
    disk.set(f"log {log}")
    disk.run(CODE + "import time\nfor s in go(2, 2):\n    time.sleep(0.5); Path('.').resolve()\n", path)
    flushed = [Path(line).name for line in log.read_text().splitlines()]
    at = flushed.index("run.jsonl.snapshot-partial")
    assert flushed[at - 1] == "run.jsonl" and flushed[at + 1] == tmp_path.name
