"""Snapshots of a fine-tuning run: `--snapshot-every`, `finetune(snapshot_every=...)` and `replay`."""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import blackbox_zo as bz
from blackbox_zo.journal._snapshots import Snapshots
from blackbox_zo.modules import _module
from oracles.llm import finetune, replay
from tests.oracles.helpers import arguments, wait_for
from tests.oracles.llm.helpers import llama
from tests.oracles.llm.test_cli import code_of, environment, here, made, one_thread, steps_in, typed, weights
from tests.oracles.llm.test_resume import EXAMPLES, WORDS

__all__ = ["here", "made", "one_thread"]

FEW = ("--batch-size", "4", "--steps", "12", "--eval-every", "5", "--quiet")


def moves_of(path: Path) -> list[int]:
    return list(Snapshots(path).found())


def tune(path: Path, steps: int, every: Any, model: Any = None, **more: Any) -> Any:
    arguments = {"rule": bz.SGD(1e-2), "batch_size": 4, "journal": path, "snapshot_every": every, **more}
    return finetune(llama() if model is None else model, EXAMPLES, WORDS, steps=steps, **arguments)


def bits(model: torch.nn.Module) -> list[bytes]:
    return [p.detach().view(torch.uint8).numpy().tobytes() for p in model.parameters()]


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The moves that were made again or anew, by their numbers."""
    made, move = list[int](), _module.Module.add_

    def counted(self: Any, step: Any) -> None:
        made.append(self.version)
        move(self, step)

    monkeypatch.setattr(_module.Module, "add_", counted)
    return made


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rule", [bz.SGD(1e-2), bz.Adam(1e-2)])
def test_resumed_and_replayed_from_a_snapshot_the_weights_are_the_same_to_the_last_bit(
    tmp_path: Path, dtype: torch.dtype, rule: bz.Rule, moved: list[int]
) -> None:
    path, plain = tmp_path / "run.jsonl", tmp_path / "plain.jsonl"
    tune(path, 7, 3, llama().to(dtype), rule=rule)
    tune(plain, 7, 0, llama().to(dtype), rule=rule)
    assert moves_of(path) == [6, 7]
    moved.clear()
    a = tune(path, 11, 3, llama().to(dtype), rule=rule)
    assert moved == [7, 8, 9, 10] and moves_of(path) == [10, 11]
    b = tune(plain, 11, 0, llama().to(dtype), rule=rule)
    assert bits(a.model) == bits(b.model) and path.read_bytes() == plain.read_bytes()
    stored = load_file(Snapshots(path).found()[11])  # what any tool for safetensors reads
    assert all(torch.equal(stored[name], p) for name, p in a.search.variable.parameters.items())
    for steps in (5, 10, 11, None):
        moved.clear()
        models = [llama().to(dtype), llama().to(dtype)]
        replay(path, models[0], steps)
        assert moved == list(range({5: 0, 10: 10}.get(steps or 0, 11), steps or 11))
        replay(plain, models[1], steps)
        assert bits(models[0]) == bits(models[1])


def test_only_what_is_searched_is_saved_and_the_rest_is_the_base_models(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    run = tune(path, 4, 2, module="top")
    stored = load_file(Snapshots(path).found()[4])
    assert {name for name in stored if not name.startswith("search/")} == {"model.norm.weight"}
    model = llama()
    replay(path, model)
    assert bits(model) == bits(run.model)


def test_a_snapshot_does_not_let_another_base_model_pass(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    tune(path, 4, 2)
    other = llama()
    with torch.no_grad():
        other.model.norm.weight[0] += 1
    with pytest.raises(bz.JournalError, match="started from weights other than this model's"):
        replay(path, other)
    with pytest.raises(bz.JournalError, match="belongs to another run"):
        tune(path, 8, 2, other)


def test_the_weights_of_a_damaged_snapshot_never_reach_the_model(tmp_path: Path, moved: list[int]) -> None:
    path = tmp_path / "run.jsonl"
    run = tune(path, 6, 4)
    newest = Snapshots(path).found()[6]
    data = bytearray(newest.read_bytes())
    data[-1] ^= 1  # of the last tensor
    newest.write_bytes(data)
    moved.clear()
    model = llama()
    with pytest.warns(UserWarning, match=r"snapshot-6.safetensors' is damaged \(the checksum of"):
        replay(path, model)
    assert moved == [4, 5] and bits(model) == bits(run.model)


def test_an_interval_that_would_be_passed_over_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"said by the `Journal` that was given"):
        tune(bz.Journal(tmp_path / "run.jsonl"), 4, 2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="snapshot_every"):
        tune(tmp_path / "run.jsonl", 4, -1)


def test_remembered_features_are_forgotten_when_a_snapshot_is_loaded() -> None:
    """Whoever compares versions of tensors sees that they have changed."""
    model = llama()
    x = bz.Module(model)
    p = model.model.norm.weight
    before = p._version
    x.load(x.state(), 1)
    assert p._version > before


# ------------------------------------------------------------------------------------------------- the command line


def test_killed_and_resumed_from_a_snapshot_is_as_if_never_killed(here: Path) -> None:
    """And what is exported after any step is what is exported from the journal alone."""
    assert code_of(typed("--journal", "whole.jsonl", "--save", "whole", *FEW)) == 0
    assert moves_of(here / "whole.jsonl") == []  # a replay takes no ten seconds
    command = typed("--journal", "run.jsonl", "--save", "saved", "--snapshot-every", "3", *FEW)
    process = subprocess.Popen(arguments(*command), env=environment(), cwd=here)
    wait_for(lambda: (here / "run.jsonl").exists() and steps_in(here / "run.jsonl") >= 7)
    process.send_signal(signal.SIGKILL)
    assert process.wait(30) == -signal.SIGKILL
    assert moves_of(here / "run.jsonl")
    assert code_of(["resume", "run.jsonl"]) == 0
    assert weights(here / "saved") == weights(here / "whole")
    assert moves_of(here / "run.jsonl") == [9, 12]
    for step in ("4", "9", "10", "12"):
        for name in ("run", "whole"):
            assert code_of(["export", f"{name}.jsonl", "-o", f"{name}-{step}", "--step", step]) == 0
        assert weights(here / f"run-{step}") == weights(here / f"whole-{step}")


def test_a_signal_takes_a_snapshot_that_is_worth_it(here: Path) -> None:
    command = typed(
        "--journal", "run.jsonl", "--snapshot-every", "500", "--steps", "500", "--batch-size", "4", "--quiet"
    )
    process = subprocess.Popen(arguments(*command), env=environment(), cwd=here)
    wait_for(lambda: (here / "run.jsonl").exists() and steps_in(here / "run.jsonl") >= 5)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 128 + signal.SIGTERM
    (moves,) = moves_of(here / "run.jsonl")
    model = llama()
    assert replay("run.jsonl", model).version == moves


def test_a_damaged_snapshot_is_told_in_a_line_of_its_own(here: Path) -> None:
    assert code_of(typed("--journal", "run.jsonl", "--snapshot-every", "5", *FEW)) == 0
    newest = Snapshots(here / "run.jsonl").found()[12]
    newest.write_bytes(newest.read_bytes()[:-1])
    command = arguments("export", "run.jsonl", "-o", "out")
    done = subprocess.run(command, env=environment(), cwd=here, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "after step 12 of run.jsonl" in done.stdout
    said = [line for line in done.stderr.splitlines() if "snapshot" in line]
    assert len(said) == 1 and said[0].startswith("blackbox-zo: Snapshot '")
    assert "run.jsonl.snapshot-12.safetensors' is damaged (it is incomplete)." in said[0]


@pytest.mark.parametrize("every", ["-1", "often", "1.5"])
def test_another_interval_is_refused(here: Path, every: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of(typed("--journal", "run.jsonl", "--snapshot-every", every)) == 2
    assert "--snapshot-every: must be a whole number of at least 0, or auto" in capsys.readouterr().err


def test_snapshots_need_a_journal(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of(typed("--snapshot-every", "10")) == 2
    assert "--snapshot-every saves the state beside the journal; add --journal FILE." in capsys.readouterr().err


def test_a_copied_journal_is_exported_without_its_snapshots_and_with_them(here: Path) -> None:
    assert code_of(typed("--journal", "run.jsonl", "--snapshot-every", "5", *FEW)) == 0
    for found in here.glob("run.jsonl*"):
        shutil.copy(found, here / found.name.replace("run", "copy"))
    for file in ("run.jsonl", "copy.jsonl"):
        assert code_of(["export", file, "-o", f"of-{file}"]) == 0
    assert weights(here / "of-run.jsonl") == weights(here / "of-copy.jsonl")
    assert moves_of(here / "copy.jsonl") == [10, 12]
