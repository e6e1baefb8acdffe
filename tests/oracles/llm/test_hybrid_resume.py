"""A `HybridOracle` saved with its search: through any wrapper, the run goes on to the same bits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import blackbox_zo as bz
from blackbox_zo.errors import JournalError
from oracles import Cache, RankOnly, Repeat, Timeout
from oracles.llm import HybridOracle

from .loss_helpers import loss
from .test_hybrid import BATCH, llama, search_of, top_of


class Bare:
    """A wrapper of a user's own that has `answer` and nothing else."""

    def __init__(self, oracle: Any) -> None:
        self.oracle = oracle

    def answer(self, proposal: bz.Proposal) -> bz.Feedback:
        feedback: bz.Feedback = self.oracle.answer(proposal)
        return feedback


WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "alone": lambda oracle: oracle,
    "repeat": lambda oracle: Repeat(oracle, 1),
    "bare": Bare,
    "both": lambda oracle: Bare(Repeat(Bare(oracle), 1)),
}

OPTIMISERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "momentum": lambda top: torch.optim.SGD(top, 0.1, momentum=0.9),
    "adam": lambda top: torch.optim.Adam(top, 0.02, amsgrad=True),
}


def by_run(search: bz.Search, oracle: Any, steps: int) -> None:
    list(search.run(oracle, steps))


def by_hand(search: bz.Search, oracle: Any, steps: int) -> None:
    """Ask and tell, the last query of each step first."""
    for _ in range(steps):
        proposal = search.ask()
        feedback = oracle.answer(proposal)
        assert isinstance(feedback, bz.Values)
        for i in reversed(range(proposal.n)):
            search.tell(proposal, bz.Values(feedback.values[i : i + 1]), proposal.ids[i : i + 1])


def bits(model: Any) -> list[Any]:
    return [(p.view(torch.int16) if p.element_size() == 2 else p).detach().numpy().copy() for p in model.parameters()]


def made(dtype: torch.dtype, optimiser: str, wrapper: str) -> tuple[Any, bz.Search, Any]:
    """A fresh model, its search, and an oracle."""
    model = llama()
    for p in top_of(model):
        p.data = p.data.to(dtype)
    if dtype is torch.bfloat16:
        model.model.layers[3].register_forward_pre_hook(_as(dtype), with_kwargs=True)
        model.lm_head.register_forward_pre_hook(lambda _, args: (args[0].float(),))
    oracle = HybridOracle(model, [BATCH], loss, OPTIMISERS[optimiser](top_of(model)), "scratch")
    return model, search_of(model), WRAPPERS[wrapper](oracle)


def _as(dtype: torch.dtype) -> Callable[..., Any]:
    def cast(_: Any, args: Any, kwargs: Any) -> Any:
        return (
            tuple(a.to(dtype) if torch.is_tensor(a) and a.is_floating_point() else a for a in args),
            {
                name: tuple(t.to(dtype) for t in value)
                if name == "position_embeddings"
                else value.to(dtype)
                if torch.is_tensor(value) and value.is_floating_point()
                else value
                for name, value in kwargs.items()
            },
        )

    return cast


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("optimiser", list(OPTIMISERS))
@pytest.mark.parametrize("wrapper", list(WRAPPERS))
@pytest.mark.parametrize("go", [by_run, by_hand])
def test_a_saved_search_goes_on_to_the_same_bits(
    tmp_path: Path, go: Callable[[bz.Search, Any, int], None], wrapper: str, optimiser: str, dtype: torch.dtype
) -> None:
    whole, search, oracle = made(dtype, optimiser, wrapper)
    go(search, oracle, 3)
    np.savez(tmp_path / "state.npz", **search.state_dict())
    half = bits(whole)
    go(search, oracle, 3)
    model, again, fresh = made(dtype, optimiser, wrapper)
    with np.load(tmp_path / "state.npz") as saved:
        again.load_state_dict(dict(saved))
    go(again, fresh, 3)
    moved = [n for n, a, b in zip(dict(whole.named_parameters()), half, bits(whole), strict=True) if (a != b).any()]
    assert "model.norm.weight" in moved and "model.layers.1.mlp.up_proj.weight" in moved
    for name, a, b in zip(dict(whole.named_parameters()), bits(whole), bits(model), strict=True):
        assert np.array_equal(a, b), name


@pytest.mark.parametrize(
    "wrap",
    [*WRAPPERS.values(), Cache, RankOnly, lambda oracle: Timeout(oracle, 60)],
    ids=[*WRAPPERS, "cache", "rank", "timeout"],
)
@pytest.mark.parametrize("go", [by_run, by_hand])
def test_a_journal_is_refused_through_every_wrapper(
    tmp_path: Path, go: Callable[[bz.Search, Any, int], None], wrap: Callable[[Any], Any]
) -> None:
    model = llama()
    oracle = wrap(HybridOracle(model, [BATCH], loss, torch.optim.SGD(top_of(model), 0.1)))
    before = bits(model)
    with search_of(model, journal=tmp_path / "run.jsonl") as search:
        if isinstance(oracle, Cache):  # a module's points are never written out
            with pytest.raises(TypeError, match="points of a `Module`"):
                go(search, oracle, 1)
            return
        with pytest.raises(JournalError, match="cannot replay a run with `HybridOracle`: its optimiser moves"):
            go(search, oracle, 1)
    assert all(np.array_equal(a, b) for a, b in zip(before, bits(model), strict=True))
    assert len((tmp_path / "run.jsonl").read_text().splitlines()) == 1  # nothing was told


@pytest.mark.parametrize("optimiser", list(OPTIMISERS))
def test_a_loaded_model_is_whole_without_a_further_step(optimiser: str) -> None:
    whole, search, oracle = made(torch.float32, optimiser, "alone")
    by_run(search, oracle, 2)
    model, again, fresh = made(torch.float32, optimiser, "alone")
    again.load_state_dict(search.state_dict())
    assert not torch.equal(model.model.norm.weight, whole.model.norm.weight)
    fresh.put(again.state_of(fresh))
    assert all(np.array_equal(a, b) for a, b in zip(bits(whole), bits(model), strict=True))


def test_a_state_of_another_oracle_is_refused() -> None:
    _, search, oracle = made(torch.float32, "adam", "alone")
    by_run(search, oracle, 1)
    state = search.state_dict()
    model = llama()
    other = HybridOracle(model, [BATCH], loss, torch.optim.Adam([model.model.norm.weight]))
    again = search_of(model)
    again.load_state_dict(state)
    with pytest.raises(ValueError, match="whose optimiser has other parameters"):
        by_run(again, other, 1)


def test_half_a_step_cannot_be_saved_and_says_so() -> None:
    _, search, oracle = made(torch.float32, "adam", "alone")
    proposal = search.ask()
    feedback = oracle.answer(proposal)
    search.tell(proposal, bz.Values(feedback.values[-1:]), proposal.ids[-1:])
    with pytest.raises(ValueError, match=r"cannot be saved.*Tell the rest of the step first"):
        search.state_dict()
