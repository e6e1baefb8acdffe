"""Tiny models of random weights, and a tiny tokenizer."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CORPUS = ["It was great. It was terrible. It was good. What is it? The cat sat on the mat."] * 20
VOCABULARY = 296  # all that there is to merge


def llama() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.3,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
    )
    return _in_eval_mode(LlamaForCausalLM(config))


def gpt2() -> Any:
    """Its places are absolute, so a wrong one shows."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=64,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=0,
    )
    return _in_eval_mode(GPT2LMHeadModel(config))


def _in_eval_mode(model: Any) -> Any:
    return model.eval()


def tokenizer(**special: Any) -> Any:
    """Bytes, and what is frequent in the corpus: " great" is one token, " marvellous" is not."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(CORPUS, trainer)
    wrap: Any = PreTrainedTokenizerFast
    return wrap(tokenizer_object=bpe, eos_token="<end>", **special)


def padded(rows: list[list[int]], side: str, pad: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows as a matrix, and its attention mask."""
    width = max(map(len, rows))
    fill = [[pad] * (width - len(row)) for row in rows]
    off = [[0] * (width - len(row)) for row in rows]
    ids = [f + r if side == "left" else r + f for r, f in zip(rows, fill, strict=True)]
    mask = [o + [1] * len(r) if side == "left" else [1] * len(r) + o for r, o in zip(rows, off, strict=True)]
    return torch.tensor(ids), torch.tensor(mask)
