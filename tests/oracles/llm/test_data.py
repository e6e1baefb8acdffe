"""Rows, templates, tokens and batches."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from blackbox_zo.randomness import Key
from oracles.llm import data
from oracles.llm.data import Examples, Template
from oracles.llm.losses import Completion, Generation, LabelWords, exact_match
from tests.oracles.llm.helpers import llama, tokenizer

TOKENIZER = tokenizer()
ROWS = [{"text": "The cat sat.", "label": "great"}, {"text": "Bad", "label": "terrible"}]


def write(tmp_path: Path, name: str, text: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def ids(text: str) -> list[int]:
    return list(TOKENIZER(text)["input_ids"])


# ------------------------------------------------------------------------------------------------------ read_rows


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", '{"text": "a, \\u00e9", "n": "1"}\n\n{"text": "b\\nc", "n": "2"}\n'),
        ("a.json", json.dumps([{"text": "a, é", "n": "1"}, {"text": "b\nc", "n": "2"}])),
        ("a.csv", 'text,n\r\n"a, é",1\r\n"b\nc",2\r\n'),
        ("a.TSV", 'text\tn\na, é\t1\n"b\nc"\t2\n'),
        ("bom.csv", '\ufefftext,n\n"a, é",1\n\n"b\nc",2'),
        ("bom.jsonl", '\ufeff{"text": "a, é", "n": "1"}\n{"text": "b\\nc", "n": "2"}'),
    ],
)
def test_rows_are_read(tmp_path: Path, name: str, text: str) -> None:
    rows = data.read_rows(write(tmp_path, name, text))
    assert rows == [{"text": "a, é", "n": "1"}, {"text": "b\nc", "n": "2"}]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", "", "has no rows; it is empty"),
        ("a.json", " ", "has no rows"),
        ("a.json", "[]", "has no rows"),
        ("a.csv", "text,label\n", "has no rows"),
        ("a.csv", "", "has no rows"),
        ("a.jsonl", '{"a": 1}\n{"a": 1\n', r"Line 2 of .*a\.jsonl' is not JSON"),
        ("a.jsonl", '{"a": 1}\n\n[1, 2]\n', r"Line 3 of .* must be an object .*got \[1, 2\]"),
        ("a.json", '[{"a": 1},\n}', "Line 2 of .* is not JSON"),
        ("a.json", '{"a": 1}', "must hold a list of objects, got dict"),
        ("a.json", '[{"a": 1}, 7]', "Row 1 of .* must be an object .*got 7"),
        ("a.csv", "a,b\n1,2\n1,2,3\n", r"Line 3 of .* has 3 fields, but the first line names 2: \['a', 'b'\]"),
        ("a.tsv", "a\tb\n1\n", "Line 2 of .* has 1 fields"),
        ("a.csv", "a,a\n1,2\n", "must have different names"),
        ("a.csv", 'a,b\n1,"2\n', "Line 2 of .* cannot be read"),
        ("a.csv", b"a\n\xff\n", "is not UTF-8 text"),
        ("a.jsonl", b'{"a": "\xff"}\n', "is not UTF-8 text"),
        ("a.txt", "a", r"must end in \.jsonl, \.json, \.csv, \.tsv, \.parquet"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, name: str, text: str | bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        data.read_rows(write(tmp_path, name, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing\.csv' does not exist"):
        data.read_rows(tmp_path / "missing.csv")


# ------------------------------------------------------------------------------------------------------- Template


def test_a_template_is_filled() -> None:
    template = Template("{{{a}}} {b:3}: {a} {{x}}")
    assert template.names == ("a", "b", "a") and template.tail == " {x}"
    assert template.fill({"a": 1.5, "b": "abcdef", "c": 0}) == "{1.5} abc: 1.5 {x}"


@given(st.text(max_size=40).filter(str.strip), st.integers(1, 12))
def test_a_limit_in_tokens_is_the_longest_beginning_that_fits(value: str, most: int) -> None:
    cut = Template(f"{{t:{most}t}}").fill({"t": value}, TOKENIZER)
    assert value.startswith(cut)
    assert len(TOKENIZER.tokenize(cut)) <= most
    if cut != value:
        start = TOKENIZER(value, return_offsets_mapping=True)["offset_mapping"]
        assert len(cut) == min(start[most][0], start[most - 1][1])
        assert len(TOKENIZER.tokenize(value[: len(cut) + 1])) >= most


def test_a_slow_tokenizer_cuts_by_decoding() -> None:
    class Slow:
        is_fast = False

        def __call__(self, text: str, **settings: Any) -> dict[str, list[int]]:
            return {"input_ids": [ord(c) for c in text]}

        def decode(self, tokens: list[int]) -> str:
            return "".join(map(chr, tokens))

    assert Template("{t:3t}!").fill({"t": "abcdef"}, Slow()) == "abc!"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "has '{' without a field"),
        ("a } b", "has '}' without a field"),
        ("{}", "has '{}' without a field"),
        ("{:3}", "without a field"),
        ("{a:0}", r"{a:0} must end in a number of characters, such as {a:57}, or of tokens, such as {a:57t}"),
        ("{a:x}", "must end in a number"),
        ("{a:}", "must end in a number"),
        ("{a:5T}", "must end in a number"),
    ],
)
def test_a_template_that_means_nothing_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Template(text)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"b": 1, "c": 2}, r"rows\[7\]: field 'a' of the template '{a}' is missing; the row has 'b', 'c'"),
        ({"a": None}, r"rows\[7\]: field 'a' .* is null"),
        ({"a": float("nan")}, r"rows\[7\]: field 'a' .* is null"),
        ({"a": " \n"}, r"rows\[7\]: field 'a' .* is empty; leave the row out"),
        ({"a": ["x"]}, r"rows\[7\]: field 'a' must be text or a number, got \['x'\]"),
    ],
)
def test_a_row_without_the_field_is_named(row: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Template("{a}").fill(row, index=7)


def test_a_limit_in_tokens_needs_a_tokenizer() -> None:
    with pytest.raises(ValueError, match="pass the tokenizer to `fill`"):
        Template("{a:3t}").fill({"a": "x"})


# --------------------------------------------------------------------------------------------------- label_tokens


def test_label_words_come_after_a_space() -> None:
    great, bare = ids(" great"), ids("great")
    assert len(great) == 1 and len(bare) > 1
    for template in ("", "{text} It was", Template("It was")):
        assert data.label_tokens(TOKENIZER, ["great", " terrible"], template) == (*great, *ids(" terrible"))


def test_after_a_space_the_word_stands_as_it_is() -> None:
    assert data.label_tokens(TOKENIZER, ["a", " b"], "{text} It was ") == (*ids("a"), *ids("b"))
    with pytest.raises(ValueError, match=r"Label 'great' is \d tokens \('g'"):
        data.label_tokens(TOKENIZER, ["great", "a"], "It was ")


def test_a_label_of_several_tokens_shows_them_and_offers_others() -> None:
    pieces = ", ".join(repr(TOKENIZER.decode([i])) for i in ids(" marvellous"))
    message = rf"Label 'marvellous' is \d+ tokens \({re.escape(pieces)}\).* such as 'great', 'terrible', 'good'\."
    with pytest.raises(ValueError, match=message):
        data.label_tokens(TOKENIZER, ["great", "marvellous"])


def test_a_label_that_is_unknown_or_nothing_is_refused() -> None:
    class Words:
        """One token a word; 9 is an unknown one."""

        unk_token_id = 9

        def __call__(self, text: str, **settings: Any) -> dict[str, list[int]]:
            return {"input_ids": [{"yes": 1, "no": 2}.get(word, 9) for word in text.split()]}

    assert data.label_tokens(Words(), ["yes", "no"]) == (1, 2)
    with pytest.raises(ValueError, match=r"Label 'perhaps' is not in the .* vocabulary.* such as 'yes', 'no'"):
        data.label_tokens(Words(), ["yes", "perhaps"])
    with pytest.raises(ValueError, match=r"Label ' ' is not in the .* vocabulary"):
        data.label_tokens(TOKENIZER, ["great", " "])


def test_labels_of_the_same_token_are_refused() -> None:
    with pytest.raises(ValueError, match="Labels 'great' and ' great' are the same token"):
        data.label_tokens(TOKENIZER, ["good", "great", " great"])


# ------------------------------------------------------------------------------------------------- kinds of examples


def test_classification() -> None:
    examples = data.classification(ROWS, TOKENIZER, "{text} It was", ["terrible", "great"])
    assert examples.tokens == [ids("The cat sat. It was"), ids("Bad It was")]
    assert examples.label == [1, 0]
    own = data.classification(
        [{"text": "x", "y": "1"}, {"text": "x", "y": 0}], TOKENIZER, "{text}", ["a", "b"], "y", values=[0, 1]
    )
    assert own.label == [1, 0]
    floats = data.classification([{"text": "x", "y": 1.0}], TOKENIZER, "{text}", ["a", "b"], "y", values=[0, 1])
    assert floats.label == [1]


def test_completion_counts_the_answer() -> None:
    rows = [{"q": "What is it?", "answer": "The cat"}, {"q": "It", "answer": "was<end>"}]
    examples = data.completion(rows, TOKENIZER, "{q}")
    assert examples.tokens == [ids("What is it? The cat<end>"), ids("It was<end>")]
    assert examples.labels == [[-100] * len(ids("What is it?")) + ids(" The cat<end>"), [-100, *ids(" was"), 0]]
    assert data.completion(rows[:1], TOKENIZER, "{q}", eos=False).tokens == [ids("What is it? The cat")]
    assert data.completion(rows[:1], TOKENIZER, "{q}", " {answer:3}").tokens == [ids("What is it? The")]  # cut off


def test_completion_keeps_the_prompt_when_both_would_merge() -> None:
    examples = data.completion([{"q": "It w", "answer": "as"}], TOKENIZER, "{q}", "{answer}")
    assert examples.tokens == [ids("It w") + ids("as") + [0]] != [[*ids("It was"), 0]]


def test_text_counts_all_but_the_first() -> None:
    found = ids("The cat sat.<end>")
    examples = data.text(ROWS[:1], TOKENIZER)
    assert examples.tokens == [found] and examples.labels == [[-100, *found[1:]]]
    assert data.text(ROWS[:1], TOKENIZER, eos=False).tokens == [found[:-1]]
    assert data.text(ROWS[:1], TOKENIZER, "text:2t").tokens == [found[:2]]  # cut off, so it has no end


def test_tokenised_rows_are_taken_as_they_are() -> None:
    rows: list[dict[str, Any]] = [
        {"input_ids": [5, 6, 7], "labels": [-100, -100, 7]},
        {"input_ids": [0, 5, 6, 7], "attention_mask": [0, 1, 1, 1], "completion_mask": [0, 0, 0, 1], "labels": None},
        {"input_ids": [5, 6]},
    ]
    examples = data.tokenised(rows, TOKENIZER)
    assert examples.tokens == [[5, 6, 7], [5, 6, 7], [5, 6]]
    assert examples.labels == [[-100, -100, 7], [-100, -100, 7], [5, 6]]
    for row, message in (
        ({"text": "x"}, "rows.1.: field 'input_ids' is missing"),
        ({"input_ids": [5, 6], "labels": [5]}, "has 2 `input_ids`, but another number of labels"),
        ({"input_ids": [5, 6], "completion_mask": [1]}, "has 2 `input_ids`, but another number of labels"),
        ({"input_ids": [5, 6], "labels": [5, -100]}, "no token is scored.* cut off"),
        ({"input_ids": [5] * 9}, "has 9 tokens, more than the limit of 8"),
    ):
        with pytest.raises(ValueError, match=message):
            data.tokenised([rows[0], row], TOKENIZER, 8)


def test_prompts_keep_any_reference() -> None:
    rows: list[dict[str, Any]] = [{"q": "It", "answer": ["a", "b"]}, {"q": "It was", "answer": None}]
    examples = data.prompts(rows, TOKENIZER, "{q}")
    assert examples.tokens == [ids("It"), ids("It was")] and examples.reference == [["a", "b"], None]


def test_what_the_tokenizer_puts_at_the_ends() -> None:
    """The token of a beginning is kept, that of an end is not."""
    from tokenizers import processors

    tok = tokenizer()
    a, z = tok.convert_tokens_to_ids(["!", "?"])
    ends = processors.TemplateProcessing(single="! $0 ?", special_tokens=[("!", a), ("?", z)])
    tok.backend_tokenizer.post_processor = ends
    assert tok("It")["input_ids"] == [a, *ids("It"), z]
    assert data.prompts([{"q": "It", "answer": 1}], tok, "{q}").tokens == [[a, *ids("It")]]
    assert data.completion([{"q": "It", "answer": "was"}], tok, "{q}").tokens == [[a, *ids("It was<end>")]]


def test_the_pad_token_is_the_tokenizers_or_the_end_of_text() -> None:
    assert data.text(ROWS, TOKENIZER).pad == TOKENIZER.eos_token_id == 0
    assert TOKENIZER.pad_token is None  # unchanged
    padding = tokenizer(pad_token="!")
    assert data.text(ROWS, padding).pad == padding.convert_tokens_to_ids("!") != 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: data.classification(
                [*ROWS, {"text": "x", "label": "fine"}], TOKENIZER, "{text}", ["great", "terrible"]
            ),
            r"rows\[2\]: field 'label' is 'fine', which is none of \['great', 'terrible'\]; give the values in",
        ),
        (lambda: data.classification(ROWS, TOKENIZER, "{text}", ["a", "b"], "y"), r"rows\[0\]: field 'y' is missing"),
        (lambda: data.classification(ROWS, TOKENIZER, "{t}", ["great", "terrible"]), r"rows\[0\]: field 't' of"),
        (lambda: data.classification(ROWS, TOKENIZER, "{text}", ["a", "b"], values=[1]), r"one value for each of"),
        (lambda: data.classification(ROWS, TOKENIZER, "{text}", ["a", "b"], values=[1, 1]), r"all different, got"),
        (
            lambda: data.classification(ROWS, TOKENIZER, "{text}", ["great", "terrible"], max_length=3),
            r"rows\[0\] has 4 tokens, more than the limit of 3 \(`max_length`\); cut its field .* `{text:57t}`",
        ),
        (lambda: data.text([{"text": "It It"}, {"text": "It"}], TOKENIZER), r"rows\[1\]: field 'text' has 1 tokens"),
        (lambda: data.text([{"text": ""}], TOKENIZER), r"rows\[0\]: field 'text' of .* is empty; leave the row out"),
        (lambda: data.text(ROWS, TOKENIZER, max_length=1), r"rows\[0\] has 5 tokens"),
        (lambda: data.completion([{"q": "It"}], TOKENIZER, "{q}", ""), r"rows\[0\]: the answer is empty"),
        (
            lambda: data.completion([{"q": "It", "a": " "}], TOKENIZER, "{q}", "{a}"),
            r"rows\[0\]: field 'a' .* is empty",
        ),
        (
            lambda: data.completion([{"answer": "x"}], TOKENIZER, ""),
            r"rows\[0\]: the text before the answer is empty",
        ),
        (
            lambda: data.classification([{"text": "x", "label": ""}], TOKENIZER, "{text}", ["great", "terrible"]),
            r"rows\[0\]: field 'label' is empty",
        ),
        (
            lambda: data.completion([{"q": "It", "answer": "It was"}], TOKENIZER, "{q}", max_length=2),
            r"rows\[0\] has 4 tokens, more than the limit of 2",
        ),
        (
            lambda: data.prompts([{"q": "It"}], TOKENIZER, "{q}"),
            r"rows\[0\]: field 'answer' is missing; the row has 'q'",
        ),
        (lambda: data.prompts([{"q": "It was", "answer": 1}], TOKENIZER, "{q}", max_length=1), r"has 2 tokens"),
    ],
)
def test_rows_that_cannot_be_used_are_named(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_without_a_limit_the_tokenizers_own_counts() -> None:
    short = tokenizer(model_max_length=3)
    with pytest.raises(ValueError, match="more than the limit of 3"):
        data.text(ROWS, short)
    assert len(data.text(ROWS, short, max_length=5)) == 2


# -------------------------------------------------------------------------------------------------------- batches


def examples_of(count: int) -> Examples:
    return Examples([[i + 1] * (1 + i % 3) for i in range(count)], pad=0, label=list(range(count)))


def test_a_batch_is_padded_on_the_left() -> None:
    examples = Examples([[5], [6, 7, 8], [9, 9]], 3, [0, 1, 2], [[-100], [-100, 7, 8], [-100, 9]], ["a", None, "c"])
    batch = examples.batch([2, 0])
    assert batch["input_ids"].tolist() == [[9, 9], [3, 5]]
    assert batch["attention_mask"].tolist() == [[1, 1], [0, 1]]
    assert batch["labels"].tolist() == [[-100, 9], [-100, -100]]
    assert batch["label"].tolist() == [2, 0] and batch["example_id"].tolist() == [2, 0]
    assert batch["reference"] == ["c", "a"]
    assert set(Examples([[5]], 3).batch([0])) == {"input_ids", "attention_mask", "example_id"}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label": [1]}, r"`Examples\(label=...\)` has 1 entries for 2 examples"),
        ({"labels": [[5]]}, r"`Examples\(labels=...\)` has 1 entries for 2 examples"),
        ({"reference": ["a"] * 3}, r"`Examples\(reference=...\)` has 3 entries for 2 examples"),
        ({"labels": [[5], [6]]}, r"`Examples\(labels=...\)` has 1 for the 2 tokens of example 1"),
    ],
)
def test_examples_whose_columns_differ_in_length_are_refused(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Examples([[5], [6, 7]], 0, **columns)


def test_batches_in_order_have_all_examples() -> None:
    batches = examples_of(7).batches(3)
    assert [b["label"].tolist() for b in batches] == [[0, 1, 2], [3, 4, 5], [6]]


def test_take() -> None:
    few = examples_of(5).take(2)
    assert len(few) == 2 and few.label == [0, 1] and few.labels is None
    assert len(examples_of(5).take(9)) == 5


@given(st.integers(1, 20), st.integers(1, 25), st.integers(0, 3))
def test_shuffled_batches_go_through_the_examples_epoch_by_epoch(count: int, size: int, seed: int) -> None:
    batch_of, each = examples_of(count).shuffled(size, seed), min(size, count)
    steps = count // each
    for epoch in (1, 0):  # in any order
        seen = [batch_of(epoch * steps + i)["label"].tolist() for i in range(steps)]
        assert all(len(batch) == each for batch in seen)
        order = Key(seed, epoch).generator("batches").permutation(count).tolist()
        assert [i for batch in seen for i in batch] == order[: steps * each]


def test_shuffled_depends_on_the_seed() -> None:
    examples = examples_of(50)
    a, b, c = (examples.shuffled(50, seed)(0)["label"].tolist() for seed in (0, 0, 1))
    assert a == b != c


def test_bad_batches_are_refused() -> None:
    for make in (examples_of(3).batches, examples_of(3).shuffled, examples_of(3).take):
        with pytest.raises(ValueError, match="must be a whole number of at least 1, got 0"):
            make(0)
    with pytest.raises(ValueError, match="at least one example"):
        Examples([], 0).shuffled(2)


# ------------------------------------------------------------------------------------------------------- together


@torch.no_grad()
def test_examples_fit_the_losses() -> None:
    model = llama()
    words = LabelWords(data.label_tokens(TOKENIZER, ["great", "terrible"], "{text} It was"))
    classified = data.classification(ROWS, TOKENIZER, "{text} It was", ["great", "terrible"])
    alone = torch.cat([words(model, b) for b in classified.batches(1)])
    torch.testing.assert_close(words(model, classified.batches(2)[0]), alone, rtol=0, atol=1e-5)
    rows = [{"q": "What is it?", "answer": "The cat"}, {"q": "It", "answer": "was"}]
    answered = data.completion(rows, TOKENIZER, "{q}")
    alone = torch.cat([Completion()(model, b) for b in answered.batches(1)])
    torch.testing.assert_close(Completion()(model, answered.batches(2)[0]), alone, rtol=0, atol=1e-5)
    asked = data.prompts(rows, TOKENIZER, "{q}")
    assert Generation(TOKENIZER, exact_match, 2)(model, asked.batches(2)[0]).tolist() == [1.0, 1.0]
