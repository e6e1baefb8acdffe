"""`blackbox-zo plan`: what it prints, writes and refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
from transformers import ViTConfig

from oracles.cli.main import main
from oracles.llm.plan import MACHINES
from tests.oracles.llm.helpers import llama

SMALL = ("plan", "--model", "opt-350m", "--tokens", "256", "--device-memory", "2GiB", "--queries", "2")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *typed: str) -> str:
    """What is said of a command that is refused."""
    try:
        assert main(["plan", *typed]) == 2
    except SystemExit as error:
        assert error.code == 2
    out = capsys.readouterr()
    assert "Traceback" not in out.err and not out.out
    return out.err


def test_a_plan_says_what_fits_and_where_each_figure_is_from(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--link", "1GB/s", "--flops", "100TFLOPS", "--json", "plan.json", "-o", "plan.html"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for words in ("0.3312 billion parameters", "stay; a ring of", "simulated", "limited by", "1 GB/s given",
                  "100 TFLOPS given", "assumed", "published", "cannot be run yet", "compute waits"):  # fmt: skip
        assert words in said
    found = json.loads((here / "plan.json").read_text())
    plan: dict[str, Any] = found["plan"]
    assert plan["store"] == "host" and 0 < plan["ratio"] <= 1 and plan["seconds"] >= max(plan["busy"].values()) * 0.999
    assert sum(plan["memory"]["device"].values()) <= 2**31
    figures = {name: f for name, f in found["machine"].items() if name != "name"}
    assert all(f["source"].split()[0].rstrip(",") in ("given", "published", "assumed") for f in figures.values())
    assert figures["link"] == {"value": 1e9, "source": "given"} and "seconds" in found["simulated"]


def test_the_page_shows_the_pipeline(here: Path) -> None:
    assert main([*SMALL, "--link", "1GB/s", "-o", "plan.html"]) == 0
    page = (here / "plan.html").read_text()
    assert page.count('role="img"') == 2 and 'class="wide"' in page and 'class="narrow"' in page
    for words in ("compute waits", "host → device", "simulated", "Memory of each tier", "Figures of the machine",
                  "given", "published", "assumed", "Hatched lanes wait", "Other ways"):  # fmt: skip
        assert words in page, words
    assert "<script" not in page and "http" not in page.replace("http://www.w3.org", "").replace("http-equiv", "")


def test_a_model_that_fits_is_not_streamed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--model", "opt-125m", "--machine", "h100", "-o", "plan.html"]) == 0
    assert "nothing is streamed" in capsys.readouterr().out
    assert "nothing is streamed" in (here / "plan.html").read_text()


def test_a_folder_a_configuration_and_a_name_of_the_hub(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    llama().save_pretrained("tiny")
    for name in ("tiny", "tiny/config.json", "facebook/opt-125m"):
        assert main(["plan", "--model", name, "--tokens", "64"]) == 0
    assert "published shape" in capsys.readouterr().out


@pytest.mark.parametrize("typed, words", [
    (("--model", "opt-1.3b", "--device-memory", "1GiB"), ("--device-memory 1 GiB is too", "two blocks", "at least")),
    (("--model", "opt-1.3b", "--budget", "100MiB"), ("--budget 100 MiB is too small", "at least --budget 294MiB")),
    (("--model", "opt-1.3b", "--budget", "2GiB", "--device-memory", "2GiB"),
     ("--device-memory 2 GiB is too small", "the budget is 2 GiB")),
    (("--model", "opt-66b", "--device-memory", "18GB", "--host-memory", "1GiB"), ("not fit", "host memory", "1 GiB")),
    (("--model", "no-such-model"), ("no such preset or folder", "opt-175b", "llama-3-70b", "qwen3-32b")),
    (("--model", "./nowhere"), ("no such folder", "opt-175b")),
    (("--model", "empty"), ("no config.json",)),
    (("--model", "vit"), ("'vit'", "no causal language model")),
    (("--model", "adapter"), ("adapter", "its base")),
    (("--model", "quantised"), ("quantised",)),
    (("--model", "opt-125m", "--machine", "h1000"), ("'h1000'", "h100", "4090")),
    (("--model", "opt-125m", "--device-memory", "18 gigs"), ("--device-memory must be a size", "'18 gigs'")),
    (("--model", "opt-125m", "--device-memory=-1GiB"), ("must be a size", "'-1GiB'")),
    (("--model", "opt-125m", "--disk", "3GB"), ("--disk must be a speed", "'3GB'", "nvme4")),
    (("--model", "opt-125m", "--link", "0GB/s"), ("--link must be a speed", "pcie5")),
    (("--model", "opt-125m", "--flops", "fast"), ("--flops must be a speed", "150TFLOPS")),
    (("--model", "opt-125m", "--tokens", "0"), ("at least 1",)),
    (("--model", "opt-125m", "--tokens", "4096", "--length", "4096"), ("longer than the 2048",)),
    (("--model", "opt-125m", "--tokens", "100", "--length", "64"), ("whole number of texts of 64",)),
    (("--model", "opt-125m", "--measure", "--machine", "h100"), ("leave --machine out",)),
    (("--model", "opt-125m", "--measure", "--link", "pcie4"), ("leave --link out",)),
    (("--model", "opt-125m", "--log-structured", "--write-back"), ("not allowed with",)),
    (("--model", "opt-125m", "-o", "plan.pdf"), ("must end in .html",)),
    (("--model", "opt-125m", "--json", "no/where.json"), ("folder that does not exist",)),
    ((), ("--model",)),
])  # fmt: skip
def test_what_cannot_be_planned_is_refused_by_name(
    here: Path, capsys: pytest.CaptureFixture[str], typed: tuple[str, ...], words: tuple[str, ...]
) -> None:
    (here / "empty").mkdir()
    ViTConfig().save_pretrained(here / "vit")
    (here / "adapter").mkdir()
    (here / "adapter" / "adapter_config.json").write_text("{}")
    quantised = llama().config
    quantised.quantization_config = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    quantised.save_pretrained(here / "quantised")
    said = refused(capsys, *typed)
    for word in words:
        assert word in said, said


@pytest.mark.parametrize("preset", ["opt-125m", "opt-350m", "llama-3-8b", "qwen3-8b", "smollm2-135m"])
def test_the_least_memory_that_is_named_works(preset: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "--model", preset, "--tokens", "32", "--device-memory", "1MiB")
    least = said.rpartition(" ")[2].strip().rstrip(".")
    assert main(["plan", "--model", preset, "--tokens", "32", "--device-memory", least]) == 0


def test_every_machine_is_known_and_says_where_its_figures_are_from() -> None:
    for machine in MACHINES.values():
        for name, figure in machine.figures().items():
            assert figure.value > 0 and figure.source, name
            assert figure.source.startswith(("published", "assumed")), figure
