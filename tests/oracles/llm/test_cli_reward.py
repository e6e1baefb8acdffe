"""`blackbox-zo finetune --reward`: it learns, is resumed after a reward that raised, and says what is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from oracles.cli.main import main
from tests.journals import measures, read
from tests.oracles.llm.helpers import llama, tokenizer

JUDGE = """
def score(prompts, completions, rows):
    assert all(row["want"] == "t" for row in rows)
    return [text.count(row["want"]) / 4 for text, row in zip(completions, rows)]

def away(prompts, completions, rows):
    raise ConnectionError("the judge is away")

def short(prompts, completions, rows):
    return [1.0]

def nan(prompts, completions, rows):
    return [float("nan")] * len(prompts)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    llama().save_pretrained(folder / "tiny")
    tokenizer().save_pretrained(folder / "tiny")
    rows = [{"q": q, "want": "t"} for q in ("What is it?", "It was", "The cat sat", "good. What is")] * 3
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "other.jsonl").write_text(json.dumps({"text": "The cat sat on the mat."}) + "\n")
    (folder / "judge.py").write_text(JUDGE)
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def typed(*more: str, reward: str = "judge.py:score") -> list[str]:
    task = ["--model", "tiny", "--data", "rows.jsonl", "--template", "{q}", "--reward", reward, "--max-new-tokens", "4"]
    return ["finetune", *task, "--radius", "0.1", "--lr", "1e-4", "--quiet", *more]


def test_a_reward_is_learnt_and_shown_with_the_off_task_check(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    top = ("--select", "top", "--radius", "0.3", "--lr", "0.1", "--steps", "25", "--validation", "rows.jsonl")
    assert main(typed(*top, "--off-task", "other.jsonl", "--journal", "run.jsonl", "--save", "tuned")) == 0
    out = capsys.readouterr().out
    found = [m for m in measures(here / "run.jsonl") if m["measure"] == "validation"]
    assert found[-1]["values"]["reward"] > found[0]["values"]["reward"]
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.startswith("  ")}
    assert float(rows["kl"][0]) == 0.0 < float(rows["kl"][1])
    assert {"reward", "perplexity"} <= rows.keys()
    assert main(["report", "run.jsonl", "-o", "page.html"]) == 0
    page = (here / "page.html").read_text()
    assert "off-task: kl" in page and "judge.py:score" in page


def test_rows_of_messages_need_no_template(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The function sees the rendered prompt, and the row with its messages."""
    rows = [{"messages": [{"role": "user", "content": q}], "want": "t"} for q in ("What is it?", "It was", "good")] * 3
    (here / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (here / "chat.jinja").write_text("{% for m in messages %}[{{ m.role }}] {{ m.content }} {% endfor %}")
    (here / "seen.py").write_text(
        "def score(prompts, completions, rows):\n"
        '    assert all(p == f\'[user] {r["messages"][0]["content"]} \' for p, r in zip(prompts, rows)), prompts\n'
        "    return [float(len(c)) for c in completions]\n"
    )
    given = ["finetune", "--model", "tiny", "--data", "chats.jsonl", "--reward", "seen.py:score", "--steps", "2"]
    given += ["--chat-template", "chat.jinja", "--max-new-tokens", "2", "--radius", "0.1", "--quiet"]
    assert main([*given, "--journal", "run.jsonl"]) == 0, capsys.readouterr().err
    header, _ = read(here / "run.jsonl")
    assert header["problem"]["template"] is None
    (here / "chats.jsonl").write_text('{"q": "It was"}\n' * 3)
    assert main(given) == 2
    assert "Row 1 of 'chats.jsonl': it has no field 'prompt' or 'messages' to be answered" in capsys.readouterr().err


def test_samples_have_a_temperature_and_a_resumed_run_draws_the_same(here: Path) -> None:
    several = ("--samples", "2", "--group-relative", "--batch-size", "4", "--seed", "3")
    assert main(typed(*several, "--steps", "4", "--journal", "whole.jsonl")) == 0
    assert main(typed(*several, "--steps", "2", "--journal", "run.jsonl")) == 0
    assert main(["resume", "run.jsonl", "--steps", "4"]) == 0
    (header, whole), (_, again) = (read(here / name) for name in ("whole.jsonl", "run.jsonl"))
    assert whole == again and len({record["value"] for record in whole}) > 2
    problem = header["problem"]
    assert problem["temperature"] == 1.0 and problem["samples"] == 2 and problem["group_relative"] is True


def test_a_reward_that_raises_ends_the_run_and_its_mended_file_goes_on(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mended = (here / "judge.py").read_text()
    (here / "fragile.py").write_text(mended)
    assert main(typed("--steps", "2", "--journal", "run.jsonl", reward="fragile.py:score")) == 0
    (here / "fragile.py").write_text(mended.replace("    assert", "    raise OSError('no judge')\n    assert"))
    forget("fragile")
    assert main(["resume", "run.jsonl", "--steps", "4"]) == 2
    assert "The reward `score` raised OSError: no judge (completion " in capsys.readouterr().err
    (here / "fragile.py").write_text(mended)
    forget("fragile")
    assert main(["resume", "run.jsonl", "--steps", "4"]) == 0


def forget(module: str) -> None:
    import importlib
    import sys

    sys.modules.pop(module, None)
    importlib.invalidate_caches()
    shutil.rmtree("__pycache__", ignore_errors=True)


@pytest.mark.parametrize(
    ("more", "reward", "says"),
    [
        ((), "judge.py:away", "raised ConnectionError: the judge is away (completion "),
        ((), "judge.py:short", "returned 1 numbers for"),
        ((), "judge.py:nothing", "--reward: 'judge.py' has no function 'nothing'; it has score, away, short, nan"),
        ((), "gone.py:score", "--reward: the file 'gone.py' does not exist"),
        ((), "no_such_module:score", "--reward: importing 'no_such_module' failed"),
        ((), "judge", "is not of the form module:function or file.py:function"),
        (("--samples", "0"), "judge.py:score", "--samples"),
        (("--answer", "{want}"), "judge.py:score", "Give one of --labels, --answer, --text and --reward, got"),
        (("--objective", "f1"), "judge.py:score", "--objective f1 does not go with --reward"),
        (("--stop", ""), "judge.py:score", "--stop is empty"),
        (("--off-task-field", "x"), "judge.py:score", "--off-task-field goes with --off-task only"),
        (("--off-task", "rows.jsonl"), "judge.py:score", "Row 1 of 'rows.jsonl'"),
        (("--off-task", "gone.jsonl"), "judge.py:score", "'gone.jsonl' does not exist"),
        (("--group-relative", "--difference", "forward"), "judge.py:score", "needs --directions-per step"),
    ],
)
def test_bad_input_is_a_sentence(
    here: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], reward: str, says: str
) -> None:
    try:
        code: Any = main(typed("--steps", "1", *more, reward=reward))
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("option", [("--samples", "2"), ("--temperature", "1"), ("--group-relative",)])
def test_options_of_rewards_go_with_rewards(
    here: Path, capsys: pytest.CaptureFixture[str], option: tuple[str, ...]
) -> None:
    task = ["finetune", "--model", "tiny", "--data", "rows.jsonl", "--template", "{q}", "--answer", " {want}"]
    assert main([*task, *option]) == 2
    assert f"{option[0]} goes with --reward only" in capsys.readouterr().err


def test_nan_rewards_are_failures_and_ten_steps_of_them_end_the_run(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(typed("--steps", "20", "--journal", "run.jsonl", reward="judge.py:nan"))
    said = capsys.readouterr()
    assert code != 0 and "the reward of the answer to '" in said.out + said.err


@pytest.mark.filterwarnings("ignore:All .* queries have the same loss:UserWarning")  # a few short texts
@pytest.mark.parametrize(("more", "radius"), [((), 0.03), (("--select", "top"), 0.1), (("--radius", "0.2"), 0.2)])
def test_the_default_radius_is_a_tenth_of_the_weights(here: Path, more: tuple[str, ...], radius: float) -> None:
    """Those of the tiny model have a standard deviation of 0.3, its norms are 1."""
    task = ["--model", "tiny", "--data", "rows.jsonl", "--template", "{q}", "--reward", "judge.py:score", "--quiet"]
    given = ["finetune", *task, "--max-new-tokens", "2", "--steps", "1", "--journal", "run.jsonl", *more]
    assert main(given) == 0
    header, _ = read(here / "run.jsonl")
    assert header["estimator"]["radius"] == radius
    assert main(["resume", "run.jsonl", "--steps", "2", "--quiet"]) == 0
