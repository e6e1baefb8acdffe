"""`Module`: which parameters and elements are searched, units, state and fingerprint."""

from __future__ import annotations

import copy
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import blackbox_zo as bz
from blackbox_zo.modules import Module
from blackbox_zo.modules._displaced import Displacements

from .helpers import (
    CASES,
    DIRECTIONS,
    SWEEPS,
    Case,
    Make,
    assert_exact,
    made,
    numbers,
    output,
    queries_of,
    reference,
    swept,
    written,
)

directions = pytest.mark.parametrize("make", DIRECTIONS.values(), ids=DIRECTIONS)


def small() -> Any:
    """Two layers with a norm between them; the last bias is frozen."""
    net = made(lambda: nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 3)))()
    net[2].bias.requires_grad_(False)
    return net


@pytest.mark.parametrize(
    ("case", "names"),
    [
        ("llama", ["model.norm.weight"]),
        ("gpt2", ["transformer.ln_f.weight", "transformer.ln_f.bias"]),
        ("opt", ["model.decoder.final_layer_norm.weight", "model.decoder.final_layer_norm.bias"]),
        ("gemma3", ["model.norm.weight"]),
        ("phi", ["model.final_layernorm.weight", "model.final_layernorm.bias"]),
        ("neox", ["gpt_neox.final_layer_norm.weight", "gpt_neox.final_layer_norm.bias"]),
        ("bloom", ["transformer.ln_f.weight", "transformer.ln_f.bias"]),
    ],
)
def test_the_top_is_the_norm_after_the_last_layer(case: str, names: list[str]) -> None:
    assert list(Module(CASES[case].make(), "top").parameters) == names


@pytest.mark.parametrize(
    ("case", "before"),
    [
        ("llama", "model.layers."),
        ("gpt2", "transformer.h."),
        ("opt", "model.decoder.layers."),
        ("neox", "gpt_neox.layers."),
        ("bloom", "transformer.h."),
    ],
)
def test_the_last_layers_are_searched_with_the_norm_after_them(case: str, before: str) -> None:
    model = CASES[case].make()
    layers = sorted({int(n.removeprefix(before).split(".")[0]) for n, _ in model.named_parameters() if before in n})
    norm = set(Module(model, "top").parameters)
    for count in range(1, len(layers) + 1):
        last = tuple(f"{before}{number}." for number in layers[-count:])
        expected = {n for n, _ in model.named_parameters() if n.startswith(last)} | norm
        assert set(Module(model, f"top:{count}").parameters) == expected


def test_the_last_layers_of_two_stacks_are_those_of_the_second() -> None:
    model = made(lambda: nn.Transformer(8, 2, 2, 3, 16, batch_first=True))()
    names = set(Module(model, "top:1").parameters)
    assert {n for n in names if ".layers." in n} == {
        n for n, _ in model.named_parameters() if n.startswith("decoder.layers.2.")
    }


@pytest.mark.parametrize("count", [0, 99])
def test_layers_that_are_not_there_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match=rf"'top:{count}'\)` wants {count} layers, but the model has \d+"):
        Module(CASES["llama"].make(), f"top:{count}")
    with pytest.raises(ValueError, match=r"matches 'top2' \(the last two layers are 'top:2'\)"):
        Module(CASES["llama"].make(), "top2")
    with pytest.raises(ValueError, match="the model has 0"):
        Module(nn.Linear(2, 2), "top:1")


def test_a_model_without_a_top_says_what_else_there_is() -> None:
    with pytest.raises(ValueError, match=r"matches 'top' \(a norm after the last layer\); select 'all', or by name"):
        Module(nn.Linear(2, 2), "top")


NAMES = ["0.weight", "0.bias", "1.weight", "1.bias", "2.weight", "2.bias"]


@pytest.mark.parametrize(
    ("select", "names"),
    [
        ("all", NAMES[:5]),
        ("bias", ["0.bias", "1.bias", "2.bias"]),
        (r"^[02]\.", ["0.weight", "0.bias", "2.weight", "2.bias"]),
        ("weight", ["0.weight", "1.weight", "2.weight"]),
        (["2.bias", "0.weight"], ["0.weight", "2.bias"]),
        (("1.bias",), ["1.bias"]),
        (lambda name, p: p.dim() == 2, ["0.weight", "2.weight"]),
    ],
)
def test_what_is_selected(select: Any, names: list[str]) -> None:
    """By pattern or name, frozen ones too; always in the model's order."""
    model = small()
    module = Module(model, select)
    assert [block.name for block in module.blocks] == list(module.parameters) == names
    assert all(module.parameters[n] is model.get_parameter(n) for n in names)
    assert [block.shape for block in module.blocks] == [tuple(model.get_parameter(n).shape) for n in names]
    assert module.size == sum(p.numel() for p in module.parameters.values())
    assert module.x is model and module.version == module.origin == 0 and not module.dense


def test_presets_name_the_parameters_they_should() -> None:
    net = nn.ModuleDict()
    names = ["q.lora_A", "lora_B", "q.bias", "in_proj_bias", "biased", "prompt_encoder", "prefix", "debias"]
    for name in names:
        where, last = net, name.rsplit(".")[-1]
        if "." in name:
            where = net["q"] if "q" in net else nn.ModuleDict()  # type: ignore[assignment]
            net["q"] = where
        where.register_parameter(last, nn.Parameter(torch.ones(1)))
    assert set(Module(net, "lora").parameters) == {"q.lora_A", "lora_B"}
    assert set(Module(net, "bias").parameters) == {"q.bias", "in_proj_bias"}
    assert set(Module(net, "prefix").parameters) == {"prompt_encoder", "prefix"}


def test_tied_weights_are_one_block_under_their_first_name() -> None:
    model = CASES["llama tied"].make()
    for select in ("all", r"embed_tokens|lm_head", ["lm_head.weight", "model.embed_tokens.weight"], ["lm_head.weight"]):
        module = Module(model, select)
        assert [n for n in module.parameters if "embed" in n or "head" in n] == ["model.embed_tokens.weight"]
        assert module.parameters["model.embed_tokens.weight"] is model.lm_head.weight


def test_whole_numbers_are_left_alone() -> None:
    net = nn.Linear(2, 2)
    net.register_parameter("steps", nn.Parameter(torch.zeros(3, dtype=torch.int64), requires_grad=False))
    assert list(Module(net, r".").parameters) == ["weight", "bias"]
    with pytest.raises(
        ValueError, match=r"names 'steps', which cannot be searched. 1 parameters, such as 'steps', hold integers"
    ):
        Module(net, ["steps"])


def transposed() -> nn.Module:
    net = nn.Linear(3, 2)
    net.weight = nn.Parameter(net.weight.data.t())
    return net


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Module(small(), "attention"), "no trainable parameter matches 'attention'. The model's 6 are '0.weight', '0.bias', '2.weight', '2.bias' …"),  # noqa: E501
        (lambda: Module(small(), []), "no trainable parameter matches the list."),
        (lambda: Module(small(), lambda n, p: False), "no trainable parameter matches the function."),
        (lambda: Module(small(), ["0.weight", "3.weight"]), "names '3.weight', which is not a parameter of this model. Did you mean '0.weight', '1.weight', '2.weight'?"),  # noqa: E501
        (lambda: Module(small(), ["nothing"]), "names 'nothing', which is not a parameter of this model."),
        (lambda: Module(small(), "("), "`Module(select='(')` is not a regular expression: missing ), "),
        (lambda: Module(small().requires_grad_(False)), "no parameter requires grad. Call `model.requires_grad_()`"),
        (lambda: Module(nn.ReLU()), "the model has no floating-point parameters to search."),
        (lambda: Module(nn.Linear(2, 2, device="meta")), "'weight' is on the meta device"),
        (lambda: Module(transposed()), "'weight' is not contiguous; assign `p.data = p.data.contiguous()` first."),
        (lambda: Module(small(), rounding="up"), "`Module(rounding=...)` must be 'stochastic' or 'nearest', got 'up'."),
        (lambda: Module(small(), unit=0.0), "`Module(unit=...)` must be positive, got 0.0 for ''."),
        (lambda: Module(small(), unit=float("inf")), "must be positive, got inf"),
        (lambda: Module(small(), unit={"bias": -1}), "must be positive, got -1 for 'bias'."),
        (lambda: Module(small(), "bias", unit={"weight": 2.0}), "no selected parameter matches 'weight'."),
        (lambda: Module(small(), mask=1.0), "as a share must be between 0 and 1, got 1.0."),
        (lambda: Module(small(), mask=0.0), "as a share must be between 0 and 1, got 0.0."),
        (lambda: Module(small(), "bias", {"0.weight": torch.ones(8, 6)}), "names '0.weight', which is not selected."),
        (lambda: Module(small(), mask={"0.bias": torch.ones(3)}), "has shape (3,) for '0.bias', which has (8,)."),
    ],
)  # fmt: skip
def test_bad_values(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        make()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Module(3), "`Module(model)` needs a torch.nn.Module, got 3."),  # type: ignore[arg-type]
        (lambda: Module(small(), 3), "a list of names or a function of (name, parameter), got 3."),  # type: ignore[arg-type]
        (lambda: Module(small(), [1, 2]), "or a function of (name, parameter), got [1, 2]."),  # type: ignore[list-item]
        (lambda: Module(small(), mask=2), "`Module(mask=...)` must be a share, tensors by name, or a function, got 2."),
        (lambda: Module(small(), mask="lora"), "must be a share, tensors by name, or a function, got 'lora'."),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_bad_kinds(make: Any, words: str) -> None:
    with pytest.raises(TypeError, match=re.escape(words)):
        make()


# ----------------------------------------------------------------------------------------------------------- masks


def large_ones(name: str, p: torch.Tensor) -> torch.Tensor:
    return p.abs() > 0.2


MASKS: dict[str, Any] = {
    "share": 0.3,
    "function": large_ones,
    "tensors": {"0.weight": torch.eye(8)[:, :6] == 0, "1.weight": torch.arange(8) % 2, "2.weight": torch.zeros(3, 8)},
}
masks = pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)


def searched(model: Any, mask: Any) -> dict[str, torch.Tensor]:
    """Which elements a mask lets through, by another way."""
    out = {n: torch.ones_like(p, dtype=torch.bool) for n, p in model.named_parameters() if p.requires_grad}
    for name, p in model.named_parameters():
        if isinstance(mask, float) and p.dim() == 2:
            order = p.detach().abs().flatten().argsort()
            out[name] = torch.zeros(p.numel(), dtype=torch.bool).index_fill_(
                0, order[: round(mask * p.numel())], True
            ).view(p.shape)  # fmt: skip
        elif callable(mask):
            out[name] = p.detach().abs() > 0.2
        elif isinstance(mask, dict) and name in mask:
            out[name] = mask[name] != 0
    return out


@masks
@directions
def test_masked_elements_are_neither_asked_about_nor_moved(mask: Any, make: Make) -> None:
    case = Case(small, numbers(3, 6), output)
    model, x = case.make(), case.inputs()
    module = Module(model, mask=mask)
    queries = queries_of(module, make, 0.1)
    through = searched(model, mask)
    there = [written(module, queries, i) for i in range(4)]
    for name, p in model.named_parameters():
        if p.requires_grad:
            assert 0 < int(through[name].sum()) < p.numel() or p.dim() < 2 or isinstance(mask, dict)
            assert all(torch.equal(m.get_parameter(name)[~through[name]], p[~through[name]]) for m in there)
            assert all(bool((m.get_parameter(name) != p)[through[name]].all()) for m in there)
    expected = reference(case, module, queries, x)
    for sweep in SWEEPS:
        assert_exact(swept(case, module, queries, x, sweep), expected)
    before = copy.deepcopy(model)
    module.add_(bz.Step(queries.directions, np.array([0.1, -0.2])))
    for name, p in before.named_parameters():
        moved = model.get_parameter(name) != p
        assert torch.equal(moved, through[name]) if p.requires_grad else not bool(moved.any())


@directions
@pytest.mark.parametrize("name", ["llama tied", "gpt2"])
@pytest.mark.parametrize("mask", [0.3, None, lambda name, p: torch.arange(p.numel()).view(p.shape) % 3 == 0])
def test_masks_and_units_of_a_language_model(mask: Any, name: str, make: Make) -> None:
    case = CASES[name]
    module = Module(case.make(), mask=mask, unit={"embed|wte|wpe": 0.5, "norm|ln_": 3.0, "bias": 2.0}
                    if name == "gpt2" else {"embed": 0.5, "norm": 3.0})  # fmt: skip
    queries, inputs = queries_of(module, make, 0.1), case.inputs()
    expected = reference(case, module, queries, inputs)
    for sweep in SWEEPS:
        assert_exact(swept(case, module, queries, inputs, sweep), expected)


def test_a_share_goes_with_the_weights_but_its_threshold_stays() -> None:
    net = nn.Linear(10, 10, bias=False)
    with torch.no_grad():
        net.weight.copy_(torch.arange(1.0, 101.0).view(10, 10))
    module = Module(net, mask=0.25)
    mask = module.masks["weight"]
    assert int(mask(net.weight.detach().flatten(), 0).sum()) == 25
    with torch.no_grad():
        net.weight *= 2.0
    assert int(mask(net.weight.detach().flatten(), 0).sum()) == 12


def test_a_masks_function_must_return_a_mask() -> None:
    module = Module(small(), "0.weight", lambda name, p: torch.ones(3))
    queries = queries_of(module, bz.LowRank)
    words = r"`Module\(mask=...\)`: the function must return a mask of shape \(8, 6\)."
    with pytest.raises(ValueError, match=words):
        Displacements(module, queries).of[id(module.parameters["0.weight"])].whole(
            0, Displacements(module, queries).buffers
        )


# ----------------------------------------------------------------------------------------------------------- units


@directions
@pytest.mark.parametrize("unit", [0.5, {"bias": 3.0, r"^0\.": 0.5}], ids=str)
def test_a_unit_scales_what_is_asked_and_how_x_moves(unit: Any, make: Make) -> None:
    case = Case(small, numbers(3, 6), output)
    model, x = case.make(), case.inputs()
    module = Module(model, unit=unit)
    of = {n: 0.5 if isinstance(unit, float) else 3.0 if "bias" in n else 0.5 if n[0] == "0" else 1.0 for n in NAMES[:5]}
    assert module.units == of
    queries = queries_of(module, make, 0.1)
    start = copy.deepcopy(model)
    expected = []
    for j, c in zip(queries.index.tolist(), queries.scale.tolist(), strict=True):
        there = copy.deepcopy(model)
        with torch.no_grad():
            for block in module.blocks:
                u = torch.from_numpy(queries.directions.part(block, j, 0, block.size)).view(block.shape)
                there.get_parameter(block.name).add_((c * of[block.name] * u).float())
            expected.append(there(x))
    for sweep in SWEEPS:
        assert_exact(swept(case, module, queries, x, sweep), torch.stack(expected).detach())
    w = np.array([0.03, -0.02])
    module.add_(bz.Step(queries.directions, w))
    for block in module.blocks:
        rows = np.array([queries.directions.part(block, j, 0, block.size) for j in range(2)])
        moved = (model.get_parameter(block.name) - start.get_parameter(block.name)).detach().numpy().ravel()
        np.testing.assert_allclose(moved, of[block.name] * w @ rows, atol=3e-7)


def test_a_search_in_other_units_is_a_search_of_the_scaled_model() -> None:
    """With f(x) = g'x, a move goes with the square of the unit."""

    def move(unit: float) -> torch.Tensor:
        net = nn.Linear(5, 1, bias=False)
        nn.init.zeros_(net.weight)
        module = Module(net, unit=unit)
        search = bz.Search(module, bz.RandomVector(0.1, 2, "rademacher"), bz.SGD(0.01))
        p = search.ask()
        values = [float(written(module, p.queries, i).weight.detach().sum()) for i in range(p.n)]
        search.tell(p, bz.Values(values))
        return net.weight.detach()

    torch.testing.assert_close(move(0.5), 0.25 * move(1.0))
