"""What is on the disk survives a kill, a full disk and damage, or says what is wrong."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import blackbox_zo as bz
from blackbox_zo.streaming import StoreError
from tests.blackbox_zo.streaming.models import loaded, same_weights, saved, values_of
from tests.disks import Ballast, small_disk

ESTIMATOR = bz.RandomVector(1e-3, 2, "lowrank")
NAME = "llama"

RUN = """
import sys
import torch
import blackbox_zo as bz
from tests.blackbox_zo.streaming.models import search_of

folder, weights, journal, steps = sys.argv[1:]
with bz.StreamedModule.from_pretrained(folder, weights=weights, log_structured=False) as x:
    search, oracle = search_of("llama", x, bz.RandomVector(1e-3, 2, "lowrank"), journal=journal)
    with search:
        print("ready", flush=True)
        for report in search.run(oracle, steps=int(steps) - search.moves):
            print(report.step, flush=True)
"""


def _damage(file: Path, at: int) -> None:
    with file.open("r+b") as handle:
        handle.seek(at)
        byte = handle.read(1)
        handle.seek(at)
        handle.write(bytes([byte[0] ^ 1]))


def _entry_file(x: bz.StreamedModule, number: int = 1) -> Path:
    return Path(x.store.folder) / f"{number:04d}.weights"  # type: ignore[attr-defined]


@pytest.mark.parametrize("budget", [None, "500kB"])
def test_a_resume_makes_no_move_again_that_the_folder_has(budget: str | None, tmp_path: Path) -> None:
    """Also of blocks that stay, and though the fingerprint has read all weights as they were at the start."""
    folder, model = saved(NAME, tmp_path / "model"), loaded(NAME, saved(NAME, tmp_path / "model"))
    values_of(NAME, bz.Module(model), ESTIMATOR, 5)
    run: dict[str, Any] = {"journal": tmp_path / "run.jsonl"}
    with bz.StreamedModule.from_pretrained(folder, weights=tmp_path / "moved", budget=budget) as x:
        values_of(NAME, x, ESTIMATOR, 5, **run)
    with bz.StreamedModule.from_pretrained(folder, weights=tmp_path / "moved", budget=budget) as x:
        applied: list[int] = []
        x.fingerprint()
        values_of(NAME, x, ESTIMATOR, 5, **run)
        own = x.pending.apply
        x.pending.apply = lambda since, *more: (applied.append(since), own(since, *more))[1]  # type: ignore[method-assign, func-returns-value]
        assert same_weights(x, model)
        assert not applied


def test_a_killed_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    """SIGKILL at whatever it is writing, three times over; the journal has every move, the folder most of them."""
    folder = saved(NAME, tmp_path / "model")
    command = [sys.executable, "-c", RUN, *map(str, (folder, tmp_path / "moved", tmp_path / "run.jsonl", 24))]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    for wanted in ("5", "11", "16"):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.strip() == wanted:
                    time.sleep(0.006)
                    process.send_signal(signal.SIGKILL)
                    break
            assert process.wait() == -signal.SIGKILL
    subprocess.run(command, check=True, env=env, stdout=subprocess.DEVNULL)
    model = loaded(NAME, folder)
    values_of(NAME, bz.Module(model), ESTIMATOR, 24)
    with bz.StreamedModule.from_pretrained(folder, weights=tmp_path / "moved") as x:
        values_of(NAME, x, ESTIMATOR, 24, journal=tmp_path / "run.jsonl")
        assert x.pending.first == 0
        assert all(x.store.version(entry, sure=False) == 24 for entry in x.entries)
        assert same_weights(x, model)


IN_A_WRITE = """
import sys, time
import blackbox_zo.streaming._disk as disk

own, moment, calls = disk._write, int(sys.argv.pop()), [0]

def write(handle, data, at):
    calls[0] += 1
    if calls[0] > 20 and calls[0] % 3 == moment:
        own(handle, bytes(data)[: len(data) // 2], at)
        print("in a write", flush=True)
        time.sleep(60)
    own(handle, data, at)

disk._write = write
"""


@pytest.mark.parametrize("moment", [0, 1, 2], ids=["in the new record", "blanking the old record", "in the weights"])
def test_a_run_killed_in_a_write_goes_on_to_the_same_bits(moment: int, tmp_path: Path) -> None:
    """SIGKILL with half of a write on the disk: the other version is whole, and the journal has what it lacks."""
    folder, model = saved(NAME, tmp_path / "model"), loaded(NAME, saved(NAME, tmp_path / "model"))
    values_of(NAME, bz.Module(model), ESTIMATOR, 24)
    given = list(map(str, (folder, tmp_path / "moved", tmp_path / "run.jsonl", 24)))
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", IN_A_WRITE + RUN, *given, str(moment)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        assert any(line.strip() == "in a write" for line in process.stdout)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    with bz.StreamedModule.from_pretrained(folder, weights=tmp_path / "moved") as x:
        there = [x.store.version(entry, sure=False) for entry in x.entries]
        assert 0 < min(there) and max(there) < 24
        values_of(NAME, x, ESTIMATOR, 24, journal=tmp_path / "run.jsonl")
        assert same_weights(x, model)


@pytest.mark.parametrize("kept", [True, False], ids=["with a folder", "without"])
def test_snapshots_are_for_what_keeps_no_moves(kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a folder for moved weights "auto" takes none; a number of moves is obeyed."""
    from blackbox_zo import _snapshot

    monkeypatch.setattr(_snapshot, "LEAST", 0.0)
    monkeypatch.setattr(_snapshot, "AT_END", 0.0)
    monkeypatch.setattr(_snapshot, "SPEED", 1e15)
    folder, weights = saved(NAME, tmp_path / "model"), tmp_path / "moved" if kept else None
    for name, every in (("auto", "auto"), ("two", 2)):
        journal: Any = bz.Journal(tmp_path / f"{name}.jsonl", snapshot_every=every)  # type: ignore[arg-type]
        with bz.StreamedModule.from_pretrained(folder, weights=weights) as x:
            values_of(NAME, x, ESTIMATOR, 4, journal=journal)
        assert bool(list(tmp_path.glob(f"{name}.jsonl.snapshot-*"))) == (not kept or every == 2)
        if kept:
            shutil.rmtree(tmp_path / "moved")


def test_a_torn_write_leaves_the_version_before(tmp_path: Path) -> None:
    """Of two versions the newer one is damaged: the older is read, and the moves after it are made again."""
    folder, model = saved(NAME, tmp_path / "model"), loaded(NAME, saved(NAME, tmp_path / "model"))
    values_of(NAME, bz.Module(model), ESTIMATOR, 4)
    run: dict[str, Any] = {"journal": tmp_path / "run.jsonl"}
    with bz.StreamedModule.from_pretrained(folder, weights=tmp_path / "moved") as x:
        values_of(NAME, x, ESTIMATOR, 4, **run)
        file, size = _entry_file(x), x.entries[1].nbytes
    # the first, the other one, and then both at once
    for i, damaged in enumerate(((0,), (1,), (0, 1))):
        for slot in damaged:
            _damage(file, 8192 + slot * (-(-size // 4096) * 4096) + size // 2 + i)
        with (
            bz.StreamedModule.from_pretrained(folder, weights=tmp_path / "moved") as x,
            warnings.catch_warnings(record=True) as seen,
        ):
            warnings.simplefilter("always")
            values_of(NAME, x, ESTIMATOR, 4, **run)
            assert same_weights(x, model)
            said = [str(w.message) for w in seen if "checksum" in str(w.message)]
            assert said or len(damaged) == 1, "one of them is the older one, which nobody reads"
            assert all("'model.layers.0'" in text for text in said)


def test_a_version_that_is_gone_ends_the_run(tmp_path: Path) -> None:
    """Where the moves after the older one are forgotten, only the journal has them."""
    folder = saved(NAME, tmp_path / "model")
    x = bz.StreamedModule.from_pretrained(folder, weights=tmp_path / "moved")
    values_of(NAME, x, ESTIMATOR, 4)
    x.settle()
    x.pending.forget(4)
    x.streamer.ring.drop()
    x.store.records[1] = [None, None]  # type: ignore[attr-defined]
    with pytest.raises(StoreError, match=r"Only 0 moves .* Resume from the journal"):
        list(x.whole())
    x.store.close()


def test_the_weights_of_another_run_are_refused(tmp_path: Path) -> None:
    """Their moves are others."""
    folder = saved(NAME, tmp_path / "model")
    with bz.StreamedModule.from_pretrained(folder, weights=tmp_path / "moved") as x:
        values_of(NAME, x, ESTIMATOR, 2)
    x = bz.StreamedModule.from_pretrained(folder, weights=tmp_path / "moved")
    with pytest.raises(StoreError, match="weights of another run"):
        values_of(NAME, x, bz.RandomVector(2e-3, 2, "lowrank"), 4)
    with pytest.raises(StoreError):
        x.close()


def test_a_folder_is_for_one_process_and_one_model(tmp_path: Path) -> None:
    """Opened twice, with another model, or where nothing can be written."""
    folder, moved = saved(NAME, tmp_path / "model"), tmp_path / "moved"
    with (
        bz.StreamedModule.from_pretrained(folder, weights=moved),
        pytest.raises(StoreError, match="in use by another process, or opened twice"),
    ):
        bz.StreamedModule.from_pretrained(folder, weights=moved)
    other = saved("llama tied", tmp_path / "other")
    with pytest.raises(StoreError, match="weights of another model"):
        bz.StreamedModule.from_pretrained(other, weights=moved)
    with pytest.raises(StoreError, match="another type of its numbers"):
        bz.StreamedModule.from_pretrained(folder, weights=moved, dtype=torch.bfloat16)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        bz.StreamedModule.from_pretrained(folder, weights=tmp_path / "file" / "moved")


def test_a_full_disk_is_named_and_loses_nothing(tmp_path: Path) -> None:
    """The run ends; with room again it goes on to the same bits."""
    folder, model = saved(NAME, tmp_path / "model"), loaded(NAME, saved(NAME, tmp_path / "model"))
    values_of(NAME, bz.Module(model), ESTIMATOR, 6)
    with small_disk(tmp_path / "disk", "4m") as disk:
        ballast, run = Ballast(disk), {"journal": tmp_path / "run.jsonl"}
        ballast.fill()
        with ballast.path.open("r+b") as file:
            file.truncate(ballast.path.stat().st_size - 300_000)  # room for one block, not for four
        x = bz.StreamedModule.from_pretrained(folder, weights=disk / "moved")
        with pytest.raises(OSError, match=r"cannot be written to .*No space left.*Make room, then resume"):
            values_of(NAME, x, ESTIMATOR, 6, **run)
        with pytest.raises(OSError, match="No space left"):
            x.close()
        ballast.release()
        with bz.StreamedModule.from_pretrained(folder, weights=disk / "moved") as x:
            values_of(NAME, x, ESTIMATOR, 6, **run)
            assert same_weights(x, model)
