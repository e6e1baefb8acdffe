"""Parameters used in unusual ways, noise that is refused, and what is left behind."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import blackbox_zo as bz
from blackbox_zo.modules import Module
from blackbox_zo.modules._batched import Batched
from blackbox_zo.modules._displaced import LARGE, Displacements
from blackbox_zo.modules._scratch import Scratch
from blackbox_zo.modules._stacking import Unstackable, take_rows

from .helpers import DIRECTIONS, SWEEPS, Case, Make, assert_exact, made, numbers, output, queries_of, reference, swept

directions = pytest.mark.parametrize("make", DIRECTIONS.values(), ids=DIRECTIONS)
CPU = torch.device("cpu")


class Formula(nn.Module):
    """A function of x and the parameters by name."""

    def __init__(self, function: Callable[..., torch.Tensor], **shapes: tuple[int, ...]) -> None:
        super().__init__()
        self.function = function
        for name, shape in shapes.items():
            setattr(self, name, nn.Parameter(torch.randn(shape)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x, **dict(self.named_parameters()))


def in_place(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    h = F.linear(x, w)
    h += b
    h.mul_(b)
    F.relu(h, inplace=True)
    return h


def in_place_across_memory(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    h = torch.tanh(x)[:, :, None].expand(-1, -1, 3).clone().transpose(1, 2)
    h.add_(b[:, None])
    return h @ w


def written_to(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    h = torch.zeros(x.shape[0], 6)
    h[:, :4] = x
    h[:, 4:] = F.linear(x, w)
    return h * b


def in_every_way(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Tuples, lists, keywords, and outputs that are tuples."""
    parts = torch.split(w, [1, 3], dim=0)
    both = torch.cat([parts[0], torch.stack(list(parts[1].unbind(0)), dim=0)], dim=0)
    values, _ = torch.max(both, dim=1)
    return F.linear(input=x, weight=both) * values + torch.mul(input=x, other=w[0])


def positions(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Looked up by numbers that do not depend on the batch, of its size and of size 1."""
    one = F.embedding(torch.arange(4)[None], w)
    return F.embedding(torch.arange(4)[None].expand(x.shape[0], -1), w) * one + x[:, :, None]


IDS = torch.randint(0, 7, (3, 5, 4), generator=torch.Generator().manual_seed(2))
X: dict[str, tuple[Callable[..., torch.Tensor], dict[str, tuple[int, ...]]]] = {
    "x @ w": (lambda x, w: x @ w, {"w": (4, 3)}),
    "x w' by name": (lambda x, w: F.linear(x, weight=w), {"w": (3, 4)}),
    "a vector as the weight": (lambda x, w: F.linear(x, w), {"w": (4,)}),
    "matmul of a vector": (lambda x, w: torch.matmul(x, w), {"w": (4,)}),
    "addmm": (lambda x, w, b: torch.addmm(b, x, w), {"w": (4, 3), "b": (3,)}),
    "addmm with factors": (lambda x, w, b: torch.addmm(b, x, w, beta=0.5, alpha=2.0), {"w": (4, 3), "b": (3,)}),
    "einsum": (lambda x, w: torch.einsum("bi,io->bo", x, w), {"w": (4, 3)}),
    "baddbmm": (lambda x, w: torch.bmm(x[:, None], w.expand(x.shape[0], -1, -1)), {"w": (4, 3)}),
    "convolution": (lambda x, w, b: F.conv1d(x[:, None], w, b, padding=1), {"w": (2, 1, 3), "b": (2,)}),
    "numbers": (lambda x, w, b: x * w + b, {"w": (), "b": ()}),
    "numbers from the left": (lambda x, w, b: b - 2.0 * w / (3.0 + x * x), {"w": (), "b": ()}),
    "vectors of one": (lambda x, w, b: x.sum(1) * w + b, {"w": (1,), "b": (1,)}),
    "a norm's way": (lambda x, w: F.rms_norm(x, (4,)) * (1 + w), {"w": (4,)}),
    "layer norm by name": (
        lambda x, w, b: F.layer_norm(x, normalized_shape=(4,), weight=w, bias=b),
        {"w": (4,), "b": (4,)},
    ),
    "layer norm without bias": (lambda x, w: F.layer_norm(x, (4,), w), {"w": (4,)}),
    "layer norm over two axes": (lambda x, w: F.layer_norm(x[:, None].expand(-1, 2, -1), (2, 4), w), {"w": (2, 4)}),
    "twice": (lambda x, w: F.linear(torch.tanh(F.linear(x, w)), w), {"w": (4, 4)}),
    "scaled first": (lambda x, w, s: F.linear(x, w * torch.sigmoid(s), s), {"w": (3, 4), "s": ()}),
    "weight norm": (lambda x, w, g: F.linear(x, w * (g / w.norm(dim=1))[:, None]), {"w": (3, 4), "g": (3,)}),
    "cast": (lambda x, w: F.linear(x.double(), w.double()).float(), {"w": (3, 4)}),
    "unused": (lambda x, w, b, c: F.linear(x, w), {"w": (3, 4), "b": (3,), "c": (5, 5)}),
    "the batch picked from": (lambda x, w: F.linear(x[torch.arange(x.shape[0])].flip(1), w), {"w": (3, 4)}),
    "other axes": (lambda x, w, b: F.linear(x[:, None].expand(-1, 2, -1).transpose(1, 2) @ b, w),
                   {"w": (3, 5), "b": (2, 5)}),
    "in place": (in_place, {"w": (4, 4), "b": (4,)}),
    "in place across memory": (in_place_across_memory, {"w": (4, 2), "b": (3,)}),
    "written to": (written_to, {"w": (2, 4), "b": (6,)}),
    "in every way": (in_every_way, {"w": (4, 4)}),
    "positions": (positions, {"w": (4, 3)}),
    "by numbers": (lambda x, w: x[:, :, None] + F.embedding(IDS[:1, 0], w, padding_idx=0), {"w": (7, 3)}),
    "rows": (lambda x, w: x[:, :3] + w[2], {"w": (4, 3)}),
    "its shape": (lambda x, w: x.view(-1, w.shape[1]) @ w.t() + w.numel() + w.dim() + len(w), {"w": (3, 4)}),
    "its type": (lambda x, w: x.to(w.dtype).to(w.device) @ w.data.T, {"w": (3, 4)}),
}  # fmt: skip


@directions
@pytest.mark.parametrize("formula", X.values(), ids=X)
def test_parameters_in_unusual_places(formula: Any, make: Make) -> None:
    case = Case(made(lambda: Formula(formula[0], **formula[1])), numbers(3, 4), output)
    module, x = Module(case.make()), case.inputs()
    queries = queries_of(module, make, 0.2)
    expected = reference(case, module, queries, x)
    for sweep in SWEEPS:
        assert_exact(swept(case, module, queries, x, sweep), expected, effect=1e-3)


@directions
@pytest.mark.parametrize(
    "function",
    [
        lambda x, w: x * w.square().sum().item(),
        lambda x, w: x * w.tolist()[0][0],
        lambda x, w: x * float(w[0, 0]),
        lambda x, w: x + torch.zeros(w.shape).copy_(w).square().sum(),
        lambda x, w: (w.t() @ x.t()).t(),
        lambda x, w: F.linear(x.t().contiguous().t()[:2], w),
    ],
)
def test_what_cannot_be_stacked_is_said_and_scratch_goes_on(function: Any, make: Make) -> None:
    case = Case(made(lambda: Formula(function, w=(4, 4))), numbers(3, 4), output)
    module, x = Module(case.make()), case.inputs()
    queries = queries_of(module, make, 0.2)
    assert_exact(swept(case, module, queries, x, "scratch"), reference(case, module, queries, x), effect=1e-3)
    with pytest.raises(Unstackable):
        swept(case, module, queries, x, "batched")


@directions
@pytest.mark.parametrize("shape", [(300, 400), (3, 50_000), (50_000, 3), (LARGE + 65,), (300, 20, 20)], ids=str)
def test_parameters_of_several_chunks(shape: tuple[int, ...], make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut into pieces, as matrices of more than a million elements are."""
    monkeypatch.setattr("blackbox_zo.modules._tensors.CHUNK", 1 << 12)

    def linear(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return F.linear(x, w if w.dim() == 2 else w.flatten(1) if w.dim() > 2 else w[None], b)

    width, rows = (int(np.prod(shape[1:])), shape[0]) if len(shape) > 1 else (shape[0], 1)
    case = Case(made(lambda: Formula(linear, w=shape, b=(rows,))), numbers(2, width), output)
    module, x = Module(case.make()), case.inputs()
    queries = queries_of(module, make, 0.2)
    expected = reference(case, module, queries, x)
    for sweep in SWEEPS:
        assert_exact(swept(case, module, queries, x, sweep), expected, 1e-5, 1e-3)  # sums of 50,000 products in fp32


@directions
def test_a_large_table_is_looked_up_row_by_row(make: Make) -> None:
    case = Case(made(lambda: nn.Embedding(9000, 12)), lambda: torch.tensor([[0, 8999, 7], [7, 7, 64]]), output)
    module, ids = Module(case.make()), case.inputs()
    queries = queries_of(module, make, 0.2)
    for sweep in SWEEPS:
        assert_exact(swept(case, module, queries, ids, sweep), reference(case, module, queries, ids))


class Noisy(nn.Module):
    """A layer, and noise after it."""

    def __init__(self, noise: nn.Module) -> None:
        super().__init__()
        self.layer, self.noise = nn.Linear(4, 4), noise

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.layer(x)[:, None]
        match self.noise:
            case nn.RNNBase():
                return self.noise(h)[0]  # type: ignore[no-any-return]
            case nn.MultiheadAttention():
                return self.noise(h, h, h)[0]  # type: ignore[no-any-return]
            case nn.BatchNorm1d():
                return self.noise(h[:, 0])  # type: ignore[no-any-return]
            case _:
                return self.noise(h)  # type: ignore[no-any-return]


NOISES: dict[str, Callable[[], nn.Module]] = {
    "dropout": lambda: nn.Dropout(0.5),
    "feature_alpha_dropout": lambda: nn.FeatureAlphaDropout(0.5),
    "batch_norm": lambda: nn.BatchNorm1d(4),
    "rrelu": nn.RReLU,
    "lstm": lambda: nn.LSTM(4, 4, 2, dropout=0.5, batch_first=True),
    "gru": lambda: nn.GRU(4, 4, 2, dropout=0.5, batch_first=True),
    "multi_head_attention_forward": lambda: nn.MultiheadAttention(4, 2, dropout=0.5, batch_first=True),
}


@pytest.mark.parametrize("sweep", SWEEPS)
@pytest.mark.parametrize("select", ["all", "layer"])
@pytest.mark.parametrize("name", NOISES)
def test_noise_is_refused_in_training_mode_only(name: str, select: str, sweep: str) -> None:
    case = Case(lambda: Noisy(NOISES[name]()), numbers(6, 4), output)
    model = case.make().train()
    module, x = Module(model, select), case.inputs()
    queries = queries_of(module, bz.LowRank)
    with pytest.raises(RuntimeError, match=rf"in training mode and uses `{name}`.* Call `model.eval\(\)`"):
        swept(case, module, queries, x, sweep)
    model.eval()
    if sweep == "batched" and select == "all" and name in ("lstm", "gru", "multi_head_attention_forward"):
        with pytest.raises(Unstackable):
            swept(case, module, queries, x, sweep)
    else:
        assert_exact(swept(case, module, queries, x, sweep), reference(case, module, queries, x))


def test_training_mode_without_noise_goes() -> None:
    for noise in (
        nn.Dropout(0.0),
        nn.LSTM(4, 4, 2),
        nn.InstanceNorm1d(1, affine=True),
        nn.MultiheadAttention(4, 2),
        nn.RReLU(0.2, 0.2).eval(),
    ):
        case = Case(lambda noise=noise: Noisy(noise), numbers(6, 4), output)  # type: ignore[misc]
        module, x = Module(case.make()), case.inputs()
        queries = queries_of(module, bz.LowRank, 0.2)
        assert_exact(swept(case, module, queries, x, "scratch"), reference(case, module, queries, x))


def test_attention_with_dropout_is_refused() -> None:
    module = Module(Formula(lambda x, w: F.scaled_dot_product_attention(x @ w, x, x, dropout_p=0.1), w=(4, 4)))
    with pytest.raises(RuntimeError, match="uses `scaled_dot_product_attention`"):
        with Scratch(Displacements(module, queries_of(module, bz.LowRank)), 0):
            module.model(torch.ones(2, 3, 4))


@pytest.mark.parametrize("mode", [Batched, Scratch])
def test_a_step_s_memory_is_free_at_once(mode: Any) -> None:
    """Without the garbage collector, which may come many steps later."""
    module = Module(made(lambda: nn.Linear(4, 3))())
    displacements = Displacements(module, queries_of(module, bz.LowRank))
    with mode(displacements, 0 if mode is Scratch else 1):
        module.model(torch.ones(5, 4))
    references = [weakref.ref(thing) for thing in (displacements, *displacements.of.values(), displacements.buffers)]
    gc.disable()
    try:
        del displacements
        assert [reference() for reference in references] == [None] * len(references)
    finally:
        gc.enable()


def test_queries_of_other_weights_are_refused() -> None:
    module = Module(nn.Linear(4, 3))
    queries = queries_of(module, bz.LowRank)
    module.add_(bz.Step(queries.directions, np.zeros(2)))
    with pytest.raises(RuntimeError, match="start from the weights after 0 moves, but the module has made 1"):
        Displacements(module, queries)


def test_rows_are_taken_from_whatever_has_the_batch_size() -> None:
    batch = {"x": torch.arange(3), "words": ["a", "b", "c"], "k": 2, "w": torch.ones(2), "t": (torch.eye(3), None)}
    taken = take_rows(batch, torch.tensor([2, 0]), 3, lambda t: t + 1)
    assert taken["x"].tolist() == [3, 1] and taken["words"] == ["c", "a"] and taken["k"] == 2
    assert torch.equal(taken["w"], torch.ones(2)) and taken["t"][0].shape == (2, 3) and taken["t"][1] is None
