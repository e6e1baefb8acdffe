"""How a `Module` moves: exactly in fp32, right on average in 16 bits; its state and fingerprint."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import blackbox_zo as bz
from blackbox_zo._typing import Floats
from blackbox_zo.directions import Joined, OnBlocks
from blackbox_zo.modules import Module
from blackbox_zo.modules._rounding import halves_of, round_into_
from blackbox_zo.testing import check_variable

from .helpers import CASES, DIRECTIONS, Make, low_rank_three, made, sparse


def joined(blocks: tuple[bz.Block, ...], *makes: Any) -> Joined:
    """One direction of each."""
    return Joined([make(blocks, 1, bz.Key(7, place)) for place, make in enumerate(makes)])


def on_one(blocks: tuple[bz.Block, ...], k: int, key: bz.Key) -> OnBlocks:
    return OnBlocks(low_rank_three(blocks, k, key), 1, key)


def waves(blocks: tuple[bz.Block, ...], k: int, key: bz.Key) -> bz.Dense:
    d = sum(block.size for block in blocks)
    return bz.Dense(blocks, np.sin(np.arange(k * d)).reshape(k, d))


MOVES: dict[str, Make] = {
    **DIRECTIONS,
    "sparse": sparse,
    "sphere": bz.Sphere,
    "orthogonal": bz.Orthogonal,
    "joined": lambda blocks, k, key: joined(blocks, bz.LowRank, bz.LowRank, bz.LowRank),
    "joined signs": lambda blocks, k, key: joined(blocks, bz.Rademacher, bz.Rademacher, bz.Rademacher),
    "joined of kinds": lambda blocks, k, key: joined(blocks, bz.LowRank, bz.Gaussian, bz.Rademacher),
    "joined of ranks": lambda blocks, k, key: joined(blocks, bz.LowRank, low_rank_three, bz.LowRank),
    "on one block": on_one,
    "joined on blocks": lambda blocks, k, key: joined(blocks, on_one, on_one, on_one),
    "joined, some on blocks": lambda blocks, k, key: joined(blocks, low_rank_three, on_one, bz.Rademacher),
    "joined after one block": lambda blocks, k, key: joined(blocks, on_one, low_rank_three, low_rank_three),
    "coordinates": lambda blocks, k, key: bz.Coordinates(blocks, np.array([2, 500, 3000])),
    "dense": waves,
}
moves = pytest.mark.parametrize("make", MOVES.values(), ids=MOVES)


class Odd(nn.Module):
    """Parameters of all shapes; one is larger than what is done at once."""

    def __init__(self) -> None:
        super().__init__()
        for name, shape in {
            "number": (), "one": (1,), "vector": (70,), "long": (5000,), "matrix": (6, 9), "kernel": (4, 3, 3, 3),
            "flat": (3, 1), "wide": (3, 2000), "tall": (2000, 3), "layers.0.w": (5, 4), "layers.1.w": (5, 4),
        }.items():  # fmt: skip
            self.register_parameter(name.replace(".", "_"), nn.Parameter(torch.randn(shape)))


def odd() -> Any:
    return made(Odd)()


def moved_by_hand(module: Module, step: bz.Step) -> dict[str, Floats]:
    """`(1 - shrink) x + unit w U`, in fp64."""
    out = {}
    for block in module.blocks:
        p = module.parameters[block.name].detach().double().numpy()
        rows = np.array([step.directions.part(block, j, 0, block.size) for j in range(step.directions.k)])
        keep = 1.0 if block.name in module.undecayed else 1.0 - step.shrink
        out[block.name] = keep * p + module.units[block.name] * (step.w @ rows).reshape(p.shape)
    return out


def values(module: Module) -> dict[str, Floats]:
    return {name: p.detach().double().numpy().copy() for name, p in module.parameters.items()}


def assert_same(found: dict[str, Floats], expected: dict[str, Floats], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name in expected:
        away = np.abs(found[name] - expected[name]) / np.maximum(1.0, np.abs(expected[name]))
        assert away.max() < tolerance, f"{name}: {away.max():.1e} away"


@moves
@pytest.mark.parametrize("shrink", [0.0, 0.1])
def test_moves_in_fp32(make: Make, shrink: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blackbox_zo.modules._tensors.CHUNK", 1 << 10)
    module = Module(odd(), unit={"matrix": 0.5, "number": 2.0}, no_decay="^long$|^tall$")
    for t in range(3):
        w = np.array([0.3, 0.0, -0.7]) * (t + 1)
        step = bz.Step(make(module.blocks, 3, bz.Key(5, t)), w, shrink)
        expected = moved_by_hand(module, step)
        module.add_(step)
        assert_same(values(module), expected, 2e-6)
        assert module.version == t + 1 and step.w.tolist() == w.tolist()
    module.settle()
    assert_same(values(module), expected, 2e-6)


@moves
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_moves_in_16_bits_end_beside_the_exact_value(make: Make, dtype: torch.dtype) -> None:
    module = Module(odd().to(dtype), no_decay="^long$", unit=0.5)
    step = bz.Step(make(module.blocks, 3, bz.Key(5, 0)), np.array([0.3, 0.0, -0.7]), 0.1)
    expected = moved_by_hand(module, step)
    module.add_(step)
    assert_same(values(module), expected, torch.finfo(dtype).eps * 1.01)


class _Hidden(bz.Sparse):
    """Sparse directions that do not tell where they are zero."""

    def nonzeros(self, block: bz.Block, j: int, start: int, stop: int) -> Any:
        return None

    def part(self, block: bz.Block, j: int, start: int, stop: int) -> Any:
        return bz.Sparse(self.blocks, self.k, self.key, self.sparsity).part(block, j, start, stop)


@pytest.mark.parametrize("rounding", ["stochastic", "nearest"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_sparse_moves_look_at_what_moves_alone(
    dtype: torch.dtype, rounding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bits of moves that look at everything, also where directions meet, and chunk by chunk."""
    monkeypatch.setattr("blackbox_zo.modules._tensors.CHUNK", 1 << 10)
    one, two = (Module(odd().to(dtype), rounding=rounding) for _ in range(2))
    for t in range(3):
        w = np.array([0.3, 0.0, -0.07]) * (t + 1)
        for x, kind in ((one, bz.Sparse), (two, _Hidden)):
            x.add_(bz.Step(kind(x.blocks, 3, bz.Key(5, t), 4), w))
    assert all(torch.equal(one.parameters[name], two.parameters[name]) for name in one.parameters)


def test_masked_moves_in_16_bits() -> None:
    module = Module(odd().to(torch.bfloat16), mask=0.25)
    before = {name: p.detach().clone() for name, p in module.parameters.items()}
    module.add_(bz.Step(bz.Rademacher(module.blocks, 1, bz.Key(0, 0)), np.array([0.5])))
    for name, p in module.parameters.items():
        moved = int((p != before[name]).sum())
        assert moved == p.numel() if p.dim() < 2 else abs(moved - 0.25 * p.numel()) <= max(1.0, 0.06 * p.numel())


@pytest.mark.parametrize("rounding", ["stochastic", "nearest"])
def test_no_move_changes_no_bit(rounding: str) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        module = Module(odd().to(dtype), rounding=rounding)
        before = module.state()
        module.add_(bz.Step(bz.Gaussian(module.blocks, 2, bz.Key(0, 0)), np.zeros(2)))
        assert module.version == 1
        assert all(np.array_equal(before[name], after) for name, after in module.state().items())


def test_only_selected_parameters_move() -> None:
    module = Module(odd(), "matrix|vector")
    before = copy.deepcopy(module.model)
    module.add_(bz.Step(bz.Gaussian(module.blocks, 2, bz.Key(0, 0)), np.ones(2), 0.5))
    changed = {n for n, p in module.model.named_parameters() if not torch.equal(p, before.get_parameter(n))}
    assert changed == {"matrix", "vector"}


def test_tied_weights_move_once() -> None:
    model = CASES["llama tied"].make()
    module = Module(model, "embed_tokens")
    step = bz.Step(bz.LowRank(module.blocks, 2, bz.Key(0, 0)), np.array([0.1, 0.2]))
    expected = moved_by_hand(module, step)
    module.add_(step)
    assert_same(values(module), expected, 1e-6)
    assert model.lm_head.weight is model.model.embed_tokens.weight


# --------------------------------------------------------------------------------------------------------- rounding

SIXTEEN = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
TRIED = [
    1.0 + 1e-4,
    -1.0 - 3e-4,
    0.3,
    -0.3,
    1e-6,
    -3e-8,
    700.1,
    -700.1,
    3.0 + 1e-3,
    0.0,
    2.0**-24 * 0.3,
    -(2.0**-26),
    1.5,
]


@SIXTEEN
@pytest.mark.parametrize("x", TRIED)
def test_rounding_is_right_on_average(dtype: torch.dtype, x: float) -> None:
    n = 40_000
    exact, out = torch.full((n,), x), torch.empty(n, dtype=dtype)
    round_into_(out, exact, halves_of([(3, "w", 0)]))
    found = out.double()
    below, above = float(found.min()), float(found.max())
    true = float(exact[0].double())
    assert below <= true <= above and len(set(found.tolist())) <= 2
    nearest = exact[:1].to(dtype)
    if float(nearest.double()[0]) == true:
        assert below == above == true
    else:
        around = {float(torch.nextafter(nearest, torch.tensor([end], dtype=dtype)).double()) for end in (-1e4, 1e4)}
        assert {below, above} <= around | {float(nearest.double())}
        chance = (true - below) / (above - below) if above > below else 0.0
        error = np.sqrt(max(chance * (1.0 - chance), 1e-4) / n)
        assert abs(float((found > below).double().mean()) - chance) < 6 * error
    assert bool((torch.signbit(out) == (x < 0)).all()) or below * above <= 0.0


@SIXTEEN
def test_rounding_keeps_what_is_not_finite_and_does_not_make_it(dtype: torch.dtype) -> None:
    largest = torch.finfo(dtype).max
    exact = torch.tensor([float("inf"), -float("inf"), float("nan"), largest, -largest, 0.0, -0.0])
    out = torch.empty(len(exact), dtype=dtype)
    for version in range(20):
        round_into_(out, exact, halves_of([(version, "w", 0)]))
        assert out[:2].tolist() == [float("inf"), -float("inf")] and bool(out[2].isnan())
        assert out[3:].tolist() == exact[3:].tolist()


def stepped(dtype: torch.dtype, rounding: str, size: float, steps: int, name: str = "w") -> torch.Tensor:
    """Ones after many moves along the same signs, each of which is far below the spacing of 16-bit numbers."""
    net = nn.Module()
    net.register_parameter(name, nn.Parameter(torch.ones(400, 3, dtype=dtype)))
    module = Module(net, rounding=rounding)
    directions = bz.Rademacher(module.blocks, 1, bz.Key(1, 0))
    for _ in range(steps):
        module.add_(bz.Step(directions, np.array([size])))
    along = torch.tensor(directions.rows[0]).view(400, 3)
    return (net.get_parameter(name).detach().double() - 1.0) * along


@SIXTEEN
def test_many_tiny_moves_are_not_lost(dtype: torch.dtype) -> None:
    size, steps = float(torch.finfo(dtype).eps) / 50, 200
    exact = stepped(torch.float32, "nearest", size, steps)
    found = stepped(dtype, "stochastic", size, steps)
    assert float((exact / (size * steps) - 1.0).abs().max()) < 0.01
    assert not stepped(dtype, "nearest", size, steps).any()
    error = float(found.std()) / np.sqrt(found.numel())
    assert abs(float(found.mean()) - size * steps) < 6 * error
    assert float(found.std()) < 4 * float(torch.finfo(dtype).eps)


@SIXTEEN
def test_the_random_bits_are_a_function_of_move_and_block(dtype: torch.dtype) -> None:
    size = float(torch.finfo(dtype).eps) / 3
    one, again = (stepped(dtype, "stochastic", size, 2) for _ in range(2))
    assert torch.equal(one, again)
    assert not torch.equal(one, stepped(dtype, "stochastic", size, 2, "v"))
    exact, outs = torch.full((500,), 1.0 + size), [torch.empty(500, dtype=dtype) for _ in range(4)]
    for out, address in zip(outs, [(0, "w", 0), (0, "w", 0), (1, "w", 0), (0, "w", 64)], strict=True):
        round_into_(out, exact, halves_of([address]))
    assert torch.equal(outs[0], outs[1])
    assert not torch.equal(outs[0], outs[2]) and not torch.equal(outs[0], outs[3])


# ---------------------------------------------------------------------------------------------- state, fingerprint


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_state_is_saved_and_loaded_to_the_bit(dtype: torch.dtype) -> None:
    module, other = Module(odd().to(dtype)), Module(odd().to(dtype))
    module.add_(bz.Step(bz.Gaussian(module.blocks, 1, bz.Key(0, 0)), np.ones(1)))
    file = io.BytesIO()
    np.savez(file, **module.state())
    file.seek(0)
    assert module.fingerprint() != other.fingerprint()
    with np.load(file, allow_pickle=False) as state:
        other.load(dict(state), 1)
    assert other.version == 1 and module.fingerprint() == other.fingerprint()
    kept = module.state()
    module.add_(bz.Step(bz.Gaussian(module.blocks, 1, bz.Key(0, 1)), np.ones(1)))
    assert all(np.array_equal(kept[name], array) for name, array in other.state().items())


@pytest.mark.parametrize("change", [
    lambda s: s.pop("vector"),
    lambda s: s.update(vector=s["vector"][:-1]),
    lambda s: s.update(vector=s["vector"].astype(np.float64)),
])  # fmt: skip
def test_a_state_of_another_model_is_refused_and_changes_nothing(change: Callable[[dict[str, Any]], Any]) -> None:
    module, other = Module(odd()), Module(odd())
    state = {name: array + 1 for name, array in module.state().items()}
    change(state)
    with pytest.raises(ValueError, match="The state has no parameter 'vector' of this model's shape and type"):
        module.load(state, 3)
    assert module.version == 0 and module.fingerprint() == other.fingerprint()


def test_fingerprint_tells_problems_apart() -> None:
    def changed(name: str) -> Any:
        model = odd()
        with torch.no_grad():
            model.get_parameter(name).view(-1)[-1] += 1e-6
        return model

    modules = [
        Module(odd()), Module(changed("matrix")), Module(odd(), "vector"), Module(changed("matrix"), "vector"),
        Module(odd(), unit=2.0), Module(odd(), no_decay="vector"), Module(odd(), mask=0.5), Module(odd(), mask=0.4),
        Module(odd(), mask={"one": torch.ones(1)}), Module(odd(), mask={"one": torch.zeros(1)}),
        Module(odd(), rounding="nearest"), Module(odd().to(torch.bfloat16)),
    ]  # fmt: skip
    assert len({module.fingerprint() for module in modules}) == len(modules)
    assert Module(odd()).fingerprint() == modules[0].fingerprint() == modules[0].fingerprint()


def test_a_module_keeps_the_laws_of_variables() -> None:
    def make() -> Module:
        torch.manual_seed(0)
        return Module(torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)))

    def read(module: bz.Variable) -> Floats:
        assert isinstance(module, Module)
        return np.concatenate([p.detach().double().numpy().ravel() for p in module.parameters.values()])

    check_variable(make, read=read, tolerance=1e-6)
