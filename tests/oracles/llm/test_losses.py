"""Losses against plain ones, from each text alone and all its logits."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from oracles.llm.losses import Accuracy, Completion, Generation, LabelWords, exact_match, f1
from tests.oracles.llm.helpers import gpt2, llama, padded, tokenizer

ROWS = [[5, 6, 7, 8, 9], [10, 11], [12, 13, 14, 15, 16, 17, 18], [19, 20, 21]]
LABEL = [0, 1, 1, 0]
WORDS = (40, 41)
MODELS = {"llama": llama(), "gpt2": gpt2()}


@pytest.fixture(params=list(MODELS))
def model(request: pytest.FixtureRequest) -> Any:
    return MODELS[request.param]


def batch_of(side: str, rows: list[list[int]] = ROWS, label: list[int] = LABEL) -> dict[str, Any]:
    ids, mask = padded(rows, side)
    return {"input_ids": ids, "attention_mask": mask, "label": torch.tensor(label)}


def next_token(model: Any, row: list[int]) -> torch.Tensor:
    with torch.no_grad():
        z: torch.Tensor = model(torch.tensor([row])).logits[0, -1]
    return z


def close(a: torch.Tensor, b: Any) -> None:
    torch.testing.assert_close(a, torch.as_tensor(b), rtol=0, atol=1e-5)


class Seen:
    """Counts the columns of logits that a model makes."""

    def __init__(self, model: Any) -> None:
        self.model, self.columns = model, 0
        self.forward = model.forward  # its signature is read

    def __call__(self, **inputs: Any) -> Any:
        out = self.model(**inputs)
        self.columns = out.logits.shape[1]
        return out


# ---------------------------------------------------------------------------------------------------- LabelWords


@pytest.mark.parametrize("side", ["left", "right"])
def test_label_words_are_cross_entropy_after_the_last_token(model: Any, side: str) -> None:
    batch = batch_of(side)
    z = [next_token(model, row) for row in ROWS]
    expected = [F.cross_entropy(a, torch.tensor(WORDS[c])) for a, c in zip(z, LABEL, strict=True)]
    close(LabelWords(WORDS)(model, batch), expected)
    among = [F.cross_entropy(a[list(WORDS)], torch.tensor(c)) for a, c in zip(z, LABEL, strict=True)]
    close(LabelWords(WORDS, "labels")(model, batch), among)


@pytest.mark.parametrize("side", ["left", "right"])
def test_label_words_scores_and_predictions(model: Any, side: str) -> None:
    batch = batch_of(side)
    del batch["label"]
    z = torch.stack([next_token(model, row)[list(WORDS)] for row in ROWS])
    close(LabelWords(WORDS).scores(model, batch), z)
    assert LabelWords(WORDS).predict(model, batch).tolist() == z.argmax(1).tolist()


def test_accuracy_is_one_minus_correct(model: Any) -> None:
    batch, words = batch_of("left"), LabelWords(WORDS)
    right = words.predict(model, batch)
    batch["label"] = torch.stack([right[0], 1 - right[1], right[2], 1 - right[3]])
    assert Accuracy(words)(model, batch).tolist() == [0.0, 1.0, 0.0, 1.0]


@pytest.mark.parametrize(("side", "columns"), [("left", 1), ("right", 6)])
def test_label_words_need_logits_only_where_texts_end(side: str, columns: int) -> None:
    seen = Seen(MODELS["llama"])
    LabelWords(WORDS)(seen, batch_of(side))
    assert seen.columns == columns


def test_a_model_that_makes_all_logits_gives_the_same(model: Any) -> None:
    class Plain:
        def forward(self, input_ids: Any, attention_mask: Any, position_ids: Any) -> Any:
            return model(input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids)

        __call__ = forward

    for side in ("left", "right"):
        close(LabelWords(WORDS)(Plain(), batch_of(side)), LabelWords(WORDS)(model, batch_of(side)))


def test_losses_can_be_differentiated(model: Any) -> None:
    ids, mask = padded(ROWS, "left")
    for loss in (LabelWords(WORDS), LabelWords(WORDS, "labels"), Completion()):
        total = loss(model, {**batch_of("left"), "labels": torch.where(mask == 1, ids, -100)}).sum()
        grads = torch.autograd.grad(total, list(model.parameters()))
        assert all(bool(g.isfinite().all()) and float(g.abs().sum()) > 0 for g in grads)


# ---------------------------------------------------------------------------------------------------- Completion


def answers(side: str, counted: list[int]) -> dict[str, Any]:
    """The last few tokens of each row count."""
    ids, mask = padded(ROWS, side)
    unscored = [[-100] * (len(r) - n) + r[len(r) - n :] for r, n in zip(ROWS, counted, strict=True)]
    return {"input_ids": ids, "attention_mask": mask, "labels": padded(unscored, side, -100)[0]}


def plain_completion(model: Any, counted: list[int]) -> list[torch.Tensor]:
    out = []
    for row, n in zip(ROWS, counted, strict=True):
        with torch.no_grad():
            z = model(torch.tensor([row])).logits[0, -n - 1 : -1]
        out.append(F.cross_entropy(z, torch.tensor(row[-n:])))
    return out


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("counted", [[1, 1, 1, 1], [3, 1, 2, 2]])
def test_completion_is_the_mean_over_the_tokens_that_count(model: Any, side: str, counted: list[int]) -> None:
    close(Completion()(model, answers(side, counted)), plain_completion(model, counted))


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_first_token_of_a_text_is_never_counted(model: Any, side: str) -> None:
    ids, mask = padded(ROWS, side)
    batch = {"input_ids": ids, "attention_mask": mask, "labels": torch.where(mask == 1, ids, -100)}
    close(Completion()(model, batch), plain_completion(model, [len(r) - 1 for r in ROWS]))


def test_completion_skips_gaps(model: Any) -> None:
    row = ROWS[2]
    labels = [-100, 13, -100, -100, 16, -100, -100]
    batch = {"input_ids": torch.tensor([row]), "attention_mask": torch.ones(1, 7, dtype=torch.int64)}
    with torch.no_grad():
        z = model(batch["input_ids"]).logits[0]
    expected = (F.cross_entropy(z[0], torch.tensor(13)) + F.cross_entropy(z[3], torch.tensor(16))) / 2
    close(Completion()(model, {**batch, "labels": torch.tensor([labels])}), [expected])


def test_completion_needs_logits_only_where_tokens_count() -> None:
    seen = Seen(MODELS["llama"])
    Completion()(seen, answers("left", [1, 1, 3, 1]))
    assert seen.columns == 3


# ---------------------------------------------------------------------------------------------- any loss of logits


class Halved(TorchFunctionMode):
    """Parameters of linear maps are seen halved, without being touched."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.linear:
            args = (args[0], args[1] * 0.5, *args[2:])
        return func(*args, **(kwargs or {}))


LOSSES: list[Any] = [LabelWords(WORDS), LabelWords(WORDS, "labels"), Completion()]


@pytest.mark.parametrize("loss", LOSSES, ids=["vocabulary", "labels", "completion"])
@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_a_row_of_a_stacked_batch_is_the_row_alone(model: Any, loss: Any, side: str) -> None:
    batch = {**batch_of(side), **answers(side, [2, 1, 3, 1])}
    stacked = {name: value.repeat(3, 1) if value.dim() == 2 else value.repeat(3) for name, value in batch.items()}
    alone = torch.cat([loss(model, {name: value[i : i + 1] for name, value in batch.items()}) for i in range(4)])
    with Halved():
        halved = loss(model, stacked)
    close(loss(model, stacked), alone.repeat(3))
    close(halved, halved[:4].repeat(3))
    if model is MODELS["llama"]:  # gpt2 has no F.linear but in its head
        assert not torch.allclose(halved[:4], alone, atol=1e-3)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft reads it
@pytest.mark.parametrize("kind", ["lora", "prefix", "prompt"])
@torch.no_grad()
def test_models_with_an_adapter(kind: str) -> None:
    peft: Any = pytest.importorskip("peft")
    config = {
        "lora": lambda: peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], init_lora_weights=False),
        "prefix": lambda: peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
        "prompt": lambda: peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    }[kind]()
    torch.manual_seed(1)
    model = peft.get_peft_model(llama(), config).eval()
    z = model(input_ids=torch.tensor(ROWS[:1]), attention_mask=torch.ones(1, 5)).logits[0]
    plain, whole = F.cross_entropy(z[-1], torch.tensor(WORDS[0])), F.cross_entropy(z[-3:-1], torch.tensor(ROWS[0][-2:]))
    for side in ("left", "right"):
        close(LabelWords(WORDS)(model, batch_of(side))[0], plain)
        close(Completion()(model, answers(side, [2, 1, 3, 1]))[0], whole)
    assert not torch.allclose(plain, LabelWords(WORDS)(llama(), batch_of("left"))[0], atol=1e-3)
    seen = SimpleNamespace(columns=0)
    model.get_base_model().lm_head.register_forward_hook(lambda *a: setattr(seen, "columns", a[2].shape[1]))
    LabelWords(WORDS)(model, batch_of("right" if kind == "prompt" else "left", [[5, 6, 7], [8, 9, 10]], [0, 1]))
    assert seen.columns == 1


# ---------------------------------------------------------------------------------------------------- Generation


def greedy(model: Any, row: list[int], steps: int) -> list[int]:
    row = list(row)
    for _ in range(steps):
        row.append(int(next_token(model, row).argmax()))
        if row[-1] == 0:
            break
    return row


def test_generation_scores_the_greedy_text(model: Any) -> None:
    tok, seen = tokenizer(), []

    def score(text: str, reference: int) -> float:
        seen.append((text, reference))
        return reference / 10

    loss = Generation(tok, score, max_new_tokens=4)
    values = loss(model, {**batch_of("left"), "reference": [1, 2, 3, 4]})
    torch.testing.assert_close(values, torch.tensor([0.9, 0.8, 0.7, 0.6]))
    new = [greedy(model, row, 4)[len(row) :] for row in ROWS]
    assert seen == [(tok.decode(n, skip_special_tokens=True).strip(), i + 1) for i, n in enumerate(new)]


def test_generation_of_a_stacked_batch_in_a_mode() -> None:
    model, batch = MODELS["llama"], batch_of("left")
    loss = Generation(tokenizer(), exact_match, 3)
    texts = loss.texts(model, batch)
    stacked = {name: torch.cat([value, value]) for name, value in batch.items()}
    assert loss(model, {**stacked, "reference": texts * 2}).tolist() == [0.0] * 8
    with Halved():
        halved = loss.texts(model, stacked)
    assert halved[:4] == halved[4:] != texts


def test_generation_ends_at_a_stop() -> None:
    tok = tokenizer()

    class Writes:
        def generate(self, input_ids: Any, **settings: Any) -> Any:
            new = tok(" Paris.\nIt was")["input_ids"]
            return torch.cat([input_ids, torch.tensor([new] * len(input_ids))], 1)

    batch = {**batch_of("left"), "reference": ["Paris"] * 4}
    assert Generation(tok, exact_match).texts(Writes(), batch)[0] == "Paris.\nIt was"
    assert Generation(tok, exact_match, stop="\n").texts(Writes(), batch)[0] == "Paris."
    assert Generation(tok, exact_match, stop="\n")(Writes(), batch).tolist() == [0.0] * 4


# -------------------------------------------------------------------------------------------------------- scores


@pytest.mark.parametrize(
    ("text", "reference", "exact", "overlap"),
    [
        ("The  cat!", "cat", 1.0, 1.0),
        ("a cat sat", "cat", 0.0, 2 / 3),
        ("dog", ["cat", "Dog."], 1.0, 1.0),
        ("cat cat dog", ["cat dog", "bird"], 0.0, 0.8),
        ("", "cat", 0.0, 0.0),
        ("the", "", 1.0, 1.0),
        ("theatre", "atre", 0.0, 0.0),
    ],
)
def test_scores_as_squad_has_them(text: str, reference: Any, exact: float, overlap: float) -> None:
    assert exact_match(text, reference) == exact
    assert f1(text, reference) == pytest.approx(overlap)


# ------------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize("tokens", [(), (4,), (4, 4), (-1, 3)])
def test_label_words_refuse_tokens_that_are_no_classes(tokens: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="two or more distinct tokens"):
        LabelWords(tokens)


def test_label_words_refuse_another_softmax() -> None:
    with pytest.raises(ValueError, match="'vocabulary', 'labels'; got 'words'"):
        LabelWords(WORDS, over="words")


@pytest.mark.parametrize("label", [-1, 2])
def test_a_label_that_is_no_class_is_refused(label: int) -> None:
    batch = batch_of("left", label=[0, label, 1, 0])
    for loss in (LabelWords(WORDS), Accuracy(LabelWords(WORDS))):
        with pytest.raises(ValueError, match=r"from 0 to 1, got \[0, " + str(label)):
            loss(MODELS["llama"], batch)


@pytest.mark.parametrize("name", ["label", "attention_mask", "input_ids"])
def test_a_missing_field_is_named(name: str) -> None:
    batch = batch_of("left")
    del batch[name]
    with pytest.raises(ValueError, match=f"The batch has no '{name}'"):
        LabelWords(WORDS)(MODELS["llama"], batch)


def test_completion_names_the_missing_labels() -> None:
    with pytest.raises(ValueError, match=r"no 'labels'.*has 'input_ids', 'attention_mask', 'label'"):
        Completion()(MODELS["llama"], batch_of("left"))


def test_an_example_without_tokens_is_named() -> None:
    batch = batch_of("left")
    batch["attention_mask"][2] = 0
    with pytest.raises(ValueError, match="Example 2 of the batch has no tokens"):
        LabelWords(WORDS)(MODELS["llama"], batch)


def test_bad_generation_is_refused() -> None:
    tok = tokenizer()
    with pytest.raises(ValueError, match=r"`Generation\(max_new_tokens=...\)` must be a whole number"):
        Generation(tok, f1, 0)
    with pytest.raises(ValueError, match="stop=''"):
        Generation(tok, f1, stop="")
    with pytest.raises(ValueError, match="padded on the left"):
        Generation(tok, f1).texts(MODELS["llama"], batch_of("right"))
    with pytest.raises(ValueError, match="must hold 4 references, but there are none"):
        Generation(tok, f1)(MODELS["llama"], batch_of("left"))
    with pytest.raises(ValueError, match="must hold 4 references, but there are 2"):
        Generation(tok, f1)(MODELS["llama"], {**batch_of("left"), "reference": ["a", "b"]})
    with pytest.raises(ValueError, match="list of references is empty"):
        f1("cat", [])


def test_a_score_that_fails_says_on_which_text() -> None:
    def score(text: str, reference: Any) -> float:
        raise KeyError("unit")

    loss, batch = Generation(tokenizer(), score, 2), {**batch_of("left"), "reference": ["x"] * 4}
    text = loss.texts(MODELS["llama"], batch)[0]
    with pytest.raises(
        RuntimeError, match=re.escape(f"failed on the text {text!r} with reference 'x': KeyError")
    ) as info:
        loss(MODELS["llama"], batch)
    assert isinstance(info.value.__cause__, KeyError)
