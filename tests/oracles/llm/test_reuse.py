"""Layers below all searched ones run once a step, or once an example, and nobody notices from the values."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import blackbox_zo as bz
from blackbox_zo._typing import Floats
from oracles.llm import LabelWords, LossOracle
from oracles.llm import _reuse as reuse_module
from oracles.llm._reuse import FeatureCache

from ...blackbox_zo.modules.helpers import CASES, GROUPED, SWEEPS, made, of
from .loss_helpers import RV, Runs, answered, by_hand, loss, texts

TWO = RV(0.05, 2, "lowrank")
UPPER = r"layers\.[23]\.|^model\.norm"
Batches = list[dict[str, torch.Tensor]]


def llama(layers: int = 4, **options: Any) -> Any:
    return of("LlamaForCausalLM", "LlamaConfig", **{**GROUPED, "num_hidden_layers": layers, **options})()


class Counter:
    """How many rows went through each layer."""

    def __init__(self, layers: Any) -> None:
        self.rows = [0] * len(layers)
        for place, layer in enumerate(layers):
            layer.register_forward_hook(self._hook(place))

    def _hook(self, place: int) -> Callable[..., None]:
        def count(layer: Any, args: Any, output: Any) -> None:
            if "forward" not in vars(layer):  # else what it would give is handed on
                self.rows[place] += (output[0] if isinstance(output, tuple) else output).shape[0]

        return count


def identified(batches: Batches) -> Batches:
    return [{**b, "example_id": torch.arange(len(b["label"])) + 100 * i} for i, b in enumerate(batches)]


def run(model: Any, select: Any, steps: int = 3, estimator: bz.Estimator = TWO, **options: Any) -> Floats:
    """The values of some steps, shape (steps, n)."""
    search = bz.Search(bz.Module(model, select), estimator, bz.SGD(0.02), seed=1)
    options = {"batches": identified([texts(4), texts(4, 1)]), "loss": loss, **options}
    oracle, out = LossOracle(model, **options), []
    for _ in range(steps):
        proposal = search.ask()
        out.append(answered(oracle, proposal))
        np.testing.assert_allclose(
            out[-1], by_hand(proposal, oracle.batch(proposal.step), options["loss"]).mean(1), rtol=3e-6, atol=3e-7
        )
        search.tell(proposal, bz.Values(out[-1]))
        for part in model.modules():
            assert "forward" not in vars(part)
    return np.array(out)


@pytest.mark.parametrize("sweep", [*SWEEPS, "auto"])
@pytest.mark.parametrize("reuse", [False, True, "keep"])
def test_lower_layers_run_once_a_step_or_once_an_example(reuse: Any, sweep: Any) -> None:
    model = llama()
    counter = Counter(model.model.layers)
    values = run(model, UPPER, 1, sweep=sweep, reuse=reuse)  # the first step also tries what is relied on later
    first, counter.rows = counter.rows, [0] * 4
    assert min(first) > 0
    search = bz.Search(bz.Module(model, UPPER), TWO, bz.SGD(0.02), seed=2)
    oracle = LossOracle(model, identified([texts(4), texts(4, 1)]), loss, sweep, reuse=reuse)
    rows = []
    for _ in range(6):
        proposal = search.ask()
        counter.rows = [0] * 4
        search.tell(proposal, oracle.answer(proposal))
        rows.append(counter.rows)
    assert rows[-1] == {False: [16, 16, 16, 16], True: [4, 4, 16, 16], "keep": [0, 0, 16, 16]}[reuse]
    assert rows[1] == {False: [16, 16, 16, 16], True: [4, 4, 16, 16], "keep": [4, 4, 16, 16]}[reuse]
    assert values.std() > 1e-3


SEARCHED: dict[str, tuple[Callable[[], Any], Any, str, int]] = {  # and how many layers need not run again
    "upper layers": (llama, UPPER, "model.layers", 2),
    "the last layer": (llama, r"layers\.3\.", "model.layers", 3),
    "the head": (llama, "lm_head", "model.layers", 4),
    "the norm at the end": (llama, r"^model\.norm", "model.layers", 4),
    "one matrix": (llama, ["model.layers.1.mlp.up_proj.weight"], "model.layers", 1),
    "the lowest layer": (llama, r"layers\.0\.", "model.layers", 0),
    "all": (llama, "all", "model.layers", 0),
    "the embedding and an upper layer": (llama, r"embed|layers\.3\.", "model.layers", 0),
    "tied embeddings as the head": (lambda: llama(tie_word_embeddings=True), ["lm_head.weight"], "model.layers", 0),
    "an upper layer of tied": (lambda: llama(tie_word_embeddings=True), r"layers\.2\.", "model.layers", 2),
    "gpt2": (CASES["gpt2"].make, r"h\.1\.|ln_f", "transformer.h", 1),
    "places of gpt2": (CASES["gpt2"].make, r"wpe|h\.1\.", "transformer.h", 0),
    "opt": (CASES["opt"].make, r"layers\.1\.|decoder\.final_layer_norm", "model.decoder.layers", 1),
    "bloom": (CASES["bloom"].make, r"h\.1\.", "transformer.h", 1),
    "falcon": (CASES["falcon"].make, r"h\.1\.", "transformer.h", 1),
    "neox": (CASES["neox"].make, r"layers\.1\.", "gpt_neox.layers", 1),
    "gemma3": (CASES["gemma3"].make, r"layers\.1\.", "model.layers", 1),
    "mixtral": (CASES["mixtral"].make, r"layers\.1\.", "model.layers", 1),
}


@pytest.mark.parametrize(("make", "select", "stack", "saved"), SEARCHED.values(), ids=SEARCHED)
def test_what_can_be_reused(make: Any, select: Any, stack: str, saved: int) -> None:
    model = make()
    layers = model.get_submodule(stack)
    counter, depth = Counter(layers), len(layers)
    values = run(model, select)
    search = bz.Search(bz.Module(model, select), TWO, bz.SGD(0.02))
    oracle = LossOracle(model, identified([texts(4)]), loss, "scratch", reuse="keep")
    for _ in range(3):
        counter.rows = [0] * depth
        search.tell((proposal := search.ask()), oracle.answer(proposal))
    assert counter.rows == [0] * saved + [16] * (depth - saved)
    assert values.std() > 1e-3


def test_a_model_from_text_to_text_is_answered_rightly() -> None:
    def t5_loss(model: Any, batch: Any) -> torch.Tensor:
        z = model(batch["input_ids"], batch["attention_mask"], decoder_input_ids=batch["input_ids"][:, :3]).logits
        return z[:, -1].square().mean(1)  # type: ignore[no-any-return]

    for select in (r"decoder\.block\.1\.", r"encoder\.block\.1\.", "final_layer_norm"):
        for size in (2, 4):
            run(CASES["t5"].make(), select, 2, loss=t5_loss, batches=identified([texts(size)]))


@pytest.mark.parametrize("reuse", [True, "keep"])
def test_layers_that_other_steps_move_are_not_remembered(reuse: Any) -> None:
    """With a few blocks a step, what lies below them moves in between."""
    run(llama(), "all", 10, RV(0.05, 1, "lowrank", n_blocks=1), reuse=reuse)
    model = llama()
    counter = Counter(model.model.layers)
    run(model, UPPER, 5, RV(0.05, 2, "lowrank", n_blocks=1), reuse="keep")
    assert counter.rows[0] < counter.rows[3]


@pytest.mark.parametrize("reuse", [True, "keep"])
@pytest.mark.parametrize("micro_batch", [1, 3])
def test_features_are_made_in_runs_that_fit(micro_batch: int, reuse: Any) -> None:
    model, runs = llama(), Runs(loss)
    search = bz.Search(bz.Module(model, UPPER), TWO, bz.SGD(0.02))
    oracle = LossOracle(model, identified([texts(4)]), runs, micro_batch=micro_batch, reuse=reuse)
    for _ in range(3):
        proposal = search.ask()
        values = answered(oracle, proposal)
        np.testing.assert_allclose(values, by_hand(proposal, oracle.batch(0), loss).mean(1), rtol=3e-6)
        search.tell(proposal, bz.Values(values))
    assert max(runs.rows) == micro_batch


def test_a_share_of_the_batch_each_sees_its_own_features() -> None:
    for difference in ("central", "forward"):
        model = llama()
        values = []
        for reuse in (False, True):
            proposal = bz.Search(bz.Module(model, UPPER), RV(0.05, 4, "lowrank", difference), bz.SGD(0.02)).ask()
            values.append(
                answered(LossOracle(model, [texts(4)], loss, directions_per="example", reuse=reuse), proposal)
            )
        np.testing.assert_allclose(values[0], values[1], rtol=3e-6)


def test_keeping_features_needs_to_know_the_examples() -> None:
    model = llama()
    oracle = LossOracle(model, [texts(4)], loss, reuse="keep")
    with pytest.raises(ValueError, match=r"`LossOracle\(reuse='keep'\)` needs a tensor 'example_id' in each batch"):
        oracle.answer(bz.Search(bz.Module(model, UPPER), TWO).ask())
    run(llama(), "all", 2, reuse="keep", batches=[texts(4)])  # where nothing is kept, nothing is needed


def test_no_more_is_kept_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """5 tokens of width 16 in fp32 are 320 bytes an example."""
    monkeypatch.setattr(reuse_module, "KEPT_BYTES", 3 * 320)
    model = llama()
    oracle = LossOracle(model, identified([texts(2), texts(2, 1)]), loss, reuse="keep")
    search = bz.Search(bz.Module(model, UPPER), TWO, bz.SGD(0.02))
    list(search.run(oracle, steps=6))
    assert oracle.features is not None and len(oracle.features.rows) == 3 and oracle.features.bytes == 960
    run(llama(), UPPER, 6, reuse="keep")


def twice(model: Any, batch: Any) -> torch.Tensor:
    """Runs the model on something else afterwards."""
    other = {**batch, "input_ids": batch["input_ids"].flip(1)}
    return loss(model, batch) + 2.0 * loss(model, other)


def generated(model: Any, batch: Any) -> torch.Tensor:
    """Runs the layers once a token."""
    out = model.generate(batch["input_ids"], attention_mask=batch["attention_mask"], max_new_tokens=3, do_sample=False,
                         pad_token_id=0)  # fmt: skip
    return loss(model, batch) + out[:, 5:].float().mean(1)  # type: ignore[no-any-return]


@pytest.mark.parametrize("of", [twice, generated])
def test_a_loss_that_runs_the_layers_more_than_once_reuses_nothing(of: Any) -> None:
    model = llama()
    run(model, UPPER, 3, loss=of, reuse=True)


class Branching(nn.Module):
    """A stack whose layers are not run one after another."""

    def __init__(self, order: list[int]) -> None:
        super().__init__()
        self.layers, self.order = nn.ModuleList([nn.Linear(4, 4) for _ in range(3)]), order

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.order:
            return torch.stack([layer(x) for layer in self.layers]).sum(0)
        for place in self.order:
            x = torch.tanh(self.layers[place](x)) + x
        return x


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [0, 1, 2, 0], [1, 2], [0, 1], []], ids=str)
@pytest.mark.parametrize("select", [r"layers\.2", r"layers\.1\.", r"layers\.[12]"])
def test_stacks_that_run_in_another_order(order: list[int], select: str) -> None:
    model = made(lambda: Branching(order))()
    x = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))

    def of(model: Any, batch: Any) -> torch.Tensor:
        return model(batch["x"]).square().mean(1)  # type: ignore[no-any-return]

    if 2 in (order or [2]):
        run(model, select, 3, loss=of, batches=[{"x": x}])
    elif select == r"layers\.2":
        with pytest.raises(bz.OracleError, match=r"No operation used 'layers.2.weight', 'layers.2.bias'"):
            run(model, select, 3, loss=of, batches=[{"x": x}])
    else:
        unused = r"No operation used 'layers.2.weight'" if select == r"layers\.[12]" else "^$"
        with pytest.warns(UserWarning, match=unused) if unused != "^$" else contextlib.nullcontext():
            run(model, select, 3, loss=of, batches=[{"x": x}])


def test_an_error_on_the_way_leaves_the_layers_as_they_were() -> None:
    model, calls = llama(), []

    def failing(model: Any, batch: Any) -> torch.Tensor:
        calls.append(0)
        if len(calls) > 5:
            raise KeyError("in the loss")
        return loss(model, batch)

    with pytest.raises(KeyError, match="in the loss"):
        LossOracle(model, [texts(4)], failing, "scratch").answer(bz.Search(bz.Module(model, UPPER), TWO).ask())
    for part in model.modules():
        assert "forward" not in vars(part) and not part._forward_hooks


def padded(side: str) -> dict[str, torch.Tensor]:
    """Texts of 7, 4 and 6 tokens, padded on one side."""
    torch.manual_seed(3)
    ids, mask = torch.randint(1, 20, (3, 7)), torch.ones(3, 7, dtype=torch.long)
    for row, length in enumerate((7, 4, 6)):
        gap = slice(0, 7 - length) if side == "left" else slice(length, 7)
        ids[row, gap], mask[row, gap] = 0, 0
    return {"input_ids": ids, "attention_mask": mask, "label": torch.tensor([0, 1, 1])}


@pytest.mark.parametrize("sweep", SWEEPS)
@pytest.mark.parametrize("reuse", [True, "keep"])
@pytest.mark.parametrize("over", ["vocabulary", "labels"])
def test_above_the_layers_only_the_last_tokens_are_run(sweep: Any, reuse: Any, over: str) -> None:
    words = LabelWords((3, 5), over)
    batches = identified([padded("left"), padded("right")])
    for which in (batches, batches[::-1]):
        run(llama(), r"^model\.norm", 4, batches=which, loss=words, sweep=sweep, reuse=reuse)  # compares with by_hand
    cache = FeatureCache(llama(), words, keep=False)
    searched = {id(cache.model.model.norm.weight): "model.norm.weight"}  # type: ignore[union-attr]
    lengths = [found.hidden.shape[1] for b in batches if (found := cache.of(searched, b)) is not None]
    assert lengths == [1, 4]
    below = {id(cache.model.model.layers[3].mlp.up_proj.weight): "model.layers.3.mlp.up_proj.weight"}  # type: ignore
    found = cache.of(below, batches[0])
    assert found is not None and found.hidden.shape[1] == 7


def test_a_loss_that_tries_a_smaller_head_at_its_first_run_does_not_lose_the_features() -> None:
    model = llama()
    searched = {id(p): n for n, p in model.named_parameters() if n.startswith("model.layers.3.")}
    found = FeatureCache(model, LabelWords((3, 5), "labels"), keep=False).of(searched, padded("left"))
    assert found is not None and found.cut == 3


def test_a_loss_that_looks_further_back_than_it_says_sees_all_tokens() -> None:
    class Early:
        def last_tokens(self, model: Any, batch: Any) -> int:
            return 1

        def __call__(self, model: Any, batch: Any) -> torch.Tensor:
            z: torch.Tensor = model(input_ids=batch["input_ids"]).logits
            return z.square().mean((1, 2))

    run(llama(), r"^model\.norm", 2, loss=Early())


def test_of_a_batch_only_what_is_not_kept_is_made() -> None:
    model = llama()
    counter, everything = Counter(model.model.layers), identified([{**texts(6), "label": torch.arange(6) % 2}])[0]
    cache = FeatureCache(model, LabelWords((3, 5)), keep=True)
    searched = {id(model.model.norm.weight): "model.norm.weight"}

    def some(*rows: int) -> dict[str, torch.Tensor]:
        return {name: value[list(rows)] for name, value in everything.items()}

    cache.of(searched, some(0, 1, 2))
    counter.rows = [0] * 4
    found = cache.of(searched, some(4, 1, 5, 0))
    assert counter.rows == [2] * 4 and found is not None
    whole = FeatureCache(model, LabelWords((3, 5)), keep=False).of(searched, some(4, 1, 5, 0))
    assert whole is not None
    torch.testing.assert_close(found.hidden, whole.hidden)
    counter.rows = [0] * 4
    cache.of(searched, some(5, 4, 2))
    assert counter.rows == [0] * 4
