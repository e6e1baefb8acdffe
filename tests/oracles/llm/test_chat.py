"""Conversations and pairs of prompt and completion: what is scored, and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from oracles.llm import Completion, Examples, chat, prompt_completion, prompts
from oracles.llm._chat import asked
from oracles.llm._messages import _split
from tests.oracles.llm.helpers import llama, tokenizer

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINKING = (  # as Qwen3's: the last turn begins with its thoughts, earlier ones lose them
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA2 = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content }}{{ eos_token }}{% endif %}"
    "{% endfor %}"
)
BARE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
PARTS = (  # as those of models that also see
    "{% for m in messages %}{{ m.role }}:{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% endif %}"
    "{% endfor %}<|im_end|>{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)
RETURNS = (  # as GPT-OSS's: the end of the last turn has another mark, which begins alike
    "{% for m in messages %}{{ m.role }}:{{ m.content }}{% if loop.last and m.role == 'assistant' %}<|im_end|>"
    "{% else %}<|im_start|>{% endif %}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)
TURNS = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "What is it?"},
    {"role": "assistant", "content": "The cat"},
    {"role": "user", "content": "It was?"},
    {"role": "assistant", "content": "It was good."},
]


def talking(template: str | None = CHATML, **special: Any) -> Any:
    made = tokenizer(**special)
    made.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    made.chat_template = template
    return made


def parts(examples: Examples, tok: Any, i: int = 0) -> list[str]:
    """What is scored of an example, each run of scored tokens as a text."""
    assert examples.labels is not None
    out, run = list[list[int]](), list[int]()
    for token, label in zip(examples.tokens[i], examples.labels[i], strict=True):
        assert label in (-100, token)
        if label == -100:
            out, run = [*out, *([run] if run else [])], []
        else:
            run.append(token)
    return [tok.decode(r) for r in [*out, *([run] if run else [])]]


@pytest.mark.parametrize(
    ("template", "messages", "scored"),
    [
        (CHATML, TURNS, ["The cat<|im_end|>\n", "It was good.<|im_end|>\n"]),
        (CHATML, TURNS[:3], ["The cat<|im_end|>\n"]),
        (CHATML, [*TURNS, TURNS[1]], ["The cat<|im_end|>\n", "It was good.<|im_end|>\n"]),  # the end is left out
        (CHATML, TURNS[2:], ["It was good.<|im_end|>\n"]),  # nothing comes before the first
        (THINKING, TURNS, ["The cat<|im_end|>\n", "<think>\n\n</think>\n\nIt was good.<|im_end|>\n"]),
        (LLAMA2, TURNS[1:], [" The cat<end>", " It was good.<end>"]),
        (PARTS, TURNS, ["The cat<|im_end|>", "It was good.<|im_end|>"]),
        (RETURNS, TURNS, ["The cat", "It was good.<|im_end|>"]),
        (BARE, TURNS[:3], ["The cat\n<end>"]),  # the template marks no end
    ],
)
def test_the_turns_of_the_assistant_are_scored(
    template: str, messages: list[dict[str, str]], scored: list[str]
) -> None:
    tok = talking(template)
    rows = [{"messages": messages}]
    examples = chat(rows, tok)
    assert parts(examples, tok) == scored
    shown = [_split(one) if template == PARTS else one for one in messages]
    text = tok.apply_chat_template(shown[:-1] if shown[-1]["role"] == "user" else shown, tokenize=False)
    assert tok.decode(examples.tokens[0]) == text + ("<end>" if template == BARE else "")
    last = chat(rows, tok, turns="last")
    assert parts(last, tok) == scored[-1:] and last.tokens == examples.tokens
    prompt = asked(rows, tok)
    upto = next(i for i in range(len(messages) - 1, -1, -1) if messages[i]["role"] == "assistant")
    assert prompt.tokens == [
        tok.apply_chat_template(shown[:upto], add_generation_prompt=True, tokenize=True, return_dict=False)
    ]
    assert prompt.reference == [messages[upto]["content"]]


def test_a_pair_is_masked_as_trl_does() -> None:
    """Its prompt ends where its tokens, with the prompt for the assistant, part from those of the whole."""
    tok = talking()
    row = {"prompt": TURNS[:2], "completion": TURNS[2:3]}
    ids = tok.apply_chat_template(TURNS[:2], add_generation_prompt=True, return_dict=False)
    whole = tok.apply_chat_template(TURNS[:3], return_dict=False)
    start = next((i for i, (a, b) in enumerate(zip(ids, whole, strict=False)) if a != b), len(ids))
    examples = prompt_completion([row], tok)
    assert examples.tokens == [whole] and examples.labels == [[-100] * start + whole[start:]]
    assert chat([{"messages": TURNS[:3]}], tok) == examples
    assert prompt_completion([{**row, "completion": "The cat"}], tok) == examples
    plain = prompt_completion([{"prompt": "What is it?", "completion": " The cat"}], tok)
    first, last = (tok(t)["input_ids"] for t in ("What is it?", " The cat<end>"))
    assert plain.tokens == [first + last] and plain.labels == [[-100] * len(first) + last]
    assert prompt_completion([{"prompt": "It", "completion": " was"}], tok, eos=False).tokens == [
        tok("It was")["input_ids"]
    ]


def test_a_border_inside_a_token_and_a_slow_tokenizer_are_split_there() -> None:
    tok = talking("{% for m in messages %}{{ m.content }}{% endfor %}")
    rows = [{"messages": [{"role": "user", "content": "It w"}, {"role": "assistant", "content": "as good."}]}]
    examples = chat(rows, tok)
    assert parts(examples, tok) == ["as good.<end>"] and examples.tokens[0] != tok("It was good.<end>")["input_ids"]

    class Slow:
        is_fast = False

        def __getattr__(self, name: str) -> Any:
            return getattr(tok, name)

        def __call__(self, text: Any, **settings: Any) -> Any:
            assert "return_offsets_mapping" not in settings
            return tok(text, **settings)

    assert chat(rows, Slow()) == examples
    tok.chat_template = CHATML
    assert chat([{"messages": TURNS}], Slow()) == chat([{"messages": TURNS}], tok)


def test_other_forms_of_messages_are_read() -> None:
    tok = talking()
    want = chat([{"messages": TURNS}], tok)
    shared = [
        {"from": {"user": "human", "assistant": "gpt"}.get(m["role"], m["role"]), "value": m["content"]} for m in TURNS
    ]
    assert chat([{"conversations": shared}], tok, "conversations") == want
    assert chat([{"messages": json.dumps(TURNS)}], tok) == want  # from a table of text
    split = [{"role": m["role"], "content": [{"type": "text", "text": m["content"]}], "name": None} for m in TURNS]
    assert chat([{"messages": split}], tok) == want
    pandas: Any = pytest.importorskip("pandas")
    assert chat(pandas.DataFrame({"messages": [TURNS]}), tok) == want


def test_tools_and_settings_of_a_row_go_to_the_template() -> None:
    tok = talking("{% for t in tools %}{{ t.name }};{% endfor %}{{ mood }}" + CHATML)
    row = {"messages": TURNS[1:3], "tools": '[{"name": "look"}]', "chat_template_kwargs": {"mood": "fine"}}
    assert tok.decode(chat([row], tok).tokens[0]).startswith("look;fine<|im_start|>user")


def test_conversations_fit_the_loss() -> None:
    model, tok = llama(), talking("{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}")
    batch = chat([{"messages": TURNS[1:3]}, {"messages": TURNS[1:]}], tok).batch([0, 1])
    with torch.no_grad():
        z = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        where = batch["labels"][1, 1:] != -100
        each = torch.nn.functional.cross_entropy(z[1, :-1], batch["input_ids"][1, 1:], reduction="none")
        torch.testing.assert_close(Completion()(model, batch)[1], each[where].mean())


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "x"}, r"rows\[1\]: field 'messages' is missing; the row has 'text'"),
        ({"messages": None}, r"rows\[1\]: field 'messages' is null"),
        ({"messages": []}, r"field 'messages' is empty; leave the row out"),
        ({"messages": "hello"}, r"field 'messages' must be a list of messages with 'role' and 'content', got 'hello'"),
        ({"messages": 7}, r"must be a list of messages .* got 7"),
        ({"messages": ["hello"]}, r"message 0 of field 'messages' must have 'role' and 'content', got 'hello'"),
        ({"messages": [{"content": "x"}]}, r"message 0 .* must have a 'role'.*; it has content"),
        ({"messages": [{"role": "user", "content": 5}]}, r"its 'content' must be text, got 5"),
        ({"messages": [{"role": "user"}]}, r"message 0 of field 'messages' has no 'content'"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image"}]}, TURNS[2]]},
            r"has a part that is not text \('image'\)",
        ),
        ({"messages": TURNS[:2]}, r"rows\[1\]: the conversation has no assistant's turn to learn, only system, user"),
        ({"messages": [*TURNS[:2], {"role": "assistant", "content": " "}]}, r"message 2, of the assistant, is empty"),
        ({"messages": TURNS[2:3]}, r"nothing comes before the assistant's turn"),
        (
            {"messages": [*TURNS[:2], {"role": "assistant", "content": "The cat sat. " * 99}]},
            r"rows\[1\] has \d+ tokens",
        ),
    ],
)
def test_a_row_without_something_to_learn_is_named(row: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        chat([{"messages": TURNS}, row], talking(model_max_length=200))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "It"}, r"rows\[0\]: field 'completion' is missing; the row has 'prompt'"),
        ({"prompt": "", "completion": "x"}, r"field 'prompt' is empty"),
        ({"prompt": "It", "completion": ""}, r"field 'completion' is empty"),
        ({"prompt": "It", "completion": TURNS[2:3]}, r"field 'completion' must be a text, as the other field is, got"),
        ({"prompt": TURNS[:2], "completion": 5}, r"field 'completion' must be a list of messages"),
        ({"prompt": {"a": 1}, "completion": "x"}, r"field 'prompt' must be a text"),
    ],
)
def test_a_pair_that_is_none_is_named(row: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prompt_completion([row], talking())


ASKED = "<|im_start|>user\nWhat is it?<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"prompt": "It was"}, "It was"),
        ({"prompt": 3}, "3"),
        ({"prompt": TURNS[1:2], "answer": "x"}, ASKED),
        ({"messages": TURNS[1:2]}, ASKED),
        ({"messages": TURNS[1:3]}, ASKED),  # the model is to write the answer itself
        ({"conversations": [{"from": "human", "value": "What is it?"}]}, ASKED),
        ({"messages": json.dumps(TURNS[1:3])}, ASKED),
    ],
)
def test_a_prompt_to_be_rewarded_is_a_text_or_a_conversation(row: dict[str, Any], prompt: str) -> None:
    tok = talking()
    found = prompts([row], tok, None, None)
    assert found.prompt == [prompt] and found.row == [row]
    assert found.tokens == [tok(prompt, add_special_tokens=False)["input_ids"]]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "It was"}, "rows[0]: it has no field 'prompt' or 'messages' to be answered, only 'text'."),
        ({"prompt": ""}, "rows[0]: field 'prompt' is empty"),
        ({"prompt": {"a": 1}}, "rows[0]: field 'prompt' must be a list of messages"),
        ({"messages": TURNS[2:3]}, "rows[0]: nothing comes before the assistant's turn"),
        ({"messages": "It was"}, "rows[0]: field 'messages' must be a list of messages"),
    ],
)
def test_a_row_without_a_prompt_is_named(row: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        prompts([row], talking(), None, None)


def test_a_template_that_is_missing_or_refuses_is_named() -> None:
    makes: list[Callable[[Any], Examples]] = [
        lambda tok: chat([{"messages": TURNS}], tok),
        lambda tok: prompt_completion([{"prompt": TURNS[:2], "completion": TURNS[2:3]}], tok),
    ]
    for make in makes:
        with pytest.raises(ValueError, match=r"has no chat template.* set `tokenizer.chat_template`"):
            make(talking(None))
        with pytest.raises(ValueError, match=r"rows\[0\]: the chat template refuses .* System role not supported"):
            make(talking(LLAMA2))


def test_turns_that_cannot_be_told_apart_are_refused() -> None:
    counting = "{{ messages | length }}" + CHATML  # what comes later changes the beginning
    with pytest.raises(ValueError, match=r"writes earlier turns in another way once later ones follow.*turns='last'"):
        chat([{"messages": TURNS}], talking(counting))


def test_a_tokenizer_without_an_end_says_so() -> None:
    tok = talking()
    tok.eos_token = None
    with pytest.warns(UserWarning, match="has no end-of-text token, so the model does not learn to stop"):
        found = prompt_completion([{"prompt": "It", "completion": " was"}], tok)
    assert found.tokens == [tok("It was")["input_ids"]]


def test_what_is_no_rows_is_named() -> None:
    for rows, message in (
        ("chats.jsonl", "read it with `read_rows`"),
        ({"train": [], "test": []}, r"with the keys 'train', 'test'; give one of its parts"),
        (DataLoader(TensorDataset(torch.zeros(1))), "A `DataLoader` gives batches"),
        ([["x"]], r"rows\[0\] must be a mapping"),
    ):
        with pytest.raises(TypeError, match=message):
            chat(rows, talking())
