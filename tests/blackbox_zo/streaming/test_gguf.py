"""GGUF files stay quantised on the disk; what comes into memory is what transformers reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import blackbox_zo as bz
from tests.blackbox_zo.streaming.gguf_files import ALL, VOCABULARY, by_transformers, gguf, written
from tests.blackbox_zo.streaming.models import MODELS, _causal, search_of

LOWRANK = bz.RandomVector(1e-3, 2, "lowrank")


@pytest.mark.parametrize("how", [{}, {"budget": "8MiB"}, {"store": "host"}], ids=str)
@pytest.mark.parametrize("kinds", [("Q4_1",), ALL], ids=["Q4_1", "all types"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_what_is_read_is_what_transformers_reads(kinds: tuple[str, ...], tied: bool, how: Any, tmp_path: Path) -> None:
    """All weights to the last bit, the rows of queries and keys in their places, and the logits."""
    path = written(tmp_path / "tiny.gguf", kinds, tied=tied)
    model, ids = by_transformers(path), torch.arange(3, 40)[None]
    with bz.StreamedModule.from_pretrained(path, **how) as x, torch.no_grad():
        want, streamed = dict(model.named_parameters()), x.model
        found = {name: p.clone() for name, p in x.whole()}
        assert set(found) == set(want)
        assert all(torch.equal(p, want[name]) for name, p in found.items())
        assert torch.equal(streamed(input_ids=ids).logits, model(input_ids=ids).logits)


def test_a_search_over_a_quantised_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Moves are added to what was decoded, as in memory; the file stays as it is."""
    monkeypatch.setitem(MODELS, "gguf", (lambda: None, _causal))
    path = written(tmp_path / "tiny.gguf")
    before, model = path.read_bytes(), by_transformers(path)

    def values(x: bz.Module) -> list[float]:
        search, oracle = search_of("gguf", x, LOWRANK)
        batches: Any = oracle.batches
        oracle.batches = [{"input_ids": batch["input_ids"] % VOCABULARY} for batch in batches]
        return [report.value for report in search.run(oracle, steps=20)]

    want = values(bz.Module(model))
    for log_structured in (False, True):
        with bz.StreamedModule.from_pretrained(path, log_structured=log_structured) as x:
            assert values(x) == want
            assert all(torch.equal(p, model.get_parameter(name)) for name, p in x.whole())
    assert path.read_bytes() == before


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    """What is wrong with them, and of which tensor."""
    made = bz.StreamedModule.from_pretrained
    with pytest.raises(ValueError, match=r"lacks 'model\.layers\.1\.mlp\.up_proj\.weight'"):
        made(written(tmp_path / "less.gguf", lacks="blk.1.ffn_up.weight"))
    with pytest.raises(ValueError, match=r"has 'blk\.1\.other\.weight', which LlamaForCausalLM does not have"):
        made(written(tmp_path / "more.gguf", adds="blk.1.other.weight"))
    whole = written(tmp_path / "whole.gguf").read_bytes()
    for name, raw, said in (
        ("no.gguf", b"PK\x03\x04 and more", r"not a GGUF file: it begins with b'PK"),
        ("cut.gguf", whole[:900], "damaged or cut off"),
        ("short.gguf", whole[: len(whole) // 2], "damaged or cut off"),
    ):
        (tmp_path / name).write_bytes(raw)
        with pytest.raises(ValueError, match=said):
            made(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        made(tmp_path / "none.gguf")


def test_a_type_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With those that can."""
    path = written(tmp_path / "tiny.gguf", ("Q5_1",))
    monkeypatch.delitem(gguf.quants._type_traits, gguf.GGMLQuantizationType.Q5_1)
    with pytest.raises(ValueError, match=r"'token_embd\.weight' is of type Q5_1, which cannot be read; .*Q4_1.* can"):
        bz.StreamedModule.from_pretrained(path)
