"""`Reward`: plain references for samples and group-relative scores, shared prompts, and bad functions by name."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import blackbox_zo as bz
from oracles.llm import Examples, Generation, LossOracle, Reward, evaluate, finetune, prompts
from oracles.llm._evaluate import Evaluator
from oracles.llm._reward import group_relative
from oracles.llm._sampling import GumbelNoise
from tests.oracles.llm.helpers import gpt2, llama, tokenizer
from tests.oracles.llm.loss_helpers import answered, ask, by_hand

TOKENIZER = tokenizer()
ROWS = [{"q": "What is it? The cat sat", "id": 7}, {"q": "It was", "id": 8}, {"q": "good. What is", "id": 9}]


def examples(rows: list[dict[str, Any]] = ROWS) -> Examples:
    return prompts(rows, TOKENIZER, "{q}", None)


def hashed(prompts: list[str], completions: list[str], rows: list[Any]) -> list[float]:
    """Changes with every letter."""
    return [sum(map(ord, text)) % 101 / 101 for text in completions]


def sampled(**more: Any) -> Reward:
    return Reward(hashed, TOKENIZER, 5, **{"samples": 3, "temperature": 1.0, **more})


def oracle_of(model: Any, loss: Any, sweep: Any = "batched", **more: Any) -> LossOracle:
    return LossOracle(model, examples().shuffled(3), loss, sweep, **more)


# ---------------------------------------------------------------------------------------------------- what is asked


def test_the_function_gets_prompts_completions_and_rows_of_a_pass_at_once() -> None:
    calls: list[tuple[list[str], list[str], list[Any]]] = []

    def reward(prompts: list[str], completions: list[str], rows: list[Any]) -> list[float]:
        calls.append((prompts, completions, rows))
        return hashed(prompts, completions, rows)

    model, batch = llama(), examples().batch(range(3))
    loss = Reward(reward, TOKENIZER, 5)
    losses = loss(model, batch)
    ((asked, written, rows),) = calls
    assert asked == [row["q"] for row in ROWS] and rows == ROWS
    assert written == Generation(TOKENIZER, lambda text, _: 0.0, 5).texts(model, batch)
    assert losses.tolist() == [-r for r in hashed([], written, [])]
    assert loss.measures(model, batch)["reward"].tolist() == (-losses).tolist()


def test_a_batch_without_rows_gives_what_else_it_has_and_prompts_are_decoded() -> None:
    seen: list[Any] = []

    def reward(prompts: list[str], completions: list[str], rows: list[Any]) -> list[float]:
        seen.append((prompts, rows))
        return [0.0] * len(rows)

    batch = prompts([{"q": "It was", "answer": "x"}, {"q": "The cat sat", "answer": "y"}], TOKENIZER, "{q}").batch(
        [0, 1]
    )
    del batch["row"], batch["prompt"]
    Reward(reward, TOKENIZER, 2)(llama(), batch)
    assert seen == [(["It was", "The cat sat"], [{"reference": "x"}, {"reference": "y"}])]


# ---------------------------------------------------------------------------------------------------- samples


def test_samples_follow_the_softmax_at_the_temperature() -> None:
    z = torch.tensor([[0.0, 1.0, 2.0, -1.0]])
    n = 4000
    noise = GumbelNoise([(0, 0, i, 0) for i in range(n)], temperature=0.7)
    drawn = noise(torch.zeros(n, 1), z.expand(n, -1)).argmax(-1)
    share = torch.bincount(drawn, minlength=4) / n
    torch.testing.assert_close(share, torch.softmax(z[0] / 0.7, -1), atol=0.025, rtol=0)


def test_a_sample_is_a_function_of_seed_step_example_sample_and_token() -> None:
    z = torch.zeros(1, 50)

    def noise(*address: int, token: int = 0) -> torch.Tensor:
        made = GumbelNoise([address], 1.0)  # type: ignore[list-item]
        made.token = token
        return made(z, z)

    base = noise(0, 1, 2, 3)
    assert torch.equal(base, noise(0, 1, 2, 3))
    others = [noise(9, 1, 2, 3), noise(0, 9, 2, 3), noise(0, 1, 9, 3), noise(0, 1, 2, 9), noise(0, 1, 2, 3, token=1)]
    assert not any(torch.equal(base, other) for other in others)


def test_samples_depend_on_the_example_not_on_its_batch() -> None:
    model, loss, every = gpt2(), sampled(), examples()
    together = loss(model, loss.prepare(every.batch([0, 1, 2]), 4))
    alone = loss(model, loss.prepare(every.batch([2]), 4))
    assert torch.equal(together[6:], alone)
    assert len(set(alone.tolist())) > 1  # the samples differ
    assert not torch.equal(loss(model, loss.prepare(every.batch([2]), 5)), alone)
    assert not torch.equal(sampled(seed=1)(model, sampled(seed=1).prepare(every.batch([2]), 4)), alone)


def test_outside_a_run_it_is_the_mean_over_the_samples_and_always_the_same() -> None:
    model, loss, batch = llama(), sampled(), examples().batch(range(3))
    each = loss(model, loss.prepare(batch, -1)).view(3, 3)
    assert torch.equal(loss(model, batch), each.mean(1)) and torch.equal(loss(model, batch), loss(model, batch))
    found = evaluate(model, [batch], {"reward": lambda m, b: -loss(m, b)})["reward"]
    assert found == pytest.approx(-float(each.mean()))


def test_equal_weights_write_the_same_under_all_queries() -> None:
    """Common random numbers: no difference without a difference of the weights."""
    model = llama()
    proposal = ask(model, bz.RandomVector(1e-12, 3, "lowrank"))
    with pytest.warns(UserWarning, match="same loss"):
        values = answered(oracle_of(model, sampled()), proposal)
    assert len(set(values.tolist())) == 1


# ---------------------------------------------------------------------------------------------------- sweeps


@pytest.mark.parametrize(("make", "select", "radius"), [(gpt2, "all", 0.1), (llama, "top", 1.0), (gpt2, "top", 1.0)])
@pytest.mark.parametrize("loss", [Reward(hashed, TOKENIZER, 5), sampled(), sampled(group_relative=True)])
@pytest.mark.parametrize(("sweep", "reuse"), [("batched", False), ("batched", "keep"), ("scratch", True)])
def test_each_sweep_writes_what_a_written_copy_writes(
    make: Any, select: str, radius: float, loss: Reward, sweep: Any, reuse: Any
) -> None:
    model = make()
    proposal = ask(model, bz.RandomVector(radius, 2, "lowrank"), select)
    oracle = oracle_of(model, loss, sweep, reuse=reuse)
    batch = loss.prepare(oracle.batches(0), 0)  # type: ignore[operator]
    losses = by_hand(proposal, batch, loss)
    assert np.ptp(losses, axis=0).any()
    rows = torch.arange(losses.shape[1]).expand(losses.shape)
    np.testing.assert_allclose(answered(oracle, proposal), loss.over_queries(losses, rows, batch), rtol=1e-8)


def test_prompts_run_once_for_all_queries_if_only_the_top_is_searched() -> None:
    model = llama()
    widths: list[tuple[int, int]] = []
    model.model.layers[0].register_forward_pre_hook(lambda m, args: widths.append(tuple(args[0].shape[:2])))
    oracle = oracle_of(model, Reward(hashed, TOKENIZER, 4), "batched", reuse="keep")
    search = bz.Search(bz.Module(model, "top"), bz.RandomVector(1.0, 4, "lowrank"), bz.SGD(1e-3))
    reports = search.run(oracle, steps=2)
    next(reports)
    assert oracle.prompts is not None and oracle.prompts.trunk is not None and len(oracle.prompts.kept) == 3
    widths.clear()
    next(reports)
    assert widths and all(width == 1 for _, width in widths)  # new tokens alone
    assert widths[0][0] == 8 * 3


@pytest.mark.parametrize("select", ["all", "bias|norm", "embed"])
def test_prompts_are_not_shared_if_the_layers_depend_on_the_query(select: str) -> None:
    model = llama()
    oracle = oracle_of(model, Reward(hashed, TOKENIZER, 2), reuse="keep")
    oracle.answer(ask(model, select=select))
    assert oracle.prompts is not None and not oracle.prompts.kept


def test_validations_share_prompts_too_and_agree_with_whole_runs() -> None:
    model = llama()
    loss = sampled()
    run = finetune(
        model, examples(), loss, steps=4, batch_size=3, module="top", rule=bz.SGD(0.5), validation=examples(),
        measures=loss.measures, evaluate_every=2, estimator=bz.RandomVector(0.3, 3, "lowrank"),
    )  # fmt: skip
    want = float(loss.measures(model, examples().batch(range(3)))["reward"].mean())
    assert run.validation[-1][1]["reward"] == pytest.approx(want)
    widths: list[int] = []
    evaluator = Evaluator(model, examples().batches(3), {"loss": loss}, bz.Module(model, "top"))
    evaluator()
    model.model.layers[0].register_forward_pre_hook(lambda m, args: widths.append(args[0].shape[1]))
    assert evaluator()["loss"] == pytest.approx(-want) and set(widths) == {1}


# ---------------------------------------------------------------------------------------------------- groups


def test_group_relative_is_the_plain_advantage() -> None:
    losses = np.random.default_rng(0).normal(size=(4, 6))
    groups = np.tile([0, 0, 1, 1, 2, 2], (4, 1))
    advantage = np.empty_like(losses)
    for g in range(3):
        r = -losses[:, 2 * g : 2 * g + 2]
        advantage[:, 2 * g : 2 * g + 2] = (r - r.mean()) / (r.std(ddof=1) + 1e-4)
    np.testing.assert_allclose(group_relative(losses, groups), losses.mean() - advantage.mean(1))


def test_group_relative_does_not_depend_on_a_prompts_scale_and_keeps_the_mean() -> None:
    losses = np.random.default_rng(1).integers(0, 5, size=(4, 3)).astype(float)
    groups = np.tile([0, 1, 2], (4, 1))
    values = group_relative(losses, groups)
    assert values.mean() == pytest.approx(losses.mean())
    scaled = group_relative(losses * [1.0, 1000.0, 10.0] + [5.0, 0.0, 2.0], groups)
    np.testing.assert_allclose(scaled - scaled.mean(), values - values.mean(), atol=1e-3)
    same = losses.copy()
    same[:, 2] = 3.0  # no query does better: it says nothing
    only = group_relative(same[:, :2], groups[:, :2]) * 2
    without = group_relative(same, groups) * 3
    np.testing.assert_allclose(without - without.mean(), only - only.mean(), atol=1e-12)


def test_a_failed_query_leaves_the_group_to_the_others() -> None:
    losses = np.array([[1.0, 2.0], [np.nan, 4.0], [3.0, 1.0]])
    values = group_relative(losses, np.tile([0, 1], (3, 1)))
    assert np.isnan(values).tolist() == [False, True, False]
    assert group_relative(np.full((2, 2), np.nan), np.zeros((2, 2))).shape == (2,)


def test_group_relative_with_a_direction_an_example_compares_its_two_queries() -> None:
    model, loss = llama(), sampled(group_relative=True)
    oracle = oracle_of(model, loss, directions_per="example")
    proposal = ask(model, bz.RandomVector(0.1, 3, "lowrank"))
    values = answered(oracle, proposal)
    batch = oracle.batch(0)
    losses = by_hand(proposal, batch, loss)
    own = np.array([losses[i, 3 * (i // 2) : 3 * (i // 2) + 3] for i in range(6)])
    np.testing.assert_allclose(values, group_relative(own, np.repeat([0, 0, 1, 1, 2, 2], 3).reshape(6, 3)), rtol=1e-8)
    forward = ask(model, bz.RandomVector(0.1, 3, "lowrank", "forward"))
    with pytest.raises(ValueError, match="needs central differences"):
        oracle.answer(forward)


# ---------------------------------------------------------------------------------------------------- bad functions


def boom(prompts: list[str], completions: list[str], rows: list[Any]) -> list[float]:
    if "It was" in prompts:
        raise KeyError("judge")
    return [0.0] * len(prompts)


BAD: dict[str, tuple[Any, str]] = {
    "raises": (boom, r"The reward `boom` raised KeyError: 'judge' \(completion '.*' of the prompt 'It was'\)"),
    "short": (lambda p, c, r: [0.0], "returned 1 numbers for 3 completions, the first of the prompt 'What is it"),
    "long": (lambda p, c, r: [0.0] * 4, "returned 4 numbers for 3 completions"),
    "none at all": (lambda p, c, r: None, r"returned None \(NoneType\) for 3 completions.*'What is it"),
    "one number": (lambda p, c, r: 1.0, r"returned 1.0 \(float\) for 3 completions"),
    "a dict": (lambda p, c, r: {"a": 1}, "must return a list of 3 numbers"),
    "None": (lambda p, c, r: [0.0, None, 0.0], r"returned None \(completion '.*' of the prompt 'It was'\)"),
    "bool": (lambda p, c, r: [0.0, True, 0.0], r"returned True \(.* of the prompt 'It was'\); .* float\(True\)"),
    "bools": (lambda p, c, r: np.array([True] * 3), r"returned True \(.* of the prompt 'What is it"),
    "text": (lambda p, c, r: [0.0, "1", 0.0], r"returned '1' \(str\), not one real number \(.*'It was'\)"),
    "complex": (lambda p, c, r: [0.0, 1j, 0.0], r"returned 1j \(complex\)"),
    "a tensor each": (lambda p, c, r: [torch.zeros(2)] * 3, r"returned shape \(2,\) \(Tensor\).*'What is it"),
    "a matrix": (lambda p, c, r: torch.zeros(3, 1), r"returned shape \(3, 1\) for 3 completions"),
    "a scalar tensor": (lambda p, c, r: torch.tensor(1.0), r"returned shape \(\) for 3 completions"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_reward_is_named_with_its_prompt(name: str) -> None:
    function, says = BAD[name]
    with pytest.raises(bz.OracleError, match=says):
        Reward(function, TOKENIZER, 2)(llama(), examples().batch(range(3)))


@pytest.mark.parametrize(
    "kind",
    [list, tuple, np.array, torch.tensor, lambda x: [np.float32(v) for v in x], lambda x: [torch.tensor(v) for v in x]],
)
def test_any_row_of_numbers_is_taken(kind: Any) -> None:
    loss = Reward(lambda p, c, r: kind([1.0, 2.0, 3.0]), TOKENIZER, 2)
    assert loss(llama(), examples().batch(range(3))).tolist() == [-1.0, -2.0, -3.0]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_is_a_failed_answer_with_its_prompt(bad: float) -> None:
    calls = iter(range(100))

    def reward(prompts: list[str], completions: list[str], rows: list[Any]) -> list[float]:
        return [bad if row["id"] == 8 and next(calls) == 1 else 0.5 for row in rows]

    oracle = oracle_of(llama(), Reward(reward, TOKENIZER, 2), "scratch", reuse=False)
    feedback = oracle.answer(ask(oracle.model))
    assert isinstance(feedback, bz.Values)
    assert np.isnan(feedback.values).tolist() == [False, True, False, False]
    assert feedback.info is not None and feedback.info[1] == {
        "error": "the reward of the answer to 'It was' is NaN or infinite"
    }


def test_ten_steps_of_nan_end_the_run() -> None:
    loss = Reward(lambda p, c, r: [math.nan] * len(p), TOKENIZER, 1)
    run = finetune(llama(), examples(), loss, steps=20, batch_size=3, rule=bz.SGD(1e-3))
    assert "last 10 steps failed" in run.stopped and "the answer to 'What is it?" in run.stopped


def test_the_run_goes_on_from_its_journal_once_a_reward_is_mended(tmp_path: Path) -> None:
    def run(journal: Path, function: Any) -> Any:
        model = llama()
        loss = Reward(function, TOKENIZER, 4, samples=2, temperature=1.0)
        finetune(model, examples(), loss, steps=4, batch_size=3, rule=bz.SGD(1e-2), journal=journal)
        return torch.cat([p.reshape(-1) for p in model.parameters()])

    def breaks(after: int) -> Any:
        left = iter(range(after))

        def reward(prompts: list[str], completions: list[str], rows: list[Any]) -> list[float]:
            if next(left, None) is None:
                raise ConnectionError("the judge is away")
            return hashed(prompts, completions, rows)

        return reward

    whole = run(tmp_path / "whole.jsonl", hashed)
    with pytest.raises(bz.OracleError, match="raised ConnectionError: the judge is away"):
        run(tmp_path / "broken.jsonl", breaks(5))
    assert torch.equal(run(tmp_path / "broken.jsonl", hashed), whole)


def test_stopping_from_a_reward_is_not_a_failure() -> None:
    def reward(prompts: list[str], completions: list[str], rows: list[Any]) -> list[float]:
        raise bz.StopRun

    with pytest.raises(bz.StopRun):
        Reward(reward, TOKENIZER, 1)(llama(), examples().batch([0]))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"samples": 0}, "`Reward(samples=...)` must be a whole number of at least 1"),
        ({"samples": 2}, "would write the same text 2 times"),
        ({"temperature": -1.0}, "`Reward(temperature=...)` must be 0 or a positive number"),
        ({"temperature": math.nan}, "temperature"),
        ({"temperature": math.inf}, "temperature"),
        ({"max_new_tokens": 0}, "`Reward(max_new_tokens=...)`"),
        ({"stop": ""}, "is empty"),
    ],
)
def test_bad_arguments_are_named(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        Reward(hashed, TOKENIZER, **given)


def test_a_reward_must_be_a_function() -> None:
    bad: Any = "judge"
    with pytest.raises(TypeError, match=r"must be a function of \(prompts, completions, rows\), got 'judge'"):
        Reward(bad, TOKENIZER)


def test_a_reward_is_learnt() -> None:
    """The number of t in the text."""

    def reward(prompts: list[str], completions: list[str], rows: list[Any]) -> list[float]:
        return [text.count("t") / 4 for text in completions]

    model, loss = llama(), Reward(reward, TOKENIZER, 4)
    before = evaluate(model, [examples().batch(range(3))], loss.measures)["reward"]
    finetune(model, examples(), loss, steps=30, batch_size=3, module="top", rule=bz.Adam(0.1), seed=1,
             estimator=bz.RandomVector(0.3, 8, "rademacher"), reuse="keep")  # fmt: skip
    assert evaluate(model, [examples().batch(range(3))], loss.measures)["reward"] > before + 0.3
