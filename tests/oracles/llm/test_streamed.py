"""Streamed models on the command line, in `finetune`, `replay` and the Trainer: the same runs as in memory."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import blackbox_zo as bz
from blackbox_zo.errors import JournalError
from oracles.cli.main import main
from oracles.llm import Completion, LabelWords, LossOracle, ZOTrainer, ZOTrainingArguments, finetune, replay
from tests.oracles.llm.helpers import llama, padded
from tests.oracles.llm.test_cli import FAST, code_of, folder_with_model, typed, validated

STREAM = ("--stream", "disk", "--budget", "80KiB")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model and rows, where the command is typed."""
    monkeypatch.chdir(tmp_path)
    return folder_with_model(tmp_path)


def same_files(a: Path, b: Path) -> bool:
    """Whether two folders hold the same weights."""
    one, two = (load_file(folder / "model.safetensors") for folder in (a, b))
    return all(torch.equal(one[name], two[name]) for name in one | two)


def test_a_streamed_run_is_the_run_in_memory(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same validations, the same weights, the same journal but for how it was asked; export gives them again."""
    run = ("--steps", "6", "--eval-every", "3")
    assert main(typed(*FAST, *run, "--journal", "a.jsonl", "--save", "a")) == 0
    assert main(typed(*FAST, *run, *STREAM, "--journal", "b.jsonl", "--save", "b", "--stream-to", "moved")) == 0
    assert "Streaming from the disk: " in capsys.readouterr().err
    assert validated(here / "a.jsonl") == validated(here / "b.jsonl")
    assert same_files(here / "a", here / "b")
    assert sorted(p.suffix for p in (here / "moved").iterdir()).count(".weights") >= 3
    assert main(["export", "b.jsonl", "--output", "c", *STREAM]) == 0
    assert main(["export", "b.jsonl", "--output", "d"]) == 0
    assert same_files(here / "a", here / "c") and same_files(here / "a", here / "d")


def test_scores_of_the_label_words_alone_are_modules(here: Path) -> None:
    """The head computes no others, though it is streamed; the first step has the bits of later ones."""
    from oracles.llm import _head

    ids, mask = padded([[1, 5 + i, 6, 7 + i] for i in range(6)], "left")
    batches = [{"input_ids": ids, "attention_mask": mask, "label": torch.tensor([0, 1] * 3)}]
    loss, estimator = LabelWords((5, 6), over="labels"), bz.RandomVector(1e-2, 6, "lowrank")

    def values(x: bz.Module) -> list[float]:
        oracle = LossOracle(x.model, batches, loss, directions_per="example", micro_batch=4)
        return [report.value for report in bz.Search(x, estimator, bz.SGD(1e-2), seed=1).run(oracle, steps=3)]

    want = values(bz.Module(llama()))
    with bz.StreamedModule.from_pretrained(here / "tiny", budget="80KiB") as x:
        assert values(x) == want
        assert _head._faithful[x.model.get_output_embeddings()], "only some rows"  # type: ignore[operator]


def test_the_first_scores_have_the_bits_of_later_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though it compares them with those of the whole head, which rounds otherwise."""
    from oracles.llm import _head

    own = _head._take
    monkeypatch.setattr(_head, "_take", lambda z, ids: own(z, ids) + 1e-6)
    model, loss = llama(), LabelWords((5, 6), over="labels")
    ids, mask = padded([[1, 5, 6, 7]], "left")
    batch = {"input_ids": ids, "attention_mask": mask, "label": torch.tensor([1])}
    assert torch.equal(loss(model, batch), loss(model, batch))


def test_a_run_goes_on_in_memory_and_on_the_disk(here: Path) -> None:
    """The journal does not say where the weights were."""
    assert main(typed(*FAST, "--steps", "6", "--journal", "a.jsonl", "--save", "a")) == 0
    assert main(typed(*FAST, "--steps", "2", *STREAM, "--journal", "b.jsonl")) == 0
    assert main(typed(*FAST, "--steps", "4", "--journal", "b.jsonl")) == 0
    assert main(typed(*FAST, "--steps", "6", *STREAM, "--log-structured", "--journal", "b.jsonl", "--save", "b")) == 0
    assert same_files(here / "a", here / "b")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--stream", "disk", "--budget", "1kB"), "`budget` of 0.977 KiB is too small"),
        (("--stream", "disk", "--budget", "much"), "must be a size such as"),
        (("--stream", "disk", "--select", "prefix"), "--stream searches no virtual tokens"),
        (("--stream", "disk", "--device", "cuda:9"), "--stream disk: Device 'cuda:9' is not here: torch finds"),
        (("--stream", "host", "--stream-to", "x"), "--stream-to is for --stream disk"),
        (("--stream", "disk", "--stream-to", "no/where"), "is in a folder that does not exist"),
        (("--stream", "disk", "--model", "nowhere/at/all"), "does not exist"),
        (("--budget", "2GiB"), "--budget is for --stream"),
        (("--stream-to", "x"), "--stream-to is for --stream"),
        (("--log-structured",), "--log-structured is for --stream"),
    ],
    ids=str,
)
def test_what_does_not_go_together(
    more: tuple[str, ...], said: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A sentence, before anything is written."""
    assert code_of([*typed("--steps", "2"), *more]) not in (0, None)
    assert said in capsys.readouterr().err
    assert not (here / "x").exists()


def test_finetune_and_replay_take_a_streamed_module(here: Path) -> None:
    """In place of `module="all"`; a journal of another selection is refused."""
    ids, mask = padded([[1, 5, 6, 7], [1, 8, 9, 10, 11]], "left")
    batches = [{"input_ids": ids, "attention_mask": mask, "labels": ids}]
    settings: dict[str, Any] = {"rule": bz.SGD(1e-2), "estimator": bz.RandomVector(1e-2, 2, "lowrank")}
    finetune(model := llama(), batches, Completion(), steps=4, **settings)
    with bz.StreamedModule.from_pretrained(here / "tiny", budget="80KiB") as x:
        finetune(x.model, batches, Completion(), steps=4, module=x, journal=here / "run.jsonl", **settings)
        assert all(torch.equal(p, model.get_parameter(name)) for name, p in x.whole())
    with bz.StreamedModule.from_pretrained(here / "tiny") as x:
        assert replay(here / "run.jsonl", x) is x
        assert all(torch.equal(p, model.get_parameter(name)) for name, p in x.whole())
    with (
        bz.StreamedModule.from_pretrained(here / "tiny", select="top:1") as x,
        pytest.raises(JournalError, match=r"searched .*make the module as it was"),
    ):
        replay(here / "run.jsonl", x)


def test_the_trainer_takes_a_streamed_model(here: Path) -> None:
    """Its checkpoints hold real weights."""
    rows = [{"input_ids": [1, 5 + i, 6 + i, 7], "labels": [1, 5 + i, 6 + i, 7]} for i in range(4)]
    more: dict[str, Any] = {"max_steps": 3, "learning_rate": 1e-2, "radius": 1e-2, "use_cpu": True, "report_to": "none"}

    def trained_by(model: Any, folder: Path, more: dict[str, Any]) -> None:
        args = ZOTrainingArguments(str(folder), per_device_train_batch_size=2, save_steps=3, **more)
        ZOTrainer(model, args, train_dataset=rows).train()

    trained_by(llama(), here / "memory", more)
    with bz.StreamedModule.from_pretrained(here / "tiny", budget="80KiB") as x:
        trained_by(x.model, here / "streamed", more)
        assert x.version == 3
        with pytest.raises(ValueError, match=r"say select='bias'.*made with 'all'"):
            trained_by(x.model, here / "no", {"select": "bias", **more})
    assert same_files(here / "memory" / "checkpoint-3", here / "streamed" / "checkpoint-3")


def test_a_streamed_model_is_searched_by_its_own_variable(here: Path) -> None:
    """What is not there cannot be moved in place."""
    with (
        bz.StreamedModule.from_pretrained(here / "tiny") as x,
        pytest.raises(ValueError, match=r"the `StreamedModule` that they belong to"),
    ):
        bz.Module(x.model)


def test_settings_say_nothing_of_this_machine(here: Path) -> None:
    """The problem of a journal has no paths in it."""
    assert main(typed(*FAST, "--steps", "1", *STREAM, "--journal", "b.jsonl", "--stream-to", str(here / "moved"))) == 0
    header = json.loads((here / "b.jsonl").read_text().splitlines()[0])
    assert str(here) not in json.dumps(header["problem"])
    shutil.rmtree(here / "moved")
    assert main(typed(*FAST, "--steps", "2", *STREAM, "--journal", "b.jsonl")) == 0
