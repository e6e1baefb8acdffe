"""LoRA adapters in the GGUF format, and what llama.cpp makes of the files that are written."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from blackbox_zo.quantised import CodedTable, ScaledTable, load_gguf, save_gguf
from oracles.cli.main import main
from oracles.llm import save_lora_gguf
from tests.blackbox_zo.streaming.gguf_files import VOCABULARY, by_transformers, gguf, written
from tests.oracles.llm.test_cli import code_of, write

peft: Any = pytest.importorskip("peft", reason="needs peft: pip install 'blackbox-zo[peft]'")

IDS = [3 + i % (VOCABULARY - 4) for i in range(20)]
TARGETS = ["q_proj", "k_proj", "v_proj", "up_proj", "down_proj"]


def logits_of(model: Any) -> Any:
    """Those of `IDS` by a model of transformers."""
    with torch.no_grad():
        return model(input_ids=torch.tensor([IDS])).logits[0].numpy()


def by_llama_cpp(path: Path, lora: Path | None = None) -> Any:
    """The same by llama.cpp."""
    llama_cpp: Any = pytest.importorskip(
        "llama_cpp", reason="needs llama.cpp, which takes ten minutes to compile: pip install 'blackbox-zo[llama-cpp]'"
    )
    there = llama_cpp.Llama(
        str(path), logits_all=True, n_ctx=64, verbose=False, n_threads=1, lora_path=None if lora is None else str(lora)
    )
    there.eval(IDS)
    found = np.array(there.scores[: len(IDS)])
    there.close()
    return found


def with_warnings_off(make: Callable[[], Any]) -> Any:
    """What a function makes; peft warns of what transformers has renamed, and of what cannot be merged."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


def _adapted(path: Path, **more: Any) -> Any:
    config = peft.LoraConfig(r=4, lora_alpha=12, target_modules=TARGETS, lora_dropout=0.0, **more)
    model = with_warnings_off(lambda: peft.get_peft_model(by_transformers(path), config))
    generator = torch.Generator().manual_seed(0)
    for name, p in model.named_parameters():
        if "lora_" in name:
            p.data.copy_(0.1 * torch.randn(p.shape, generator=generator))
    return model.eval()


def merged_with(base: Path, lora: Path) -> dict[str, np.ndarray[Any, Any]]:
    """The base's matrices in fp32 plus alpha / r B A, as the format says, in the file's order of rows."""
    read, found = gguf.GGUFReader(lora), dict[str, Any]()
    alpha = float(read.fields["adapter.lora.alpha"].parts[-1][0])
    factors = {t.name: t.data for t in read.tensors}
    for tensor in gguf.GGUFReader(base).tensors:
        if (a := factors.get(f"{tensor.name}.lora_a")) is not None:
            numbers = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            found[tensor.name] = numbers + alpha / len(a) * factors[f"{tensor.name}.lora_b"] @ a
    return found


@pytest.mark.parametrize("more", [{}, {"use_rslora": True}, {"rank_pattern": {"up_proj": 2}}], ids=str)
def test_an_adapter_is_what_peft_adds(more: dict[str, Any], tmp_path: Path) -> None:
    """In the base's own names and order of rows: a file with the sums in place of the matrices is the model."""
    path = written(tmp_path / "base.gguf", ("F32",))
    model = _adapted(path, **more)
    want, bare = logits_of(model), logits_of(by_transformers(path))
    assert np.abs(want - bare).max() > 0.1
    save_lora_gguf(model, path, tmp_path / "lora.gguf")
    merged = merged_with(path, tmp_path / "lora.gguf")
    assert len(merged) == 3 * len(TARGETS)
    for tensor in gguf.GGUFReader(path, "r+").tensors:
        if tensor.name in merged:
            tensor.data[:] = merged[tensor.name]
    assert np.allclose(logits_of(by_transformers(path)), want, atol=1e-4)


def test_llama_cpp_takes_the_adapter(tmp_path: Path) -> None:
    """To the precision of its products in fp32; without the adapter the logits are far away."""
    path = written(tmp_path / "base.gguf", ("F32",))
    model = _adapted(path)
    save_lora_gguf(model, path, tmp_path / "lora.gguf")
    want = logits_of(model)
    assert np.abs(by_llama_cpp(path, tmp_path / "lora.gguf") - want).max() < 0.01
    assert np.abs(by_llama_cpp(path) - want).max() > 0.1


@pytest.mark.parametrize("moves", ["scales", "codes"])
def test_llama_cpp_takes_a_file_with_moved_blocks(moves: Any, tmp_path: Path) -> None:
    """It rounds activations to 8 bits, which takes a few hundredths of the logits; the moves are far larger."""
    path = written(tmp_path / "base.gguf", ("Q4_1", "Q8_0"))
    model = load_gguf(path, moves=moves)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for table in model.modules():
            if isinstance(table, ScaledTable | CodedTable):
                p = table.scale_shift if isinstance(table, ScaledTable) else table.code_shift
                p.add_(torch.randn(p.shape, generator=generator), alpha=0.5 if moves == "scales" else 5.0)
    save_gguf(model, tmp_path / "new.gguf")
    want, before = logits_of(model), logits_of(load_gguf(path))
    size, found = np.sqrt(np.square(want).mean()), by_llama_cpp(tmp_path / "new.gguf")
    assert np.sqrt(np.square(found - want).mean()) < 0.05 * size
    assert np.sqrt(np.square(before - want).mean()) > 0.3 * size


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: by_transformers(path), "takes a model with one active LoRA adapter"),
        (lambda path: _adapted(path, use_dora=True), "is DoRA's, which adapters in the GGUF format do not have"),
        (lambda path: _adapted(path, modules_to_save=["lm_head"]), "trains .* too"),
        (lambda path: _adapted(path, bias="lora_only", lora_bias=True), "has a bias"),
        (lambda path: _other(path), "of shape .*, which .* has not"),
    ],
    ids=["none", "DoRA", "modules_to_save", "bias", "another base"],
)
def test_what_the_format_does_not_have(make: Any, said: str, tmp_path: Path) -> None:
    """Said by name, and nothing is written."""
    path = written(tmp_path / "base.gguf", ("F32",))
    with pytest.raises(ValueError, match=said):
        save_lora_gguf(make(path), path, tmp_path / "lora.gguf")
    assert [p.name for p in tmp_path.iterdir() if p.suffix] == ["base.gguf"]


def _other(path: Path) -> Any:
    """An adapter of a model with wider layers."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    config.intermediate_size, config.quantization_config = 128, None
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**{
        k: v for k, v in config.to_dict().items() if k not in ("quantization_config", "dtype", "architectures")
    }))  # fmt: skip
    return with_warnings_off(lambda: peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["up_proj"])))


@pytest.mark.parametrize("stream", [(), ("--stream", "disk")], ids=["in memory", "streamed"])
def test_from_the_command_line(
    stream: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """--select lora and --save FILE.gguf, and the same by export; a whole model is no such file."""
    written(tmp_path / "tiny.gguf", ("Q4_1",))
    write(tmp_path / "rows.jsonl", [{"text": text, "label": label} for text, label in (("it", "a"), ("no", "b")) * 12])
    monkeypatch.chdir(tmp_path)
    run = ["finetune", "--model", "tiny.gguf", "--data", "rows.jsonl", "--template", "{text} is", "--labels", "a,b"]
    run += ["--batch-size", "4", "--no-probe", "--steps", "2", *stream]
    lora = ["--select", "lora", "--lora-rank", "2", "--lr", "1e-2", "--journal", "run.jsonl", "--save", "lora.gguf"]
    assert main([*run, *lora]) == 0
    assert "llama.cpp takes it beside the model: --lora lora.gguf" in capsys.readouterr().out
    assert main(["export", "run.jsonl", "--output", "again.gguf", *stream]) == 0
    assert (tmp_path / "lora.gguf").read_bytes() == (tmp_path / "again.gguf").read_bytes()
    assert any(t.name.endswith(".lora_b") and t.data.any() for t in gguf.GGUFReader(tmp_path / "lora.gguf").tensors)
    assert code_of([*run, "--select", "all", "--save", "whole.gguf"]) not in (0, None)
    assert "(--select lora) of a .gguf model; name a folder" in capsys.readouterr().err
