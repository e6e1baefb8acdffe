"""The fingerprint of a model counts its buffers, and not what another device computes a little otherwise."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

import blackbox_zo as bz
from oracles.llm import replay
from tests.journals import read


def normed() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).eval()


def test_running_statistics_count() -> None:
    one, other = normed(), normed()
    assert bz.Module(one).fingerprint() == bz.Module(other).fingerprint()
    other[1].running_mean += 5  # type: ignore[index]
    assert bz.Module(one).fingerprint() != bz.Module(other).fingerprint()
    other = normed()
    other[1].num_batches_tracked += 1  # type: ignore[index]
    assert bz.Module(one).fingerprint() != bz.Module(other).fingerprint()


class Tables(nn.Module):
    """Buffers of all kinds, beside one weight."""

    def __init__(self, value: float = 1.0, whole: int = 3, saved: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.register_buffer("table", value * torch.linspace(0.1, 1, 64), persistent=saved)
        self.register_buffer("codes", torch.tensor([1, whole], dtype=torch.int8), persistent=False)
        self.register_buffer("nothing", None)


def test_what_each_load_computes_again_counts_to_three_digits() -> None:
    start = bz.Module(Tables()).fingerprint()
    assert bz.Module(Tables(1 + 1e-6)).fingerprint() == start
    assert bz.Module(Tables(1.1)).fingerprint() != start
    assert bz.Module(Tables(whole=4)).fingerprint() != start
    saved = [bz.Module(Tables(value, saved=True)).fingerprint() for value in (1.0, 1 + 1e-6)]
    assert saved[0] != saved[1]


def rotary(theta: float) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        rope_parameters={"rope_type": "default", "rope_theta": theta},
    )  # fmt: skip
    return LlamaForCausalLM(config)


def test_rotary_frequencies_of_another_device_are_no_other_model() -> None:
    model, other = rotary(1e4), rotary(1e4)
    other.model.rotary_emb.inv_freq *= 1 + 2**-22
    assert bz.Module(model).fingerprint() == bz.Module(other).fingerprint()
    assert bz.Module(rotary(1e5)).fingerprint() != bz.Module(model).fingerprint()


def test_a_model_without_buffers_keeps_its_digest() -> None:
    torch.manual_seed(0)
    assert "+" not in bz.Module(nn.Linear(3, 2)).fingerprint()
    plain = nn.Linear(2, 2)
    nn.init.constant_(plain.weight, 0.5)
    nn.init.constant_(plain.bias, 0.25)
    assert bz.Module(plain).fingerprint() == "3a2fa754e6e24e8e"


def test_a_buffer_that_changed_refuses_the_run_by_name(tmp_path: Path) -> None:
    def search(model: nn.Module) -> bz.Search:
        return bz.Search(bz.Module(model), bz.RandomVector(0.1), bz.SGD(0.1), journal=tmp_path / "run.jsonl")

    with search(normed()) as first:
        proposal = first.ask()
        first.tell(proposal, bz.Values([1.0, 2.0]))
    changed = normed()
    changed[1].running_var *= 2  # type: ignore[index]
    with pytest.raises(bz.JournalError, match=r"its variable's start|its start is"):
        search(changed)
    with pytest.raises(bz.JournalError, match="weights other than this model's"):
        replay(tmp_path / "run.jsonl", copy.deepcopy(changed))
    with search(normed()) as again:
        assert again.moves == 1


def test_a_journal_from_before_buffers_counted_goes_on(tmp_path: Path) -> None:
    journal = tmp_path / "run.jsonl"
    with bz.Search(bz.Module(normed()), bz.RandomVector(0.1), bz.SGD(0.1), journal=journal) as first:
        first.tell(first.ask(), bz.Values([1.0, 2.0]))
    start = read(journal)[0]["start"]
    journal.write_text(journal.read_text().replace(start, start.partition("+")[0]))
    with bz.Search(bz.Module(normed()), bz.RandomVector(0.1), bz.SGD(0.1), journal=journal) as again:
        assert again.moves == 1
    assert replay(journal, normed()).version == 1


def test_frozen_float8_weights_have_a_digest() -> None:
    models = [nn.Linear(4, 4) for _ in range(2)]
    for model, value in zip(models, (1.0, 2.0), strict=True):
        frozen = torch.full((3,), value).to(torch.float8_e4m3fn)
        model.register_parameter("codes", nn.Parameter(frozen, requires_grad=False))
        nn.init.zeros_(model.weight)
        nn.init.zeros_(model.bias)
    one, other = (bz.Module(model).fingerprint() for model in models)
    assert one != other
