"""`blackbox-zo finetune` as several processes: under `torchrun`, killed, interrupted, and with ranks that differ."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from oracles.cli.main import main
from tests.oracles.helpers import ROOT
from tests.oracles.llm.helpers import llama
from tests.oracles.llm.test_cli import FAST, folder_with_model, typed
from tests.ranks import Said, done, launched, run

CLI = "oracles.cli.main"
PAIR = ("--select", "all", "--directions", "1", "--sweep", "scratch", "--batch-size", "8")
"""A pair of queries on the whole batch, each by passes of its own."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model and rows, where the command is typed."""
    monkeypatch.chdir(tmp_path)
    return folder_with_model(tmp_path)


def alone(*more: str) -> None:
    """The run in one process, with as many threads as a rank has."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert main(typed(*FAST, *more)) == 0
    finally:
        torch.set_num_threads(before)


def across(size: int, *more: str, cwd: Path) -> list[Said]:
    return run(*([[CLI, *typed(*FAST, *more)]] * size), cwd=cwd)


def lines(journal: Path) -> list[Any]:
    """A journal without times and settings."""
    found = [json.loads(line) for line in journal.read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "settings")} for line in found]


def same_files(a: Path, b: Path) -> bool:
    """Whether two folders hold the same weights."""
    one, two = (load_file(folder / "model.safetensors") for folder in (a, b))
    return all(torch.equal(one[name], two[name]) for name in one | two)


def test_the_command_line_runs_under_torchrun_unchanged(here: Path) -> None:
    """The same validations, answers and weights as in one process; rank 0 alone prints and writes."""
    more = ("--steps", "6", "--eval-every", "3", "--micro-batch", "4")
    alone(*more, "--journal", "a.jsonl", "--save", "a")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", CLI]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    found = subprocess.run(
        [*torchrun, *typed(*FAST, *more, "--journal", "b.jsonl", "--save", "b")],
        cwd=here, env=env, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert lines(here / "a.jsonl") == lines(here / "b.jsonl")
    assert same_files(here / "a", here / "b")
    assert found.stdout.count("6 of 6 steps") == 1
    assert found.stderr.count("2 processes share each step and each validation.") == 1
    assert sorted(p.name for p in here.iterdir()) == ["a", "a.jsonl", "b", "b.jsonl", "rows.jsonl", "tiny"]


def test_a_pair_is_one_process_to_the_bit_by_queries_and_by_rows(here: Path) -> None:
    """Two ranks take a query each, four halves of the rows of one, in the passes that one process makes."""
    more = (*PAIR, "--steps", "4", "--micro-batch", "4", "--eval-every", "2")
    alone(*more, "--journal", "a.jsonl")
    for size in (2, 4):
        found = across(size, *more, "--journal", f"{size}.jsonl", cwd=here)
        assert [said.code for said in found] == [0] * size, found
        assert lines(here / f"{size}.jsonl") == lines(here / "a.jsonl")
        assert all(said.out == said.err == "" for said in found[1:])


def killed(here: Path, size: int, which: int, sign: int) -> list[Said]:
    """A run of which a rank gets a signal once some steps are done."""
    command = [CLI, *typed(*FAST, *PAIR, "--steps", "4000", "--eval-every", "0", "--journal", "run.jsonl")]
    with launched([command] * size, here) as ranks:
        end = time.monotonic() + 120
        while not (here / "run.jsonl").exists() or (here / "run.jsonl").read_bytes().count(b"\n") < 20:
            assert time.monotonic() < end and ranks[0].poll() is None, done(ranks)
            time.sleep(0.01)
        begun = time.monotonic()
        os.kill(ranks[which].pid, sign)
        found = done(ranks)
        assert time.monotonic() - begun < 20
    return found


@pytest.mark.parametrize(("size", "which"), [(4, 3), (2, 0)])
def test_a_killed_rank_ends_the_run_which_goes_on_with_fewer(size: int, which: int, here: Path) -> None:
    """Within seconds, by name, with exit code 2; then with one process, as if it had been so from the start."""
    found = killed(here, size, which, signal.SIGKILL)
    assert [said.code for said in found] == [2 if rank != which else -signal.SIGKILL for rank in range(size)]
    said = "".join(said.err for said in found if "has died" in said.err)
    assert f"Rank {which} has died, so the run of all {size} ends here" in said
    assert said.count("has died") == 1 or which == 0
    steps = str(lines(here / "run.jsonl")[-1]["step"] + 5)
    if size == 4:
        two = across(2, *PAIR, "--steps", steps, "--eval-every", "0", "--journal", "run.jsonl", cwd=here)
        assert [said.code for said in two] == [0, 0], two
    else:
        alone(*PAIR, "--steps", steps, "--eval-every", "0", "--journal", "run.jsonl")
    alone(*PAIR, "--steps", steps, "--eval-every", "0", "--journal", "whole.jsonl")
    wanted = [line for line in lines(here / "whole.jsonl") if "measure" not in line]
    assert [line for line in lines(here / "run.jsonl") if "measure" not in line][1:] == wanted[1:]


def test_a_signal_to_any_rank_interrupts_all(here: Path) -> None:
    """SIGINT to rank 1 alone: each ends as after Ctrl-C, and every answer is kept."""
    first, second = killed(here, 2, 1, signal.SIGINT)
    assert (first.code, second.code) == (130, 130), (first, second)
    assert "Interrupted; every answer is kept." in first.out and "to continue: blackbox-zo resume" in first.out
    assert "Traceback" not in first.err + second.err


def test_resume_needs_the_journal_on_rank_0_alone(here: Path, tmp_path: Path) -> None:
    """Another machine has the model and the rows, but no journal and no snapshot; two ranks go on for one."""
    more = (*PAIR, "--eval-every", "0")
    alone(*more, "--steps", "4", "--journal", "run.jsonl", "--snapshot-every", "3")
    other = here / "other"
    other.mkdir()
    shutil.copytree(here / "tiny", other / "tiny")
    shutil.copy(here / "rows.jsonl", other)
    command = typed(*FAST, *more, "--steps", "7", "--journal", "run.jsonl")
    with launched([[CLI, *command], ["tests.oracles.llm.elsewhere", str(other), *command]], here) as ranks:
        found = done(ranks)
    assert [said.code for said in found] == [0, 0], found
    assert not (other / "run.jsonl").exists()
    alone(*more, "--steps", "7", "--journal", "whole.jsonl")
    wanted = [line for line in lines(here / "whole.jsonl") if "measure" not in line]
    assert [line for line in lines(here / "run.jsonl") if "measure" not in line] == wanted


def test_resume_is_typed_as_in_one_process(here: Path) -> None:
    """`resume FILE --steps N`, after a run of one."""
    alone(*PAIR, "--steps", "2", "--journal", "run.jsonl")
    found = run(*([[CLI, "resume", "run.jsonl", "--steps", "4"]] * 2), cwd=here)
    assert [said.code for said in found] == [0, 0], found
    assert "4 of 4 steps (2 now)" in found[0].out and found[1].out == ""


def test_ranks_that_differ_are_named_before_the_first_step(here: Path) -> None:
    """What each differs in: options, rows, weights, versions; nothing is written."""
    other = here / "other"
    shutil.copytree(here / "tiny", other / "tiny")
    model = llama()
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[3, 4] += 1e-6
    model.save_pretrained(other / "tiny")
    rows = (here / "rows.jsonl").read_text()
    (other / "rows.jsonl").write_text(rows.replace("good", "fine", 1))
    base = typed(*FAST, "--steps", "2", "--journal", "run.jsonl")
    several = ["tests.oracles.llm.elsewhere", "version", *base, "--batch-size", "7", "--steps", "3"]
    cases = [
        (
            [*several, "--data", str(other / "rows.jsonl")],
            r"Rank 1 differs from rank 0 in version of blackbox_zo: 99\.0 instead of .*; --steps: 3 instead of 2; .*"
            r"--batch-size: 7 instead of 16; .*set of training rows \(--data, --validation\): .*digest",
        ),
        (
            [CLI, *base, "--model", str(other / "tiny"), "--lr", "2e-2"],
            r"Rank 1 differs from rank 0 in rule: .*0\.02.*; weights: ",
        ),
        ([CLI, *base, "--data", "nowhere.jsonl"], r"Rank 1 has stopped: BadInput: .*nowhere\.jsonl"),
    ]
    for command, said in cases:
        first, second = run([CLI, *base], command, cwd=here)
        assert (first.code, second.code) == (2, 2), (first, second)
        assert re.search(f"blackbox-zo: .*{said}", first.err), (said, first.err)
        assert first.err.count("blackbox-zo:") == 1 and "Traceback" not in first.err + second.err
        assert not (here / "run.jsonl").exists(), said


def test_other_commands_are_for_one_process(here: Path) -> None:
    """Said once, with the way out."""
    for words in (["finetune", "--help-me"], ["export", "run.jsonl", "--output", "x"]):
        first, second = run(*([[CLI, *words]] * 2), cwd=here)
        assert first.code == second.code == 2 and second.err == "" and first.out == ""
    assert "`export` is for one process, but torchrun has started 2" in first.err


def test_streamed_weights_are_shared_out_too(here: Path) -> None:
    """Each rank streams its own copy, kept in a folder of its own; the numbers are those of one process in memory."""
    more = (*PAIR, "--steps", "3", "--eval-every", "0")
    alone(*more, "--journal", "a.jsonl", "--save", "a")
    stream = ("--stream", "disk", "--budget", "80KiB", "--stream-to", "moved")
    found = across(2, *more, *stream, "--journal", "b.jsonl", "--save", "b", cwd=here)
    assert [said.code for said in found] == [0, 0], found
    assert lines(here / "a.jsonl") == lines(here / "b.jsonl") and same_files(here / "a", here / "b")
    assert (here / "moved").is_dir() and (here / "moved-rank1").is_dir()
