"""Weights that come to a CUDA device while it computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import blackbox_zo as bz
from tests.blackbox_zo.streaming.models import MODELS, loaded, same_weights, saved, values_of

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and torch finds none"),
]

LOWRANK = bz.RandomVector(1e-3, 2, "lowrank")
HOWS: list[dict[str, Any]] = [{}, {"log_structured": True}, {"store": "host"}, {"budget": "3/4"}]
ENCODED: list[dict[str, Any]] = [
    {"transfer_dtype": "int8"},
    {"store": "host", "transfer_dtype": "bf16", "log_structured": True},
]


@pytest.mark.parametrize("how", HOWS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("name", MODELS)
def test_cuda_has_modules_numbers(name: str, dtype: torch.dtype, how: dict[str, Any], tmp_path: Path) -> None:
    """Values and weights after twenty steps are those of the model in the device's memory, to the last bit."""
    folder = saved(name, tmp_path / "model", dtype)
    model = loaded(name, folder, dtype).to("cuda")
    values = values_of(name, bz.Module(model), LOWRANK, 20)
    how = (
        how
        if "budget" not in how
        else {"budget": sum(p.numel() * p.element_size() for p in model.parameters()) * 3 // 4}
    )
    with bz.StreamedModule.from_pretrained(folder, "cuda", **how) as x:
        assert values_of(name, x, LOWRANK, 20) == values
        assert same_weights(x, model)


@pytest.mark.parametrize("how", ENCODED, ids=str)
def test_cuda_encodes_as_a_cpu_does(how: dict[str, Any], tmp_path: Path) -> None:
    """The weights before any move are the same."""
    folder = saved("llama", tmp_path / "model")
    with bz.StreamedModule.from_pretrained(folder, **how) as want:
        weights = {name: p.clone() for name, p in want.whole()}
    with bz.StreamedModule.from_pretrained(folder, "cuda", **how) as x:
        assert all(torch.equal(p.cpu(), weights[name]) for name, p in x.whole())
        values_of("llama", x, LOWRANK, 20)


@pytest.mark.parametrize("store", ["disk", "host"])
def test_cuda_keeps_the_budget(store: Any, tmp_path: Path) -> None:
    """What the device holds of weights is what the plan says, and page-locked memory is of the size of the weights."""
    folder = saved("llama", tmp_path / "model")
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    with bz.StreamedModule.from_pretrained(folder, "cuda", store, "300kB") as x:
        held = torch.cuda.memory_allocated() - before
        assert held <= 300_000 + 512 * sum(1 for _ in x.model.parameters())
        if store == "host":
            memory = x.store.memory.memory  # type: ignore[attr-defined]
            assert memory.is_pinned() and len(memory) == sum(e.nbytes for e in x.entries)
    assert torch.cuda.memory_allocated() - before <= 512 * 16


def test_a_cuda_device_that_is_too_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused before anything is read."""
    folder = saved("llama", tmp_path / "model")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (100_000, 1 << 30))
    with pytest.raises(ValueError, match=r"cuda:0 has 97.7 KiB free"):
        bz.StreamedModule.from_pretrained(folder, "cuda")
