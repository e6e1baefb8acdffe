"""`blackbox-zo finetune`, `export` and `report` on a tiny model: what they print, keep and refuse, and after a kill."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import blackbox_zo as bz
from blackbox_zo._stop import Stop
from oracles.cli.main import main
from tests.journals import measures, read
from tests.oracles.helpers import ROOT, arguments, in_a_terminal, lines, wait_for
from tests.oracles.llm.helpers import llama, tokenizer
from tests.oracles.test_cli_report import Page

TASK = ("--template", "{text} What is it?", "--labels", "great,terrible", "--values", "pos,neg")
FAST = ("--optimizer", "adam", "--lr", "1e-2")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """The number of threads changes the last bits, and the processes of these tests have one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, and rows of which the label can be learnt."""
    folder = tmp_path_factory.mktemp("made")
    llama().save_pretrained(folder / "tiny")
    tokenizer().save_pretrained(folder / "tiny")
    drawn = random.Random(0)
    goods = [drawn.random() < 0.5 for _ in range(120)]
    rows = [
        {
            "text": f"The cat sat. It was {'good' if good else 'bad'} on the mat.",
            "label": "pos" if good else "neg",
            "answer": "great" if good else "terrible",
        }
        for good in goods
    ]
    write(folder / "rows.jsonl", rows)
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, where the command is typed."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def folder_with_model(folder: Path) -> Path:
    """A folder with a tiny model and forty rows of two classes."""
    llama().save_pretrained(folder / "tiny")
    tokenizer().save_pretrained(folder / "tiny")
    said = [("good", "pos"), ("bad", "neg")]
    write(folder / "rows.jsonl", [{"text": f"It was {a}.", "label": b} for a, b in said * 20])
    return folder


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def typed(*more: str, task: tuple[str, ...] = TASK) -> list[str]:
    """A command over all weights; what is typed later counts."""
    select = () if "--mezo" in more else ("--select", "all")
    return ["finetune", "--model", "tiny", "--data", "rows.jsonl", "--objective", "loss", *select, *task, *more]


def validated(journal: Path) -> dict[int, dict[str, float]]:
    """The numbers of each validation of a journal, by the step."""
    return {line["step"]: line["values"] for line in measures(journal) if line["measure"] == "validation"}


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def environment() -> dict[str, str]:
    """Without errors for warnings, of which transformers may have some at its import."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def code_of(given: list[str]) -> Any:
    try:
        return main(given)
    except SystemExit as stop:  # argparse's own
        return stop.code


def steps_in(journal: Path) -> int:
    """How many steps a journal has, besides the first one, of which each answer has a line of its own."""
    return sum('"values"' in line and '"measure"' not in line for line in lines(journal))


def killed_after(count: int, journal: Path, number: int) -> threading.Thread:
    """Send this process a signal once a journal has more than so many steps."""

    def kill() -> None:
        wait_for(lambda: steps_in(journal) > count)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


# ------------------------------------------------------------------------------------------------------- whole runs


def test_a_run_learns_says_so_and_is_kept(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ("--steps", "40", "--eval-every", "10", "--journal", "run.jsonl", "--save", "out", "--report", "seen.html")
    assert main(typed(*FAST, *more)) == 0
    out, err = capsys.readouterr()
    head, loss, accuracy, counts, *rest = out.splitlines()
    assert head.split() == ["validation", "zero-shot", "after", "step", "40"]
    assert float(loss.split()[2]) < 0.5 * float(loss.split()[1])
    assert float(accuracy.split()[1]) < 0.7 and float(accuracy.split()[2]) == 1.0
    assert counts.startswith("40 of 40 steps, 1,280 forwards, ") and counts.endswith(" MB")
    assert rest[0] == "weights after step 40: out" and rest[1].startswith("report: seen.html: steps 40, queries 1,280")
    assert "to continue" not in out and "seen.html" in out
    assert err.splitlines()[0].endswith("108 rows to learn from, 12 to validate on")
    assert "step 10/40: validation loss " in err and "examples/s" in err and err.count("40/40 steps, loss ") == 1
    found = measures(here / "run.jsonl")
    assert [line["step"] for line in found] == [0, 10, 20, 30, 40] and found[4]["values"]["accuracy"] == 1.0
    assert 0 == found[0]["seconds"] < found[1]["seconds"] < found[4]["seconds"]
    header, _ = read(here / "run.jsonl")
    assert header["problem"]["model"] == "tiny" and header["problem"]["train"]["rows"] == 108
    assert str(here) not in json.dumps(header["problem"])
    assert sorted(p.name for p in here.iterdir() if p.name.startswith(".")) == []


def test_with_labels_alone_it_searches_the_top_and_learns(here: Path) -> None:
    assert (
        main(["finetune", "--model", "tiny", "--data", "rows.jsonl", *TASK, "--journal", "run.jsonl", "--quiet"]) == 0
    )
    header, _ = read(here / "run.jsonl")
    assert header["variable"]["select"] == "top" and header["problem"]["objective"] == "labels"
    assert header["rule"]["name"] == "Adam" and header["settings"]["reuse"] == "keep"
    measured = validated(here / "run.jsonl")
    assert measured[500]["accuracy"] >= measured[0]["accuracy"] and measured[500]["loss"] < 0.9 * measured[0]["loss"]


def test_saved_and_exported_weights_are_those_of_the_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    more = ("--steps", "12", "--journal", "run.jsonl", "--save", "out", "--quiet")
    assert main(typed(*FAST, *more)) == 0
    assert main(["export", "run.jsonl", "--model", "tiny", "-o", "last"]) == 0
    assert main(["export", "run.jsonl", "--model", "tiny", "-o", "fifth", "--step", "5"]) == 0
    assert main(typed(*FAST, "--steps", "5", "--save", "five", "--quiet")) == 0
    out, err = capsys.readouterr()
    assert "last: tiny after step 12 of run.jsonl" in out and err == ""
    assert weights(here / "last") == weights(here / "out") != weights(here / "tiny")
    assert weights(here / "fifth") == weights(here / "five")
    words: Any = AutoTokenizer.from_pretrained(here / "last")
    plain: Any = AutoModelForCausalLM.from_pretrained(here / "last")
    assert plain(**words("It was", return_tensors="pt")).logits.shape[-1] == plain.config.vocab_size
    assert code_of(["export", "run.jsonl", "--model", "out", "-o", "more"]) == 2
    assert "started from weights other" in capsys.readouterr().err
    assert code_of(["export", "run.jsonl", "--model", "tiny", "-o", "more", "--step", "13"]) == 2
    assert "has 12 moves, fewer than the 13" in capsys.readouterr().err
    assert code_of(["export", "run.jsonl", "--model", "tiny", "-o", "tiny"]) == 2
    assert "the model's own folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("task", "more", "measures"),
    [
        (TASK, ("--objective", "labels", "--lr-schedule", "cosine", "--optimizer", "momentum"), {"loss", "accuracy"}),
        (TASK, ("--objective", "accuracy", "--directions", "4"), {"loss", "accuracy"}),
        (TASK, ("--mezo", "--lr-schedule", "linear"), {"loss", "accuracy"}),
        (TASK, ("--weight-decay", "0.1", "--no-decay", "norm", "--clip", "1"), {"loss", "accuracy"}),
        (TASK, ("--select", "layers", "--blocks", "1", "--rank", "2", "--difference", "forward"), {"loss", "accuracy"}),
        (TASK, ("--select", "top:1", "--lr-schedule", "linear"), {"loss", "accuracy"}),
        (TASK, ("--select", "all", "--batch-size", "4", "--difference", "relative"), {"loss", "accuracy"}),
        (TASK, ("--select", "^model\\.norm", "--keep-features", "--directions-per", "step"), {"loss", "accuracy"}),
        (TASK, ("--mask", "0.5", "--dtype", "bfloat16", "--sweep", "scratch", "--no-reuse"), {"loss", "accuracy"}),
        (TASK, ("--micro-batch", "50", "--distribution", "rademacher", "--directions", "2"), {"loss", "accuracy"}),
        (TASK, ("--batch-size", "200"), {"loss", "accuracy"}),
        ((*TASK[:2], "--answer", " {answer}"), ("--validation", "rows.jsonl"), {"loss"}),
        ((*TASK[:2], "--answer", " {answer}<end>"), ("--objective", "exact-match"), {"loss", "accuracy"}),
        ((*TASK[:2], "--answer", " {answer}"), ("--objective", "f1", "--max-new-tokens", "2"), {"loss", "f1"}),
        (
            (*TASK[:2], "--answer", "{answer}"),
            ("--objective", "f1", "--max-new-tokens", "2", "--stop", "a", "--sweep", "batched"),
            {"loss", "f1"},
        ),
        (("--text", "text"), ("--distribution", "gaussian", "--directions", "2"), {"loss"}),
    ],
)
@pytest.mark.filterwarnings("ignore:All .* queries have the same loss:UserWarning")  # so it is at this radius
def test_each_task_and_method_runs_and_can_be_exported(
    here: Path, task: tuple[str, ...], more: tuple[str, ...], measures: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    given = typed("--steps", "2", "--journal", "run.jsonl", "--save", "out", "--quiet", *more, task=task)
    assert main(given) == 0, capsys.readouterr().err
    measured = validated(here / "run.jsonl")
    assert list(measured) == [0, 1, 2] and all(set(numbers) == measures for numbers in measured.values())
    assert main(["export", "run.jsonl", "--model", "tiny", "-o", "again"]) == 0
    assert weights(here / "again") == weights(here / "out")
    header, records = read(here / "run.jsonl")
    assert len({record["step"] for record in records}) == 2
    if "--clip" in more:  # a weight is the slope over the number of directions
        clip, decay, move = header["rule"]["rules"]
        assert (clip["limit"], decay["decay"], move["learning_rate"]) == (1 / 16, 0.1, 1e-4)
        assert header["variable"]["no_decay"] == "norm"
    if "top:1" in more:
        assert header["rule"]["learning_rate"]["start"] == 3e-3 and header["settings"]["reuse"] == "keep"
    if "relative" in more:  # eight directions an example
        assert (header["estimator"]["n_directions"], header["estimator"]["group"]) == (32, 8)
        assert header["problem"]["directions_per"] == "example"
    if "--mezo" in more:
        assert header["estimator"]["distribution"] == "gaussian" and header["estimator"]["n_directions"] == 1
        assert header["rule"]["learning_rate"]["start"] == 1e-6 and header["problem"]["directions_per"] == "step"


def test_loss_and_accuracy_of_one_run_of_the_model_are_those_of_two(here: Path) -> None:
    import argparse

    from oracles.llm import Accuracy, LabelWords, evaluate, label_tokens, load_model
    from oracles.llm._settings import settings_of
    from oracles.llm._task import task_of
    from oracles.llm.options import OPTIONS
    from oracles.options import add_options

    parser = argparse.ArgumentParser()
    add_options(parser, OPTIONS)
    model, words = load_model("tiny")
    given = parser.parse_args(typed()[1:], argparse.Namespace(journal=None))
    task = task_of(settings_of(given), words, 64)
    runs: list[Any] = []
    model.register_forward_hook(lambda *run: runs.append(run))
    found = evaluate(model, task.validation.batches(5), task.measures)
    assert len(runs) == 3
    labels = LabelWords(label_tokens(words, ["great", "terrible"], "{text} What is it?"))
    want = evaluate(model, task.validation.batches(5), {"loss": labels, "accuracy": Accuracy(labels)})
    assert found == {"loss": want["loss"], "accuracy": pytest.approx(1 - want["accuracy"])}
    assert 0 < want["accuracy"] < 1


def test_nothing_kept_is_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(typed("--steps", "1", "--quiet")) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].startswith("Nothing was saved: --save DIR") and err == ""


def test_ten_bad_steps_end_a_run_and_all_is_kept(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = typed("--lr", "1e37", "--steps", "40", "--journal", "run.jsonl", "--save", "out", "--quiet")
    assert main(given) == 1
    out, err = capsys.readouterr()
    assert err.startswith("blackbox-zo: All queries of the last 10 steps failed") and "Traceback" not in err
    assert "the loss is NaN or infinite; use a smaller learning rate or radius" in err
    assert "11 of 40 steps, 10 without a finite loss" in out and "weights after step 11: out" in out
    assert "to continue" not in out
    assert len({record["step"] for record in read(here / "run.jsonl")[1]}) == 11
    assert main(["export", "run.jsonl", "--model", "tiny", "-o", "again"]) == 0
    assert weights(here / "again") == weights(here / "out")
    assert main(["report", "run.jsonl"]) == 0
    assert "no finite loss" in Page((here / "run.html").read_text()).text


# ------------------------------------------------------------------------------------------------- kill and Ctrl-C


def test_killed_and_resumed_is_as_if_never_killed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    how = (*FAST, "--steps", "60", "--eval-every", "15", "--quiet")
    assert main(typed(*how, "--journal", "whole.jsonl", "--save", "whole")) == 0
    given = typed(*how, "--journal", "run.jsonl", "--save", "out")
    process = subprocess.Popen(arguments(*given), env=environment(), cwd=here, stdout=subprocess.DEVNULL)
    wait_for(lambda: steps_in(here / "run.jsonl") > 20, 90)
    process.send_signal(signal.SIGKILL)
    assert process.wait(30) == -signal.SIGKILL
    answered = len(read(here / "run.jsonl")[1]) // 32
    assert 19 <= answered < 60 and not (here / "out").exists()
    capsys.readouterr()
    assert main(["resume", "run.jsonl"]) == 0
    assert f"60 of 60 steps ({60 - answered} now)" in capsys.readouterr().out
    assert weights(here / "out") == weights(here / "whole")
    assert read(here / "run.jsonl")[1] == read(here / "whole.jsonl")[1]
    measured = [validated(here / name) for name in ("run.jsonl", "whole.jsonl")]
    assert measured[0] == measured[1] and list(measured[0]) == [0, 15, 30, 45, 60]
    seconds = [line["seconds"] for line in measures(here / "run.jsonl")]
    assert seconds == sorted(seconds)  # they run on over the parts of a run


def test_a_journal_that_breaks_off_between_a_step_and_its_validation(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    how = (*FAST, "--steps", "12", "--eval-every", "4", "--quiet")
    assert main(typed(*how, "--journal", "run.jsonl", "--save", "whole")) == 0
    journal, whole = here / "run.jsonl", validated(here / "run.jsonl")
    text = lines(journal)
    last = next(i for i, line in enumerate(text) if '"measure"' in line and '"step": 8' in line)
    journal.write_text("\n".join(text[:last]) + '\n{"measure": "validation", "st')  # the power went off
    assert main(["resume", "run.jsonl", "--save", "out"]) == 0
    assert weights(here / "out") == weights(here / "whole")
    assert validated(journal) == whole and list(whole) == [0, 4, 8, 12]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_keeps_all_and_says_how_to_go_on(
    here: Path, number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    given = typed("--steps", "5000", "--eval-every", "0", "--quiet", "--journal", "run.jsonl", "--save", "out")
    thread = killed_after(5, here / "run.jsonl", number)
    assert main(given) == 128 + number
    thread.join()
    out, err = capsys.readouterr()
    answered = len(read(here / "run.jsonl")[1]) // 32
    assert err == "" and 5 <= answered < 5000
    assert out.splitlines()[0] == "Interrupted; every answer is kept."
    assert f"{answered} of 5000 steps, " in out and f"weights after step {answered}: out" in out
    assert "to continue: blackbox-zo resume run.jsonl" in out
    assert main(["export", "run.jsonl", "--model", "tiny", "-o", "again"]) == 0
    assert weights(here / "again") == weights(here / "out")
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert main(["resume", "run.jsonl", "--steps", str(answered + 2)]) == 0
    assert f"{answered + 2} of {answered + 2} steps (2 now)" in capsys.readouterr().out


def test_signals_wait_for_a_place_where_weights_are_whole() -> None:
    def told(stop: Stop) -> tuple[bool, int]:
        return stop.abrupt, stop.number

    with Stop() as stop:
        stop.check()
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            stop.check()
        assert told(stop) == (False, signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
            threading.Event().wait(5)
        assert told(stop) == (True, signal.SIGTERM)
    with Stop() as stop, pytest.raises(KeyboardInterrupt):  # nothing has begun yet
        os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait(5)


def test_a_terminal_gets_a_live_bar(here: Path) -> None:
    given = arguments(*typed(*FAST, "--steps", "20", "--eval-every", "10"))
    code, out, text = in_a_terminal(given, {**environment(), "COLUMNS": "160"}, here)
    assert code == 0 and b"zero-shot" in out
    assert "20/20" in text and "━" in text and "examples/s" in text and " MB" in text
    assert text.count("step 10/20: validation loss ") == 1 and ", validation loss " in text


# ------------------------------------------------------------------------------------------------------- journals


def test_the_same_command_goes_on_with_its_journal(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = typed("--steps", "3", "--journal", "run.jsonl")
    assert main(given) == 0
    assert "holds" not in capsys.readouterr().out
    assert main(given) == 0
    out, err = capsys.readouterr()
    assert "run.jsonl holds all 3 steps of this run; give a larger --steps to continue" in out
    assert "3 of 3 steps (0 now), 0 forwards" in out and "validation" not in err  # it was measured then
    shutil.copytree(here / "tiny", here / "elsewhere" / "tiny")
    given[2] = "elsewhere/tiny"
    given[given.index("--steps") + 1] = "5"
    assert main(given) == 0
    out, err = capsys.readouterr()
    assert "run.jsonl holds 3 steps of this run, which continues" in out and "5 of 5 steps (2 now)" in out
    mean = sum(record["value"] for record in read(here / "run.jsonl")[1]) / (5 * 32)  # of all five steps
    assert f"5/5 steps, loss {mean:.4f}" in err


def test_a_journal_of_another_run_is_refused_by_name(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = typed("--steps", "2", "--journal", "run.jsonl", "--quiet")
    assert main(given) == 0
    (here / "fewer.jsonl").write_text("\n".join(lines(here / "rows.jsonl")[:100]))
    assert main(typed("--steps", "2", "--save", "other", "--quiet")) == 0
    (here / "aside").mkdir()
    shutil.copytree(here / "other", here / "aside" / "tiny")

    def refused(words: str, *more: str) -> None:
        capsys.readouterr()
        assert code_of([*given, *more]) == 2
        out, err = capsys.readouterr()
        assert words in err and out == "" and err.count("\n") == 1

    refused("belongs to another run: its --model is 'tiny', here it is 'other'", "--model", "other")
    refused("its digest of the initial weights (--model) is '", "--model", "aside/tiny")
    refused("its set of training rows (--data, --validation) is {'rows': 108, 'digest'", "--data", "fewer.jsonl")
    (here / "changed.jsonl").write_text((here / "rows.jsonl").read_text().replace("on the mat", "on the cat"))
    refused("its set of training rows (--data, --validation) is {'rows': 108", "--data", "changed.jsonl")
    refused("its set of training rows (--data, --validation) is {'rows': 108", "--validation", "fewer.jsonl")
    refused("its --template is '{text} What is it?', here it is '{text}'", "--template", "{text}")
    refused("its --labels is ['great', 'terrible'], here", "--labels", "terrible,great")
    refused("its --objective is 'loss', here it is 'labels'", "--objective", "labels")
    refused("its --batch-size is 16, here it is 8", "--batch-size", "8")
    refused("its --dtype is 'float32', here it is 'bfloat16'", "--dtype", "bfloat16")
    refused("its --seed is 0, here it is 1", "--seed", "1")
    refused("--lr-schedule, --weight-decay, --clip) is SGD(learning_rate=0.0001), here", "--lr", "0.5")
    refused("estimator (--directions, --distribution, --difference, --group, --radius", "--radius", "0.5")
    refused("its --select is 'all', here it is 'norm'", "--select", "norm")
    refused("its --mask is None, here it is 0.5", "--mask", "0.5")
    apart = typed("--steps", "2", "--journal", "apart.jsonl", "--quiet", "--validation")
    assert main([*apart, "rows.jsonl"]) == 0
    given = [*apart, "fewer.jsonl"]
    refused("its set of validation rows (--data, --validation) is {'rows': 120")
    bz.minimize(lambda x: float(x @ x), [1.0, 2.0], budget=10, journal=here / "function.jsonl")
    refused("'function.jsonl' belongs to another run", "--journal", "function.jsonl")
    refused("is not a journal of blackbox_zo", "--journal", "rows.jsonl")


def test_a_run_whose_model_or_data_is_gone_or_changed_is_refused_by_name(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(typed("--steps", "2", "--journal", "run.jsonl", "--save", "other", "--quiet")) == 0

    def refused(words: str, *command: str) -> None:
        capsys.readouterr()
        before = (here / "run.jsonl").read_bytes()
        assert code_of(list(command)) == 2
        assert words in capsys.readouterr().err
        assert (here / "run.jsonl").read_bytes() == before and not (here / "new").exists()

    again, export = ("resume", "run.jsonl", "--steps", "4"), ("export", "run.jsonl", "-o", "new")
    (here / "tiny").rename(here / "kept")
    refused("The model 'tiny' is no longer in folder '", *again)
    refused("The run's base model 'tiny' is not at", *export)
    (here / "other").rename(here / "tiny")
    refused("its digest of the initial weights (--model) is '", *again)
    refused("started from weights other than this model's", *export)
    shutil.rmtree(here / "tiny")
    (here / "kept").rename(here / "tiny")
    (here / "rows.jsonl").rename(here / "moved.jsonl")
    refused("'rows.jsonl' does not exist; check the path", *again)
    (here / "moved.jsonl").rename(here / "rows.jsonl")
    assert main(list(again)) == 0 and main(list(export)) == 0


# ------------------------------------------------------------------------------------------------------- bad input

ROWS = {
    "empty": [],
    "lacks": [{"text": "It was good.", "label": "pos"}, {"text": "It was bad."}],
    "other": [{"txt": "It was good.", "label": "pos"}, {"text": "It was bad.", "label": "neg"}],
    "long": [{"text": "It was good.", "label": "pos"}, {"text": "It was bad." * 40, "label": "neg"}],
    "one": [{"text": "It was good.", "label": "pos"}],
}
NO_TASK: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("task", "more", "words"),
    [
        (TASK, ("--data", "none.jsonl"), "'none.jsonl' does not exist"),
        (TASK, ("--data", "empty.jsonl"), "'empty.jsonl' has no rows"),
        (TASK, ("--data", "lacks.jsonl"), "Row 2 of 'lacks.jsonl': field 'label' is missing"),
        (TASK, ("--data", "other.jsonl"), "Row 1 of 'other.jsonl': field 'text' of the template"),
        (TASK, ("--data", "long.jsonl"), "Row 2 of 'long.jsonl' has 284 tokens, more than the limit of 64"),
        (TASK, ("--data", "one.jsonl"), "'one.jsonl' has one row"),
        (TASK, ("--validation", "lacks.jsonl"), "Row 2 of 'lacks.jsonl': field 'label' is missing"),
        (TASK, ("--label-field", "class"), "field 'class' is missing"),
        (TASK[:4], (), "none of ['great', 'terrible']; give the values in the data (`values`)"),
        (TASK[:2], ("--labels", "great,marvellous"), "Label 'marvellous' is 11 tokens (' ', 'm', 'a', 'r', 'v'"),
        (TASK[:2], ("--labels", "great"), "--labels must be two or more words"),
        (TASK[:2], ("--labels", "great,,bad"), "--labels 'great,,bad' has an empty word"),
        (TASK, ("--values", "pos"), "one value for each of the 2 of --labels, got 1"),
        (TASK, ("--select", "^nothing"), "--select '^nothing': `Module(select=...)`: no trainable parameter matches"),
        (TASK, ("--select", "("), "--select '(' is not a regular expression"),
        (TASK, ("--model", "./none"), "Model './none' does not exist"),
        (TASK, ("--model", "hollow"), "Model 'hollow' is a folder without config.json"),
        (TASK, ("--model", "broken"), "--model 'broken' cannot be loaded"),
        (NO_TASK, (), "Give one of --labels, --answer, --text and --reward, got none"),
        (TASK, ("--text", "text"), "got --labels and --text"),
        (NO_TASK, ("--labels", "great,terrible"), "--labels needs a prompt; add --template"),
        (NO_TASK, ("--text", "text", "--template", "{text}"), "remove --template"),
        (NO_TASK, ("--text", "text", "--label-field", "label"), "--label-field goes with --labels only"),
        (NO_TASK, ("--text", "text", "--objective", "f1"), "--objective f1 does not go with --text"),
        (TASK, ("--objective", "f1"), "--objective f1 does not go with --labels, which takes labels, loss, accuracy"),
        (TASK, ("--max-new-tokens", "3"), "--max-new-tokens goes with --reward and --objective exact"),
        (TASK, ("--stop", "x"), "--stop goes with --reward and --objective exact"),
        (TASK, ("--mezo", "--optimizer", "adam"), "--mezo fixes --optimizer"),
        (TASK, ("--group", "4"), "--group goes with --difference relative only"),
        (
            TASK,
            ("--difference", "relative", "--group", "1"),
            "--group, the directions that are compared, must be at least 2; it is 1",
        ),
        (
            TASK,
            ("--difference", "relative", "--directions", "12"),
            "must be at least 2 and divide --directions, which is 12; it is 8",
        ),
        (TASK, ("--rank", "2", "--distribution", "gaussian"), "--rank goes with --distribution lowrank"),
        (TASK, ("--mask", "1.5"), "--mask must be a share between 0 and 1, got 1.5"),
        (TASK, ("--no-decay", "bias"), "--no-decay goes with --weight-decay only"),
        (TASK, ("--weight-decay", "2"), "WeightDecay(decay=...)"),
        (TASK, ("--directions", "3", "--directions-per", "example"), "which must divide them"),
        (TASK, ("--lr", "-1"), "must be a positive number, got '-1'"),
        (TASK, ("--steps", "0"), "must be a whole number of at least 1, got '0'"),
        (TASK, ("--report", "x.html"), "--report is drawn from the journal; add --journal FILE"),
        (TASK, ("--report", "x.pdf", "--journal", "run.jsonl"), "--report 'x.pdf' must end in .html or .png"),
        (TASK, ("--journal", "no/such/run.jsonl"), "is in a folder that does not exist"),
        (TASK, ("--journal", "tiny"), "--journal 'tiny' is a folder"),
        (TASK, ("--save", "tiny"), "--save 'tiny' is the model's own folder"),
        (TASK, ("--save", "full"), "--save 'full' holds something other than a model"),
        (TASK, ("--save", "rows.jsonl"), "--save 'rows.jsonl' is a file"),
        (TASK, ("--save", "no/such"), "is in a folder that does not exist"),
    ],
)
def test_bad_input_is_a_sentence(
    here: Path, task: tuple[str, ...], more: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, rows in ROWS.items():
        write(here / f"{name}.jsonl", rows)
    for folder, file in (("hollow", ""), ("full", "precious.txt"), ("broken", "config.json")):
        (here / folder).mkdir()
        if file:
            (here / folder / file).write_text("{")
    before = sorted(here.rglob("*"))
    assert code_of(typed(*more, "--quiet", task=task)) == 2
    out, err = capsys.readouterr()
    assert out == "" and words in err and "Traceback" not in err
    assert (err.startswith("blackbox-zo: ") and err.count("\n") == 1) or "usage: " in err  # argparse's own
    assert sorted(here.rglob("*")) == before


def test_without_torch_only_the_commands_for_models_fail(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    check = "import sys; from oracles.cli.main import main; import oracles.llm, oracles.llm.options\n"
    check += "try: main(['finetune', '--help'])\n"
    check += "finally: assert not {'torch', 'transformers', 'matplotlib', 'rich'} & set(sys.modules), 'slow'"
    done = subprocess.run([sys.executable, "-c", check], env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "--keep-features" in done.stdout and "1e-06" in done.stdout, done.stderr
    monkeypatch.setitem(sys.modules, "torch", None)
    assert code_of(typed("--steps", "2")) == 2
    assert "this needs torch, which is not installed: pip install 'blackbox-zo[llm]'" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------- the page


def test_the_page_of_a_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = "<script>alert('x')</script>{text} What is it?"
    task = ("--template", evil, *TASK[2:])
    given = typed(*FAST, "--steps", "30", "--eval-every", "10", "--journal", "run.jsonl", "--quiet", task=task)
    assert main(given) == 0
    assert main(["report", "run.jsonl"]) == 0
    printed = capsys.readouterr()
    assert printed.err == "" and "run.html: steps 30, queries 960, " in printed.out
    text = (here / "run.html").read_text()
    page, measured = Page(text), validated(here / "run.jsonl")
    assert "script" not in page.tags and not [url for url in page.urls if not url.startswith(("#", "data:image/png"))]
    assert "default-src 'none'" in text and "prefers-color-scheme: dark" in text
    shown = f"{measured[0]['loss']:.4f} → {measured[30]['loss']:.4f}"
    for words in (
        *("run.jsonl", "alert('x')", "30 steps", "960 queries", "0 failed steps", shown, "best accuracy"),
        *("Training loss", "running median", "Validation", "accuracy, %", "great, terrible", "Adam(learning_rate=0.01"),
        *("n_directions=16", "select all", "to continue, with more steps", "blackbox-zo resume run.jsonl --steps 60"),
        *("rows.jsonl", "blackbox-zo export run.jsonl -o DIR"),
    ):
        assert words in page.text, words
    assert text.count("<svg ") == 4  # the training curve for wide and narrow screens, and two measures
    unmeasured = [line for line in lines(here / "run.jsonl") if '"measure"' not in line]
    (here / "bare.jsonl").write_text("\n".join(unmeasured) + "\n")
    assert main(["report", "bare.jsonl"]) == 0
    bare = Page((here / "bare.html").read_text())
    assert "Training loss" in bare.text and "Validation" not in bare.text


def test_a_picture_and_a_comparison_are_of_finetunings(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from oracles.cli import _png

    for seed in ("0", "1"):
        more = ("--steps", "8", "--eval-every", "2", "--seed", seed, "--journal", f"{seed}.jsonl", "--quiet")
        assert main(typed(*FAST, *more)) == 0
    drawn: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        real = _png.png

        def png(page: Any, path: Path) -> None:
            drawn.append(page)
            real(page, path)

        patch.setattr(_png, "png", png)
        assert main(["report", "0.jsonl", "-o", "one.png"]) == 0
        assert main(["report", "0.jsonl", "1.jsonl", "-o", "both.png"]) == 0
    one, both = drawn
    assert [section.title for section in one.sections] == ["Training loss", "Validation", "Commands", "The run"]
    charts = [part for section in both.sections for part in section.parts if hasattr(part, "layers")]
    assert [[layer.label for layer in chart.layers] for chart in charts] == [["1. 0.jsonl", "2. 1.jsonl"]] * 3
    assert [chart.y for chart in charts] == ["loss", "loss", "accuracy, %"]
    for name in ("one.png", "both.png"):
        assert (here / name).read_bytes().startswith(b"\x89PNG\r\n")
    assert "one.png: steps 8, queries 256" in capsys.readouterr().out


def test_watch_tells_steps_and_validations(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(typed(*FAST, "--steps", "4", "--eval-every", "2", "--journal", "run.jsonl", "--quiet")) == 0
    capsys.readouterr()
    assert main(["watch", "run.jsonl", "--last", "99"]) == 0
    told, measured = capsys.readouterr().out.splitlines(), validated(here / "run.jsonl")

    def validation(step: int) -> str:
        return f"validation loss {measured[step]['loss']:.4f}, accuracy {measured[step]['accuracy']:.4f}"

    assert told[0] == f"step 0/4: {validation(0)}"
    assert told[1].startswith("step 1/4: loss ") and told[1].endswith(validation(0))
    assert [line.partition(":")[0] for line in told[1:4]] == ["step 1/4", "step 2/4", "step 2/4"]
    assert told[3] == f"step 2/4: {validation(2)}" and told[-2] == f"step 4/4: {validation(4)}"
    assert told[-1] == "The run has ended." and "examples/s" not in "".join(told)


def test_a_validation_that_failed_is_told_and_drawn(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = typed(*FAST, "--steps", "4", "--eval-every", "2", "--journal", "run.jsonl")
    from oracles.llm import LabelWords

    real, calls = LabelWords.measures, [0]

    def measures_of(self: Any, model: Any, batch: Any) -> Any:
        calls[0] += 1
        if calls[0] == 2:
            raise RuntimeError("no such luck")
        return real(self, model, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LabelWords, "measures", measures_of)
        assert main(given) == 0
    out, err = capsys.readouterr()
    assert "step 2/4: validation failed: RuntimeError: no such luck" in err
    assert out.splitlines()[0].split() == ["validation", "zero-shot", "after", "step", "4"]
    assert main(["report", "run.jsonl"]) == 0 and main(["watch", "run.jsonl"]) == 0
    words = "1 failed, the last one after step 2: RuntimeError: no such luck"
    assert words in Page((here / "run.html").read_text()).text
    assert "step 2/4: validation failed: RuntimeError: no such luck" in capsys.readouterr().out


def test_a_journal_of_format_1_is_shown_and_exported_and_not_resumed(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--steps", "6", "--eval-every", "3", "--journal", "run.jsonl", "--save", "out", "--quiet")
    assert main(typed(*FAST, *more)) == 0
    head, records = read(here / "run.jsonl")
    head |= {"format": 1, "library": "0.1.0", "problem": {**head["problem"], "kind": "blackbox-zo finetune"}}
    old = [head]
    for step in range(6):
        values = [record["value"] for record in records if record["step"] == step]
        old.append({"step": step, "id": 32 * step, "values": values})
    write(here / "old.jsonl", old)
    beside = [
        {"step": line["step"], **line["values"], "seconds": line["seconds"]} for line in measures(here / "run.jsonl")
    ]
    write(here / "old.jsonl.validation.jsonl", beside)
    with (here / "old.jsonl.validation.jsonl").open("a") as file:
        file.write('{"step": 9, "lo')
    capsys.readouterr()
    for name in ("old", "run"):
        assert main(["report", f"{name}.jsonl"]) == 0
    pages = [Page((here / f"{name}.html").read_text()).text for name in ("old", "run")]
    first, last = beside[0]["loss"], beside[-1]["loss"]
    for text in pages:
        assert f"{first:.4f} → {last:.4f}" in text and "6 steps" in text and "accuracy, %" in text
    assert "blackbox-zo resume" not in pages[0] and "blackbox-zo resume" in pages[1]
    assert main(["watch", "old.jsonl"]) == 0
    assert "step 6/6: loss " in capsys.readouterr().out
    assert main(["export", "old.jsonl", "-o", "again"]) == 0
    assert weights(here / "again") == weights(here / "out")
    assert code_of(["resume", "old.jsonl"]) == 2
    assert "was written by format version 1, of blackbox_zo 0.1.0" in capsys.readouterr().err
    assert code_of(typed(*FAST, "--steps", "8", "--journal", "old.jsonl")) == 2
    assert "was written by" in capsys.readouterr().err


def test_a_journal_is_shown_without_torch_or_the_database_of_studies(here: Path) -> None:
    assert main(typed(*FAST, "--steps", "2", "--journal", "run.jsonl", "--quiet")) == 0
    check = "import sys; from oracles.cli.main import main\n"
    check += "assert main(['report', 'run.jsonl']) == main(['watch', 'run.jsonl']) == 0\n"
    check += "assert not {'torch', 'transformers', 'sqlalchemy'} & set(sys.modules), 'slow'"
    done = subprocess.run(
        [sys.executable, "-c", check], env=environment(), cwd=here, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_time_limit_ends_a_run_that_can_go_on(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ("--steps", "100000", "--eval-every", "0", "--journal", "run.jsonl", "--quiet")
    assert main(typed(*FAST, *more, "--time-limit", "0.5")) == 0
    out = capsys.readouterr().out
    done = len({record["step"] for record in read(here / "run.jsonl")[1]})
    assert 1 <= done < 1000 and "The time limit is reached." in out and f"{done} of 100000 steps" in out
    assert "to continue: blackbox-zo resume run.jsonl" in out and list(validated(here / "run.jsonl")) == [0, done]


def test_the_page_of_a_run_from_python(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model: Any = torch.nn.Linear(3, 1)
    search = bz.Search(bz.Module(model), bz.RankBased(0.1, 4, 2), bz.SGD(0.1), journal=here / "ranked.jsonl")
    with search:
        proposal = search.ask()
        search.tell(proposal, bz.Ranking([1, 0], n=proposal.n))
    with bz.Search(bz.Module(model), bz.RandomVector(0.1), bz.SGD(0.1), journal=here / "none.jsonl"):
        pass
    for name, words in (("ranked", "The answers are rankings"), ("none", "No step has been recorded yet.")):
        assert main(["report", f"{name}.jsonl"]) == 0
        page = Page((here / f"{name}.html").read_text())
        assert words in page.text and "--model BASE" in page.text and "to continue" not in page.text
        assert code_of(["resume", f"{name}.jsonl"]) == 2
        assert "started by a Python program" in capsys.readouterr().err
        assert code_of(["export", f"{name}.jsonl", "-o", "new"]) == 2
        assert "does not name the run's base model; give it with --model" in capsys.readouterr().err
    assert capsys.readouterr().err == ""
