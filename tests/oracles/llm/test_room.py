"""Devices that are there, and whether a model and a step have room on them. Cards are stood in for by their memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from oracles.cli.main import main
from oracles.llm import _room as room
from oracles.llm import load_model
from oracles.llm._room import Need, chosen_device, need_of
from tests.journals import read
from tests.oracles.llm.helpers import llama, tokenizer

GB = 10**9


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    llama().save_pretrained(tmp_path / "tiny")
    tokenizer().save_pretrained(tmp_path / "tiny")
    (tmp_path / "rows.csv").write_text("text,label\n" + "It was good,great\nbad,terrible\n" * 9)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def cards(monkeypatch: pytest.MonkeyPatch, *free: float) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(free))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(free))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (int(free[index] * GB), 80 * GB))
    monkeypatch.setattr(room, "_memory", lambda: 64 * GB)


def test_the_need_is_that_of_the_model() -> None:
    import tempfile

    model = llama()
    size = sum(p.numel() for p in model.parameters())
    buffers = sum(b.numel() * b.element_size() for b in model.buffers())
    with tempfile.TemporaryDirectory() as name:
        model.save_pretrained(name)
        whole, half = need_of(name, "float32"), need_of(name, "bfloat16")
        assert whole is not None and half is not None and whole.tokens == 64
        assert whole.model == 4 * size + buffers and abs(half.model - 2 * size - buffers) <= buffers
        largest = max(p.numel() for p in model.parameters())
        assert whole.step == 4 * largest + 64 * ((6 * 32 + 3 * 48) * 4 + 296 * 8)
        assert need_of(f"{name}/nothing", "float32") is None
        adapter = Path(name, "adapter")
        adapter.mkdir()
        (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": name}))
        assert need_of(str(adapter), "float32") == whole


NEED = Need(14 * GB, GB // 2, 512)


@pytest.mark.parametrize(
    ("free", "asked", "found"),
    [
        ((), "auto", "cpu"),
        ((16,), "auto", "cuda:0"),
        ((16, 40), "auto", "cuda:1"),
        ((16, 40), "cuda", "cuda"),
        ((16, 40), "cuda:1", "cuda:1"),
        ((16,), "cpu", "cpu"),
        ((), "meta", "meta"),
    ],
)
def test_a_device_with_room_is_taken(
    monkeypatch: pytest.MonkeyPatch, free: tuple[float, ...], asked: str, found: str
) -> None:
    cards(monkeypatch, *free)
    assert chosen_device(asked, NEED) == found


@pytest.mark.parametrize(
    ("free", "asked", "words"),
    [
        ((), "cuda", "Device 'cuda' is not here: torch finds cpu. Give one of these, or 'auto'"),
        ((16,), "cuda:1", "Device 'cuda:1' is not here: torch finds cuda:0, cpu"),
        ((16,), "mps", "Device 'mps' is not here: torch finds cuda:0, cpu"),
        ((16,), "graphics", "Device 'graphics' is no device of torch; here are cuda:0, cpu"),
        (
            (8,),
            "cuda",
            r"Device 'cuda' is too small: it has 8 GB free, and needed are 14 GB for the model and 0.5 GB for a step "
            "on a text of 512 tokens. Take a smaller dtype",
        ),
    ],
)
def test_a_device_that_is_not_there_or_too_small_is_named(
    monkeypatch: pytest.MonkeyPatch, free: tuple[float, ...], asked: str, words: str
) -> None:
    cards(monkeypatch, *free)
    with pytest.raises(ValueError, match=words):
        chosen_device(asked, NEED)


def test_the_cpu_in_place_of_a_card_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    cards(monkeypatch, 8, 2)
    with pytest.warns(UserWarning, match="runs on the CPU: cuda:0 has 8 GB free, and needed are 14 GB for the model"):
        assert chosen_device("auto", NEED) == "cpu"
    monkeypatch.setattr(room, "_memory", lambda: 8 * GB)
    with pytest.raises(ValueError, match="Device 'cpu' is too small: it has 8 GB in all"), pytest.warns(UserWarning):
        chosen_device("auto", NEED)


def test_it_is_said_before_weights_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "tiny" / "model.safetensors").write_bytes(b"no weights")
    monkeypatch.setattr(room, "_memory", lambda: 10**5)
    with pytest.raises(ValueError, match=r"Device 'cpu' is too small: it has 0.0001 GB in all"):
        load_model("tiny")


def test_weights_go_straight_to_the_device(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    seen: list[Any] = []
    real: Any = transformers.AutoModelForCausalLM.from_pretrained

    def spy(*given: Any, **how: Any) -> Any:
        seen.append(how.get("device_map"))
        return real(*given, **how)

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", spy)
    assert load_model("tiny", device="meta")[0].device.type == "meta"
    cpu = load_model("tiny")[0]
    assert seen == [{"": "meta"}, None] and cpu.device.type == "cpu"
    through = real("tiny", device_map={"": "cpu"})  # it is the same model, without hooks
    assert all(torch.equal(a, b) for a, b in zip(cpu.parameters(), through.parameters(), strict=True))
    assert not any(hasattr(module, "_hf_hook") for module in through.modules())


TASK = ("--model", "tiny", "--data", "rows.csv", "--template", "{text}", "--labels", "great,terrible", "--steps", "1")


def test_on_the_command_line(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def code(*more: str) -> Any:
        try:
            return main(["finetune", *TASK, *more])
        except SystemExit as stop:
            return stop.code

    cards(monkeypatch)
    assert code("--device", "cuda:1") == 2
    assert "Device 'cuda:1' is not here: torch finds cpu" in capsys.readouterr().err
    assert code("--device", "the best") == 2
    assert "must be auto, cpu, cuda, cuda:1, mps or another device, got 'the best'" in capsys.readouterr().err
    cards(monkeypatch, 1e-5)
    with pytest.warns(UserWarning, match=r"runs on the CPU: cuda:0 has 1e-05 GB free"):
        assert code("--journal", "run.jsonl") == 0
    assert "to validate on; on the CPU\n" in capsys.readouterr().err
    assert read(folder / "run.jsonl")[0]["settings"]["device"] == "cpu"
    assert main(["resume", "run.jsonl", "--device", "cpu", "--steps", "2"]) == 0  # another device may go on
    assert main(["export", "run.jsonl", "-o", "out", "--device", "cpu"]) == 0
    capsys.readouterr()
    assert main(["export", "run.jsonl", "-o", "out", "--device", "cuda:7"]) == 2
    assert "Device 'cuda:7' is not here: torch finds cuda:0, cpu" in capsys.readouterr().err
    cards(monkeypatch)
    assert code("--dtype", "float16", "--journal", "half.jsonl", "--save", "half", "--device", "auto") == 0
    assert load_model("half", "float16")[0].dtype is torch.float16
    assert main(["export", "half.jsonl", "-o", "again"]) == 0
    weights = [(folder / name / "model.safetensors").read_bytes() for name in ("half", "again")]
    assert weights[0] == weights[1]
