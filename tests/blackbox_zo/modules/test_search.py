"""A `Search` over a `Module`: estimators, journal, checkpoints, and momentum from memory."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import blackbox_zo as bz
from blackbox_zo.modules import Module
from blackbox_zo.modules._displaced import Displacements
from blackbox_zo.modules._scratch import Scratch
from tests.journals import read

from .helpers import made

X = torch.randn(16, 5, generator=torch.Generator().manual_seed(1))
Y = torch.sin(X).sum(1, keepdim=True)


def net() -> Any:
    return made(lambda: nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 1)))()


class Squares(bz.Oracle):
    """Mean squared error of the model on fixed data, to nine digits; `fails` says which steps fail altogether."""

    def __init__(self, *fails: int) -> None:
        self.fails = fails

    @torch.no_grad()
    def answer(self, proposal: bz.Proposal) -> bz.Values:
        assert isinstance(proposal.variable, Module)
        displacements, out = Displacements(proposal.variable, proposal.queries), []
        for i in range(proposal.n):
            with Scratch(displacements, i):
                out.append(float(f"{float(((proposal.variable.model(X) - Y) ** 2).mean()):.9g}"))
        return bz.Values(np.full(proposal.n, np.nan) if proposal.step in self.fails else out)


class Ranks(Squares):
    def answer(self, proposal: bz.Proposal) -> Any:
        return super().answer(proposal).ranking()


def weights(search: bz.Search) -> list[bytes]:
    return [array.tobytes() for array in search.variable.state().values()]


def error(search: bz.Search) -> float:
    return float(((search.x(X) - Y) ** 2).mean().detach())


def search_of(estimator: bz.Estimator, rule: bz.Rule | None = None, **options: Any) -> bz.Search:
    return bz.Search(Module(net()), estimator, rule or bz.SGD(0.03), **options)


DISTRIBUTIONS: tuple[Any, ...] = ("gaussian", "sphere", "rademacher", "orthogonal", "lowrank")
USABLE = [
    *(bz.RandomVector(1e-3, 4, kind) for kind in DISTRIBUTIONS),
    *(bz.RandomVector(1e-3, 4, kind, n_blocks=1) for kind in DISTRIBUTIONS),
    bz.RandomVector(1e-3, 4, "lowrank", "forward", rank=2),
    bz.RandomVector(1e-2, 4, "rademacher", "residual"),
    bz.RankBased(1e-2, 8),
    bz.Coordinatewise(1e-3),
    bz.Coordinatewise(1e-3, "block:7"),
]


@pytest.mark.parametrize("estimator", USABLE, ids=repr)
def test_estimators_make_progress(estimator: bz.Estimator) -> None:
    rule, steps, share = bz.SGD(0.03), 50, 0.6
    match estimator:
        case bz.RankBased():
            rule = bz.SGD(0.3)
        case bz.Coordinatewise():
            rule, steps = bz.SGD(0.2), 10 if estimator.coordinates is None else 60
        case bz.RandomVector(difference="residual"):
            rule, share = bz.SGD(0.003), 0.95
    search = search_of(estimator, rule, seed=2)
    before = error(search)
    reports = list(search.run(Squares(), steps=steps))
    assert error(search) < share * before
    assert search.variable.version == steps and reports[-1].failed == 0
    assert search.best.x is None and search.best.value < before


@pytest.mark.parametrize(
    ("estimator", "rule"),
    [
        (bz.RankBased(1e-2, 8), bz.SGD(0.3)),
        (bz.RankSGD(3e-2, 8), bz.SGD(1.0)),
        (bz.RankSGD(3e-2, 8, shared_round=True), bz.SGD(1.0)),
    ],
    ids=repr,
)
def test_rankings_are_enough(estimator: bz.Estimator, rule: bz.Rule) -> None:
    search = search_of(estimator, rule)
    before = error(search)
    list(search.run(Ranks(), steps=60))
    assert error(search) < 0.5 * before and np.isnan(search.best.value)


@pytest.mark.parametrize("difference", ["central", "forward"])
def test_a_step_is_that_of_the_same_search_over_arrays(difference: Any) -> None:
    """Same names, same directions, same numbers up to fp32."""
    module = Module(net())
    tree = {name: p.detach().double().numpy() for name, p in module.parameters.items()}
    estimator = bz.RandomVector(1e-2, 3, "lowrank", difference)
    one, other = bz.Search(module, estimator, bz.SGD(0.1), seed=4), bz.Search(tree, estimator, bz.SGD(0.1), seed=4)
    double = net().double()

    def value(point: dict[str, Any]) -> float:
        double.load_state_dict({name: torch.tensor(array) for name, array in point.items()})
        return float(((double(X.double()) - Y) ** 2).mean().detach())

    for _ in range(5):
        mine, theirs = one.ask(), other.ask()
        one.tell(mine, Squares().answer(mine))
        other.tell(theirs, bz.Values([value(theirs.tree(i)) for i in range(theirs.n)]))
    for name, p in module.parameters.items():
        np.testing.assert_allclose(p.detach().numpy(), other.x[name], atol=2e-4)
        assert float(np.abs(other.x[name] - tree[name]).max()) > 1e-2


@pytest.mark.parametrize(
    "estimator",
    [bz.Surrogate(0.1, 2, 9), bz.EvolutionStrategy(0.1), bz.ConsensusBased(0.1, 9), bz.TrustRegion(0.1)],
    ids=repr,
)
def test_estimators_that_keep_points_are_refused(estimator: bz.Estimator) -> None:
    name = type(estimator).__name__
    with pytest.raises(TypeError, match=f"Cannot use `{name}` with a `Module`: .* Use `RandomVector`, `RankBased` or"):
        search_of(estimator)


def test_points_are_never_written_out() -> None:
    proposal = search_of(bz.RandomVector(0.1, 2)).ask()
    reads: list[Any] = [
        lambda: proposal.points,
        lambda: proposal.trees(),
        lambda: proposal.row(0),
        lambda: proposal.tree(1),
    ]
    for read_it in reads:
        with pytest.raises(TypeError) as raised:
            read_it()
        assert str(raised.value) == (
            "The points of a `Module` are never written out. Use an oracle that displaces the parameters itself, such "
            "as `oracles.llm.LossOracle`."
        )


def test_a_failed_step_moves_nothing_and_a_failed_query_is_left_out() -> None:
    search = search_of(bz.RandomVector(1e-3, 2, "lowrank"))
    list(search.run(Squares(0), steps=1))
    assert weights(search) == weights(search_of(bz.RandomVector(1e-3, 2)))
    proposal = search.ask()
    values = Squares().answer(proposal).values.copy()
    values[1] = np.nan
    before = [p.detach().clone() for p in search.variable.parameters.values()]  # type: ignore[attr-defined]
    search.tell(proposal, bz.Values(values))
    u = proposal.queries.directions.rows[1]
    after = torch.cat([p.detach().flatten() for p in search.variable.parameters.values()])  # type: ignore[attr-defined]
    moved = (after - torch.cat([p.flatten() for p in before])).numpy()
    np.testing.assert_allclose(moved, -0.03 * (values[2] - values[3]) / 2e-3 * u, atol=1e-6)


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_from_memory_is_momentum_over_arrays(nesterov: bool) -> None:
    """Exact with a memory of the whole run; with a shorter one what is cut off is `beta^K` of the velocity."""

    def run(memory: int, steps: int = 20) -> torch.Tensor:
        rule = bz.chain(bz.WeightDecay(0.01), bz.Momentum(0.02, 0.5, nesterov, memory))
        search = search_of(bz.RandomVector(1e-2, 2, "lowrank", n_blocks=2), rule, seed=3)
        values = np.random.default_rng(0).standard_normal((steps, 4))
        for row in values:
            search.tell(search.ask(), bz.Values(row))
        return torch.cat([p.detach().flatten().double() for p in search.x.parameters()])

    def dense() -> torch.Tensor:
        tree = {name: p.detach().double().numpy() for name, p in Module(net()).parameters.items()}
        rule = bz.chain(bz.WeightDecay(0.01), bz.Momentum(0.02, 0.5, nesterov))
        search = bz.Search(tree, bz.RandomVector(1e-2, 2, "lowrank", n_blocks=2), rule, seed=3)
        for row in np.random.default_rng(0).standard_normal((20, 4)):
            search.tell(search.ask(), bz.Values(row))
        return torch.cat([torch.tensor(part).flatten() for part in search.x.values()])

    exact, size = dense(), float((dense() - run(20, 0)).abs().max())
    away = {memory: float((run(memory) - exact).abs().max()) / size for memory in (4, 8, 20, 50)}
    assert away[20] < 1e-5 and away[50] < 1e-5
    assert 1e-5 < away[8] < 2 * 0.5**8 < away[4] < 3 * 0.5**4


# --------------------------------------------------------------------------------------------------------- journal

LOWRANK = bz.RandomVector(1e-3, 1, "lowrank")


def test_the_header_names_the_run_and_a_step_is_one_short_line(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with search_of(LOWRANK, seed=5, journal=path) as search:
        start = search.variable.fingerprint()
        list(search.run(Squares(), steps=300))
    header, records = read(path)
    assert header["start"] == start and header["dimension"] == 29 and header["seed"] == 5
    assert header["variable"] == {
        "name": "Module", "select": "all", "mask": None, "unit": 1.0, "no_decay": None, "rounding": "stochastic",
    }  # fmt: skip
    lines = path.read_bytes().splitlines(keepends=True)[1:]
    assert len(lines) == 300 and len(records) == 600
    assert json.loads(lines[7]).keys() == {"step", "id", "values"}
    assert sum(map(len, lines)) / 300 < 64


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("rule", [bz.SGD(0.02), bz.Momentum(0.01, memory=4)], ids=repr)
def test_a_killed_run_goes_on_to_the_same_bits(rule: bz.Rule, dtype: torch.dtype, tmp_path: Path) -> None:
    path, estimator = tmp_path / "run.jsonl", bz.RandomVector(1e-2, 2, "lowrank", n_blocks=2)

    def search(journal: Path) -> bz.Search:
        return bz.Search(Module(net().to(dtype)), estimator, rule, seed=6, journal=journal)

    class Given(bz.Oracle):
        def answer(self, proposal: bz.Proposal) -> bz.Values:
            return bz.Values(np.cos(1.7 * proposal.ids))

    with search(path) as whole:
        states = [weights(whole)]
        for _ in whole.run(Given(), steps=30):
            states.append(weights(whole))
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 31 and len({tuple(state) for state in states}) == 31
    for kept, torn in ((0, 0), (1, 0), (13, 0), (13, 20), (29, -1), (30, 0)):
        cut = tmp_path / f"{kept}{torn}.jsonl"
        cut.write_bytes(b"".join(lines[: kept + 1]) + (lines[kept + 1][:torn] if torn else b""))
        with search(cut) as resumed:
            assert resumed.variable.version == kept and weights(resumed) == states[kept]
            list(resumed.run(Given(), steps=30 - kept))
            assert weights(resumed) == states[30]
        assert cut.read_bytes() == path.read_bytes()


def test_another_models_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with search_of(LOWRANK, journal=path) as search:
        list(search.run(Squares(), steps=2))
        moved = search.x
    with pytest.raises(bz.JournalError, match="belongs to another run: its start is"):
        bz.Search(Module(moved), LOWRANK, bz.SGD(0.03), journal=path)
    changes: list[dict[str, Any]] = [{"unit": 2.0}, {"rounding": "nearest"}, {"mask": 0.5}, {"no_decay": "bias"}]
    for change in changes:
        with pytest.raises(bz.JournalError, match=f"its variable's {next(iter(change))} is"):
            bz.Search(Module(net(), **change), LOWRANK, bz.SGD(0.03), journal=path)
    with pytest.raises(bz.JournalError, match="its dimension is 29, here it is 5"):
        bz.Search(Module(net(), "bias"), LOWRANK, bz.SGD(0.03), journal=path)


# ------------------------------------------------------------------------------------------------------ checkpoints


@pytest.mark.parametrize("rule", [bz.SGD(0.02), bz.Momentum(0.01, memory=4)], ids=repr)
@pytest.mark.parametrize("open_step", [False, True])
def test_a_checkpoint_goes_on_to_the_same_bits(rule: bz.Rule, open_step: bool) -> None:
    search, other = (search_of(bz.RandomVector(1e-2, 2, "lowrank"), rule, seed=7) for _ in range(2))
    list(search.run(Squares(), steps=5))
    if open_step:
        asked = p = search.ask()
        search.tell(p, bz.Values([1.5, 2.5]), ids=p.ids[[0, 2]])
    file = io.BytesIO()
    np.savez(file, **search.state_dict())
    file.seek(0)
    with np.load(file, allow_pickle=False) as state:
        other.load_state_dict(dict(state))
    assert weights(other) == weights(search) and other.best == search.best and other.nfev == search.nfev
    for one in (search, other):
        if open_step:
            rest = asked if one is search else one.ask()
            one.tell(rest, bz.Values([3.5, 4.5]), ids=[21, 23])
        list(one.run(Squares(), steps=3))
    assert weights(other) == weights(search) and search.variable.version == 8 + open_step


def test_a_step_asked_before_the_last_move_is_not_saved() -> None:
    search = search_of(LOWRANK)
    search.ask()
    search.tell(search.ask(), bz.Values([1.0, 2.0]))
    with pytest.raises(ValueError, match="Step 0 was asked before the last move and cannot be saved"):
        search.state_dict()
