"""GGUF files on the command line: run as they are, written back with other scales, or streamed below an adapter."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from oracles.cli.main import main
from tests.blackbox_zo.streaming.gguf_files import by_transformers, gguf, written
from tests.oracles.llm.test_cli import code_of, validated, write

TASK = ("--template", "{text} is", "--labels", "a,b", "--batch-size", "4", "--no-probe", "--seed", "3")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file and rows, where the command is typed."""
    written(tmp_path / "tiny.gguf", ("Q4_1", "Q8_0"))
    write(tmp_path / "rows.jsonl", [{"text": text, "label": label} for text, label in (("it", "a"), ("no", "b")) * 12])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _typed(*more: str) -> list[str]:
    return ["finetune", "--model", "tiny.gguf", "--data", "rows.jsonl", *TASK, *more]


@pytest.mark.parametrize(
    ("moves", "rate", "still"),
    [((), "1e-4", slice(2, None)), (("codes",), "1", slice(0, 4))],
    ids=["scales", "codes"],
)
def test_a_run_from_a_file_is_written_back_and_exported(
    moves: tuple[str, ...], rate: str, still: slice, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same file by --save and by export, which transformers reads; the base, and what is frozen, are as before."""
    before = (here / "tiny.gguf").read_bytes()
    run = ("--quantised", *moves, "--steps", "4", "--eval-every", "2", "--lr", rate, "--journal", "run.jsonl")
    assert main(_typed(*run, "--save", "new.gguf")) == 0
    assert ("new.gguf (rounding its scales to fp16 loses" in capsys.readouterr().out) is not bool(moves)
    assert len(validated(here / "run.jsonl")) == 3
    assert main(["export", "run.jsonl", "--output", "again.gguf"]) == 0
    assert (here / "again.gguf").read_bytes() == (here / "new.gguf").read_bytes() != before
    assert (here / "tiny.gguf").read_bytes() == before
    old, new = gguf.GGUFReader(here / "tiny.gguf"), gguf.GGUFReader(here / "new.gguf")
    for a, b in zip(old.tensors, new.tensors, strict=True):
        if a.tensor_type.name == "Q4_1":
            assert np.array_equal(*(t.data.reshape(-1, 20)[:, still] for t in (a, b))), a.name
    assert any(not np.array_equal(a.data, b.data) for a, b in zip(old.tensors, new.tensors, strict=True))
    by_transformers(here / "new.gguf")


@pytest.mark.parametrize("moves", [(), ("codes",)], ids=["scales", "codes"])
def test_a_run_from_a_file_goes_on(moves: tuple[str, ...], here: Path) -> None:
    """Resumed, it ends as one that was not interrupted; its defaults move something."""
    for name, steps in (("a", ("5",)), ("b", ("2", "5"))):
        for n in steps:
            run = ("--quantised", *moves, "--steps", n, "--lr-schedule", "constant", "--journal", f"{name}.jsonl")
            assert main(_typed(*run, "--save", f"{name}.gguf")) == 0
    assert (here / "a.gguf").read_bytes() == (here / "b.gguf").read_bytes() != (here / "tiny.gguf").read_bytes()


def test_an_adapter_on_a_file_that_streams(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--select lora with --stream: the adapter of a run in memory, by --save and by export."""
    run = ("--select", "lora", "--lora-rank", "2", "--steps", "4", "--lr", "1e-2")
    assert main(_typed(*run, "--journal", "m.jsonl", "--save", "memory")) == 0
    assert main(_typed(*run, "--stream", "disk", "--journal", "s.jsonl", "--save", "streamed")) == 0
    assert main(["export", "s.jsonl", "--stream", "disk", "--output", "exported"]) == 0
    kept = [load_file(here / name / "adapter_model.safetensors") for name in ("memory", "streamed", "exported")]
    assert any(bool(t.any()) for n, t in kept[0].items() if "lora_B" in n)
    for other in kept[1:]:
        assert all(torch.equal(kept[0][name], other[name]) for name in kept[0] | other)
    sketches = [(here / name / "base_sketch.json") for name in ("memory", "streamed")]
    assert all(path.is_file() for path in sketches) or not any(path.is_file() for path in sketches)
    assert "Streaming from the disk" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--quantised", "--stream", "disk"), "needs no --stream"),
        (("--quantised", "--select", "lora"), "--quantised searches scales, codes and norms"),
        (("--quantised", "--device", "cuda"), "--quantised runs on the CPU for now, not on cuda"),
        (("--quantised", "--save", "folder"), "must end in .gguf"),
        (("--quantised", "--save", "tiny.gguf"), "is the model's own file"),
        (("--quantised", "--save", "no/x.gguf"), "is in a folder that does not exist"),
        (("--quantised", "integers"), "argument --quantised: invalid choice: 'integers'"),
        (("--quantised", "codes", "--distribution", "gaussian"), "its directions are sparse, not gaussian"),
        (("--quantised", "codes", "--mezo"), "which --mezo's small steps do not change"),
        (("--quantised", "--model", "other"), "--quantised runs from a .gguf file, not from 'other'"),
        (("--quantised", "--model", "none.gguf"), "'none.gguf' does not exist; check the path"),
        (("--transfer-dtype", "int8"), "--transfer-dtype is for --stream"),
    ],
    ids=str,
)
def test_what_does_not_go_together(
    more: tuple[str, ...], said: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A sentence, before anything is written."""
    before = sorted(here.iterdir())
    assert code_of([*_typed("--steps", "2"), *more]) not in (0, None)
    assert said in capsys.readouterr().err
    assert sorted(here.iterdir()) == before


def test_int8_from_the_command_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What it loses is said; the run resumes and is exported in the same way, and in no other."""
    run = ("--stream", "disk", "--select", "all", "--log-structured", "--journal", "i.jsonl")
    held = ("--transfer-dtype", "int8")
    assert main(_typed(*run, *held, "--steps", "2")) == 0
    assert "held as int8, relative error 0.00" in capsys.readouterr().err
    assert main(_typed(*run, *held, "--steps", "4", "--save", "a")) == 0
    assert main(["export", "i.jsonl", "--stream", "disk", "--output", "b"]) == 0
    one, two = (load_file(here / name / "model.safetensors") for name in ("a", "b"))
    assert all(torch.equal(one[name], two[name]) for name in one | two)
    capsys.readouterr()
    assert code_of(["export", "i.jsonl", "--output", "c"]) not in (0, None)
    assert "only a `StreamedModule` with transfer_dtype='int8'" in capsys.readouterr().err
    assert code_of(_typed(*run, "--steps", "6")) not in (0, None)


@pytest.mark.parametrize("moves", ["scales", "codes"])
def test_a_file_of_k_quants_has_nothing_that_moves(moves: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """That is said; its norms can be searched."""
    written(here / "tiny.gguf", ("Q6_K",))
    assert code_of(_typed("--steps", "2", "--quantised", moves)) not in (0, None)
    assert f"has no {moves} that move" in capsys.readouterr().err
    assert main(_typed("--steps", "2", "--quantised", moves, "--select", "norm")) == 0


@pytest.mark.filterwarnings("ignore:All 2 queries have the same loss")
@pytest.mark.parametrize(("moves", "radius"), [("scales", 0.1), ("codes", 0.125)])
def test_an_objective_without_a_gradient(moves: str, radius: float, here: Path) -> None:
    """Its default radius is a tenth of a scale, or a code: what is searched begins near 0, which has no tenth."""
    run = ("--quantised", moves, "--steps", "2", "--objective", "accuracy", "--journal", "run.jsonl")
    assert main(_typed(*run)) == 0
    with (here / "run.jsonl").open() as lines:
        assert json.loads(next(lines))["estimator"]["radius"] == radius
