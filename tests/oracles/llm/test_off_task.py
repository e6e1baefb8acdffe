"""`OffTask`: the KL and the perplexity of plain formulas, from whole logits of a copy of the start model."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

import blackbox_zo as bz
from oracles.llm import Examples, OffTask, finetune, text
from tests.oracles.llm.helpers import gpt2, llama, tokenizer

TOKENIZER = tokenizer()
ROWS = [{"text": t} for t in ("The cat sat on the mat.", "It was good.", "What is it? The cat", "great", "It")]


def texts(rows: list[dict[str, str]] = ROWS) -> Examples:
    return text(rows, TOKENIZER)


@torch.no_grad()
def moved(model: Any, by: float = 0.1) -> Any:
    g = torch.Generator().manual_seed(1)
    for p in model.parameters():
        p += by * torch.randn(p.shape, generator=g)
    return model


@torch.no_grad()
def by_hand(model: Any, start: Any, found: Examples) -> dict[str, float]:
    kl, lost, count = 0.0, 0.0, 0
    for tokens in found.tokens:
        ids = torch.tensor([list(tokens)])
        p, q = (m(ids).logits[0, :-1].double().log_softmax(-1) for m in (model, start))
        kl += float((p.exp() * (p - q)).sum())
        lost -= float(p.gather(1, ids[0, 1:, None]).sum())
        count += len(tokens) - 1
    return {"kl": kl / count, "perplexity": math.exp(lost / count)}


@pytest.mark.parametrize("make", [llama, gpt2])
@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_kl_and_perplexity_are_those_of_the_formulas(make: Any, batch_size: int) -> None:
    model, found = make(), texts(ROWS[:3])
    start = copy.deepcopy(model)
    check = OffTask(model, found, batch_size=batch_size)
    assert check.start["kl"] == 0.0 and check.start["perplexity"] == pytest.approx(
        by_hand(model, start, found)["perplexity"]
    )
    assert check() == pytest.approx(check.start, abs=1e-6)
    moved(model)
    assert check() == pytest.approx(by_hand(model, start, found), rel=1e-4)
    assert check()["kl"] > 0.01


def test_few_places_are_spread_over_all_texts() -> None:
    model, found = llama(), texts(ROWS[:3])
    check = OffTask(model, found, places=3, batch_size=1)
    count = sum(len(tokens) - 1 for tokens in found.tokens)
    assert check._places.tolist() == [0, round((count - 1) / 2), count - 1]
    start = copy.deepcopy(model)
    moved(model)
    kl = []
    for tokens in found.tokens:
        ids = torch.tensor([list(tokens)])
        with torch.no_grad():
            p, q = (m(ids).logits[0, :-1].log_softmax(-1) for m in (model, start))
        kl += (p.exp() * (p - q)).sum(-1).tolist()
    assert check()["kl"] == pytest.approx(sum(kl[i] for i in check._places.tolist()) / 3, rel=1e-4)


def test_dropout_is_off_and_the_mode_is_kept() -> None:
    model = gpt2().train()
    check = OffTask(model, texts(ROWS[:2]))
    assert check()["kl"] == pytest.approx(0.0, abs=1e-7) and model.training


def loss(model: Any, batch: Any) -> torch.Tensor:
    z: torch.Tensor = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, -1]
    return -z.log_softmax(-1)[:, 7]


def tuned(model: Any, journal: Path | None = None, steps: int = 6) -> Any:
    arguments: dict[str, Any] = {
        "rule": bz.SGD(1e-4),
        "batch_size": 3,
        "off_task": texts(ROWS[:2]),
        "evaluate_every": 3,
    }
    return finetune(model, texts(ROWS[:3]), loss, steps=steps, journal=journal, **arguments)


def test_a_run_reports_it_beside_the_validation_and_a_resumed_one_from_the_start_model(tmp_path: Path) -> None:
    model = llama()
    start = copy.deepcopy(model)
    whole = tuned(model)
    assert [step for step, _ in whole.off_task] == [0, 3, 6]
    assert whole.off_task[0][1]["kl"] == 0.0
    assert dict(whole.off_task[-1][1]) == pytest.approx(by_hand(model, start, texts(ROWS[:2])), rel=1e-4)
    tuned(llama(), tmp_path / "run.jsonl", steps=4)
    again = tuned(llama(), tmp_path / "run.jsonl")
    assert again.off_task[-1] == whole.off_task[-1]


def test_a_larger_move_drifts_further() -> None:
    kl = []
    for by in (0.01, 0.05, 0.2):
        model = llama()
        check = OffTask(model, texts(ROWS[:3]))
        moved(model, by)
        kl.append(check()["kl"])
    assert kl == sorted(kl) and kl[0] < kl[-1] / 10


def test_bad_input_is_named() -> None:
    model = llama()
    with pytest.raises(ValueError, match="has no texts"):
        OffTask(model, Examples([], 0))
    with pytest.raises(ValueError, match="text 1 has fewer than two tokens"):
        OffTask(model, Examples([[1, 2], [3]], 0))
    with pytest.raises(ValueError, match=r"`OffTask\(places=...\)`"):
        OffTask(model, texts(ROWS[:1]), places=0)
    t5: Any = T5ForConditionalGeneration(T5Config(vocab_size=296, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2))
    with pytest.raises(ValueError, match="encoder-decoder"):
        OffTask(t5, texts(ROWS[:1]))
