"""A file system that fails under the journal: what is said, what stays as it was, and what a resume finds."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import blackbox_zo as bz
from blackbox_zo._typing import Floats

from ..disks import Ballast, FailingDisk, read_only, small_disk

BLOCK = 4096


def bowl(x: Floats) -> float:
    return float(((x - 1.0) ** 2).sum())


def search(path: Path | bz.Journal | None, estimator: bz.Estimator | None = None, **options: Any) -> bz.Search:
    return bz.Search(np.zeros(4), estimator or bz.RandomVector(0.1, 3), bz.Adam(0.05), journal=path, **options)


def answer(s: bz.Search, p: bz.Proposal) -> None:
    s.tell(p, bz.Values([bowl(x) for x in p.points]))


def steps(s: bz.Search, n: int) -> bz.Search:
    for _ in range(n):
        answer(s, s.ask())
    return s


def state(s: bz.Search) -> dict[str, Any]:
    return {name: np.asarray(value).tobytes() for name, value in s.state_dict().items()}


def lines(path: Path) -> list[bytes]:
    whole = path.read_bytes()
    assert whole.endswith(b"\n")
    return whole.splitlines()


# ------------------------------------------------------------------------------------------------------ a full disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk") as folder:
        yield folder


@pytest.mark.parametrize("in_parts", [False, True])
def test_a_disk_that_fills_up_stops_the_search_where_it_stands_and_room_lets_it_go_on(
    disk: Path, in_parts: bool
) -> None:
    """In mid-line: the disk takes the head of a line, and then no more."""
    path, ballast, twin = disk / "run.jsonl", Ballast(disk), search(None, seed=3)
    refused, short = 0, 0
    with search(path, seed=3) as s:
        steps(s, 3), steps(twin, 3)
        ballast.fill()
        for _ in range(60):
            p, q = s.ask(), twin.ask()
            for i in p.ids if in_parts else (p.ids,):
                ids = np.atleast_1d(i)
                values = bz.Values([bowl(p.points[j - p.ids[0]]) for j in ids])
                before = state(s)
                try:
                    s.tell(p, values, ids)
                except OSError as error:
                    refused += 1
                    short += "took only" in str(error)
                    assert error.errno == errno.ENOSPC and str(path) in str(error)
                    assert re.search(
                        r"cannot be written: No space left|took only \d+ of \d+ bytes; is the disk", str(error)
                    )
                    assert state(s) == before
                    assert len(lines(path)) - 1 == (s.nfev - 18 + 3 if in_parts else s.moves)
                    ballast.release()
                    s.tell(p, values, ids)
                    ballast.fill()
                twin.tell(q, values, ids)
            assert state(s) == state(twin)
    assert refused and short
    ballast.release()
    with search(path, seed=3) as resumed:
        assert state(steps(resumed, 2)) == state(steps(twin, 2))


def test_a_full_disk_is_no_fault_of_fun_and_minimize_goes_on_once_there_is_room(disk: Path) -> None:
    path, ballast = disk / "run.jsonl", Ballast(disk)

    def fun(x: Floats) -> float:
        calls.append(x)
        if len(calls) == 30:
            ballast.fill()
        return bowl(x)

    for on_error in ("raise", "fail", "skip"):
        calls: list[Floats] = []
        ballast.release()
        path.unlink(missing_ok=True)
        with pytest.raises(OSError, match=r"Journal '.*run.jsonl' (cannot be written|took only)") as error:
            bz.minimize(fun, np.zeros(4), budget=2000, journal=path, on_error=on_error)
        assert "fun" not in str(error.value) and not getattr(error.value, "__notes__", None)
        told = len(lines(path)) - 1
        assert told == len(calls) - 1  # all but the one answer that found no room
    ballast.release()
    r = bz.minimize(bowl, np.zeros(4), budget=200, journal=path)
    unbroken = bz.minimize(bowl, np.zeros(4), budget=200)
    np.testing.assert_array_equal(r.center, unbroken.center)
    assert (r.fun, r.nfev) == (unbroken.fun, 200)


@pytest.mark.parametrize("ahead", [0, 2])
def test_a_run_on_a_full_disk_goes_on_with_the_same_search(disk: Path, ahead: int) -> None:
    path, ballast, calls = disk / "run.jsonl", Ballast(disk), [0]

    def fun(x: Floats) -> float:
        calls[0] += 1
        if calls[0] == 40:
            ballast.fill()
        return bowl(x)

    unbroken = search(None)
    bz.Run(unbroken, bz.FunctionOracle(bowl), steps=100, ahead=ahead).to_the_end()
    with search(
        bz.Journal(path, settings={"note": "x" * (150 + 100 * ahead)})
    ) as s:  # so that it is full in the middle of a step
        run = bz.Run(s, bz.FunctionOracle(fun), steps=100, ahead=ahead)
        with pytest.raises(OSError, match="Journal"):
            run.to_the_end()
        assert run.ended is bz.Ended.RAISED and run.oracle_error is None and "Journal" in run.message
        answered = s.nfev
        assert answered % 6 and answered < 600
        ballast.release()
        left = 100 - s.moves
        bz.Run(s, bz.FunctionOracle(fun), steps=left, ahead=ahead).to_the_end()
        assert state(s) == state(unbroken)
    assert calls[0] == 600 + 1  # the one that found no room is asked again
    with search(path) as resumed:
        assert state(steps(resumed, 1)) == state(steps(unbroken, 1))


def test_a_measure_that_finds_no_room_is_taken_again(disk: Path) -> None:
    path, ballast = disk / "run.jsonl", Ballast(disk)

    def long(s: bz.Search) -> dict[str, Any]:
        if s.moves == 2 and not s.measured[-1].step == 2 and not tried:
            ballast.fill()
            tried.append(True)
        return {"f": bowl(np.asarray(s.x)), "note": "x" * 2 * BLOCK}

    tried: list[bool] = []
    measures = [bz.Measure("long", long)]
    with search(path) as s:
        with pytest.raises(OSError, match="Journal"):
            bz.Run(s, bz.FunctionOracle(bowl), steps=4, measures=measures).to_the_end()
        assert (s.moves, [m.step for m in s.measured]) == (2, [0, 1])
        ballast.release()
        bz.Run(s, bz.FunctionOracle(bowl), steps=2, measures=measures).to_the_end()
        assert [m.step for m in s.measured] == [0, 1, 2, 3, 4]
        assert state(s) == state(steps(search(None), 4))
    with search(path) as resumed:
        assert [m.values for m in resumed.measured] == [m.values for m in s.measured]


def test_a_disk_without_room_for_the_header_leaves_nothing_that_hinders(disk: Path) -> None:
    ballast, path = Ballast(disk), disk / "run.jsonl"
    path.touch()
    ballast.fill()
    with pytest.raises(OSError, match=r"Journal '.*run.jsonl' (cannot be written: No space left|took only)"):
        search(path)
    ballast.release()
    with search(path) as s:
        steps(s, 2)
    with search(path) as resumed:
        assert resumed.nfev == 12


# --------------------------------------------------------------------------------------- a disk with errors of its own

PROBLEM = """
import json, time, numpy as np, blackbox_zo as bz
path = sys.argv[1]
bowl = lambda x: float(((x - 1.0) ** 2).sum())
search = lambda path, **options: bz.Search(np.zeros(4), bz.RandomVector(0.1, 3), bz.Adam(0.05), journal=path, **options)
def answer(s, p):
    s.tell(p, bz.Values([bowl(x) for x in p.points]))
def state(s):
    return {name: np.asarray(value).tobytes().hex() for name, value in s.state_dict().items()}
def refused(do):
    try:
        do()
    except OSError as error:
        return [type(error).__name__, error.errno, str(error)]
    raise SystemExit("not refused")
"""


@pytest.fixture
def failing(failing_disk: Path, tmp_path: Path) -> FailingDisk:
    return FailingDisk(failing_disk, tmp_path, on="run.jsonl")


def said(process: subprocess.CompletedProcess[str]) -> Any:
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def test_a_short_write_is_taken_back(failing: FailingDisk, tmp_path: Path) -> None:
    code = """
with search(path) as s:
    answer(s, s.ask())
    p, before, size = s.ask(), state(s), os.stat(path).st_size
    faults(f"room {size + 10}")
    said = [refused(lambda: answer(s, p)) for _ in range(2)]
    same = state(s) == before and os.stat(path).st_size == size
    faults("write 28")
    said.append(refused(lambda: answer(s, p)))
    faults()
    answer(s, p)
print(json.dumps([said, same, s.moves]))
"""
    path = tmp_path / "run.jsonl"
    (first, second, full), same, moves = said(failing.run(PROBLEM + code, path))
    assert first == second and first[1] == errno.ENOSPC and "took only 10 of" in first[2]
    assert full[1] == errno.ENOSPC and f"Journal '{path}' cannot be written: No space left on device" in full[2]
    assert same and moves == 2
    with search(path) as resumed:
        assert state(resumed) == state(steps(search(None), 2))


def test_a_flush_that_fails_ends_the_writing_at_the_next_answer(failing: FailingDisk, tmp_path: Path) -> None:
    code = """
s = search(path)
answer(s, s.ask())
faults("fsync 5")
moves, said, before = 1, None, None
while said is None:
    p = s.ask()
    before = state(s)
    try:
        answer(s, p)
    except OSError as error:
        said = [type(error).__name__, error.errno, str(error)]
    time.sleep(0.01)
again = refused(lambda: answer(s, p))
measured = refused(lambda: s.record(bz.Measured("m", s.moves, {"m": 1.0})))
print(json.dumps([said, again, measured, refused(s.close), state(s) == before, s.moves, [m.name for m in s.measured]]))
"""
    path = tmp_path / "run.jsonl"
    *errors, same, moves, measured = said(failing.run(PROBLEM + code, path))
    assert errors == [errors[0]] * 4
    assert errors[0][1] == errno.EIO
    assert (
        f"Journal '{path}' accepts no more answers: it could not be flushed to disk (Input/output error)"
        in errors[0][2]
    )
    assert same and moves > 1 and measured == []
    with search(path) as resumed:
        assert state(resumed) == state(steps(search(None), moves))


@pytest.mark.parametrize("at", ["header", "close", "minimize", "run"])
def test_every_way_to_a_failed_flush_names_the_journal(failing: FailingDisk, tmp_path: Path, at: str) -> None:
    code = {
        "header": 'faults("fsync 5"); said = refused(lambda: search(path))',
        "close": 's = search(path); answer(s, s.ask()); time.sleep(0.5); faults("fsync 5"); said = refused(s.close)',
        "minimize": """
def fun(x):
    faults("fsync 5")
    time.sleep(0.01)
    return bowl(x)
said = refused(lambda: bz.minimize(fun, np.zeros(4), budget=300, journal=path, on_error="fail"))
""",
        "run": """
s = search(path)
def fun(x):
    faults("fsync 5")
    time.sleep(0.01)
    return bowl(x)
run = bz.Run(s, bz.FunctionOracle(fun), steps=50)
said = refused(run.to_the_end)
assert run.ended is bz.Ended.RAISED and run.oracle_error is None, run.message
refused(s.close)
""",
    }[at]
    kind, number, text = said(failing.run(PROBLEM + code + "\nprint(json.dumps(said))", tmp_path / "run.jsonl"))
    assert (kind, number) == ("OSError", errno.EIO)
    assert re.fullmatch(
        r"\[Errno 5\] Journal '.*run\.jsonl' accepts no more answers: it could not be flushed .* from the file\.", text
    )


def test_a_power_cut_loses_what_was_answered_in_the_last_moment_alone(failing: FailingDisk, tmp_path: Path) -> None:
    """What is on the disk is what `fsync` was called for, and not what the system holds in memory."""
    code = """
s = search(path)
while True:
    p = s.ask()
    answer(s, p)
    print(time.monotonic(), s.moves, flush=True)
    time.sleep(0.02)
"""
    path, disk = tmp_path / "run.jsonl", tmp_path / "disk"
    failing.set(f"keep {disk}")
    process = subprocess.Popen(
        failing.command(PROBLEM + code, path), env=failing.environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    told = []
    for line in process.stdout:
        told.append((float(line.split()[0]), int(line.split()[1])))
        if len(told) == 60:
            break
    process.kill()
    cut = time.monotonic()
    process.communicate()
    path.write_bytes(disk.read_bytes())
    with search(path) as resumed:
        old = [moves for at, moves in told if at < cut - 0.5]  # 0.1 s is promised; the machine may be busy
        assert old and resumed.moves >= old[-1]
        moves = resumed.moves
        assert state(steps(resumed, 3)) == state(steps(search(None), moves + 3))


def test_what_is_written_while_a_flush_is_under_way_is_flushed_by_another(failing: FailingDisk, tmp_path: Path) -> None:
    code = """
s = search(path)
faults("keep " + path + ".disk", "slow 400")
answer(s, s.ask())
time.sleep(0.3)  # the flush has begun: 0.1 s after the step, and for 0.4 s
answer(s, s.ask())
disk, until = Path(path + ".disk"), time.monotonic() + 20
def flushed():
    return disk.exists() and disk.read_text() == Path(path).read_text()
while not flushed() and time.monotonic() < until:
    time.sleep(0.05)
print(json.dumps(flushed()), flush=True)
os._exit(0)  # nothing is closed
"""
    assert said(failing.run(PROBLEM + code, tmp_path / "run.jsonl")) is True


@pytest.mark.parametrize("end", ["header", "close"])
def test_the_header_and_the_end_are_on_the_disk_at_once(failing: FailingDisk, tmp_path: Path, end: str) -> None:
    code = """
faults("keep " + path + ".disk")
s = search(path)
if sys.argv[2] == "close":
    answer(s, s.ask())
    p = s.ask()
    s.tell(p, bz.Values([1.0]), p.ids[:1])
    s.close()
print(json.dumps(Path(path + ".disk").read_text() == Path(path).read_text()), flush=True)
os._exit(0)
"""
    assert said(failing.run(PROBLEM + code, tmp_path / "run.jsonl", end)) is True


def test_the_name_of_a_new_file_is_on_the_disk_too(failing: FailingDisk, tmp_path: Path) -> None:
    failing.set(f"log {tmp_path / 'flushed'}")
    done = failing.run(PROBLEM + "search(path).close()", tmp_path / "run.jsonl")
    assert done.returncode == 0, done.stderr
    assert str(tmp_path) in (tmp_path / "flushed").read_text().splitlines()


# ------------------------------------------------------------------------------------------------------- a torn page


def journal_of(path: Path, n: int) -> bytes:
    with search(path) as s:
        for _ in range(n):
            p = s.ask()
            for i in range(p.n):
                s.tell(p, bz.Values([bowl(p.points[i])], info=[{"note": "a line that is not short"}]), p.ids[i : i + 1])
    return path.read_bytes()


def resumes(path: Path, whole: bytes) -> None:
    """What is left of a damaged file is continued as the run was, to the same file."""
    n = len(whole.splitlines()) // 6
    with search(path) as s:
        assert s.nfev < 6 * n
        while s.moves < n:
            p = s.ask()
            for i in range(p.n):
                s.tell(p, bz.Values([bowl(p.points[i])], info=[{"note": "a line that is not short"}]), p.ids[i : i + 1])
        assert state(s) == state(steps(search(None), n))
    assert path.read_bytes() == whole


@pytest.mark.parametrize("torn", ["zeros", "partly", "short"])
def test_a_last_page_that_did_not_reach_the_disk_is_dropped(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "run.jsonl"
    whole = journal_of(path, 27)
    page = len(whole) // BLOCK * BLOCK
    assert page >= BLOCK and len(whole) - page > 300
    old = page + 150
    path.write_bytes(
        {
            "zeros": whole[:page] + bytes(len(whole) - page),
            "partly": whole[:old] + bytes(len(whole) - old),
            "short": whole[:page],
        }[torn]
    )
    resumes(path, whole)


def test_a_header_whose_second_page_is_lost_is_as_good_as_no_file(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"

    def wide() -> bz.Search:
        return bz.Search(np.linspace(0, 1, 400), bz.RandomVector(0.1, 3), journal=path)

    wide().close()
    whole = path.read_bytes()
    assert len(whole) > BLOCK + 100
    path.write_bytes(whole[:BLOCK] + bytes(len(whole) - BLOCK))
    wide().close()
    assert path.read_bytes() == whole


def test_a_page_lost_in_the_middle_is_refused_by_its_line_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    whole = journal_of(path, 27)
    damaged = whole[:BLOCK] + bytes(BLOCK) + whole[2 * BLOCK :]
    path.write_bytes(damaged)
    line = whole[:BLOCK].count(b"\n") + 1
    with pytest.raises(bz.JournalError, match=rf"'.*run.jsonl' is damaged at line {line}: .* start a new journal"):
        search(path)
    with pytest.raises(bz.JournalError, match=f"damaged at line {line}"):
        list(bz.read_journal(path))
    assert path.read_bytes() == damaged


# ---------------------------------------------------------------------------------- files that are closed to writing


def test_a_read_only_folder_is_named_and_its_journal_can_still_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    folder.mkdir()
    with search(folder / "run.jsonl") as s:
        steps(s, 2)
    with read_only(folder):
        for make in (lambda p: search(p), lambda p: bz.minimize(bowl, np.zeros(4), journal=p)):
            for name in ("run.jsonl", "new.jsonl") if os.geteuid() == 0 else ("new.jsonl",):
                with pytest.raises(OSError, match=rf"{name}'$") as error:
                    make(folder / name)
                assert error.value.errno in (errno.EROFS, errno.EACCES)
        assert sum(len(a.ids) for a in bz.read_journal(folder / "run.jsonl").answers()) == 12
        assert not (folder / "new.jsonl").exists()
    with search(folder / "run.jsonl") as resumed:
        assert state(resumed) == state(steps(search(None), 2))


def test_a_read_only_file_is_refused_by_its_name() -> None:
    """By another user than root, whom permission bits do not stop."""
    with tempfile.TemporaryDirectory() as folder:  # one that the other user can look into
        Path(folder).chmod(0o755)
        path = Path(folder) / "run.jsonl"
        with search(path) as s:
            steps(s, 1)
        path.chmod(0o444)
        code = """
import os, sys, numpy as np, blackbox_zo as bz
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    bz.Search(np.zeros(4), bz.RandomVector(0.1, 3), bz.Adam(0.05), journal=sys.argv[1])
except PermissionError as error:
    print(error)
"""
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)],
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(__file__).parents[2],
        )
        assert done.stdout == f"[Errno 13] Permission denied: '{path}'\n", done.stderr


# ----------------------------------------------------------------------------------------- what others do to the file


def gone(path: Path) -> None:
    path.unlink()


def replaced(path: Path) -> None:
    other = path.with_suffix(".other")
    other.write_bytes(path.read_bytes())
    other.replace(path)


def moved(path: Path) -> None:
    path.rename(path.with_suffix(".moved"))


def shortened(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(10)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (gone, "it was deleted, moved or replaced"),
        (replaced, "it was deleted, moved or replaced"),
        (moved, "it was deleted, moved or replaced"),
        (shortened, "another program has shortened it"),
    ],
)
@pytest.mark.parametrize("at_the_end", [False, True])
def test_a_file_that_another_program_took_is_noticed(
    tmp_path: Path, harm: Callable[[Path], None], words: str, at_the_end: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a relative path, and a program that changes its folder
    path = Path("run.jsonl")
    s = steps(search(path), 3)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    time.sleep(0.4)
    harm(tmp_path / path)
    if not at_the_end:
        with pytest.raises(OSError, match=rf"Journal 'run.jsonl' accepts no more answers: {words}\. Resume the run"):
            for _ in range(300):
                p = s.ask()
                before = state(s)
                answer(s, p)
                time.sleep(0.01)
        assert state(s) == before
    with pytest.raises(OSError, match=words):
        s.close()


def test_a_program_that_changes_its_folder_keeps_its_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    s = steps(search(Path("run.jsonl")), 1)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    time.sleep(0.3)
    steps(s, 1).close()
    assert len(lines(tmp_path / "run.jsonl")) == 3


def test_a_lock_that_is_held_is_named_by_every_front_and_ends_with_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    code = PROBLEM + "s = search(path)\nanswer(s, s.ask())\nprint('held', flush=True)\ntime.sleep(60)"
    holder = subprocess.Popen(
        [sys.executable, "-c", "import sys\n" + code, str(path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        before = path.read_bytes()
        for take in (search, lambda p: bz.minimize(bowl, np.zeros(4), journal=p, on_error="fail")):
            with pytest.raises(
                bz.JournalLocked, match=r"Journal '.*run.jsonl' is being written by another search. Wait"
            ):
                take(path)
        assert path.read_bytes() == before
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.communicate()
    with search(path) as s:
        assert state(s) == state(steps(search(None), 1))


def test_a_file_system_without_locks_is_not_taken_for_another_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS without its lock daemon; there is none here, so `flock` itself answers as it would."""
    import fcntl

    def none(fd: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.raises(OSError, match=r"cannot be locked \(No locks available\)\. Keep it on a disk of this machine"):
        search(tmp_path / "run.jsonl")
