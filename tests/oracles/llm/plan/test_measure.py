"""`--measure`: this machine's figures, from two blocks of a model."""

from __future__ import annotations

import json
from pathlib import Path

import psutil
import pytest
import torch

from oracles.cli.main import main
from oracles.llm.plan._measure import Measuring, measured
from oracles.llm.plan._models import shape_of
from oracles.llm.plan._plan import work_of
from oracles.llm.plan._ways import way_of
from oracles.options import BadInput
from tests.oracles.llm.helpers import llama

TYPED = ("plan", "--model", "tiny", "--dtype", "float32", "--tokens", "64", "--length", "32", "--budget", "85KiB")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    llama().save_pretrained("tiny")
    return tmp_path


def test_each_figure_is_measured_and_the_plan_names_its_command(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TYPED, "--measure", "--json", "plan.json"]) == 0
    said, told = capsys.readouterr().out, json.loads(Path("plan.json").read_text())
    figures = {name: figure for name, figure in told["machine"].items() if name != "name"}
    assert all(f["value"] > 0 and f["source"].startswith("measured") for f in figures.values())
    assert {"flops", "head_flops", "move", "again", "disk", "disk_write", "decode", "copy"} <= figures.keys()
    assert told["plan"]["store"] == "disk" and told["plan"]["budget"] <= 85 * 1024
    assert "To run it: blackbox-zo finetune --model tiny --select all --dtype float32 --stream disk" in said
    assert "memory " in said and "cannot be run yet" not in said
    assert not [p for p in here.iterdir() if p.name not in ("tiny", "plan.json")]


@pytest.mark.parametrize("transfer", [None, "int8"])
def test_two_blocks_are_removed_and_plans_take_the_figures(here: Path, transfer: str | None) -> None:
    shape = shape_of("tiny", torch.float32)
    work = work_of(shape, 32, 16, 2)
    machine = measured(shape, work, transfer, repeats=2, folder=here)
    assert [p.name for p in here.iterdir()] == ["tiny"]
    assert machine.link is None and machine.cores >= 1 and machine.threads == torch.get_num_threads()
    found = way_of(shape, machine, work, "disk", True, None, 130 << 10)
    assert 0 < found.resident <= found.seconds


def test_a_sample_moves_nothing_but_its_own_blocks(here: Path) -> None:
    before = Path("tiny/model.safetensors").read_bytes()
    shape = shape_of("tiny", torch.float32)
    with Measuring(shape, work_of(shape, 32, 16, 2), folder=here) as measuring:
        first, second = measuring.sample(), measuring.sample()
    assert first.keys() == second.keys() and Path("tiny/model.safetensors").read_bytes() == before


def test_two_blocks_that_do_not_fit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Little:
        available = 1000

    monkeypatch.setattr(psutil, "virtual_memory", Little)
    shape = shape_of("tiny", torch.float32)
    with pytest.raises(BadInput, match=r"--measure needs .* for two blocks .* free"):
        measured(shape, work_of(shape, 32, 16, 2))
