"""The moves of a run over whole weights as a LoRA adapter of its base."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oracles.cli.main import main
from tests.blackbox_zo.streaming.gguf_files import by_transformers, gguf, written
from tests.oracles.llm.test_cli import code_of, write
from tests.oracles.llm.test_lora_gguf import logits_of, merged_with, with_warnings_off

peft: Any = pytest.importorskip("peft", reason="needs peft: pip install 'blackbox-zo[peft]'")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file of 4 bits, and rows."""
    written(tmp_path / "tiny.gguf", ("Q4_1",))
    write(tmp_path / "rows.jsonl", [{"text": text, "label": label} for text, label in (("it", "a"), ("no", "b")) * 12])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _run(*more: str) -> None:
    """Three steps along two directions of rank 1 each, so that no matrix moves by more than rank 6."""
    run = ["finetune", "--model", "tiny.gguf", "--data", "rows.jsonl", "--template", "{text} is", "--labels", "a,b"]
    run += ["--batch-size", "4", "--directions", "2", "--lr", "1e-3", "--no-probe", "--steps", "3"]
    assert main([*run, "--journal", "run.jsonl", *more]) == 0


@pytest.mark.parametrize("stream", [(), ("--stream", "disk", "--log-structured")], ids=["in memory", "streamed"])
def test_the_moves_are_an_adapter(stream: tuple[str, ...], here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For peft and for llama.cpp: exact at the rank of the moves, the nearest below it, and that is said."""
    _run("--select", "proj", *stream, "--save", "tuned")
    read = [part for part in stream if part != "--log-structured"]
    capsys.readouterr()
    for rank, name in (("6", "exact"), ("6", "exact.gguf"), ("2", "near")):
        assert main(["export", "run.jsonl", "--as-lora", rank, "--output", name, *read]) == 0
    said = re.findall(r"rank (\d), which lacks ([\d.]+)% of", capsys.readouterr().out)
    assert [(rank, float(lost) < 0.1) for rank, lost in said] == [("6", True), ("6", True), ("2", False)]
    assert float(said[2][1]) < 90
    import transformers

    tuned = transformers.AutoModelForCausalLM.from_pretrained(here / "tuned")
    want, base = logits_of(tuned), by_transformers(here / "tiny.gguf")
    bare = logits_of(base)
    assert np.abs(want - bare).max() > 0.01
    assert np.allclose(
        logits_of(with_warnings_off(lambda: peft.PeftModel.from_pretrained(base, "exact"))), want, atol=1e-4
    )
    written(here / "fp32.gguf", ("F32",))
    merged = merged_with(here / "tiny.gguf", here / "exact.gguf")
    for tensor in gguf.GGUFReader(here / "fp32.gguf", "r+").tensors:
        if tensor.name in merged:
            tensor.data[:] = merged[tensor.name]
        elif tensor.n_elements > 1000:
            (other,) = (t for t in gguf.GGUFReader(here / "tiny.gguf").tensors if t.name == tensor.name)
            tensor.data[:] = gguf.quants.dequantize(other.data, other.tensor_type)
    assert np.allclose(logits_of(by_transformers(here / "fp32.gguf")), want, atol=1e-4)


def test_what_is_no_adapter(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Moved norms, and runs that have an adapter already; nothing is written."""
    _run("--select", "all")
    assert code_of(["export", "run.jsonl", "--as-lora", "4", "--output", "out"]) not in (0, None)
    assert "has moved, which is of no linear layer" in capsys.readouterr().err
    Path("run.jsonl").unlink()
    _run("--select", "lora")
    assert code_of(["export", "run.jsonl", "--as-lora", "4", "--output", "out"]) not in (0, None)
    assert "this one searched an adapter, or a quantised model" in capsys.readouterr().err
    assert not (here / "out").exists()


def test_a_base_that_is_another(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The journal's own check: of the weights that the run began with."""
    _run("--select", "proj")
    written(here / "other.gguf", ("Q8_0",))
    command = ["export", "run.jsonl", "--model", "other.gguf", "--as-lora", "4", "--output", "out"]
    assert code_of(command) not in (0, None)
    assert "started from weights other than this model's" in capsys.readouterr().err
