"""`blackbox-zo finetune` with adapters: made, loaded, saved, resumed, exported; and saving is tried before step 1."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM, BertConfig, BertLMHeadModel, LlamaConfig, LlamaForCausalLM

import blackbox_zo as bz
from oracles.cli.main import main
from oracles.llm import load_model, replay
from oracles.llm._adapters import make_adapter
from tests.journals import read
from tests.oracles.helpers import lines
from tests.oracles.llm.helpers import VOCABULARY, gpt2, llama, tokenizer
from tests.oracles.llm.test_cli import FAST, code_of, made, one_thread, typed, write

__all__ = ["made", "one_thread"]

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # by peft

LORA = ("--select", "lora")


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def adapter(folder: Path | str) -> bytes:
    return (Path(folder) / "adapter_model.safetensors").read_bytes()


def run(*more: str, steps: int = 4) -> int:
    return main(typed(*FAST, "--steps", str(steps), "--quiet", *more))


def numbers(folder: str) -> dict[str, torch.Tensor]:
    model, _ = load_model(folder)
    return {n: p.detach().clone() for n, p in model.named_parameters() if "lora_" in n}


# ------------------------------------------------------------------------------------------------- a new adapter


def test_an_adapter_is_made_saved_resumed_and_exported(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ("--lora-rank", "2", "--lora-targets", "q_proj,up_proj", "--journal", "run.jsonl")
    assert run(*LORA, *more, "--save", "out", steps=6) == 0
    header, _ = read(here / "run.jsonl")
    problem = header["problem"]
    assert (problem["lora_rank"], problem["lora_alpha"], problem["lora_targets"]) == (2, 8, ["q_proj", "up_proj"])
    assert header["variable"]["select"] == "lora"
    assert not (here / "out" / "model.safetensors").exists() and (here / "out" / "tokenizer.json").exists()
    config = json.loads((here / "out" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(here / "tiny") and config["r"] == 2

    assert main(["export", "run.jsonl", "-o", "again"]) == 0
    assert main(["export", "run.jsonl", "-o", "third", "--step", "3"]) == 0
    assert adapter("again") == adapter("out") != adapter("third")
    text = lines(here / "run.jsonl")
    cut = next(i for i, line in enumerate(text) if '"step": 3' in line and '"values"' in line and "measure" not in line)
    (here / "run.jsonl").write_text("\n".join(text[: cut + 1]) + "\n")
    assert main(["resume", "run.jsonl", "--save", "resumed"]) == 0
    assert adapter("resumed") == adapter("out")

    plain: Any = AutoModelForCausalLM.from_pretrained(here / "tiny")
    ids = torch.tensor([[5, 6, 7]])
    base = plain(ids).logits
    theirs = peft.PeftModel.from_pretrained(plain, str(here / "out")).eval()
    assert not torch.equal(theirs(ids).logits, base)
    module = replay(here / "run.jsonl", load_model("tiny")[0])
    assert torch.equal(module.model(ids).logits, theirs(ids).logits)
    assert "Traceback" not in capsys.readouterr().err


def test_the_start_depends_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = make_adapter(llama(), 2, seed=3)
    torch.manual_seed(2)
    other, third = make_adapter(llama(), 2, seed=3), make_adapter(llama(), 2, seed=4)
    prints = [bz.Module(model, "lora").fingerprint() for model in (one, other, third)]
    assert prints[0] == prints[1] != prints[2] and not one.training
    torch.manual_seed(1)
    assert torch.equal(before, torch.get_rng_state())
    a = [p for n, p in one.named_parameters() if "lora_A" in n]
    assert all(p.abs().max() <= 32**-0.5 and p.std() > 0.05 for p in a)  # uniform up to 1 / sqrt(32)
    assert not any(p.any() for n, p in one.named_parameters() if "lora_B" in n)
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(one(ids).logits, llama()(ids).logits)


def test_default_targets_are_those_of_peft() -> None:
    assert make_adapter(llama()).peft_config["default"].target_modules == {"q_proj", "v_proj"}
    assert make_adapter(gpt2()).peft_config["default"].target_modules == {"c_attn"}
    unknown = llama()
    unknown.config.model_type = "of_ones_own"
    assert "down_proj" in make_adapter(unknown).peft_config["default"].target_modules
    assert make_adapter(llama(), 4, 16.0).peft_config["default"].lora_alpha == 16


def test_another_adapter_is_another_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*LORA, "--journal", "run.jsonl", steps=2) == 0
    for more, words in (
        (("--lora-rank", "4"), "its adapter (--select lora, --lora-rank) is 8, here it is 4"),
        (("--lora-alpha", "16"), "its adapter (--select lora, --lora-alpha) is 8, here it is 16"),
        (("--lora-targets", "q_proj"), "its adapter (--select lora, --lora-targets) is ['q_proj', 'v_proj'], here"),
        (("--seed", "1"), "its --seed is 0, here it is 1"),
    ):
        capsys.readouterr()
        assert code_of(typed(*FAST, *LORA, *more, "--steps", "2", "--journal", "run.jsonl", "--quiet")) == 2
        assert words in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------- an adapter's folder


def kept(kind: str, folder: Path, base: str = "tiny", **more: Any) -> Any:
    """An adapter as people save it, by peft alone."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder / base)
    configs: dict[str, Any] = {
        "lora": lambda: peft.LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["norm"], **more),
        "few": lambda: peft.LoraConfig(r=2, target_modules=["q_proj"]),
        "ia3": lambda: peft.IA3Config(target_modules=["k_proj"], feedforward_modules=[], task_type="CAUSAL_LM"),
        "prompt": lambda: peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
        "prefix": lambda: peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    }
    adapted = peft.get_peft_model(model, configs[kind]())
    adapted.save_pretrained(str(folder / kind))
    return adapted


@pytest.mark.parametrize("kind", ["lora", "ia3", "prompt", "prefix"])
def test_an_adapters_folder_is_trained_on(here: Path, kind: str) -> None:
    kept(kind, here)
    assert run("--model", kind, "--select", "all", "--journal", "run.jsonl", "--save", "out") == 0
    moved = adapter("out") != adapter(kind)
    assert moved and not (here / "out" / "model.safetensors").exists()
    assert main(["export", "run.jsonl", "-o", "again"]) == 0
    assert adapter("again") == adapter("out")
    assert main(["resume", "run.jsonl", "--steps", "5", "--save", "more"]) == 0
    assert run("--model", "out", "--select", "all", "--save", "further", steps=1) == 0


def test_the_adapter_is_the_default_and_its_extra_modules_move(here: Path) -> None:
    kept("lora", here)
    words = [word for word in typed(*FAST, "--steps", "2", "--quiet", "--journal", "run.jsonl", "--model", "lora")]
    at = words.index("--select")
    assert main(words[:at] + words[at + 2 :]) == 0
    header, _ = read(here / "run.jsonl")
    assert header["variable"]["select"] == "all"
    model, words = load_model("lora")
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert set(bz.Module(model, "lora").parameters) == trained == set(bz.Module(model).parameters)
    assert any("modules_to_save" in name for name in trained) and not model.training


def bad_base(here: Path, kind: str) -> None:
    """Put another base where the adapter says that its own is."""
    shutil.rmtree(here / "tiny")
    torch.manual_seed(9)
    sizes: Any = {"hidden_size": 32, "num_hidden_layers": 2}
    if kind == "narrow":
        sizes = {"hidden_size": 16, "num_hidden_layers": 2}
    elif kind == "deep":
        sizes = {"hidden_size": 32, "num_hidden_layers": 3}
    other: Any = gpt2() if kind == "gpt2" else LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2,
            max_position_embeddings=64, tie_word_embeddings=True, eos_token_id=0, bos_token_id=None, **sizes,
        )
    )  # fmt: skip
    other.save_pretrained(here / "tiny")
    tokenizer().save_pretrained(here / "tiny")


@pytest.mark.parametrize("kind", ["narrow", "deep", "gpt2", "same"])
def test_an_adapter_of_another_base_is_refused(here: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*LORA, "--save", "mine", steps=1) == 0  # with a sketch of its base
    kept("lora", here)
    kept("few", here)
    bad_base(here, kind)
    for folder in ("mine", "lora", "few") if kind != "same" else ("mine",):
        capsys.readouterr()
        assert code_of(typed("--model", folder, "--steps", "2", "--quiet", "--journal", "run.jsonl")) == 2
        err = capsys.readouterr().err
        assert f"Adapter '{folder}' is of another base model than" in err and err.count("\n") == 1
        assert not (here / "run.jsonl").exists()


def test_an_adapter_is_loaded_whatever_the_type_of_the_weights(here: Path) -> None:
    assert run(*LORA, "--save", "mine", steps=1) == 0
    model, _ = load_model("mine", "bfloat16")
    assert model.get_base_model().dtype is torch.bfloat16


def test_an_adapter_without_its_base_says_so(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept("lora", here)
    (here / "tiny").rename(here / "moved")
    assert code_of(typed("--model", "lora", "--steps", "2")) == 2
    assert "of adapter 'lora' is not there; restore it, or correct its path" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------ saving comes first


def refused(here: Path, capsys: pytest.CaptureFixture[str], words: str, *more: str) -> None:
    capsys.readouterr()
    before = sorted(here.rglob("*"))
    assert code_of(typed(*FAST, "--steps", "2", "--quiet", "--journal", "run.jsonl", *more)) == 2
    out, err = capsys.readouterr()
    assert words in err and err.count("\n") == 1 and out == ""
    assert sorted(here.rglob("*")) == before


def test_what_an_adapter_does_not_hold_is_not_searched(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept("lora", here)
    refused(here, capsys, "searches 'base_model.model.model.embed_tokens.weight', which is no part", "--model", "lora",
            "--select", "embed_tokens")  # fmt: skip


def test_saving_is_tried_before_the_first_step(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept("lora", here)
    refused(here, capsys, "--save 'lora' holds an adapter, and a whole model is to be saved", "--save", "lora")
    shutil.copytree(here / "tiny", here / "full")
    refused(here, capsys, "--save 'full' holds a whole model, and an adapter is to be saved", *LORA, "--save", "full")
    real = LlamaForCausalLM.save_pretrained

    def failing(self: Any, *given: Any, **more: Any) -> None:
        raise RuntimeError("this model cannot be saved\nbecause")

    monkeypatch.setattr(LlamaForCausalLM, "save_pretrained", failing)
    refused(here, capsys, "--save 'out': the model cannot be saved: this model cannot be saved", "--save", "out")
    monkeypatch.setattr(LlamaForCausalLM, "save_pretrained", real)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 9, 0))
    refused(here, capsys, "GB, but 0 GB are free in", "--save", "out")


def test_a_model_that_needs_its_numbers_to_be_saved_is_tried_with_them(here: Path, monkeypatch: Any) -> None:
    real = LlamaForCausalLM.save_pretrained

    def converting(self: Any, folder: Any, state_dict: Any = None, **more: Any) -> None:
        if state_dict is not None and any(not len(t) for t in state_dict.values()):
            raise ValueError("cannot split an empty tensor")
        real(self, folder, state_dict=state_dict, **more)

    monkeypatch.setattr(LlamaForCausalLM, "save_pretrained", converting)
    assert run("--save", "out", steps=1) == 0 and (here / "out" / "model.safetensors").exists()


def test_export_tries_to_save_before_it_replays(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*LORA, "--journal", "run.jsonl", steps=1) == 0
    shutil.copytree(here / "tiny", here / "full")
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("oracles.llm._finetune.replay", lambda *_: pytest.fail("it was replayed"))
        assert code_of(["export", "run.jsonl", "-o", "full"]) == 2
    assert "--output 'full' holds a whole model, and an adapter is to be saved" in capsys.readouterr().err


# --------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--lora-rank", "4"), "--lora-rank goes with --select lora only"),
        (("--lora-targets", "q_proj"), "--lora-targets goes with --select lora only"),
        ((*LORA, "--lora-rank", "0"), "must be a whole number of at least 1"),
        ((*LORA, "--lora-alpha", "-1"), "must be a positive number"),
        ((*LORA, "--lora-targets", "q_proj,wq"), "--select 'lora': The model has no layer 'wq'; its linear ones are"),
        ((*LORA, "--lora-targets", "q_proj,"), "--lora-targets 'q_proj,' has an empty word"),
        ((*LORA, "--model", "lora", "--lora-rank", "4"), "--lora-rank is for a new adapter, but 'lora' is one"),
    ],
)
def test_bad_options_are_a_sentence(
    here: Path, more: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kept("lora", here)
    assert code_of(typed(*FAST, "--steps", "2", "--quiet", "--journal", "run.jsonl", *more)) == 2
    err = capsys.readouterr().err
    assert words in err and "Traceback" not in err and not (here / "run.jsonl").exists()


def test_without_peft_it_is_named(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept("lora", here)
    monkeypatch.setitem(sys.modules, "peft", None)
    for more in (LORA, ("--model", "lora")):
        assert code_of(typed("--steps", "2", *more)) == 2
        assert "peft, which is not installed: pip install 'blackbox-zo[peft]'" in capsys.readouterr().err


def test_models_that_see_both_sides_are_refused_before_anything_runs(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes: Any = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertLMHeadModel(BertConfig(vocab_size=VOCABULARY, **sizes)).save_pretrained(here / "bert")
    tokenizer().save_pretrained(here / "bert")
    write(here / "rows.jsonl", [json.loads(line) for line in lines(here / "rows.jsonl")][:20])
    refused(here, capsys, "--model 'bert': `LabelWords` and `Completion` score the next token", "--model", "bert")
