"""`blackbox-zo finetune` on data as people have it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from oracles.cli.main import main
from tests.journals import read
from tests.oracles.llm.helpers import llama
from tests.oracles.llm.test_chat import CHATML, TURNS, talking

CHATS = [
    {"messages": [{"role": "user", "content": f"What is {i % 5}?"}, {"role": "assistant", "content": "The cat"}]}
    for i in range(20)
]
PAIRS = [{"prompt": f"What is {i % 5}?", "completion": " The cat"} for i in range(20)]
LABELLED = [{"text": "It was good" if i % 2 else "bad", "label": ("pos", "neg")[i % 2]} for i in range(20)]
FEW = ("--steps", "2", "--batch-size", "4", "--quiet")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    model = llama()
    model.resize_token_embeddings(298)
    model.save_pretrained(tmp_path / "tiny")
    talking().save_pretrained(tmp_path / "tiny")
    talking(None).save_pretrained(tmp_path / "plain")
    model.save_pretrained(tmp_path / "plain")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(*more: str, model: str = "tiny") -> int:
    try:
        return main(["finetune", "--model", model, "--data", "rows.jsonl", *FEW, *more])
    except SystemExit as stop:
        return int(str(stop.code))


@pytest.mark.filterwarnings("ignore:All 8 queries have the same loss")  # a model of random weights is never right
@pytest.mark.parametrize(
    "rows", [CHATS, PAIRS, [{"prompt": c["messages"][:1], "completion": c["messages"][1:]} for c in CHATS]]
)
@pytest.mark.parametrize(("objective", "measure"), [((), "loss"), (("--objective", "exact-match"), "accuracy")])
def test_rows_that_say_what_they_are_need_no_other_option(
    here: Path, rows: list[dict[str, Any]], objective: tuple[str, ...], measure: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(here / "rows.jsonl", rows)
    assert run(*objective, "--journal", "run.jsonl", "--save", "out") == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    assert measure in out and "weights after step 2: out" in out
    header, _ = read(here / "run.jsonl")
    assert header["problem"]["select"] == "all" and header["problem"]["train"]["rows"] == 18
    assert main(["resume", "run.jsonl", "--quiet"]) == 0
    assert "2 of 2 steps (0 now)" in capsys.readouterr().out


def test_turns_and_the_chat_template_decide_what_is_learnt(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(here / "rows.jsonl", [{"messages": TURNS[1:]}] * 8)
    (here / "chat.jinja").write_text(CHATML)
    assert run("--chat-template", "chat.jinja", "--journal", "run.jsonl", "--save", "out", model="plain") == 0
    assert "<|im_start|>" in (here / "out" / "chat_template.jinja").read_text()
    capsys.readouterr()
    assert run("--chat-template", "chat.jinja", "--journal", "run.jsonl", "--turns", "last", model="plain") == 2
    assert "its --turns is None, here it is 'last'" in capsys.readouterr().err
    assert main(["export", "run.jsonl", "-o", "again"]) == 0
    assert "<|im_start|>" in (here / "again" / "chat_template.jinja").read_text()


def test_a_new_line_typed_in_a_shell_is_one(here: Path) -> None:
    write(here / "rows.jsonl", LABELLED)
    task = ("--template", r"{text}\nIt\twas \\n", "--answer", r"\n{label}")
    assert run(*task, "--journal", "run.jsonl") == 0
    problem = read(here / "run.jsonl")[0]["problem"]
    assert (problem["template"], problem["answer"]) == ("{text}\nIt\twas \\n", "\n{label}")
    assert main(["resume", "run.jsonl", "--quiet"]) == 0  # typed once more, and the same


@pytest.mark.parametrize(
    ("rows", "more", "words"),
    [
        (LABELLED, (), "Only rows with the field messages, or prompt and completion, need none of them; those of "
         "'rows.jsonl' have 'text', 'label'."),
        (LABELLED, ("--text", "text", "--turns", "last"), "--turns goes with rows of messages only"),
        (LABELLED, ("--text", "text", "--chat-template", "x"), "--chat-template goes with rows of messages only"),
        (CHATS, ("--no-eos",), "--no-eos goes with --answer, --text, and rows of prompt and completion only"),
        (CHATS, ("--chat-template", "none.jinja"), "--chat-template 'none.jinja' does not exist"),
        (CHATS, ("--objective", "accuracy"), "accuracy does not go with rows with messages, which takes loss"),
        ([*CHATS, {"messages": TURNS[:2]}], (), "Row 21 of 'rows.jsonl': the conversation has no assistant's turn"),
        ([*CHATS, {"messages": "x"}], (), "Row 21 of 'rows.jsonl': field 'messages' must be a list of messages"),
        ([*CHATS, {"text": "x"}], (), "Row 21 of 'rows.jsonl': field 'messages' is missing; the row has 'text'"),
        ([*LABELLED, {"text": "", "label": "pos"}], ("--text", "text"), "Row 21 of 'rows.jsonl': field 'text' of"),
        ([{"text": f"{i}", "label": "pos"} for i in range(9)],
         ("--template", "{text}", "--labels", "great,terrible", "--values", "pos,neg"),
         "All 8 rows to learn from have one class: field 'label' is 'pos'. There is nothing to tell apart"),
    ],
)  # fmt: skip
def test_data_that_cannot_be_learnt_is_a_sentence(
    here: Path, rows: list[dict[str, Any]], more: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(here / "rows.jsonl", rows)
    assert run(*more) == 2
    out, err = capsys.readouterr()
    assert out == "" and words in err and "Traceback" not in err


def test_a_tokenizer_without_a_chat_template_is_a_sentence(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(here / "rows.jsonl", CHATS)
    assert run(model="plain") == 2
    assert "has no chat template" in (err := capsys.readouterr().err) and "--chat-template FILE" in err


def test_a_class_without_rows_is_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(here / "rows.jsonl", LABELLED)
    write(here / "one.jsonl", LABELLED[:1])
    task = ("--template", "{text}", "--labels", "great,terrible, good", "--values", "pos,neg,so-so")
    arguments = [
        "finetune",
        "--model",
        "tiny",
        "--data",
        "rows.jsonl",
        "--steps",
        "1",
        *task,
        "--validation",
        "one.jsonl",
    ]
    assert main(arguments) == 0
    err = capsys.readouterr().err
    assert "No row to learn from has the class 'so-so'." in err
    assert "All 1 rows to validate on have one class: field 'label' is 'pos'; their accuracy says little." in err


def test_parquet(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    from oracles.llm import read_rows

    table = arrow.Table.from_pylist([*CHATS, {"messages": None}])
    parquet.write_table(table, here / "rows.parquet")
    assert read_rows(here / "rows.parquet") == [*CHATS, {"messages": None}]
    assert run("--data", "rows.parquet") == 2
    assert "Row 21 of 'rows.parquet': field 'messages' is null" in capsys.readouterr().err
    parquet.write_table(table.slice(0, 20), here / "rows.parquet")
    assert run("--data", "rows.parquet") == 0
    (here / "broken.parquet").write_bytes(b"PAR1 no")
    assert run("--data", "broken.parquet") == 2
    assert "'broken.parquet' cannot be read as Parquet" in capsys.readouterr().err
    for name in ("pyarrow", "pyarrow.parquet", "fastparquet"):
        monkeypatch.setitem(sys.modules, name, None)
    assert run("--data", "rows.parquet") == 2
    assert "needs pyarrow, which is not installed; run: pip install pyarrow" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore")  # of `datasets` itself
def test_a_dataset_has_rows() -> None:
    datasets = pytest.importorskip("datasets")
    from oracles.llm import chat, classification, completion

    tok = talking()

    def dataset(rows: list[dict[str, Any]]) -> Any:  # `from_list` makes a fingerprint, which fails with some pyarrows
        return datasets.Dataset(pytest.importorskip("pyarrow").Table.from_pylist(rows), fingerprint="rows")

    made = dataset(CHATS)
    assert chat(made, tok) == chat(CHATS, tok)
    flat = dataset(LABELLED)
    assert completion(flat, tok, "{text}", " {label}") == completion(LABELLED, tok, "{text}", " {label}")
    values = ["pos", "neg"]
    assert classification(flat, tok, "{text}", ["great", "terrible"], values=values).label == [0, 1] * 10
    with pytest.raises(TypeError, match=r"with the keys 'train'; give one of its parts"):
        chat(datasets.DatasetDict({"train": made}), tok)


# ------------------------------------------------------------------------------------------ more steps than planned


LABELS = ("--template", "{text}", "--labels", "great,terrible", "--values", "pos,neg", "--optimizer", "adam")


def saved(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_a_schedule_is_extended(here: Path, schedule: str, capsys: pytest.CaptureFixture[str]) -> None:
    write(here / "rows.jsonl", LABELLED)
    more = (*LABELS, "--lr-schedule", schedule, "--lr", "1e-2")
    first = ["finetune", "--model", "tiny", "--data", "rows.jsonl", *FEW[2:4], *more, "--steps", "6"]
    assert main([*first, "--journal", "run.jsonl", "--save", "six"]) == 0
    (here / "six").rename(here / "after-6")
    assert main(["resume", "run.jsonl", "--steps", "10", "--time-limit", "1e-9"]) == 0  # interrupted at once
    assert (
        f"From step 6 on, the learning rate is that of a {schedule} schedule over 10 steps." in capsys.readouterr().err
    )
    assert main(["resume", "run.jsonl", "--save", "ten", "--quiet"]) == 0  # it knows by now how far it goes
    assert "10 of 10 steps" in capsys.readouterr().out
    assert saved(here / "after-6") != saved(here / "ten")  # the first schedule ended at a rate of 0
    changed = [line for line in (here / "run.jsonl").read_text().splitlines() if '"change"' in line]
    assert len(changed) == 1 and json.loads(changed[0])["steps"] == 6
    for step, name in (("6", "after-6"), ("10", "ten")):
        assert main(["export", "run.jsonl", "-o", f"again-{step}", "--step", step]) == 0
        assert saved(here / f"again-{step}") == saved(here / name)
    assert main(["watch", "run.jsonl", "--last", "99"]) == main(["report", "run.jsonl"]) == 0
    assert "after 6 steps the learning rate changed" in capsys.readouterr().out


def test_without_more_steps_nothing_changes(here: Path) -> None:
    write(here / "rows.jsonl", LABELLED)
    more = (*LABELS, "--lr-schedule", "cosine", "--steps", "6", "--journal", "run.jsonl", "--save", "out")
    assert run(*more) == 0
    before = (here / "run.jsonl").read_bytes(), saved(here / "out")
    assert main(["resume", "run.jsonl", "--quiet"]) == main(["resume", "run.jsonl", "--steps", "3", "--quiet"]) == 0
    assert before == ((here / "run.jsonl").read_bytes(), saved(here / "out"))
