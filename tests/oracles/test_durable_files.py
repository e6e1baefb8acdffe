"""What the command line writes beside journals, on disks that fail: whole or not at all, and told in a sentence."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import blackbox_zo as bz
from oracles import _files
from oracles._files import appearing, appearing_folder, write
from oracles.cli.main import main

from ..disks import Ballast, FailingDisk, read_only, small_disk
from .helpers import arguments, cli, environment
from .test_cli_report import command_run

pytest.importorskip("matplotlib")

OLD = b"what was there before"
CLI = "from oracles.cli.main import main; sys.exit(main(sys.argv[1:]))"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"ballast"}


# ------------------------------------------------------------------------------------------------------- by themselves


def test_a_file_has_the_permissions_of_a_plain_one_and_an_older_one_keeps_its_own(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write(tmp_path / "new.txt", "é")
        with appearing_folder(tmp_path / "folder") as partial:
            (partial / "a").write_bytes(b"a")
    finally:
        os.umask(before)
    assert (tmp_path / "new.txt").read_bytes() == "é".encode()
    assert stat.S_IMODE((tmp_path / "new.txt").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o750
    (tmp_path / "new.txt").chmod(0o600)
    write(tmp_path / "new.txt", b"again")
    assert stat.S_IMODE((tmp_path / "new.txt").stat().st_mode) == 0o600
    assert names(tmp_path) == {"new.txt", "folder"}


def test_nobody_meets_half_a_file_and_an_exception_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 250 + ".txt")  # nearly the longest name there can be
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), appearing(path) as partial:
            partial.write_bytes(b"half")
            assert not path.exists() and partial.suffix == ".txt" and partial.parent == tmp_path
            raise error
        with pytest.raises(error), appearing_folder(tmp_path / "folder") as partial:
            (partial / "a").write_bytes(b"half")
            assert not (tmp_path / "folder").exists()
            raise error
        assert names(tmp_path) == set()
    path.write_bytes(OLD)
    with appearing(path) as partial:
        partial.write_bytes(b"new")
        assert path.read_bytes() == OLD
    assert path.read_bytes() == b"new" and names(tmp_path) == {path.name}


def test_a_folder_is_replaced_by_its_last_file_last_or_not_at_all(tmp_path: Path) -> None:
    whole = tmp_path / "folder"
    whole.mkdir()
    for name in ("a", "mark", "kept"):
        (whole / name).write_bytes(OLD)
    with pytest.raises(OSError, match=r"folder' cannot be written: Directory not empty"), appearing_folder(whole):
        pass
    with appearing_folder(whole, last="mark") as partial:
        for name in ("a", "mark", "z"):
            (partial / name).write_bytes(b"new")
        assert (whole / "a").read_bytes() == OLD
    assert {path.name: path.read_bytes() for path in whole.iterdir()} == {
        "a": b"new", "mark": b"new", "z": b"new", "kept": OLD,
    }  # fmt: skip
    (whole / "x").mkdir()
    with pytest.raises(OSError, match="Is a directory"), appearing_folder(whole, last="mark") as partial:
        for name in ("a", "mark", "x"):
            (partial / name).write_bytes(b"newer")
    assert (whole / "mark").read_bytes() == b"new"
    assert names(tmp_path) == {"folder"}


def test_links_stay_links_and_pipes_are_written_to(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link, target = tmp_path / "link.json", tmp_path / "elsewhere" / "target.json"
    link.symlink_to(target)
    for data in (b"first", b"second"):
        write(link, data)
        assert link.is_symlink() and target.read_bytes() == data
    run = bz.minimize(lambda x: float(x @ x), np.ones(2), budget=20, journal=tmp_path / "run.jsonl")
    piped = cli("export", tmp_path / "run.jsonl", "-o", "/dev/stdout")
    assert piped.returncode == 0 and f'"value": {run.fun!r}' in piped.stdout


def test_errors_about_other_files_are_told_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: '.*other'$"), appearing(tmp_path / "a"):
        (tmp_path / "other").read_bytes()
    with pytest.raises(FileNotFoundError, match=r"'.*none/a' cannot be written: No such file or directory$"):
        write(tmp_path / "none" / "a", "")
    with pytest.raises(IsADirectoryError, match=str(tmp_path)):
        write(tmp_path, "")


def test_what_appears_is_on_the_disk_before_it_does(failing_disk: Path, tmp_path: Path) -> None:
    """A power cut after the replacement finds a whole file: it was flushed under its first name, then its folder."""
    code = """
from oracles._files import appearing_folder, write
write(sys.argv[1] + "/a.txt", "whole")
with appearing_folder(sys.argv[1] + "/folder") as partial:
    (partial / "b.txt").write_text("whole")
"""
    disk = FailingDisk(failing_disk, tmp_path, "out")
    (tmp_path / "out").mkdir()
    disk.set(f"log {tmp_path / 'flushed'}")
    done = disk.run(code, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    flushed = [Path(line).relative_to(tmp_path) for line in (tmp_path / "flushed").read_text().splitlines()]
    file, folder, inside, itself, again = flushed
    assert file.name.startswith(".partial-") and file.suffix == ".txt"
    assert folder == again == Path("out")
    assert inside == itself / "b.txt" and itself.name.startswith(".partial-")


WRITER = """
import sys, time
from pathlib import Path
from oracles._files import appearing, appearing_folder
make = appearing_folder if sys.argv[2] == "folder" else appearing
with make(sys.argv[1]) as partial:
    (partial / "half" if sys.argv[2] == "folder" else partial).write_bytes(b"half")
    print("writing", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_writer_left_goes_with_the_next_write_and_what_a_live_one_writes_stays(
    kind: str, tmp_path: Path
) -> None:
    def begin(name: str) -> subprocess.Popen[str]:
        words = [sys.executable, "-c", WRITER, str(tmp_path / name), kind]
        writer = subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None and writer.stdout.readline() == "writing\n"
        return writer

    def end(writer: subprocess.Popen[str]) -> None:
        writer.kill()
        writer.communicate()

    def save() -> None:
        if kind == "file":
            write(tmp_path / "a.txt", b"whole")
        else:
            with appearing_folder(tmp_path / "a.txt", last="half") as partial:
                (partial / "half").write_bytes(b"whole")

    end(begin("a.txt"))
    (left,) = names(tmp_path)
    end(begin("b.txt"))
    (other,) = names(tmp_path) - {left}
    live = begin("a.txt")
    try:
        assert len(names(tmp_path)) == 2  # the live one deleted what was left as it began
        (held,) = names(tmp_path) - {other}
        for _ in range(2):
            save()
            assert names(tmp_path) == {"a.txt", held, other}
    finally:
        end(live)
    save()
    assert names(tmp_path) == {"a.txt", other}


def test_writers_of_one_file_do_not_take_each_other_for_dead(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom oracles._files import appearing_folder, write\n"
        "for i in range(200):\n"
        "    write(sys.argv[1] + '/a.txt', b'whole')\n"
        "    with appearing_folder(sys.argv[1] + '/folder', last='a') as partial:\n"
        "        (partial / 'a').write_bytes(b'whole')\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path)]
    writers = [subprocess.Popen(words, env=environment(), stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [writer.communicate()[1] for writer in writers] == [""] * 4
    assert names(tmp_path) == {"a.txt", "folder"} and names(tmp_path / "folder") == {"a"}


def test_what_another_deletes_before_it_is_locked_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another writer sees it without a lock, takes it for left behind, and is about to delete it."""
    real, seen, others = _files._locked, list[Path](), list[threading.Thread]()

    def locked(path: Path, wait: bool = False) -> int | None:
        if not seen:
            other = real(path)
            assert other is not None

            def clean_up() -> None:
                path.rmdir()
                os.close(other)

            others.append(threading.Timer(0.2, clean_up))
            others[0].start()
            seen.append(path)
        return real(path, wait)

    monkeypatch.setattr(_files, "_locked", locked)
    with appearing_folder(tmp_path / "folder") as partial:
        others[0].join()
        (partial / "a").write_bytes(b"whole")
    assert names(tmp_path) == {"folder"} and partial not in seen


# -------------------------------------------------------------------------------------------------- the command line


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Journals of a command, a function, a training and a fine-tuning; and the store of a study."""
    folder = tmp_path_factory.mktemp("made")
    command_run(folder / "command.jsonl", budget=12)
    bz.minimize(lambda x: float(x @ x), np.ones(3), budget=30, journal=folder / "function.jsonl")
    return folder


@pytest.fixture(scope="module")
def policy(made: Path) -> Path:
    pytest.importorskip("gymnasium")
    pytest.importorskip("onnx")
    path = made / "policy.jsonl"
    words = ["train-policy", "--env", "CartPole-v1", "--policy", "linear", "--steps", "1", "--evaluate", "1"]
    assert main([*words, "--workers", "1", "--quiet", "--journal", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def store(made: Path) -> Path:
    pytest.importorskip("sqlalchemy")
    from oracles.ranking.study._store import Store

    kept = Store(made / "study.db")
    round_ = kept.rounds.open(0, np.zeros((2, 2)), 1)
    rater = kept.people.add("you")
    with kept.write() as c:
        kept.add(c, round_.id, rater, "rank", {"groups": [[0], [1]]}, shown_order=[0, 1])
    kept.close()
    return made / "study.db"


@pytest.fixture(
    params=[
        *(f"report command {end}" for end in ("html", "png")),
        *(f"export {of} json" for of in ("command", "function")),
        *(f"export policy {end}" for end in ("npz", "onnx")),
        *(f"answers store {end}" for end in ("csv", "json")),
    ]
)
def output(request: pytest.FixtureRequest, made: Path) -> tuple[list[str], str]:
    """The words of a command without its last, the output; and that one's name."""
    verb, of, end = request.param.split()
    source = request.getfixturevalue(of) if of in ("policy", "store") else made / f"{of}.jsonl"
    return [verb, str(source), "-o"], f"out.{end}"


def refused(code: int, error: str, path: Path, reason: str) -> None:
    """One sentence, by the name that the user gave."""
    assert code == 2
    assert error.count("\n") == 1 and error.startswith("blackbox-zo: ") and "Traceback" not in error
    assert f"{str(path)!r} cannot be written: {reason}" in error


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", "4m") as folder:
        yield folder


def test_a_full_disk_keeps_an_older_file_and_takes_the_new_one_when_there_is_room(
    disk: Path, output: tuple[list[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    words, name = output
    path, ballast = disk / name, Ballast(disk)
    path.write_bytes(OLD)
    ballast.fill()
    capsys.readouterr()
    refused(main([*words, str(path)]), capsys.readouterr().err, path, "No space left on device")
    assert path.read_bytes() == OLD and names(disk) == {name}
    ballast.release()
    path.unlink()
    ballast.fill()
    assert main([*words, str(path)]) == 2
    assert names(disk) == set()
    ballast.release()
    assert main([*words, str(path)]) == 0
    assert path.read_bytes() != OLD and names(disk) == {name}


def test_a_read_only_folder_is_named(
    tmp_path: Path, output: tuple[list[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    words, name = output
    folder = tmp_path / "archive"
    folder.mkdir()
    with read_only(folder):
        capsys.readouterr()
        code = main([*words, str(folder / name)])
        error = capsys.readouterr().err
        assert names(folder) == set()
    reason = os.strerror(errno.EACCES if os.geteuid() else errno.EROFS)
    refused(code, error, folder / name, reason)


@pytest.mark.parametrize("fault", ["fsync 5", "write 5", "room 20"])
def test_a_failing_write_or_flush_keeps_an_older_file(
    failing_disk: Path, tmp_path: Path, output: tuple[list[str], str], fault: str
) -> None:
    words, name = output
    folder = tmp_path / "failing"
    folder.mkdir()
    (folder / name).write_bytes(OLD)
    failing = FailingDisk(failing_disk, tmp_path, "/failing/")
    failing.set(fault)
    done = failing.run(CLI, *words, folder / name)
    reason = os.strerror(errno.ENOSPC if fault == "room 20" else errno.EIO)
    refused(done.returncode, done.stderr, folder / name, reason)
    assert (folder / name).read_bytes() == OLD and names(folder) == {name}


# ------------------------------------------------------------------------------------------------- the end of a run


@pytest.fixture
def program(tmp_path: Path) -> list[str]:
    (tmp_path / "program.py").write_text("import sys\nprint(float(sys.argv[1]) ** 2)\n")
    return ["minimize", "--param", "x=-1:1", "--budget", "8", "--quiet", "--run", "{python} program.py {x}"]


def test_a_run_whose_report_finds_no_room_says_where_its_journal_is(
    disk: Path, tmp_path: Path, program: list[str]
) -> None:
    Ballast(disk).fill()
    done = cli(*program, "--journal", "run.jsonl", "--report", disk / "out.html", cwd=tmp_path)
    refused(done.returncode, done.stderr, disk / "out.html", "No space left on device")
    assert done.stdout.splitlines()[-1] == "to see it: blackbox-zo report run.jsonl"
    assert names(disk) == set()
    assert cli("report", "run.jsonl", cwd=tmp_path).returncode == 0


def test_a_training_whose_policy_finds_no_room_says_how_to_save_it(disk: Path, tmp_path: Path) -> None:
    pytest.importorskip("gymnasium")
    ballast, path = Ballast(disk), disk / "policy.npz"
    ballast.fill()
    words = ["train-policy", "--env", "CartPole-v1", "--policy", "linear", "--steps", "1", "--evaluate", "1", "--quiet"]
    done = cli(*words, "--workers", "1", "--journal", "run.jsonl", "--save", path, cwd=tmp_path)
    refused(done.returncode, done.stderr, path, "No space left on device")
    *_, save, see = done.stdout.splitlines()
    assert save == "to save the result: blackbox-zo resume run.jsonl"
    assert see == "to see it: blackbox-zo report run.jsonl"
    assert names(disk) == set()
    ballast.release()
    again = cli(*save.split()[5:], cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert names(disk) == {"policy.npz"}


# --------------------------------------------------------------------------------------------------- a model's weights


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fine-tuning of a tiny model, in a folder that has both."""
    pytest.importorskip("transformers")
    from .llm.helpers import llama, tokenizer

    folder = tmp_path_factory.mktemp("tuned")
    llama().save_pretrained(folder / "tiny")
    tokenizer().save_pretrained(folder / "tiny")
    rows = ('{"text": "The cat sat.", "label": "pos"}\n', '{"text": "It was bad.", "label": "neg"}\n')
    (folder / "rows.jsonl").write_text("".join(rows) * 4)
    words = ["finetune", "--model", "tiny", "--data", "rows.jsonl", "--template", "{text} What?", "--labels"]
    words += ["great,terrible", "--values", "pos,neg", "--objective", "loss", "--select", "all", "--steps", "1"]
    done = subprocess.run(
        arguments(*words, "--lr", "1e-3", "--quiet", "--journal", "run.jsonl"),
        cwd=folder, env={**environment(), "PYTHONWARNINGS": ""}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


EXPORTS = """
import io, json
from contextlib import redirect_stderr, redirect_stdout
from oracles.cli.main import main
folder, other = map(Path, sys.argv[1:])
def exported(target):
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()) as error:
        return main(["export", "run.jsonl", "-o", str(target)]), error.getvalue()
def held(path):
    return {p.name: p.read_bytes().hex() if p.is_file() else None for p in sorted(path.iterdir())}
assert exported(folder)[0] == 0
config = folder / "config.json"
config.write_bytes(config.read_bytes() + b"\\n")  # tells it from a new one
before = held(folder)
for fault in ("fsync 5", "write 5", "room 3000"):
    faults(fault)
    for target in (folder, other):
        print(json.dumps([fault, *exported(target), held(folder) == before, list(held(folder.parent))]))
faults()
assert exported(folder)[0] == exported(other)[0] == 0
print(json.dumps([held(folder) == held(other) != before]))
"""


def test_weights_are_written_whole_or_not_at_all(tmp_path: Path, tuned: Path, failing_disk: Path) -> None:
    folder = tmp_path / "failing"
    folder.mkdir()
    failing = FailingDisk(failing_disk, tmp_path, "/failing/")
    failing.environment["PYTHONWARNINGS"] = ""  # transformers may warn
    done = subprocess.run(
        failing.command(EXPORTS, folder / "weights", folder / "other"),
        cwd=tuned, env=failing.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *tried, [same] = map(json.loads, done.stdout.splitlines()[-7:])
    for i, (fault, code, error, as_before, beside) in enumerate(tried):
        said_by_who_writes(code, error, folder / ("weights", "other")[i % 2], fault)
        assert as_before and beside == ["weights"]
    assert same and i == 5


def test_weights_on_a_full_disk(
    disk: Path, tuned: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tuned)
    ballast = Ballast(disk)
    ballast.fill()
    capsys.readouterr()
    code = main(["export", "run.jsonl", "-o", str(disk / "weights")])
    said_by_who_writes(code, capsys.readouterr().err, disk / "weights", "room")
    assert names(disk) == set()
    ballast.release()
    assert main(["export", "run.jsonl", "-o", str(disk / "weights")]) == 0


def said_by_who_writes(code: int, error: str, path: Path, fault: str) -> None:
    """One sentence; safetensors words the reason, for which the system's number stands."""
    assert code == 2 and error.count("\n") == 1 and error.startswith("blackbox-zo: ")
    assert f"{str(path)!r} cannot be written: " in error
    assert os.strerror(errno.EIO if fault.endswith(" 5") else errno.ENOSPC) in error
