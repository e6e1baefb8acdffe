"""Both ways to answer queries give what the model gives with the displaced parameters written into it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch

import blackbox_zo as bz
from blackbox_zo.directions import OnBlocks
from blackbox_zo.modules import Module
from blackbox_zo.modules._batched import Batched
from blackbox_zo.modules._displaced import Displaced, Displacements
from blackbox_zo.modules._scratch import Scratch
from blackbox_zo.modules._select import Select
from blackbox_zo.modules._stacking import Unstackable

from .helpers import (
    CASES,
    DIRECTIONS,
    LANGUAGE,
    SWEEPS,
    Case,
    Make,
    assert_exact,
    logits,
    queries_of,
    reference,
    sparse,
    swept,
    text,
    written,
)

TRIED = {**DIRECTIONS, "sparse": sparse}
directions = pytest.mark.parametrize("make", TRIED.values(), ids=TRIED)
sweeps = pytest.mark.parametrize("sweep", SWEEPS)


def image(model: torch.nn.Module) -> dict[str, bytes]:
    """Every bit of a model, and every attribute of every part of it."""
    out = {name: t.detach().view(torch.uint8 if t.dim() else t.dtype).numpy().tobytes()
           for name, t in model.state_dict().items()}  # fmt: skip
    for name, part in model.named_modules():
        hooks = [len(getattr(part, hook)) for hook in vars(part) if hook.endswith("_hooks")]
        out[f"{name} has"] = repr((sorted(vars(part)), hooks)).encode()
    return out


@directions
@pytest.mark.parametrize("name", CASES)
def test_every_kind_of_model(name: str, make: Make) -> None:
    case = CASES[name]
    module, inputs = Module(case.make()), case.inputs()
    before = image(module.model)
    queries = queries_of(module, make)
    expected = reference(case, module, queries, inputs)
    assert_exact(swept(case, module, queries, inputs, "scratch"), expected)
    if case.stacks and (not case.by_factors or isinstance(queries.directions, bz.LowRank)):
        assert_exact(swept(case, module, queries, inputs, "batched"), expected)
    else:
        with pytest.raises(Unstackable, match=r"Use sweep='scratch'|keeps the batch of its state on another axis"):
            swept(case, module, queries, inputs, "batched")
    assert image(module.model) == before


@sweeps
@pytest.mark.parametrize("name", [name for name, case in LANGUAGE.items() if case.stacks and name not in ("t5",)])
def test_language_models_without_attention_mask(name: str, sweep: str) -> None:
    case = replace(LANGUAGE[name], inputs=lambda: text(mask=False))
    module = Module(case.make())
    queries, inputs = queries_of(module, bz.LowRank), case.inputs()
    assert_exact(swept(case, module, queries, inputs, sweep), reference(case, module, queries, inputs))


@sweeps
@directions
@pytest.mark.parametrize("name", ["llama tied", "gpt2"])
def test_bf16(name: str, make: Make, sweep: str) -> None:
    """As far from the fp32 reference as bf16 arithmetic on the displaced bf16 weights is, within a factor of 4."""
    case = LANGUAGE[name]
    inputs, module = case.inputs(), Module(case.make().to(torch.bfloat16))
    queries = queries_of(module, make)
    exact_module = Module(case.make().to(torch.bfloat16).float())
    exact = reference(case, exact_module, queries, inputs)
    rounded = reference(case, module, queries, inputs).float()
    found = swept(case, module, queries, inputs, sweep).float()
    typical = float((rounded - exact).pow(2).mean().sqrt())
    assert float((found - exact).pow(2).mean().sqrt()) < 2 * typical
    assert float((found - exact).abs().max()) < 4 * float((rounded - exact).abs().max())
    assert float((exact[:-1] - exact[-1]).pow(2).mean((1, 2, 3)).sqrt().min()) > 4 * typical


@sweeps
@pytest.mark.parametrize("name", ["llama tied", "gpt2", "opt", "gemma", "phi", "neox", "bloom", "t5", "bert"])
def test_no_matrix_is_ever_written_out(name: str, sweep: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under low-rank directions: linear maps, embeddings and norms go by the factors or some rows at a time."""

    def whole(self: Displaced, i: int, scratch: Any) -> torch.Tensor:
        assert self.small, f"{self.block} is written out"
        return self.stacked[i]

    case = LANGUAGE[name]
    select = r"wte|wpe|ln_" if name == "gpt2" and sweep == "scratch" else "all"  # its linear maps are `addmm`
    module, inputs = Module(case.make(), select), case.inputs()
    queries = queries_of(module, bz.LowRank)
    expected = reference(case, module, queries, inputs)
    monkeypatch.setattr(Displaced, "whole", whole)
    assert_exact(swept(case, module, queries, inputs, sweep), expected)


SELECTIONS: dict[str, tuple[str, Select]] = {
    "biases of gpt2": ("gpt2", "bias"),
    "biases of qwen2": ("qwen2", "bias"),
    "biases of opt": ("opt", "bias"),
    "norms of llama": ("llama", "norm"),
    "norms of gemma": ("gemma", "norm"),
    "norms of bert": ("bert", "LayerNorm"),
    "norms of gpt2": ("gpt2", r"ln_"),
    "norms' weights of neox": ("neox", r"norm\.weight"),
    "norms' biases of neox": ("neox", r"norm\.bias"),
    "the embedding": ("llama", "embed_tokens"),
    "the tied embedding": ("llama tied", "embed_tokens"),
    "places": ("gpt2", "wpe"),
    "one matrix": ("llama", ["model.layers.1.mlp.down_proj.weight"]),
    "one matrix of gpt2": ("gpt2", ["transformer.h.0.mlp.c_fc.weight"]),
    "the head": ("llama", ["lm_head.weight"]),
    "one bias": ("gpt2", ["transformer.h.1.attn.c_attn.bias"]),
    "the last layer": ("qwen3", r"layers\.1\."),
    "a convolution": ("cnn", ["0.weight"]),
    "biases of convolutions": ("cnn", r"[04]\.bias"),
    "the norm of a batch": ("cnn", r"^1\."),
}


@directions
@pytest.mark.parametrize("selection", SELECTIONS.values(), ids=SELECTIONS)
def test_selections(selection: tuple[str, Select], make: Make) -> None:
    name, select = selection
    module, inputs = Module(CASES[name].make(), select), CASES[name].inputs()
    queries = queries_of(module, make, 0.3)
    expected = reference(CASES[name], module, queries, inputs)
    for sweep in SWEEPS:
        assert_exact(swept(CASES[name], module, queries, inputs, sweep), expected)


@directions
@pytest.mark.parametrize("width", [4, 20, 60])
def test_a_batch_as_large_as_a_matrix(width: int, make: Make) -> None:
    """A weight that is not searched is not cut by query because it has as many rows as the stacked batch."""
    net = torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.Tanh(), torch.nn.Linear(width, 4))
    case = Case(lambda: net, lambda: torch.randn(4, 4, generator=torch.Generator().manual_seed(0)), lambda m, x: m(x))
    gpt2 = CASES["gpt2"]
    for each, select in ((case, "bias"), (case, "weight"), (replace(gpt2, inputs=lambda: text(size=4)), "bias")):
        model = each.make()
        module, inputs = Module(model, select), each.inputs()
        queries = queries_of(module, make, 0.2)
        if width == 60 and each is not case:  # 4 queries of 4 rows are 16, the width of the model
            queries = queries.take(slice(1, 5))
        expected = reference(each, module, queries, inputs)
        assert_exact(swept(each, module, queries, inputs, "batched"), expected)


@pytest.mark.parametrize("index", [[0], [1, 0], [1, 1, 0, 1], [2, 0, 1, 2, 2, 0]], ids=str)
@directions
def test_any_order_of_queries(make: Make, index: list[int]) -> None:
    case = CASES["llama"]
    module, inputs = Module(case.make()), case.inputs()
    scale = 0.05 * np.cos(1.0 + np.arange(len(index)))
    queries = bz.Queries(make(module.blocks, 3, bz.Key(1, 2)), np.array(index), scale, 0)
    expected = reference(case, module, queries, inputs)
    for sweep in SWEEPS:
        found = swept(case, module, queries, inputs, sweep)
        assert float((found - expected).abs().max()) < 1e-5
    last = Displacements(module, queries).take(slice(len(index) - 1, len(index)))
    assert last.n == 1
    with Scratch(last, 0), torch.no_grad():
        assert float((case.run(module.model, inputs) - expected[-1]).abs().max()) < 1e-5


@directions
def test_only_some_blocks_touched(make: Make) -> None:
    case = CASES["llama"]
    module, inputs = Module(case.make()), case.inputs()
    key = bz.Key(1, 2)
    on_one = OnBlocks(make(module.blocks, 2, key), 1, key)
    queries = bz.Queries(on_one, np.array([0, 0, 1, 1, 0]), 0.1 * np.array([1.0, -1.0, 1.0, -1.0, 0.0]), 0)
    assert 0 < len(Displacements(module, queries).of) < len(module.blocks)
    expected = reference(case, module, queries, inputs)
    for sweep in SWEEPS:
        assert_exact(swept(case, module, queries, inputs, sweep), expected)


def adapted(kind: str) -> Callable[[], Any]:
    """A Llama with an adapter of peft's, whose parameters are made other than 0."""

    def make() -> Any:
        import peft

        with torch.random.fork_rng():
            torch.manual_seed(3)
            config: Any = peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
            if kind == "lora":
                config = peft.LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "v_proj", "down_proj"])
            model: Any = peft.get_peft_model(CASES["llama"].make(), config).eval()
            with torch.no_grad():
                for p in model.parameters():
                    p += 0.1 * torch.randn_like(p) if p.requires_grad else 0.0
        return model

    return make


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@sweeps
@directions
@pytest.mark.parametrize("kind", ["lora", "prefix"])
def test_adapters(kind: str, make: Make, sweep: str) -> None:
    case = Case(adapted(kind), text, logits)
    model, inputs = case.make(), case.inputs()
    module = Module(model, kind)
    assert all(kind == "lora" or "prompt_encoder" in name for name in module.parameters)
    assert set(module.parameters) == set(Module(model, "all").parameters)
    queries = queries_of(module, make, 0.2)
    assert_exact(swept(case, module, queries, inputs, sweep), reference(case, module, queries, inputs))


@pytest.mark.parametrize("make", [bz.LowRank, bz.Gaussian])
@pytest.mark.parametrize("name", ["llama tied", "gpt2", "qwen3", "opt"])
def test_generation(name: str, make: Make) -> None:
    case = LANGUAGE[name]
    module, inputs = Module(case.make()), text()
    queries = queries_of(module, make, 0.1)
    options: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    expected = torch.stack([written(module, queries, i).generate(**inputs, **options) for i in range(queries.n)])
    assert len({row.numpy().tobytes() for row in expected}) >= 4
    displacements, model = Displacements(module, queries), cast(Any, module.model)
    for i in range(queries.n):
        with Scratch(displacements, i):
            assert torch.equal(model.generate(**inputs, **options), expected[i])
    mode = Batched(displacements, 3)
    stacked = mode.stack(inputs, torch.arange(3).repeat(queries.n), 3)
    with mode:
        found = model.generate(**stacked, **options)
    assert torch.equal(found.view(expected.shape), expected)
