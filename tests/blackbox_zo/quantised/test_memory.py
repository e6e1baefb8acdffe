"""Layers that are quantised in memory, here or by torchao and bitsandbytes, and the search of their scales."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import blackbox_zo as bz
from blackbox_zo.quantised import GroupedTable, QuantisedLinear, adopt, quantise, restore
from tests.blackbox_zo.streaming.gguf_files import gguf


def _model(dtype: torch.dtype = torch.float32) -> Any:
    generator = torch.Generator().manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Embedding(20, 64), torch.nn.Linear(64, 128), torch.nn.Tanh(), torch.nn.Linear(128, 64, bias=False),
        torch.nn.Linear(64, 5), torch.nn.Linear(5, 3), torch.nn.Linear(64, 20, bias=False),
    )  # fmt: skip
    del model[5], model[4]
    model[4].weight = model[0].weight
    for p in model.parameters():
        p.data = 0.1 * torch.randn(p.shape, generator=generator)
    return model.to(dtype).eval()


IDS = torch.arange(12).view(3, 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q8_0"])
def test_quantised_in_memory(kind: Any, dtype: torch.dtype) -> None:
    """As gguf does it; a tied head stays as it is; the full weights go, and come back from the codes."""
    model, plain = _model(dtype), _model(dtype)
    assert quantise(model, kind) == ["1", "3"]
    for i in (1, 3):
        data = gguf.quants.quantize(plain[i].weight.detach().float().numpy(), gguf.GGMLQuantizationType[kind])
        want = torch.from_numpy(gguf.quants.dequantize(data, gguf.GGMLQuantizationType[kind]).copy())
        plain[i].weight.data.copy_(want)
    assert model[4].weight is model[0].weight
    assert [vars(model[i])["original"].weight.numel() for i in (1, 3)] == [0, 0]
    assert sum(p.numel() for p in model.parameters()) < sum(p.numel() for p in plain.parameters()) / 2
    with torch.no_grad():
        before = model(IDS)
        assert torch.allclose(before, plain(IDS), atol=1e-5 if dtype is torch.float32 else 1e-2)
        assert restore(model) == ["1", "3"]
        assert torch.allclose(model(IDS), before, atol=1e-6 if dtype is torch.float32 else 1e-2)
    assert type(model[1]) is torch.nn.Linear
    assert model[1].weight.dtype is dtype


@pytest.mark.parametrize(("moves", "radius", "rate"), [("scales", 1e-2, 1e-2), ("codes", 1 / 8, 1.0)])
def test_a_search_of_what_was_quantised(moves: Any, radius: float, rate: float) -> None:
    """It lowers the loss, with the weights that `restore` gives."""
    model, target = _model(), torch.randn(3, 4, 20, generator=torch.Generator().manual_seed(1))
    quantise(model, "Q4_1", moves)
    x = bz.Module(model, r"(scale|code)_shift")
    kind: Any = "gaussian" if moves == "scales" else "sparse"

    def loss(model: Any, batch: Any) -> Any:
        return (model(batch["x"]) - batch["y"]).square().mean((1, 2))

    from oracles.llm import LossOracle

    search = bz.Search(x, bz.RandomVector(radius, 20, kind), bz.SGD(rate), seed=0)
    values = [report.value for report in search.run(LossOracle(model, [{"x": IDS, "y": target}], loss), steps=30)]
    assert values[-1] < values[0]
    with torch.no_grad():
        mine = float(loss(model, {"x": IDS, "y": target}).mean())
        restore(model)
        assert np.isclose(float(loss(model, {"x": IDS, "y": target}).mean()), mine, rtol=1e-5)


def _by_torchao(model: Any) -> None:
    ao: Any = pytest.importorskip("torchao.quantization", reason="needs torchao: pip install 'blackbox-zo[torchao]'")
    ao.quantize_(model, ao.Int8WeightOnlyConfig(), filter_fn=lambda _, name: name in ("1", "3"))


def _by_torchao_in_groups(model: Any) -> None:
    ao: Any = pytest.importorskip("torchao.quantization", reason="needs torchao: pip install 'blackbox-zo[torchao]'")
    granularity: Any = pytest.importorskip("torchao.quantization.granularity")
    dtypes: Any = torch
    config = ao.IntxWeightOnlyConfig(weight_dtype=dtypes.int4, granularity=granularity.PerGroup(32))
    ao.quantize_(model, config, filter_fn=lambda _, name: name in ("1", "3"))


def _by_bitsandbytes(model: Any, kind: str = "nf4", nested: bool = False) -> None:
    bnb: Any = pytest.importorskip("bitsandbytes", reason="needs bitsandbytes: pip install 'blackbox-zo[bitsandbytes]'")
    for i in (1, 3):
        old = model[i]
        new = bnb.nn.Linear4bit(
            old.in_features, old.out_features, bias=old.bias is not None, quant_type=kind, compress_statistics=nested
        )
        new.load_state_dict(old.state_dict())
        model[i] = new.to("cpu")


LIBRARIES: dict[str, tuple[Callable[[Any], None], float]] = {
    "torchao int8": (_by_torchao, 1e-6),
    "torchao int4 in groups": (_by_torchao_in_groups, 1e-6),
    "nf4": (_by_bitsandbytes, 1e-6),
    "fp4": (lambda model: _by_bitsandbytes(model, "fp4"), 1e-6),
    "nf4, scales quantised too": (lambda model: _by_bitsandbytes(model, "nf4", True), 1e-6),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("make", "close"), LIBRARIES.values(), ids=LIBRARIES)
def test_layers_of_a_library(make: Callable[[Any], None], close: float) -> None:
    """The same numbers as theirs; scales that move, in their own format too after `restore`."""
    model = _model()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        make(model)
        with torch.no_grad():
            want = model(IDS)
        kinds = [type(model[i]) for i in (1, 3)]
        assert adopt(model) == ["1", "3"]
        with torch.no_grad():
            assert torch.allclose(model(IDS), want, atol=close)
            tables = [m for m in model.modules() if isinstance(m, GroupedTable)]
            for number, table in enumerate(tables):
                generator = torch.Generator().manual_seed(number)
                table.scale_shift.add_(torch.randn(table.scale_shift.shape, generator=generator), alpha=0.3)
            moved = model(IDS)
            assert (moved - want).abs().max() > 1e-3
            assert bz.Module(model, "scale_shift").size == sum(t.own.numel() for t in tables)
            assert restore(model) == ["1", "3"]
            assert [type(model[i]) for i in (1, 3)] == kinds
            assert torch.allclose(model(IDS), moved, atol=1e-5)


def test_what_cannot_be(tmp_path: Path) -> None:
    """Said, and the model is as it was."""
    narrow = torch.nn.Sequential(torch.nn.Linear(5, 3))
    with pytest.raises(ValueError, match="has rows that are a multiple of 32"):
        quantise(narrow)
    with pytest.raises(ValueError, match="is quantised by torchao"):
        adopt(narrow)
    with pytest.raises(ValueError, match="must be one of 'Q4_0', 'Q4_1', 'Q8_0'; got 'Q4_K'"):
        quantise(narrow, "Q4_K")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must be one of 'scales', 'codes'; got 'bits'"):
        quantise(narrow, moves="bits")  # type: ignore[arg-type]
    assert type(narrow[0]) is torch.nn.Linear
    assert restore(narrow) == []


@pytest.mark.filterwarnings("ignore")
def test_groups_that_end_in_other_rows() -> None:
    """Of bitsandbytes, whose groups go on from row to row."""
    model = torch.nn.Sequential(
        torch.nn.Embedding(2, 2), torch.nn.Linear(96, 64), torch.nn.Tanh(), torch.nn.Linear(64, 64)
    )
    _by_bitsandbytes(model)
    with pytest.raises(ValueError, match="Rows of 96 numbers are no multiple of bitsandbytes' groups of 64"):
        adopt(model)
    assert not any(isinstance(m, QuantisedLinear) for m in model.modules())


def test_a_model_of_transformers_is_not_saved_with_tables(tmp_path: Path) -> None:
    """`save_pretrained` says what to do first; then the folder has the quantised numbers."""
    transformers: Any = pytest.importorskip("transformers", reason="needs transformers: pip install blackbox-zo[llm]")
    config = transformers.LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2
    )
    model = transformers.LlamaForCausalLM(config).eval()
    quantise(model, "Q8_0")
    with torch.no_grad():
        want = model(input_ids=IDS).logits
    with pytest.raises(ValueError, match="Put ordinary layers back before you save this model"):
        model.save_pretrained(tmp_path)
    restore(model)
    model.save_pretrained(tmp_path)
    again = transformers.LlamaForCausalLM.from_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.allclose(again(input_ids=IDS).logits, want, atol=1e-5)
