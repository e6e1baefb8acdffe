"""GGUF files stay quantised on the disk; what comes into memory is what transformers reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import blackbox_zo as bz
from tests.blackbox_zo.streaming.models import MODELS, _causal, search_of

gguf: Any = pytest.importorskip("gguf", reason="needs gguf: pip install blackbox-zo[llm]")
transformers: Any = pytest.importorskip("transformers", reason="needs transformers: pip install blackbox-zo[llm]")

WIDTH, WIDE, HEADS, LAYERS, VOCABULARY = 256, 512, 8, 3, 96
LOWRANK = bz.RandomVector(1e-3, 2, "lowrank")


def _quantised(shape: tuple[int, int], kind: str, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Rows of a type; those that gguf cannot write are random bytes with small scales."""
    quantisation = gguf.GGMLQuantizationType[kind]
    numbers = (rng.standard_normal(shape) * 0.05).astype(np.float32)
    if kind in ("F32", "F16"):
        return numbers.astype({"F32": np.float32, "F16": np.float16}[kind])
    try:
        return np.asarray(gguf.quants.quantize(numbers, quantisation))
    except NotImplementedError:
        size, nbytes = gguf.GGML_QUANT_SIZES[quantisation]
        blocks = rng.integers(0, 256, (shape[0], shape[1] // size, nbytes), dtype=np.uint8)
        scale = np.frombuffer(np.array([1e-3, 5e-4], np.float16).tobytes(), np.uint8)
        at = slice(0, 4) if kind in ("Q4_K", "Q5_K") else slice(nbytes - 2, nbytes)
        blocks[..., at] = scale[: at.stop - at.start]
        return blocks.reshape(shape[0], -1)


def written(
    path: Path, kinds: tuple[str, ...] = ("Q4_1",), *, tied: bool = True, lacks: str = "", adds: str = ""
) -> Path:
    """A tiny Llama in a GGUF file; its matrices are of the types in turn."""
    rng, kv = np.random.default_rng(0), HEADS // 2
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(LAYERS)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(WIDE)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(kv)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(VOCABULARY)
    half = WIDTH * kv // HEADS
    shapes = {"token_embd.weight": (VOCABULARY, WIDTH)}
    for i in range(LAYERS):
        shapes |= {
            f"blk.{i}.attn_q.weight": (WIDTH, WIDTH), f"blk.{i}.attn_k.weight": (half, WIDTH),
            f"blk.{i}.attn_v.weight": (half, WIDTH), f"blk.{i}.attn_output.weight": (WIDTH, WIDTH),
            f"blk.{i}.ffn_gate.weight": (WIDE, WIDTH), f"blk.{i}.ffn_up.weight": (WIDE, WIDTH),
            f"blk.{i}.ffn_down.weight": (WIDTH, WIDE),
        }  # fmt: skip
    if not tied:
        shapes["output.weight"] = (VOCABULARY, WIDTH)
    if adds:
        shapes[adds] = (WIDTH, WIDTH)
    for number, (name, shape) in enumerate(shapes.items()):
        kind = kinds[number % len(kinds)]
        if name != lacks:
            writer.add_tensor(name, _quantised(shape, kind, rng), raw_dtype=gguf.GGMLQuantizationType[kind])
    norms = [f"blk.{i}.{part}_norm.weight" for i in range(LAYERS) for part in ("attn", "ffn")]
    for name in (*norms, "output_norm.weight"):
        writer.add_tensor(name, (1 + 0.1 * rng.standard_normal(WIDTH)).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _by_transformers(path: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    ).eval()


ALL = ("Q4_0", "Q4_1", "Q8_0", "Q4_K", "Q6_K", "Q5_0", "Q5_K", "F16", "F32")


@pytest.mark.parametrize("how", [{}, {"budget": "8MiB"}, {"store": "host"}], ids=str)
@pytest.mark.parametrize("kinds", [("Q4_1",), ALL], ids=["Q4_1", "all types"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_what_is_read_is_what_transformers_reads(kinds: tuple[str, ...], tied: bool, how: Any, tmp_path: Path) -> None:
    """All weights to the last bit, the rows of queries and keys in their places, and the logits."""
    path = written(tmp_path / "tiny.gguf", kinds, tied=tied)
    model, ids = _by_transformers(path), torch.arange(3, 40)[None]
    with bz.StreamedModule.from_pretrained(path, **how) as x, torch.no_grad():
        want, streamed = dict(model.named_parameters()), x.model
        found = {name: p.clone() for name, p in x.whole()}
        assert set(found) == set(want)
        assert all(torch.equal(p, want[name]) for name, p in found.items())
        assert torch.equal(streamed(input_ids=ids).logits, model(input_ids=ids).logits)


def test_a_search_over_a_quantised_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Moves are added to what was decoded, as in memory; the file stays as it is."""
    monkeypatch.setitem(MODELS, "gguf", (lambda: None, _causal))
    path = written(tmp_path / "tiny.gguf")
    before, model = path.read_bytes(), _by_transformers(path)

    def values(x: bz.Module) -> list[float]:
        search, oracle = search_of("gguf", x, LOWRANK)
        batches: Any = oracle.batches
        oracle.batches = [{"input_ids": batch["input_ids"] % VOCABULARY} for batch in batches]
        return [report.value for report in search.run(oracle, steps=20)]

    want = values(bz.Module(model))
    for log_structured in (False, True):
        with bz.StreamedModule.from_pretrained(path, log_structured=log_structured) as x:
            assert values(x) == want
            assert all(torch.equal(p, model.get_parameter(name)) for name, p in x.whole())
    assert path.read_bytes() == before


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    """What is wrong with them, and of which tensor."""
    made = bz.StreamedModule.from_pretrained
    with pytest.raises(ValueError, match=r"lacks 'model\.layers\.1\.mlp\.up_proj\.weight'"):
        made(written(tmp_path / "less.gguf", lacks="blk.1.ffn_up.weight"))
    with pytest.raises(ValueError, match=r"has 'blk\.1\.other\.weight', which LlamaForCausalLM does not have"):
        made(written(tmp_path / "more.gguf", adds="blk.1.other.weight"))
    whole = written(tmp_path / "whole.gguf").read_bytes()
    for name, raw, said in (
        ("no.gguf", b"PK\x03\x04 and more", r"not a GGUF file: it begins with b'PK"),
        ("cut.gguf", whole[:900], "damaged or cut off"),
        ("short.gguf", whole[: len(whole) // 2], "damaged or cut off"),
    ):
        (tmp_path / name).write_bytes(raw)
        with pytest.raises(ValueError, match=said):
            made(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        made(tmp_path / "none.gguf")


def test_a_type_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With those that can."""
    path = written(tmp_path / "tiny.gguf", ("Q5_1",))
    monkeypatch.delitem(gguf.quants._type_traits, gguf.GGMLQuantizationType.Q5_1)
    with pytest.raises(ValueError, match=r"'token_embd\.weight' is of type Q5_1, which cannot be read; .*Q4_1.* can"):
        bz.StreamedModule.from_pretrained(path)
