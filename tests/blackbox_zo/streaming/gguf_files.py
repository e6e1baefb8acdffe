"""Tiny GGUF files of all types, and what transformers reads from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

gguf: Any = pytest.importorskip("gguf", reason="needs gguf: pip install blackbox-zo[llm]")
transformers: Any = pytest.importorskip("transformers", reason="needs transformers: pip install blackbox-zo[llm]")

PIECES = ["<unk>", "<s>", "</s>", "Ġ", *map(chr, range(33, 127)), "Ġa", "Ġb"]
"""The tokens: characters, and two words of one letter after a space."""

WIDTH, WIDE, HEADS, LAYERS, VOCABULARY = 256, 512, 8, 3, len(PIECES)
ALL = ("Q4_0", "Q4_1", "Q8_0", "Q4_K", "Q6_K", "Q5_0", "Q5_K", "F16", "F32")


def quantised(shape: tuple[int, int], kind: str, rng: np.random.Generator) -> np.ndarray[Any, Any]:
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
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(PIECES)
    writer.add_token_types([3, 3, 3] + [1] * (len(PIECES) - 3))
    writer.add_token_merges(["Ġ a", "Ġ b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
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
            writer.add_tensor(name, quantised(shape, kind, rng), raw_dtype=gguf.GGMLQuantizationType[kind])
    norms = [f"blk.{i}.{part}_norm.weight" for i in range(LAYERS) for part in ("attn", "ffn")]
    for name in (*norms, "output_norm.weight"):
        writer.add_tensor(name, (1 + 0.1 * rng.standard_normal(WIDTH)).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def by_transformers(path: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    ).eval()
