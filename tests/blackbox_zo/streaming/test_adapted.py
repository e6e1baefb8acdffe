"""Adapters on a streamed base: they stay in memory, the base is only read, and the numbers are those in memory."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import blackbox_zo as bz
from tests.blackbox_zo.streaming.models import loaded, saved, values_of

peft: Any = pytest.importorskip("peft", reason="needs peft: pip install blackbox-zo[peft]")

NAME = "llama tied"
ESTIMATOR = bz.RandomVector(1e-2, 2, "gaussian")


def _with_lora(model: Any, **more: Any) -> Any:
    torch.manual_seed(5)
    config = peft.LoraConfig(r=2, task_type="CAUSAL_LM", **{"target_modules": ["q_proj", "down_proj"], **more})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft asks transformers for what is called otherwise now
        return peft.get_peft_model(model, config).eval()


HOWS: list[dict[str, Any]] = [
    {}, {"budget": "300kB"}, {"store": "host"}, {"blocks": ["model.layers"]}, {"dtype": torch.bfloat16},
]  # fmt: skip


@pytest.mark.parametrize("how", HOWS, ids=str)
def test_lora_on_a_streamed_base(how: dict[str, Any], tmp_path: Path) -> None:
    """Values and the adapter after six steps; nothing of the base is written."""
    folder = saved(NAME, tmp_path / "model")
    want = bz.Module(_with_lora(loaded(NAME, folder, how.get("dtype", torch.float32))), "lora")
    values = values_of(NAME, want, ESTIMATOR, 6)
    assert len(set(values)) == 6
    with bz.StreamedModule.from_pretrained(folder, adapt=_with_lora, select="lora", **how) as x:
        assert x.blocks == want.blocks
        assert not set(x.passing) & set(x.parameters)
        assert x.fingerprint() != want.fingerprint(), "one is at the start, the other has moved"
        assert values_of(NAME, x, ESTIMATOR, 6) == values
        assert x.fingerprint() == want.fingerprint()
        for name, p in want.parameters.items():
            assert torch.equal(p, x.parameters[name]), name
        assert all(x.store.version(entry) == 0 for entry in x.entries)
        streamed: Any = x.model
        streamed.save_pretrained(tmp_path / "adapter")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = peft.PeftModel.from_pretrained(loaded(NAME, folder), str(tmp_path / "adapter"))
    named = dict(again.named_parameters())
    for name, p in want.parameters.items():
        assert torch.equal(named[name].to(p.dtype), p), name


def test_the_base_moves_below_an_adapter(tmp_path: Path) -> None:
    """If it is selected, as in memory."""
    folder = saved(NAME, tmp_path / "model")
    select, estimator = "mlp", bz.RandomVector(1e-3, 2, "lowrank")
    want = bz.Module(_with_lora(loaded(NAME, folder)), select)
    values = values_of(NAME, want, estimator, 4)
    with bz.StreamedModule.from_pretrained(folder, adapt=_with_lora, select=select) as x:
        assert values_of(NAME, x, estimator, 4) == values
        assert x.fingerprint() == want.fingerprint()


@pytest.mark.parametrize(
    "more",
    [
        {"use_dora": True},
        {"init_lora_weights": "pissa"},
        {"modules_to_save": ["lm_head"]},
        {"modules_to_save": ["mlp"], "target_modules": ["q_proj"]},
    ],
    ids=str,
)
def test_adapters_that_need_the_weights_are_refused(more: dict[str, Any], tmp_path: Path) -> None:
    """They would start from numbers that are not there."""
    folder = saved(NAME, tmp_path / "model")
    with pytest.raises((ValueError, RuntimeError)) as error:
        bz.StreamedModule.from_pretrained(folder, adapt=lambda model: _with_lora(model, **more))
    assert "that are not in memory" in str(error.value)


def test_an_adapter_put_on_afterwards_is_refused(tmp_path: Path) -> None:
    """`Module` would read and fetch the base by itself, once for each pass."""
    folder = saved(NAME, tmp_path / "model")
    with bz.StreamedModule.from_pretrained(folder) as x:
        model = _with_lora(x.model)
        with pytest.raises(ValueError, match=r"`StreamedModule.from_pretrained\(\.\.\., adapt=\.\.\.\)`"):
            bz.Module(model, "lora")
